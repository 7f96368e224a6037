//! What a relocation is made of, and the computations that all architectures have.

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
    /// Z: the symbol's size.
    Size,
}

/// What the value is relative to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// P: the bytes that are relocated. Absolute fields ignore it.
    Place,
    /// GOT: the start of the global offset table.
    Got,
}

/// How the relocated bytes are computed: from those that are there, the target and the origin. The target has its addend
/// already.
#[derive(Clone, Copy)]
pub enum Field {
    /// A byte.
    Byte(Write<u8>),
    /// A 16-bit word or instruction.
    Half(Write<u16>),
    /// A 32-bit word or instruction.
    Word(Write<u32>),
    /// A 64-bit word, or two instructions.
    Quad(Write<u64>),
    /// A number in the form ULEB128, which keeps its length.
    Leb(Write<u64>),
}

/// The new value of a field.
pub type Write<T> = fn(T, u64, u64) -> Result<T, Misfit>;

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

/// Bytes of a stub. It is the same on all architectures, so that the layout doesn't depend on them.
pub const STUB: u64 = 16;

impl Form {
    /// One for a 64-bit word.
    pub const fn quad(target: Target, origin: Origin, write: Write<u64>) -> Self {
        Self { target, origin, field: Field::Quad(write) }
    }

    /// One for a 32-bit word or instruction, relative to its place.
    pub const fn word(target: Target, write: Write<u32>) -> Self {
        Self { target, origin: Origin::Place, field: Field::Word(write) }
    }

    /// One for a 16-bit word or instruction, relative to its place.
    pub const fn half(target: Target, write: Write<u16>) -> Self {
        Self { target, origin: Origin::Place, field: Field::Half(write) }
    }

    /// One for a byte, relative to its place.
    pub const fn byte(target: Target, write: Write<u8>) -> Self {
        Self { target, origin: Origin::Place, field: Field::Byte(write) }
    }
}

/// The address itself.
pub fn absolute64(_: u64, target: u64, _: u64) -> Result<u64, Misfit> {
    Ok(target)
}

/// The distance, which wraps as addresses do: every difference of two addresses fits.
pub fn relative64(_: u64, target: u64, origin: u64) -> Result<u64, Misfit> {
    Ok(target.wrapping_sub(origin))
}

/// A data word of `bits` bits, signed or unsigned: from -2^(bits - 1) up to 2^bits.
pub const fn either(value: u64, bits: u32) -> Result<u64, Misfit> {
    match (value as i64) >> (bits - 1) {
        -1..=1 => Ok(value),
        _ => Err(Misfit::OutOfRange),
    }
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
        assert_eq!(absolute64(1, 0x1234_5678_9abc_def0, 7), Ok(0x1234_5678_9abc_def0));
        assert_eq!(relative64(1, 0x1000, 0x3000), Ok(0xffff_ffff_ffff_e000));
    }

    #[test]
    fn a_data_word_may_be_signed_or_unsigned() {
        for (bits, fits, too_small, too_large) in
            [(8, [-0x80, 0xff], -0x81, 0x100), (16, [-0x8000, 0xffff], -0x8001, 0x1_0000)]
        {
            assert!(fits.into_iter().all(|value| either(value as u64, bits).is_ok()), "{bits}");
            assert_eq!(either(too_small as u64, bits), Err(Misfit::OutOfRange));
            assert_eq!(either(too_large as u64, bits), Err(Misfit::OutOfRange));
        }
        assert!(either(-0x8000_0000_i64 as u64, 32).is_ok() && either(0xffff_ffff, 32).is_ok());
        assert!(either(-0x8000_0001_i64 as u64, 32).is_err() && either(0x1_0000_0000, 32).is_err());
    }
}
