//! What needs a process of its own: every object that is checked in for this machine under each policy, of which a
//! process has one for ever, and that loading leaves no memory behind.

mod cases;
mod landing_pads;

use cases::{check_c, check_rust};
use execmem::{Policy, runtime};
use execmem_object::{Object, process_symbol};
use execmem_object_samples as samples;
use execmem_tests_linux::children::Outcome;
use execmem_tests_linux::report::Report;
use execmem_tests_linux::system::looks_for_pads;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut report = Report::from_arguments();
    for policy in [Policy::Rwx, Policy::Dual, Policy::Toggle] {
        let name = format!("checked-in objects run under policy {}", policy.name());
        report.run(&name, false, || checked_in_objects_run_under(policy));
    }
    for (name, test) in landing_pads::TESTS {
        report.run(name, !looks_for_pads(), test);
    }
    let name = "loading a damaged file never panics and leaves no memory behind";
    report.run(name, false, damaged_files_leave_no_memory_behind);
    report.close()
}

fn checked_in_objects_run_under(policy: Policy) -> Outcome {
    runtime().set_policy(policy).unwrap();
    // For x86_64 the tests compile the same sources themselves: see compilers.rs.
    if cfg!(target_arch = "aarch64") {
        for (name, file) in samples::AARCH64_C.iter().chain(samples::AARCH64_GUARDED) {
            check_c(name, file);
        }
        for (name, file) in samples::AARCH64_RUST {
            check_rust(name, file);
        }
    }
    // Plain functions have the same conventions on macOS. What differs there is tested by tests/darwin.
    for (name, file) in samples::macos_features() {
        check_rust(name, file);
    }
    for ((name, file), result) in
        [(samples::for_this_machine(), 2848), (samples::macos_for_this_machine(), 2036)]
    {
        let image = Object::load_with(file, process_symbol).unwrap();
        let sample = image.address("sample").unwrap();
        // SAFETY: the sources in examples/objects have one integer for this function.
        assert_eq!(unsafe { image.call(sample, &[10]) }, Ok(result), "{name}");
    }
    assert_eq!(runtime().policy(), Ok(policy));
    assert_eq!((runtime().region_count(), runtime().requested_bytes()), (0, 0), "all memory is freed");
    Outcome::Passed
}

/// Every how many bytes. Emulated (the musl target), all of them would take minutes.
const STRIDE: usize = if cfg!(target_env = "musl") { 17 } else { 1 };

/// Nothing of a damaged object is ever called.
fn damaged_files_leave_no_memory_behind() -> Outcome {
    let (name, sound) = samples::for_this_machine();
    for length in (0..sound.len()).step_by(7 * STRIDE) {
        assert!(Object::load_with(&sound[..length], process_symbol).is_err(), "{name} of {length} bytes");
    }
    let mut file = sound.to_vec();
    let mut loaded = 0;
    for at in (0..file.len()).step_by(STRIDE) {
        file[at] = sound[at].wrapping_add(0x41);
        loaded += usize::from(Object::load_with(&file, process_symbol).is_ok());
        file[at] = sound[at];
    }
    assert!(loaded > 100 / STRIDE, "only {loaded} changed files were loaded");
    assert_eq!(runtime().region_count(), 0);
    Outcome::Passed
}
