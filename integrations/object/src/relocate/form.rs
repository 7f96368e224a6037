//! What a relocation is made of, and the computations that both architectures have.

use crate::error::Misfit;

/// What a relocation points to, by the psABI's letters. The addend is added to its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// S: the symbol itself, however far away.
    Symbol,
    /// S, for a field that doesn't reach every address: the stub of an imported function stands for it.
    NearSymbol,
    /// L: where to branch to. That is the stub of whatever is imported; also of a weak symbol that nobody defines,
    /// which is never called.
    Branch,
    /// G: the entry of the global offset table (GOT) that holds the symbol's address.
    GotEntry,
    /// GOT: the start of that table.
    Got,
}

/// What the value is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// P: the bytes that are relocated. Absolute fields ignore it.
    Place,
    /// GOT: the start of the global offset table.
    Got,
}

/// How the relocated bytes are computed. The target has its addend already.
#[derive(Clone, Copy)]
pub enum Field {
    /// A 32-bit word or instruction, from the bytes that are there, the target and the origin.
    Word(fn(u32, u64, u64) -> Result<u32, Misfit>),
    /// A 64-bit word, from the target and the origin. Every difference of two addresses fits.
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

/// Bytes of a stub. It is the same on both architectures, so that the layout doesn't depend on them.
pub const STUB: u64 = 16;

impl Form {
    /// One for a 64-bit word.
    pub const fn quad(target: Target, origin: Origin, write: fn(u64, u64) -> u64) -> Self {
        Self { target, origin, field: Field::Quad(write) }
    }

    /// One for a 32-bit word or instruction, relative to its place.
    pub const fn word(target: Target, write: fn(u32, u64, u64) -> Result<u32, Misfit>) -> Self {
        Self { target, origin: Origin::Place, field: Field::Word(write) }
    }
}

/// The address itself.
pub fn absolute64(target: u64, _: u64) -> u64 {
    target
}

/// The distance, which wraps as addresses do.
pub fn relative64(target: u64, origin: u64) -> u64 {
    target.wrapping_sub(origin)
}

/// The distance as a signed number of at most `bits` bits.
pub const fn distance(target: u64, origin: u64, bits: u32) -> Result<i64, Misfit> {
    let distance = target.wrapping_sub(origin) as i64;
    let spare = 64 - bits;
    if (distance << spare) >> spare == distance { Ok(distance) } else { Err(Misfit::OutOfRange) }
}

/// A signed 32-bit distance.
pub fn relative32(_: u32, target: u64, origin: u64) -> Result<u32, Misfit> {
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
