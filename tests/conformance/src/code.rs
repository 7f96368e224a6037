//! A little machine code for each architecture: functions in the C convention.

use core::ops::Deref;

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
    fn of(instructions: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes[..instructions.len()].copy_from_slice(instructions);
        Self { bytes, length: instructions.len() }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn of_words(words: [u32; 2]) -> Self {
        let [a, b] = words.map(u32::to_le_bytes);
        Self::of(&[a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]])
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

/// A function without arguments that returns the value.
#[cfg(target_arch = "aarch64")]
pub fn returning(value: u8) -> Code {
    // movz x0, #value; ret
    Code::of_words([0xd280_0000 | (value as u32) << 5, 0xd65f_03c0])
}

/// A function of at least `index + 1` integers that returns the one at `index`, all 64 bits of it.
#[cfg(target_arch = "aarch64")]
pub fn argument(index: usize) -> Code {
    // orr x0, xzr, x<index>; ret
    Code::of_words([0xaa00_03e0 | (index as u32) << 16, 0xd65f_03c0])
}

/// A function without arguments that returns the value.
#[cfg(target_arch = "riscv64")]
pub fn returning(value: u8) -> Code {
    // addi a0, zero, value; jalr zero, 0(ra)
    Code::of_words([0x0000_0513 | (value as u32) << 20, 0x0000_8067])
}

/// A function of at least `index + 1` integers that returns the one at `index`, all 64 bits of it.
#[cfg(target_arch = "riscv64")]
pub fn argument(index: usize) -> Code {
    // addi a0, a<index>, 0; jalr zero, 0(ra)
    Code::of_words([0x0000_0513 | (10 + index as u32) << 15, 0x0000_8067])
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
