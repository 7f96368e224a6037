//! Mach-O objects: those for this machine's processor run here too, since plain functions have the same
//! conventions on macOS. What differs there, the modelled Mac of `tests/darwin` shows.

use execmem_tests_objects::cases::check_rust;
use execmem_tests_objects::loader::error::Error;
use execmem_tests_objects::loader::image::Image;
use execmem_tests_objects::patch::prepare;
use execmem_tests_objects::samples::{MACOS_AARCH64, MACOS_BUNDLED, MACOS_X86_64};

#[test]
fn objects_for_this_machines_processor_run() {
    let samples = if cfg!(target_arch = "aarch64") { MACOS_AARCH64 } else { MACOS_X86_64 };
    for (name, file) in samples {
        check_rust(name, file);
    }
}

#[test]
fn the_bundled_sample_runs() {
    let (_, file) = MACOS_BUNDLED[usize::from(cfg!(target_arch = "aarch64"))];
    let image = Image::load(file).unwrap();
    let sample = image.function("sample").unwrap();
    // SAFETY: it takes one integer.
    assert_eq!(unsafe { image.call(sample, &[10]) }, Ok(2036));
}

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
            // What is cut off may be names that nobody needs.
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
    // The file's type follows the magic number and the processor; 6 is a dynamic library.
    file[12] = 6;
    assert_eq!(prepare(&file), Err(Error::NotRelocatable));
}
