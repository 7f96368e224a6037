//! Mach-O objects.

use super::patch::{Patch, prepare};
use crate::error::Error;
use execmem_object_samples::{MACOS_AARCH64, MACOS_BUNDLED, MACOS_X86_64};

#[test]
fn every_relocation_of_either_processor_is_computed() {
    for (name, file) in MACOS_AARCH64.iter().chain(MACOS_X86_64).chain(MACOS_BUNDLED) {
        assert!(prepare(file).is_ok(), "{name}");
    }
}

#[test]
fn a_file_cut_off_anywhere_or_with_any_word_changed_is_an_error_or_loads() {
    for (name, file) in MACOS_BUNDLED {
        for length in 0..file.len() {
            // It may link: perhaps only names are cut off that nobody needs.
            let _ = prepare(&file[..length]);
        }
        for at in (0..file.len() - 4).step_by(4) {
            for word in [0, 1, 0x7fff_ffff, u32::MAX] {
                let mut damaged = file.to_vec();
                damaged[at..at + 4].copy_from_slice(&word.to_le_bytes());
                let _ = prepare(&damaged);
            }
        }
        assert!(prepare(&file[..file.len() / 2]).is_err(), "{name}");
    }
}

#[test]
fn a_library_is_not_relocatable() {
    let mut file = MACOS_BUNDLED[0].1.to_vec();
    // The file's type is behind the magic number and the processor. 6 is a dynamic library.
    file[12] = 6;
    assert_eq!(prepare(&file), Err(Error::NotRelocatable));
}

/// The offset of a section's header. The first load command has the only segment.
fn section_header(number: usize) -> usize {
    32 + 72 + 80 * number
}

/// Fields of a section header.
const ADDRESS: usize = 32;
const RELOCATIONS: usize = 56;
const TYPE: usize = 64;

fn word(file: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(*file[at..].first_chunk().unwrap())
}

/// Changes a file's first relocation, which is for a `lea` in its code. Then it refers to the second section, by the
/// address that the file gives it.
fn with_a_local_relocation(file: &[u8]) -> Patch {
    let at = word(file, section_header(0) + RELOCATIONS) as usize + 4;
    let info = word(file, at);
    assert_eq!(info >> 27, 0b0_0011, "one of type 1 to a symbol");
    Patch::new(file).put(at, &((info & !0xff_ffff & !(1 << 27)) | 2).to_le_bytes())
}

/// An overflow would panic: the tests are compiled with checks for it.
#[test]
fn a_relocation_against_a_section_that_was_moved_never_panics() {
    let (_, file) = MACOS_X86_64[0];
    let local = with_a_local_relocation(file);
    let moved = section_header(1) + ADDRESS;
    // For some of these the distance from the section's new start to the relocation's target overflows.
    for distance in 0..1024_u64 {
        let start = (1 << 63) + distance;
        let _ = prepare(&Patch::new(&local.0).put(moved, &start.to_le_bytes()).0);
    }
    for number in 0..4 {
        for address in [1 << 63, u64::MAX, i64::MAX as u64, u64::MAX - 4] {
            let moved = section_header(number) + ADDRESS;
            for (_, file) in MACOS_X86_64.iter().chain(MACOS_AARCH64).chain(MACOS_BUNDLED) {
                let _ = prepare(&Patch::new(file).put(moved, &u64::to_le_bytes(address)).0);
            }
        }
    }
}

#[test]
fn a_relocation_that_is_not_known_is_no_damage() {
    for (name, file) in MACOS_BUNDLED {
        // The type is in the upper four bits. 15 is none.
        let at = word(file, section_header(0) + RELOCATIONS) as usize + 7;
        let error = prepare(&Patch::new(file).put(at, &[file[at] | 0xf0]).0).unwrap_err();
        assert!(matches!(&error, Error::Unsupported(what) if what.contains("type 15")), "{name}: {error}");
    }
}

/// Taken for plain data, they would be ignored, and functions in them never run.
#[test]
fn sections_that_linkers_make_for_dyld_are_refused() {
    const S_NON_LAZY_SYMBOL_POINTERS: u8 = 6;
    const S_INIT_FUNC_OFFSETS: u8 = 0x16;
    for (name, file) in MACOS_BUNDLED {
        for kind in [S_NON_LAZY_SYMBOL_POINTERS, S_INIT_FUNC_OFFSETS] {
            let at = section_header(1) + TYPE;
            let error = prepare(&Patch::new(file).put(at, &[kind]).0).unwrap_err();
            assert!(matches!(error, Error::Unsupported(_)), "{name}: {error}");
        }
    }
}

/// Else each load command of a small file could have the same symbols read again.
#[test]
fn one_file_has_its_symbols_and_sections_once() {
    for (name, file) in MACOS_BUNDLED {
        // The header has the number of load commands and their size, and each has its own size.
        let (count, size) = (word(file, 16), word(file, 20));
        let mut at = 32;
        while word(file, at) != 2 {
            at += word(file, at + 4) as usize;
        }
        let table = file[at..][..24].to_vec();
        // A second one behind the last command. It overwrites the first section's bytes, which are not read.
        let file = Patch::new(file).put(32 + size as usize, &table);
        let file = file.put(16, &(count + 1).to_le_bytes()).put(20, &(size + 24).to_le_bytes());
        let error = prepare(&file.0).unwrap_err();
        assert!(matches!(&error, Error::Damaged(what) if what.contains("twice")), "{name}: {error}");
    }
}
