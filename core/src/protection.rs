//! The contract's flags and numbers: the same on every system (they are Linux's), translated by the adapters.

use crate::error::Error;
use bitflags::bitflags;

bitflags! {
    /// What may be done with a page: the contract's `PROT_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protection: u8 {
        /// Loads.
        const READ = 1;
        /// Stores.
        const WRITE = 2;
        /// Instruction fetches.
        const EXEC = 4;
    }
}

bitflags! {
    /// How a file or anonymous memory is mapped: the contract's `MAP_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// Stores reach the file and other processes.
        const SHARED = 0x01;
        /// Stores stay in this process.
        const PRIVATE = 0x02;
        /// Always invalid here: no function takes an address to map at.
        const FIXED = 0x10;
        /// No file behind it.
        const ANONYMOUS = 0x20;
    }
}

impl Protection {
    /// No access at all.
    pub const NONE: Self = Self::empty();
    /// Data.
    pub const RW: Self = Self::READ.union(Self::WRITE);
    /// Code.
    pub const RX: Self = Self::READ.union(Self::EXEC);
    /// Code that can be written in place; only under policy `rwx`.
    pub const RWX: Self = Self::RW.union(Self::EXEC);

    /// From the contract's number; unknown bits are an invalid argument.
    pub fn from_number(number: i32) -> Result<Self, Error> {
        u8::try_from(number).ok().and_then(Self::from_bits).ok_or(Error::InvalidArgument)
    }

    /// Whether both WRITE and EXEC are asked for, which W^X forbids.
    pub const fn is_writable_code(self) -> bool {
        self.contains(Self::WRITE.union(Self::EXEC))
    }

    /// As `/proc/self/maps` shows it: `r-x`.
    pub const fn letters(self) -> &'static str {
        ["---", "r--", "-w-", "rw-", "--x", "r-x", "-wx", "rwx"][(self.bits() & 7) as usize]
    }
}

impl MapFlags {
    /// From the contract's number; unknown bits are an invalid argument.
    pub fn from_number(number: i32) -> Result<Self, Error> {
        u32::try_from(number).ok().and_then(Self::from_bits).ok_or(Error::InvalidArgument)
    }
}

/// What the caller expects to do with pages: the contract's advice numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Advice {
    /// Nothing special.
    Normal = 0,
    /// Random order: read-ahead is useless.
    Random = 1,
    /// Front to back: read ahead eagerly.
    Sequential = 2,
    /// Soon: start reading now.
    WillNeed = 3,
    /// Not soon: the pages may be dropped. Private anonymous memory then reads as zero. Private pages of a file may
    /// read as the file again (Linux) or keep what was stored.
    DontNeed = 4,
}

impl Advice {
    /// From the contract's number; any other is an invalid argument.
    pub const fn from_number(number: i32) -> Result<Self, Error> {
        Ok(match number {
            0 => Self::Normal,
            1 => Self::Random,
            2 => Self::Sequential,
            3 => Self::WillNeed,
            4 => Self::DontNeed,
            _ => return Err(Error::InvalidArgument),
        })
    }
}
