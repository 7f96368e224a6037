//! Objects whose code has landing pads, on a processor that looks for them.

use crate::cases::check_c;
use execmem::{Hardening, Protection, runtime};
use execmem_object::{Error, Linker, Object};
use execmem_object_samples as samples;
use execmem_tests_linux::children::{self, Outcome, Status};
use execmem_tests_linux::system::looks_for_pads;

type Test = (&'static str, fn() -> Outcome);

pub const TESTS: [Test; 3] = [
    ("landing pads: code that has them lies on pages that ask for them", || where_pads_count(asking)),
    ("landing pads: with a file that has none no page asks for them", || where_pads_count(mixed)),
    ("landing pads: a hardened process has no other code", || where_pads_count(hardened)),
];

const GUARDED: Protection = Protection::RX.union(Protection::BTI);
const PADS: samples::Sample = samples::AARCH64_PADS[0];
const NO_PADS: samples::Sample = samples::AARCH64_PADS[1];

fn where_pads_count(test: fn()) -> Outcome {
    if !looks_for_pads() {
        return Outcome::NotApplicable("the processor looks for no landing pads".to_owned());
    }
    test();
    Outcome::Passed
}

fn protection_of_code(object: &Object) -> Protection {
    let code = object.segments()[0];
    assert_eq!(runtime().protection_at(code.address as i64), Ok(Some(code.protection)));
    code.protection
}

/// How a child ends that calls a function of one number at an address, which nobody checks but the processor.
fn jump(address: usize, expected: i64) -> Status {
    let code = std::ptr::with_exposed_provenance::<()>(address);
    // SAFETY: the process has one thread.
    match unsafe { libc::fork() } {
        -1 => panic!("fork failed: {}", std::io::Error::last_os_error()),
        // SAFETY: ends the child at once, if the call returns. (qemu has a line and a file for each that a signal ends.)
        0 => unsafe {
            libc::close(libc::STDERR_FILENO);
            libc::setrlimit(libc::RLIMIT_CORE, &libc::rlimit { rlim_cur: 0, rlim_max: 0 });
            let function = std::mem::transmute::<*const (), extern "C" fn(i64) -> i64>(code);
            libc::_exit(i32::from(function(4) != expected))
        },
        child => children::wait(child),
    }
}

const RETURNS: Status = Status::Exit(0);
const DIES: Status = Status::Signal(libc::SIGILL);
/// Behind a landing pad.
const BEHIND: usize = 4;

fn asking() {
    for (name, file) in samples::AARCH64_GUARDED {
        check_c(name, file);
        let object = Object::load(file).unwrap();
        assert_eq!(protection_of_code(&object), GUARDED, "{name}");
        // Of the two functions one returns before it touches data.
        let ackermann = object.address("ackermann").unwrap();
        // SAFETY: the function takes two numbers, and ends for these.
        assert_eq!(unsafe { object.call(ackermann, &[0, 4]) }, Ok(5));
        let watch = object.address("watch").unwrap();
        assert_eq!((jump(watch, 0), jump(watch + BEHIND, 0)), (RETURNS, DIES), "{name}");
    }
    // Of what is not linked nobody asks.
    let (name, file) = samples::AARCH64_GUARDED[0];
    let linker = Linker::new().file(name, file).file(NO_PADS.0, NO_PADS.1);
    assert_eq!(protection_of_code(&linker.entry("watch").link().unwrap()), GUARDED);
    // An indirect function is called at its stub.
    let (_, file) = samples::AARCH64_INDIRECT;
    let object = Object::load(file).unwrap();
    // SAFETY: the function that chooses takes nothing, and returns an address.
    unsafe { object.start() }.unwrap();
    let indirect = object.address("indirect").unwrap();
    assert_eq!((protection_of_code(&object), jump(indirect, 11)), (GUARDED, RETURNS));
    assert_eq!(jump(indirect + BEHIND, 11), DIES);
    // Small objects share pages with others, whose code may have none.
    let small = Object::load(PADS.1).unwrap();
    assert_eq!(small.mapped_bytes(), 0);
    let protection = runtime().protection_at(small.segments()[0].address as i64).unwrap().unwrap();
    assert!(protection.contains(Protection::EXEC) && !protection.contains(Protection::BTI));
    assert!(small.address("direct").is_ok());
}

fn mixed() {
    let (name, file) = samples::AARCH64_GUARDED[0];
    let object = Linker::new().file(name, file).file(NO_PADS.0, NO_PADS.1).link().unwrap();
    assert_eq!(protection_of_code(&object), Protection::RX);
    let watch = object.address("watch").unwrap();
    for place in [watch, watch + BEHIND] {
        assert_eq!(jump(place, 0), RETURNS);
    }
    let call = |name| jump(object.address(name).unwrap(), if name == "plain" { 9 } else { 13 });
    assert_eq!(["plain", "through"].map(call), [RETURNS, RETURNS]);
    assert_eq!(jump(object.address("direct").unwrap(), 12), RETURNS);
}

fn hardened() {
    runtime().set_hardening(Hardening::BTI).unwrap();
    let (name, file) = samples::AARCH64_GUARDED[0];
    check_c(name, file);
    let small = Object::load(PADS.1).unwrap();
    assert_eq!((small.mapped_bytes(), protection_of_code(&small)), (0, GUARDED));
    let [plain, through] = ["plain", "through"].map(|name| small.address(name).unwrap());
    assert_eq!((jump(plain, 9), jump(through, 13), jump(plain + BEHIND, 9)), (RETURNS, RETURNS, DIES));
    let direct = small.address("direct").unwrap_err();
    assert_eq!(direct, Error::NotALandingPad("direct".into()));
    assert_eq!(jump(small.segments()[0].address, 12), DIES, "it is the first function");

    assert_eq!(Object::load(NO_PADS.1).unwrap_err(), Error::NoLandingPads);
    for files in [[(name, file), NO_PADS], [NO_PADS, (name, file)]] {
        let linker = files.into_iter().fold(Linker::new(), |linker, (name, file)| linker.file(name, file));
        let error = Error::InFile { file: NO_PADS.0.into(), error: Box::new(Error::NoLandingPads) };
        assert_eq!(linker.link().unwrap_err(), error);
    }
    drop(small);
    assert_eq!((runtime().region_count(), runtime().requested_bytes()), (0, 0), "all memory is freed");
}
