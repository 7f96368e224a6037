//! Which code has landing pads: what files say of themselves, and of which the code is linked.

use super::patch::Patch;
use crate::Architecture;
use crate::error::Error;
use crate::object_file::SectionKind;
use crate::parse::parse;
use crate::select::{Input, select};
use execmem::is_aarch64_landing_pad;
use execmem_object_samples::{AARCH64_GUARDED, AARCH64_PADS, BUNDLED, Sample};
use object::LittleEndian;
use object::elf::{self, SectionHeader64};
use std::mem::offset_of;

const PADS: Sample = AARCH64_PADS[0];
const NO_PADS: Sample = AARCH64_PADS[1];
const NOTE: &str = ".note.gnu.property";
const PROPERTIES: u32 = elf::NT_GNU_PROPERTY_TYPE_0.0;
const FEATURES: u32 = elf::GNU_PROPERTY_AARCH64_FEATURE_1_AND.0;
const BTI: u32 = 1;
const PAC: u32 = 2;

type Header = SectionHeader64<LittleEndian>;

/// A property with these features, as words.
const fn property(features: u32) -> [u32; 4] {
    [FEATURES, 4, features, 0]
}

/// A note of the kind of properties with a description, as words.
fn note(description: &[u32]) -> Vec<u32> {
    let name = u32::from_le_bytes(*b"GNU\0");
    [&[4, 4 * description.len() as u32, PROPERTIES, name], description].concat()
}

/// The object with other notes.
fn with_notes(words: &[u32]) -> Patch {
    let mut file = Patch::new(PADS.1);
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let (header, start) = (file.section_header(NOTE), file.0.len() as u64);
    file.0.extend(&bytes);
    file.put(header + offset_of!(Header, sh_offset), &start.to_le_bytes())
        .put(header + offset_of!(Header, sh_size), &(bytes.len() as u64).to_le_bytes())
}

fn has_pads(file: &[u8]) -> Result<bool, Error> {
    let object = parse(file)?;
    let mut code = object.sections.iter().filter(|section| section.kind == SectionKind::Code);
    Ok(code.all(|section| section.has_landing_pads))
}

#[test]
fn what_compilers_make_says_so() {
    let samples = [AARCH64_GUARDED, AARCH64_PADS, &BUNDLED[1..]].concat();
    let found = samples.iter().map(|(_, file)| has_pads(file).unwrap());
    assert_eq!(found.collect::<Vec<_>>(), [true, true, true, false, false]);
}

#[test]
fn all_properties_of_all_notes_have_to_say_so() {
    let (with, without) = (property(BTI | PAC), property(PAC));
    // Another property, of one byte, with a number that an x86_64 object would have.
    let other = [0xc000_0002, 1, 1, 0];
    for (words, expected) in [
        (note(&with), true),
        (note(&without), false),
        (note(&[]), false),
        (vec![], false),
        (note(&other), false),
        (note(&[other, with].concat()), true),
        (note(&[with, without].concat()), false),
        (note(&[without, with].concat()), false),
        ([note(&with), note(&other)].concat(), true),
        ([note(&with), note(&without)].concat(), false),
        ([note(&without), note(&with)].concat(), false),
    ] {
        assert_eq!(has_pads(&with_notes(&words).0), Ok(expected), "{words:x?}");
    }
    // Notes of somebody else, and of another kind.
    for (at, word) in [(3, u32::from_le_bytes(*b"GNV\0")), (2, 1)] {
        let mut words = note(&with);
        words[at] = word;
        assert_eq!(has_pads(&with_notes(&words).0), Ok(false), "{words:x?}");
    }
    // A section of another name.
    let file = Patch::new(PADS.1);
    let (at, name) = (file.section_header(NOTE), file.header(".note.GNU-stack"));
    assert_eq!(has_pads(&file.put(at, &name[..4]).0), Ok(false));
    // A second section.
    for (first, second, expected) in [(BTI, BTI, true), (BTI, 0, false), (0, BTI, false)] {
        let file = with_notes(&note(&property(first)));
        let header = file.header(NOTE);
        let mut file = file.add_headers(&[header]);
        let (start, last) = (file.0.len() as u64, file.0.len() - size_of::<Header>());
        file.0.extend(note(&property(second)).iter().flat_map(|word| word.to_le_bytes()));
        let file = file.put(last + offset_of!(Header, sh_offset), &start.to_le_bytes());
        assert_eq!(has_pads(&file.0), Ok(expected), "{first} and {second}");
    }
}

#[test]
fn damaged_notes_are_errors() {
    let sound = note(&property(BTI));
    for (at, number) in [
        (0, 5),
        (0, u32::MAX),
        (1, 17),
        (1, u32::MAX),
        (1, 12),
        (1, 4),
        (5, 0),
        (5, 3),
        (5, 9),
        (5, u32::MAX),
        (5, u32::MAX - 7),
    ] {
        let mut words = sound.clone();
        words[at] = number;
        let found = has_pads(&with_notes(&words).0);
        // A longer name is another one.
        let is_other = (at, number) == (0, 5);
        assert!(
            matches!(found, Err(Error::Damaged(_))) || is_other && found == Ok(false),
            "{words:x?}: {found:?}"
        );
    }
    for length in 1..sound.len() {
        let found = has_pads(&with_notes(&sound[..length]).0);
        assert!(matches!(found, Err(Error::Damaged(_))), "{length} words: {found:?}");
    }
    let header = Patch::new(PADS.1).section_header(NOTE);
    let field = |at, value: u64| has_pads(&Patch::new(PADS.1).put(header + at, &value.to_le_bytes()).0);
    for alignment in [0, 1, 4, 8] {
        assert_eq!(field(offset_of!(Header, sh_addralign), alignment), Ok(true), "{alignment}");
    }
    for (at, value) in [
        (offset_of!(Header, sh_addralign), 16),
        (offset_of!(Header, sh_addralign), u64::MAX),
        (offset_of!(Header, sh_offset), u64::MAX),
        (offset_of!(Header, sh_size), u64::MAX),
        (offset_of!(Header, sh_size), 31),
    ] {
        let found = field(at, value);
        assert!(matches!(found, Err(Error::Damaged(_))), "{at}, {value:#x}: {found:?}");
    }
    // A thousand sections of one large note would be a thousand large notes otherwise.
    let file = Patch::new(PADS.1);
    let header = file.header(NOTE);
    let error = has_pads(&file.add_headers(&[header]).0).unwrap_err().to_string();
    assert!(error.contains("are used twice"), "{error}");
}

/// An archive of one member with an index, as `ar` makes it.
fn archive((name, file): Sample, symbol: &str) -> Vec<u8> {
    let header =
        |name: &str, size: usize| format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", 0, 0, 0, 644);
    let mut index = [1_u32.to_be_bytes(), [0; 4]].concat();
    index.extend(symbol.as_bytes());
    index.resize((index.len() + 1).next_multiple_of(2), 0);
    let member = b"!<arch>\n".len() + header("/", 0).len() + index.len();
    index[4..8].copy_from_slice(&(member as u32).to_be_bytes());
    let (first, second) = (header("/", index.len()), header(&format!("{}/", &name[..9]), file.len()));
    [b"!<arch>\n", first.as_bytes(), &index, second.as_bytes(), file].concat()
}

#[test]
fn what_is_linked_decides() {
    let (guarded, bundled) = (AARCH64_GUARDED[0], BUNDLED[1]);
    let without_pads = |files: &[(&str, &[u8])], entry: Option<&str>| {
        let inputs: Vec<_> =
            files.iter().map(|(name, bytes)| Input { name: (*name).into(), bytes }).collect();
        let entries: Vec<_> = entry.into_iter().map(String::from).collect();
        select(&inputs, &entries).unwrap().without_pads
    };
    let name = |file: Sample| Some(file.0.to_owned());
    assert_eq!(without_pads(&[guarded, PADS], None), None);
    for files in [[guarded, NO_PADS], [NO_PADS, guarded]] {
        assert_eq!(without_pads(&files, None), name(NO_PADS));
        assert_eq!(without_pads(&files, Some("six")), None);
        assert_eq!(without_pads(&files, Some("plain")), name(NO_PADS));
    }
    assert_eq!(without_pads(&[NO_PADS, bundled], None), name(NO_PADS), "the first");
    // A member counts where something refers to it.
    let library = ("library.a", &archive(NO_PADS, "plain")[..]);
    assert_eq!(without_pads(&[guarded, library], None), None);
    assert_eq!(without_pads(&[library, guarded], Some("six")), None);
    let member = without_pads(&[library, guarded], Some("plain"));
    assert_eq!(member.as_deref(), Some("library.a(aarch64-g)"));
    // What the loader adds has pads: it may not take them from the others.
    let support = crate::select::support(Architecture::Aarch64);
    let code = support.sections.iter().find(|section| section.kind == SectionKind::Code).unwrap();
    assert!(
        code.has_landing_pads
            && is_aarch64_landing_pad(u32::from_le_bytes(*code.data.first_chunk().unwrap()))
    );
}
