//! Objects made of `samples/features.c` and `samples/features.rs`: every function is called, and its result compared.

use execmem::Protection;
use execmem::abi::RT_PROT_BTI;
use execmem_object::{Object, Segment, process_symbol};
use execmem_object_samples::{C_CASES, Case, RUST_CASES};

/// Loads an object made of `features.c`, compares every result, and sees its destructor run.
pub fn check_c(name: &str, file: &[u8]) {
    let image = load(name, file);
    // SAFETY: the constructors and destructors of features.c return, and touch data of their own.
    unsafe { image.start() }.unwrap_or_else(|error| panic!("{name}: {error}"));
    check_calls(name, &image, C_CASES);
    let mut destroyed = 0_i64;
    let watch = image.address("watch").expect("it is in features.c");
    // SAFETY: `watch` keeps the address for the destructor, which writes a `long` there while the variable is live.
    unsafe { image.call(watch, &[(&raw mut destroyed) as i64]) }.expect("it takes one argument");
    drop(image);
    // SAFETY: the variable is live. Volatile, since the compiler doesn't see that the destructor writes it.
    assert_eq!(unsafe { (&raw const destroyed).read_volatile() }, 77, "{name}: the destructor");
}

/// Loads an object made of `features.rs` and compares every result.
pub fn check_rust(name: &str, file: &[u8]) {
    check_calls(name, &load(name, file), RUST_CASES);
}

fn load(name: &str, file: &[u8]) -> Object {
    let image = Object::load_with(file, process_symbol).unwrap_or_else(|error| panic!("{name}: {error}"));
    for segment in image.segments() {
        check_protection(name, *segment);
    }
    image
}

fn check_calls(name: &str, image: &Object, cases: &[Case]) {
    let is_guarded = image.segments()[0].protection.contains(Protection::BTI);
    for (function, arguments, expected) in cases {
        // It says what code's pages allow.
        let pads = if is_guarded && *function == "own_protection" { 100 * i64::from(RT_PROT_BTI) } else { 0 };
        let address = image.address(function).unwrap_or_else(|error| panic!("{name}: {error}"));
        // SAFETY: the function is in the table with as many arguments as its source has.
        let result = unsafe { image.call(address, arguments) };
        assert_eq!(result, Ok(expected + pads), "{name}: {function}{arguments:?}");
    }
}

/// Compares the protection with what the system itself says of every page: never writable and executable.
fn check_protection(name: &str, segment: Segment) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
    let end = segment.address + segment.size;
    let mut seen = 0;
    for line in maps.lines() {
        let mut words = line.split([' ', '-']);
        let mut number = || words.next().and_then(|word| usize::from_str_radix(word, 16).ok());
        let (Some(from), Some(to)) = (number(), number()) else { panic!("{name}: not a mapping: {line}") };
        let common = to.min(end).saturating_sub(from.max(segment.address));
        if common > 0 {
            let letters = line.split(' ').nth(1).unwrap_or_default();
            assert!(letters.starts_with(segment.protection.letters()), "{name}: {segment:x?} is {line}");
            seen += common;
        }
    }
    assert_eq!(seen, segment.size, "{name}: {segment:x?} is not wholly mapped");
    let letters = segment.protection.letters();
    assert!(!(letters.contains('w') && letters.contains('x')), "{name}: {segment:x?} is writable code");
}
