//! Files that are sound and no objects to load. The error says what they are, and not that they are damaged.

use super::patch::{Patch, prepare, refused};
use crate::error::Error;
use execmem_object_samples as samples;
use object::elf;

const FILE_TYPE: usize = 16;
const MACHINE: usize = 18;
/// A field of a section header.
const SECTION_TYPE: usize = 4;

#[test]
fn another_elf_file_is_named() {
    assert_eq!(refused(|file| file.put(4, &[1])), [Error::WrongClass, Error::WrongClass]);
    assert_eq!(refused(|file| file.put(5, &[2])), [Error::WrongClass, Error::WrongClass]);
    for kind in [elf::ET_EXEC, elf::ET_DYN] {
        let errors = refused(|file| file.put(FILE_TYPE, &kind.0.to_le_bytes()));
        assert_eq!(errors, [Error::NotRelocatable, Error::NotRelocatable]);
    }
    let errors = refused(|file| file.put(FILE_TYPE, &elf::ET_CORE.0.to_le_bytes()));
    assert_eq!(errors, [(); 2].map(|()| Error::NotAnObject("a core dump")));
    let sparc = Error::UnknownMachine(elf::EM_SPARCV9.0.into());
    assert_eq!(refused(|file| file.put(MACHINE, &elf::EM_SPARCV9.0.to_le_bytes())), [sparc.clone(), sparc]);
}

#[test]
fn a_file_of_another_format_is_named() {
    let files: [(&[u8], &str); 12] = [
        (b"", "an empty file"),
        (b"int main(void) { return 0; }\n", "text"),
        (b"BC\xc0\xde\x35\x14", "clang -flto"),
        (b"\xde\xc0\x17\x0b\0\0\0\0", "clang -flto"),
        (b"\xce\xfa\xed\xfe\x07\0\0\0", "32-bit Mach-O"),
        (b"\xfe\xed\xfa\xcf\0\0\0\x12", "big-endian Mach-O"),
        (b"\xca\xfe\xba\xbe\0\0\0\x02", "universal Mach-O"),
        (b"\x64\x86\x04\0\0\0\0\0", "Windows"),
        (b"MZ\x90\0\x03\0\0\0", "Windows"),
        (b"\0asm\x01\0\0\0", "WebAssembly"),
        (b"\x1f\x8b\x08\x08\0\0\0\0", "compressed"),
        (b"\x01\x02\x03\x04", "format that isn't known"),
    ];
    for (file, words) in files {
        let error = prepare(file).unwrap_err();
        assert!(matches!(error, Error::NotAnObject(what) if what.contains(words)), "{words}: {error}");
    }
}

/// `objcopy --only-keep-debug` makes such files.
#[test]
fn code_that_was_stripped_off_is_missed_not_called_damaged() {
    let errors = refused(|file| {
        let at = file.section_header(".text") + SECTION_TYPE;
        file.put(at, &elf::SHT_NOBITS.0.to_le_bytes())
    });
    for error in errors {
        assert!(matches!(&error, Error::Unsupported(what) if what.contains(".text")), "{error}");
    }
}

#[test]
fn relocations_of_another_form_are_named() {
    for (kind, word) in [(elf::SHT_REL, "REL"), (elf::SHT_CREL, "CREL")] {
        let errors = refused(|file| {
            let at = file.section_header(".rela.text") + SECTION_TYPE;
            file.put(at, &kind.0.to_le_bytes())
        });
        for error in errors {
            assert!(matches!(&error, Error::Unsupported(what) if what.contains(word)), "{error}");
        }
    }
}

#[test]
fn other_mach_o_files_are_named() {
    const PROCESSOR: usize = 4;
    const MACH_FILE_TYPE: usize = 12;
    for (name, file) in samples::MACOS_BUNDLED {
        let error = |at, byte| prepare(&Patch::new(file).put(at, &[byte]).0).unwrap_err();
        assert!(matches!(error(PROCESSOR, 18), Error::UnknownMachine(_)), "{name}");
        for linked in [2, 6, 8] {
            assert_eq!(error(MACH_FILE_TYPE, linked), Error::NotRelocatable, "{name}");
        }
        assert_eq!(error(MACH_FILE_TYPE, 4), Error::NotAnObject("a core dump"), "{name}");
    }
}
