//! What compiled Rust without its standard library asks of a loader. The expected results are in src/lib.rs.
//! build.sh makes the objects that are checked in; the tests compile it for the host as well.
#![no_std]
#![crate_type = "lib"]

use core::ffi::c_char;
use core::sync::atomic::{AtomicI64, Ordering};

unsafe extern "C" {
    fn strlen(text: *const c_char) -> usize;
    fn rt_get_page_size() -> i64;
}

static CALLS: AtomicI64 = AtomicI64::new(0);
static PRIMES: [i64; 6] = [2, 3, 5, 7, 11, 13];

trait Shape {
    fn area(&self) -> i64;
    fn name(&self) -> &'static str;
}

struct Square(i64);
struct Circle(i64);

impl Shape for Square {
    fn area(&self) -> i64 {
        self.0 * self.0
    }
    fn name(&self) -> &'static str {
        "square"
    }
}

impl Shape for Circle {
    fn area(&self) -> i64 {
        self.0 * self.0 * 3
    }
    fn name(&self) -> &'static str {
        "round thing"
    }
}

/// Methods through tables of addresses.
#[unsafe(no_mangle)]
pub extern "C" fn shapes(size: i64) -> i64 {
    let (square, circle) = (Square(size), Circle(size));
    let shapes: [&dyn Shape; 2] = [&square, &circle];
    core::hint::black_box(shapes).iter().map(|shape| shape.area() * 100 + shape.name().len() as i64).sum()
}

/// Zeroed data that changes.
#[unsafe(no_mangle)]
pub extern "C" fn calls() -> i64 {
    CALLS.store(CALLS.load(Ordering::Relaxed) + 1, Ordering::Release);
    CALLS.load(Ordering::Acquire)
}

/// Read-only data, looked up by an index that is only known at run time.
#[unsafe(no_mangle)]
pub extern "C" fn prime(index: i64) -> i64 {
    usize::try_from(index).ok().and_then(|index| PRIMES.get(index)).copied().unwrap_or(-1)
}

/// Texts, compared and counted.
#[unsafe(no_mangle)]
pub extern "C" fn word(index: i64) -> i64 {
    let word = match index {
        0 => "zero",
        1 => "one",
        2 => "two hundred",
        3 => "thirty-three",
        4 => "four",
        5 => "fifty-five thousand",
        _ => return -1,
    };
    let vowels = word.bytes().filter(|letter| b"aeiou".contains(letter)).count();
    (word.len() * 100 + vowels) as i64
}

/// Functions of the process.
#[unsafe(no_mangle)]
pub extern "C" fn imported() -> i64 {
    // SAFETY: the text is a C string.
    unsafe { strlen(c"twelve bytes".as_ptr()) as i64 + (rt_get_page_size() >= 4096) as i64 * 100 }
}
