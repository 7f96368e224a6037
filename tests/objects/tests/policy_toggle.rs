//! Every object that is checked in for this machine, under policy `toggle`. A process has one policy for ever,
//! so each has a test program.

use execmem::{Policy, runtime};
use execmem_tests_objects::{cases, samples};

#[test]
fn checked_in_objects_run_under_policy_toggle() {
    runtime().set_policy(Policy::Toggle).unwrap();
    // The others are compiled at test time, on the machine itself: see compilers.rs.
    if cfg!(target_arch = "aarch64") {
        for (name, file) in samples::AARCH64_C {
            cases::check_c(name, file);
        }
        for (name, file) in samples::AARCH64_RUST {
            cases::check_rust(name, file);
        }
    }
    let (name, file) = samples::for_this_machine();
    let image = execmem_tests_objects::loader::image::Image::load(file).unwrap();
    let sample = image.function("sample").unwrap();
    // SAFETY: the bundled sample takes one integer.
    assert_eq!(unsafe { image.call(sample, &[10]) }, Ok(2848), "{name}");
    drop(image);
    assert_eq!(runtime().policy(), Ok(Policy::Toggle));
    assert_eq!((runtime().region_count(), runtime().requested_bytes()), (0, 0), "all memory is freed");
}
