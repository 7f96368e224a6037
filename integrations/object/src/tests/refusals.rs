//! What is refused, each with its own error: single fields of sound objects are changed.

use super::patch::{Patch, prepare, prepare_with, refused};
use crate::error::Error;
use crate::import::Import;
use crate::layout::ZEROED_LIMIT;
use crate::{Architecture, Misfit, Object, process_symbol};
use execmem_object_samples as samples;
use object::elf;

/// Fields of a section header.
const SECTION_FLAGS: usize = 8;
const SECTION_ALIGNMENT: usize = 48;
/// Bytes of a relocation, and its fields.
const RELOCATION: usize = 24;
const RELOCATION_KIND: usize = 8;
const RELOCATION_ADDEND: usize = 16;
/// A symbol's type and binding, in one byte.
const SYMBOL_INFO: usize = 4;
const SYMBOL_VALUE: usize = 8;

#[test]
fn an_object_for_another_machine_is_not_loaded() {
    let (_, file) = samples::for_another_machine();
    let other = if cfg!(target_arch = "x86_64") { Architecture::Aarch64 } else { Architecture::X86_64 };
    assert_eq!(Object::load_with(file, process_symbol).unwrap_err(), Error::WrongArchitecture(other));
}

#[test]
fn writable_code_is_refused() {
    let all = (elf::SHF_ALLOC.0 | elf::SHF_WRITE.0 | elf::SHF_EXECINSTR.0).to_le_bytes();
    let errors = refused(|file| {
        let at = file.section_header(".text") + SECTION_FLAGS;
        file.put(at, &all)
    });
    assert_eq!(errors, [(); 2].map(|()| Error::WritableCode(".text".into())));
}

#[test]
fn thread_local_storage_is_refused_by_section_and_by_symbol() {
    let flags = (elf::SHF_ALLOC.0 | elf::SHF_WRITE.0 | elf::SHF_TLS.0).to_le_bytes();
    let errors = refused(|file| {
        let at = file.section_header(".data") + SECTION_FLAGS;
        file.put(at, &flags)
    });
    assert_eq!(errors, [(); 2].map(|()| Error::ThreadLocal("section .data".into())));
    let errors = refused(|file| {
        let at = file.symbol("printf") + SYMBOL_INFO;
        file.put(at, &[1 << 4 | elf::STT_TLS.0])
    });
    assert_eq!(errors, [(); 2].map(|()| Error::ThreadLocal("printf".into())));
}

/// An assembler lets a symbol be anywhere (`x = f + 1000`).
#[test]
fn a_symbol_outside_of_its_section_is_no_function_and_has_no_effect_on_others() {
    let (_, file) = samples::for_this_machine();
    for value in [1 << 20, i64::MAX as u64, u64::MAX] {
        let file = Patch::new(file);
        let at = file.symbol("sample") + SYMBOL_VALUE;
        let image = Object::load_with(&file.put(at, &u64::to_le_bytes(value)).0, process_symbol).unwrap();
        assert!(image.address("sample").is_err(), "{value:#x}");
        let fibonacci = image.address("fibonacci").unwrap();
        // SAFETY: it takes one integer.
        assert_eq!(unsafe { image.call(fibonacci, &[20]) }, Ok(6765));
    }
}

#[test]
fn an_indirect_function_that_is_nowhere_is_damage() {
    let errors = refused(|file| {
        let at = file.symbol("printf") + SYMBOL_INFO;
        file.put(at, &[1 << 4 | elf::STT_GNU_IFUNC.0])
    });
    assert!(errors.iter().all(|error| matches!(error, Error::Damaged(_))), "{errors:?}");
}

#[test]
fn an_alignment_without_bounds_is_refused_and_an_odd_one_is_damage() {
    let aligned = |to: u64| {
        refused(|file| {
            let at = file.section_header(".rodata") + SECTION_ALIGNMENT;
            file.put(at, &to.to_le_bytes())
        })
    };
    let name = ".rodata".to_string();
    let error = Error::Alignment { name, limit: ZEROED_LIMIT };
    assert_eq!(aligned(ZEROED_LIMIT * 2), [error.clone(), error]);
    let errors = aligned(24);
    assert!(errors.iter().all(|error| matches!(error, Error::Damaged(_))), "{errors:?}");
}

#[test]
fn an_unknown_relocation_is_refused_by_its_name() {
    // One for thread-local storage, and one that linkers write for the dynamic loader.
    let kinds = [elf::R_X86_64_TPOFF32, elf::R_AARCH64_RELATIVE];
    for ((name, file), kind) in samples::BUNDLED.iter().zip(kinds) {
        let file = Patch::new(file);
        let at = file.contents(".rela.text") + RELOCATION_KIND;
        let error = prepare(&file.put(at, &kind.0.to_le_bytes()).0).unwrap_err();
        assert!(matches!(error, Error::UnknownRelocation { .. } | Error::ThreadLocal(_)), "{name}: {error}");
        let text = error.to_string();
        assert!(text.contains("R_X86_64_TPOFF32") || text.contains("R_AARCH64_RELATIVE"), "{text}");
    }
}

#[test]
fn a_relocation_of_no_kind_changes_nothing_whatever_it_refers_to() {
    let nothing: [(usize, &[u32]); 2] = [(0, &[elf::R_X86_64_NONE.0]), (1, &[elf::R_AARCH64_NONE.0, 256])];
    for (which, kinds) in nothing {
        let (name, file) = samples::BUNDLED[which];
        let relocated = prepare(file).unwrap();
        for kind in kinds {
            let file = Patch::new(file);
            // The third relocation is to the object's own data: it needs no stub and no GOT entry.
            let at = file.contents(".rela.text") + 2 * RELOCATION;
            // Neither its place nor its symbol exists.
            let kind = (u64::from(*kind) | 0xffff_ffff << 32).to_le_bytes();
            let file = file.put(at, &u64::MAX.to_le_bytes()).put(at + RELOCATION_KIND, &kind);
            let image = prepare(&file.0).unwrap_or_else(|error| panic!("{name}: {error}"));
            let changed = image.iter().zip(&relocated).filter(|(byte, before)| byte != before).count();
            assert!((1..=4).contains(&changed), "{name}: {changed} bytes beside the one word");
        }
    }
}

#[test]
fn an_executable_stack_is_refused() {
    let errors = refused(|file| {
        let at = file.section_header(".note.GNU-stack") + SECTION_FLAGS;
        file.put(at, &elf::SHF_EXECINSTR.0.to_le_bytes())
    });
    assert_eq!(errors, [(); 2].map(|()| Error::ExecutableStack));
}

#[test]
fn a_value_that_does_not_fit_is_an_error_not_a_truncation() {
    // The first relocation of both is relative to its place, and gets an addend of 16 GiB.
    let errors = refused(|file| {
        let at = file.contents(".rela.text") + RELOCATION_ADDEND;
        file.put(at, &(1_u64 << 34).to_le_bytes())
    });
    for error in errors {
        assert!(matches!(error, Error::Misfit { misfit: Misfit::OutOfRange, .. }), "{error}");
    }
}

/// This object takes the address of `strcmp` relative to its own.
#[test]
fn imported_data_out_of_reach_is_an_error_but_imported_code_has_a_stub() {
    let far = |is_code| move |_: &str| Some(Import { address: 0x7fff_0000_0000, is_code });
    let (name, file) = samples::AARCH64_C[4];
    assert_eq!(name, "aarch64-gcc-O2-no-pie.o");
    assert!(prepare_with(file, far(true)).is_ok());
    let error = prepare_with(file, far(false)).unwrap_err();
    assert!(matches!(&error, Error::Misfit { symbol, .. } if symbol == "strcmp"), "{error}");
}

/// This object takes the address of `strcmp` in an instruction, which reaches only a stub, and in a variable.
#[test]
fn an_imported_function_has_one_address_in_the_whole_image() {
    let address = 0x7fff_f7de_1230_usize;
    let (name, file) = samples::AARCH64_C[4];
    assert_eq!(name, "aarch64-gcc-O2-no-pie.o");
    let find = |symbol: &str| {
        let address = if symbol == "strcmp" { address } else { 0x4000 };
        Some(Import { address, is_code: true })
    };
    let image = prepare_with(file, find).unwrap();
    let words = image.windows(8).filter(|bytes| *bytes == address.to_le_bytes());
    assert_eq!(words.count(), 1, "the word that the stub jumps through");
    // An object whose instructions reach every address takes the function's own.
    let (name, file) = samples::AARCH64_C[5];
    assert_eq!(name, "aarch64-gcc-O2-large.o");
    let image = prepare_with(file, find).unwrap();
    assert!(image.windows(8).filter(|bytes| *bytes == address.to_le_bytes()).count() > 1);
}

#[test]
fn a_call_reaches_any_import_through_its_stub() {
    for (name, file) in samples::BUNDLED {
        for address in [0x1238, 0x5555_5555_8000, 0x7fff_ffff_f000] {
            let image = prepare_with(file, |_| Some(Import { address, is_code: true })).unwrap();
            let slot = address.to_le_bytes();
            let slots = image.windows(8).filter(|bytes| *bytes == slot).count();
            // memcpy, printf and strlen.
            assert_eq!(slots, 3, "{name}");
        }
    }
}

#[test]
fn a_symbol_that_nobody_defines_is_named() {
    for (name, file) in samples::BUNDLED {
        let find = |symbol: &str| (symbol != "memcpy").then_some(Import { address: 4, is_code: true });
        assert_eq!(prepare_with(file, find), Err(Error::MissingSymbols(vec!["memcpy".into()])), "{name}");
    }
}

#[test]
fn a_missing_function_is_answered_with_those_that_there_are() {
    let image = Object::load_with(samples::for_this_machine().1, process_symbol).unwrap();
    let error = image.address("simple").unwrap_err().to_string();
    assert_eq!(error, "there is no function simple; there are: apply, fibonacci, note, sample");
    // Data is no function.
    assert!(image.address("total").is_err());
}

#[test]
fn too_many_arguments_are_refused_before_the_call() {
    let image = Object::load_with(samples::for_this_machine().1, process_symbol).unwrap();
    let sample = image.address("sample").unwrap();
    // SAFETY: so many arguments are refused before anything is called.
    let result = unsafe { image.call(sample, &[0; 7]) };
    assert_eq!(result, Err(Error::Memory(execmem::ErrorKind::InvalidArgument)));
}
