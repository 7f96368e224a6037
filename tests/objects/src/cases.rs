//! The functions of `samples/features.c` and `samples/features.rs` and what they return: numbers that
//! the same sources gave when the system's own linker made programs of them.

use crate::loader::image::{Group, Image};

/// A call and its result. The order matters: some functions change data that others read.
type Case = (&'static str, &'static [i64], i64);

/// `samples/features.c`.
pub const C: &[Case] = &[
    ("six", &[1, 2, 3, 4, 5, 6], 654_321),
    ("was_constructed", &[], 18),
    ("started", &[], 1),
    ("remember", &[2], 42),
    ("remember", &[-50], -8),
    ("zeros", &[], 0),
    ("fill_zeros", &[], 7016),
    ("weak", &[], 1),
    ("letters", &[], 219_146),
    ("sorted", &[], 1_413_519),
    ("one_address", &[], 1),
    ("switched", &[], 323_291),
    ("labels", &[21], 12),
    ("labels", &[58], 9),
    ("widths", &[], 0x4444_4444_7777_3326),
    ("formatted", &[-123_456_789], 20_050),
    ("ackermann", &[2, 9], 21),
    // Read-execute, read-only, read-write: what the library says of the function, a table, the zeroed data.
    ("own_protection", &[], 513),
];

/// `samples/features.rs`.
pub const RUST: &[Case] = &[
    ("shapes", &[7], 19_617),
    ("calls", &[], 1),
    ("calls", &[], 2),
    ("prime", &[4], 11),
    ("prime", &[6], -1),
    ("prime", &[-1], -1),
    ("word", &[2], 1103),
    ("word", &[5], 1906),
    ("word", &[6], -1),
    ("imported", &[], 112),
];

/// Loads an object made of `features.c`, compares every result, and sees its destructor run.
pub fn check_c(name: &str, file: &[u8]) {
    let mut image = load(name, file);
    // SAFETY: the object was compiled from features.c.
    unsafe { image.construct() }.unwrap_or_else(|error| panic!("{name}: {error}"));
    check_calls(name, &image, C);
    let mut destroyed = 0_i64;
    let watch = image.function("watch").expect("it is in features.c");
    // SAFETY: `watch` keeps the address for the destructor, which writes a long there.
    unsafe { image.call(watch, &[(&raw mut destroyed) as i64]) }.expect("it takes one argument");
    drop(image);
    // SAFETY: the variable is live; code that the compiler doesn't know of has written it.
    assert_eq!(unsafe { (&raw const destroyed).read_volatile() }, 77, "{name}: the destructor");
}

/// Loads an object made of `features.rs` and compares every result.
pub fn check_rust(name: &str, file: &[u8]) {
    check_calls(name, &load(name, file), RUST);
}

fn load(name: &str, file: &[u8]) -> Image {
    let image = Image::load(file).unwrap_or_else(|error| panic!("{name}: {error}"));
    for group in image.groups() {
        check_protection(name, *group);
    }
    image
}

fn check_calls(name: &str, image: &Image, cases: &[Case]) {
    for (function, arguments, expected) in cases {
        let address = image.function(function).unwrap_or_else(|error| panic!("{name}: {error}"));
        // SAFETY: the function is in the table with as many arguments as its source has.
        let result = unsafe { image.call(address, arguments) };
        assert_eq!(result, Ok(*expected), "{name}: {function}{arguments:?}");
    }
}

/// Compares the protection with what the system itself says of every page: never writable and executable.
fn check_protection(name: &str, group: Group) {
    let maps = std::fs::read_to_string("/proc/self/maps").expect("Linux has it");
    let end = group.address + group.size;
    let mut seen = 0;
    for line in maps.lines() {
        let mut words = line.split([' ', '-']);
        let mut number = || words.next().and_then(|word| usize::from_str_radix(word, 16).ok());
        let (Some(from), Some(to)) = (number(), number()) else { panic!("{name}: not a mapping: {line}") };
        let common = to.min(end).saturating_sub(from.max(group.address));
        if common > 0 {
            let letters = line.split(' ').nth(1).unwrap_or_default();
            assert!(letters.starts_with(group.protection.letters()), "{name}: {group:x?} is {line}");
            seen += common;
        }
    }
    assert_eq!(seen, group.size, "{name}: {group:x?} is not wholly mapped");
    let letters = group.protection.letters();
    assert!(!(letters.contains('w') && letters.contains('x')), "{name}: {group:x?} is writable code");
}
