//! The contract's flags and numbers as types. They are the same on every system (Linux's), translated by the adapters.

use crate::error::{Error, Result};
use crate::header::*;
use bitflags::bitflags;

bitflags! {
    /// What may be done with a page: the contract's `PROT_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Protection: u8 {
        /// Loads.
        const READ = RT_PROT_READ as u8;
        /// Stores.
        const WRITE = RT_PROT_WRITE as u8;
        /// Instruction fetches.
        const EXEC = RT_PROT_EXEC as u8;
        /// Beside EXEC: an indirect branch must find a landing pad (Branch Target Identification of aarch64).
        const BTI = RT_PROT_BTI as u8;
    }
}

bitflags! {
    /// How a file or anonymous memory is mapped: the contract's `MAP_*`.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct MapFlags: u32 {
        /// Stores reach the file and other processes.
        const SHARED = RT_MAP_SHARED as u32;
        /// Stores stay in this process.
        const PRIVATE = RT_MAP_PRIVATE as u32;
        /// No file behind it.
        const ANONYMOUS = RT_MAP_ANONYMOUS as u32;
    }
}

bitflags! {
    /// What makes breaches fault that would go unnoticed otherwise: the contract's `HARDEN_*`.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Hardening: i32 {
        /// Pages without access around regions and chunks.
        const GUARDS = RT_HARDEN_GUARDS;
        /// Write views that only this library's own writes can store to.
        const KEYS = RT_HARDEN_KEYS;
        /// Code with [`Protection::BTI`].
        const BTI = RT_HARDEN_BTI;
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
    pub fn from_number(number: i32) -> Result<Self> {
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
    pub fn from_number(number: i32) -> Result<Self> {
        u32::try_from(number).ok().and_then(Self::from_bits).ok_or(Error::InvalidArgument)
    }
}

impl Hardening {
    /// From the contract's number; unknown bits are an invalid argument.
    pub fn from_number(number: i32) -> Result<Self> {
        Self::from_bits(number).ok_or(Error::InvalidArgument)
    }
}

/// What the caller expects to do with pages: the contract's advice numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Advice {
    /// Nothing special.
    Normal = RT_ADVICE_NORMAL,
    /// Random order: read-ahead is useless.
    Random = RT_ADVICE_RANDOM,
    /// Front to back: read ahead eagerly.
    Sequential = RT_ADVICE_SEQUENTIAL,
    /// Soon: start reading now.
    WillNeed = RT_ADVICE_WILLNEED,
    /// Not soon: the pages may be dropped. Private anonymous memory then reads as zero. Private pages of a file may
    /// read as the file again (Linux) or keep what was stored.
    DontNeed = RT_ADVICE_DONTNEED,
    /// Never in a forked child: it does not get the region, all of which is named.
    DontFork = RT_ADVICE_DONTFORK,
}

impl Advice {
    /// From the contract's number; any other is an invalid argument.
    pub fn from_number(number: i32) -> Result<Self> {
        Ok(match number {
            RT_ADVICE_NORMAL => Self::Normal,
            RT_ADVICE_RANDOM => Self::Random,
            RT_ADVICE_SEQUENTIAL => Self::Sequential,
            RT_ADVICE_WILLNEED => Self::WillNeed,
            RT_ADVICE_DONTNEED => Self::DontNeed,
            RT_ADVICE_DONTFORK => Self::DontFork,
            _ => return Err(Error::InvalidArgument),
        })
    }
}
