//! What Rust asks of a loader. `run` gives 42 if all of it is right. Compiled as one object it has only what is compiled
//! into it; as an archive, with the feature `core`, its `core` too, and with `std` all of the standard library.
#![cfg_attr(not(feature = "std"), no_std)]

use core::sync::atomic::{AtomicI64, Ordering};

#[cfg(all(feature = "core", not(feature = "std")))]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

static COUNTER: AtomicI64 = AtomicI64::new(40);
static NAMES: [&str; 3] = ["zero", "one", "two"];

#[cfg(feature = "core")]
struct Text([u8; 32], usize);

#[cfg(feature = "core")]
impl core::fmt::Write for Text {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        for byte in text.bytes() {
            *self.0.get_mut(self.1).ok_or(core::fmt::Error)? = byte;
            self.1 += 1;
        }
        Ok(())
    }
}

#[cfg(feature = "std")]
fn further() -> bool {
    let mut names: Vec<String> = NAMES.iter().map(|name| name.to_uppercase()).collect();
    names.sort();
    let caught = std::panic::catch_unwind(|| std::panic::resume_unwind(Box::new(names.len())));
    names == ["ONE", "TWO", "ZERO"] && caught.is_err_and(|payload| payload.downcast_ref() == Some(&3_usize))
}

#[cfg(not(any(feature = "std", feature = "core")))]
fn further() -> bool {
    NAMES.iter().map(|name| name.len()).sum::<usize>() == 10
}

#[cfg(all(feature = "core", not(feature = "std")))]
fn further() -> bool {
    use core::fmt::Write;
    let mut text = Text([0; 32], 0);
    write!(text, "{} {:?} {}", NAMES[2], Some(1), 7_u8).is_ok() && text.0.starts_with(b"two Some(1) 7")
}

#[unsafe(no_mangle)]
pub extern "C" fn run() -> i64 {
    let numbers = [3_i64, -1, 0];
    let positive = numbers.iter().filter(|number| **number > 0).count() as i64;
    COUNTER.fetch_add(positive + i64::from(further()), Ordering::Relaxed)
        + numbers.iter().sum::<i64>()
}
