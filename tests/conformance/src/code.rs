//! A little machine code for each architecture: functions in the C convention.

use core::ops::Deref;
use core::sync::atomic::{AtomicBool, Ordering};

/// Some instructions.
#[derive(Clone, Copy)]
pub struct Code {
    bytes: [u8; 16],
    length: usize,
}

impl Deref for Code {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Code {
    #[cfg(target_arch = "x86_64")]
    fn of(instructions: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes[..instructions.len()].copy_from_slice(instructions);
        Self { bytes, length: instructions.len() }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of_words(words: &[u32]) -> Self {
        let mut code = Self { bytes: [0; 16], length: 4 * words.len() };
        for (place, word) in code.bytes.chunks_exact_mut(4).zip(words) {
            place.copy_from_slice(&word.to_le_bytes());
        }
        code
    }
}

/// A function without arguments that returns the value.
#[cfg(target_arch = "x86_64")]
pub fn returning(value: u8) -> Code {
    // mov rax, value; ret
    Code::of(&[0x48, 0xc7, 0xc0, value, 0, 0, 0, 0xc3])
}

/// A function of at least `index + 1` integers that returns the one at `index`, all 64 bits of it.
#[cfg(target_arch = "x86_64")]
pub fn argument(index: usize) -> Code {
    // mov rax, {rdi, rsi, rdx, rcx, r8, r9}; ret
    let moves = [
        [0x48, 0x89, 0xf8],
        [0x48, 0x89, 0xf0],
        [0x48, 0x89, 0xd0],
        [0x48, 0x89, 0xc8],
        [0x4c, 0x89, 0xc0],
        [0x4c, 0x89, 0xc8],
    ];
    let [a, b, c] = moves[index];
    Code::of(&[a, b, c, 0xc3])
}

/// Whether functions begin with landing pads.
static HAS_LANDING_PADS: AtomicBool = AtomicBool::new(false);

/// From now on functions of aarch64 begin with landing pads, for memory that asks for them.
pub fn begin_with_landing_pads() {
    HAS_LANDING_PADS.store(true, Ordering::Relaxed);
}

/// Two instructions, behind a landing pad (`bti c`) if there has to be one.
#[cfg(target_arch = "aarch64")]
fn function(instructions: [u32; 2]) -> Code {
    let [first, second] = instructions;
    match HAS_LANDING_PADS.load(Ordering::Relaxed) {
        true => Code::of_words(&[0xd503_245f, first, second]),
        false => Code::of_words(&instructions),
    }
}

/// A function without arguments that returns the value.
#[cfg(target_arch = "aarch64")]
pub fn returning(value: u8) -> Code {
    // movz x0, #value; ret
    function([0xd280_0000 | (value as u32) << 5, 0xd65f_03c0])
}

/// A function of at least `index + 1` integers that returns the one at `index`, all 64 bits of it.
#[cfg(target_arch = "aarch64")]
pub fn argument(index: usize) -> Code {
    // orr x0, xzr, x<index>; ret
    function([0xaa00_03e0 | (index as u32) << 16, 0xd65f_03c0])
}

/// A function without arguments that returns the value.
#[cfg(target_arch = "riscv64")]
pub fn returning(value: u8) -> Code {
    // addi a0, zero, value; jalr zero, 0(ra)
    Code::of_words(&[0x0000_0513 | (value as u32) << 20, 0x0000_8067])
}

/// A function of at least `index + 1` integers that returns the one at `index`, all 64 bits of it.
#[cfg(target_arch = "riscv64")]
pub fn argument(index: usize) -> Code {
    // addi a0, a<index>, 0; jalr zero, 0(ra)
    Code::of_words(&[0x0000_0513 | (10 + index as u32) << 15, 0x0000_8067])
}

/// Records for an unwinder, in the format of `.eh_frame`, of a function that leaves the stack as it is: what all of one
/// architecture begin with, and those of the `size` bytes at `address`.
pub fn unwind_records(address: i64, size: i64) -> [u32; 12] {
    // Version 1, no augmentation, factors 1 and -8, the return address's register; what holds at the first instruction.
    let rules: [u8; 12] = if cfg!(target_arch = "x86_64") {
        // The frame is at rsp + 8, the return address right below it.
        [1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1, 0, 0]
    } else if cfg!(target_arch = "aarch64") {
        [1, 0, 1, 0x78, 30, 0x0c, 31, 0, 0, 0, 0, 0]
    } else {
        [1, 0, 1, 0x78, 1, 0x0c, 2, 0, 0, 0, 0, 0]
    };
    let word = |at: usize| u32::from_le_bytes([rules[at], rules[at + 1], rules[at + 2], rules[at + 3]]);
    let (start, length) = (address as u64, size as u64);
    [
        16,
        0,
        word(0),
        word(4),
        word(8),
        20,
        24,
        start as u32,
        (start >> 32) as u32,
        length as u32,
        (length >> 32) as u32,
        0,
    ]
}
