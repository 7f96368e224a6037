//! Relocations: what each number of the psABI asks for, as data and pure functions.

pub mod aarch64;
pub mod x86_64;

use object::elf;
use std::fmt;

/// An architecture whose relocations are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Architecture {
    /// Numbers of the System V psABI for AMD64.
    X86_64,
    /// Numbers of "ELF for the Arm 64-bit Architecture" (AAELF64).
    Aarch64,
}

/// What a relocation points to: the psABI's S, L, G or GOT. The addend is added to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The symbol itself, however far away.
    Symbol,
    /// The symbol; or, if that is an imported function, its stub, which is near.
    NearSymbol,
    /// As `NearSymbol`, and a weak symbol that nobody defines has a stub too: it is never called.
    Branch,
    /// The slot that holds the symbol's address.
    Slot,
    /// The start of the table of slots.
    Table,
}

/// What the value is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The bytes that are relocated. Absolute fields ignore it.
    Place,
    /// The start of the table of slots.
    Table,
}

/// Computes the bytes, from those that are there, the target's address (addend included) and the origin.
#[derive(Clone, Copy)]
pub enum Field {
    /// A 32-bit word or instruction.
    Word(fn(u32, u64, u64) -> Result<u32, Misfit>),
    /// A 64-bit word. Every difference of two addresses fits.
    Quad(fn(u64, u64) -> u64),
}

/// What a relocation number asks for.
#[derive(Clone, Copy)]
pub struct Form {
    /// What it points to.
    pub target: Target,
    /// What it is relative to.
    pub origin: Origin,
    /// How the result is stored.
    pub field: Field,
}

/// Why a value can't be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misfit {
    /// It has too many bits.
    OutOfRange,
    /// Low bits that the field has no room for aren't zero.
    Misaligned,
}

/// Bytes of a stub: the same on both architectures, so that layout needs not know which.
pub const STUB: u64 = 16;

impl Architecture {
    /// The one with this ELF number.
    pub fn from_machine(machine: elf::Machine) -> Option<Self> {
        [Self::X86_64, Self::Aarch64].into_iter().find(|architecture| architecture.machine() == machine)
    }

    /// Its ELF number.
    pub const fn machine(self) -> elf::Machine {
        match self {
            Self::X86_64 => elf::EM_X86_64,
            Self::Aarch64 => elf::EM_AARCH64,
        }
    }

    /// Whether this program runs on it.
    pub fn is_host(self) -> bool {
        match self {
            Self::X86_64 => cfg!(target_arch = "x86_64"),
            Self::Aarch64 => cfg!(target_arch = "aarch64"),
        }
    }

    /// What a relocation number asks for; `None` if it is unknown.
    pub const fn form(self, kind: elf::RelocationType) -> Option<Form> {
        match self {
            Self::X86_64 => x86_64::form(kind),
            Self::Aarch64 => aarch64::form(kind),
        }
    }

    /// Whether a relocation number asks for nothing. AAELF64 has two such numbers.
    pub const fn is_nothing(self, kind: elf::RelocationType) -> bool {
        match self {
            Self::X86_64 => kind.0 == elf::R_X86_64_NONE.0,
            Self::Aarch64 => matches!(kind.0, 0 | 256),
        }
    }

    /// The code at `place` that jumps to the address in a slot, changing no register that a call keeps.
    pub fn stub(self, place: u64, slot: u64) -> Result<[u8; STUB as usize], Misfit> {
        match self {
            Self::X86_64 => x86_64::stub(place, slot),
            Self::Aarch64 => aarch64::stub(place, slot),
        }
    }

    /// Whether a slot can be pointed into with an addend. AAELF64 puts the addend into the slot's own
    /// value instead, which compilers don't ask for.
    pub const fn allows_slot_addend(self) -> bool {
        matches!(self, Self::X86_64)
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
        })
    }
}

impl Form {
    const fn quad(target: Target, origin: Origin, write: fn(u64, u64) -> u64) -> Self {
        Self { target, origin, field: Field::Quad(write) }
    }

    const fn word(target: Target, write: fn(u32, u64, u64) -> Result<u32, Misfit>) -> Self {
        Self { target, origin: Origin::Place, field: Field::Word(write) }
    }
}

/// The address itself.
fn absolute64(target: u64, _: u64) -> u64 {
    target
}

/// The distance, which wraps as addresses do.
fn relative64(target: u64, origin: u64) -> u64 {
    target.wrapping_sub(origin)
}

/// The distance as a signed number of at most `bits` bits.
const fn distance(target: u64, origin: u64, bits: u32) -> Result<i64, Misfit> {
    let distance = target.wrapping_sub(origin) as i64;
    let spare = 64 - bits;
    if (distance << spare) >> spare == distance { Ok(distance) } else { Err(Misfit::OutOfRange) }
}

/// A signed 32-bit distance.
fn relative32(_: u32, target: u64, origin: u64) -> Result<u32, Misfit> {
    Ok(distance(target, origin, 32)? as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_is_accepted_up_to_its_last_bit_in_both_directions() {
        let at = 0x7fff_0000_0000;
        assert_eq!(relative32(0, at + 0x7fff_ffff, at), Ok(0x7fff_ffff));
        assert_eq!(relative32(0, at + 0x8000_0000, at), Err(Misfit::OutOfRange));
        assert_eq!(relative32(0, at - 0x8000_0000, at), Ok(0x8000_0000));
        assert_eq!(relative32(0, at - 0x8000_0001, at), Err(Misfit::OutOfRange));
        assert_eq!(relative32(0, 0, at), Err(Misfit::OutOfRange));
        assert_eq!(distance(u64::MAX, 0, 21), Ok(-1));
    }

    #[test]
    fn quads_wrap_as_addresses_do() {
        assert_eq!(absolute64(0x1234_5678_9abc_def0, 7), 0x1234_5678_9abc_def0);
        assert_eq!(relative64(0x1000, 0x3000), 0xffff_ffff_ffff_e000);
    }
}
