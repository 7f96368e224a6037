//! riscv64: "RISC-V ELF Specification", chapter "Relocations".

use super::form::{Field, Form, Origin, STUB, Target, absolute64, distance, either, relative32};
use crate::error::Misfit;
use object::elf::{self, RelocationType};

/// What a relocation number asks for. The low half of a pair (`PCREL_LO12`) counts from its other half's place, which
/// the reader has found; and it has that one's target.
pub const fn form(kind: RelocationType) -> Option<Form> {
    use Target::{Branch, GotEntry, NearSymbol, Symbol};
    Some(match kind {
        elf::R_RISCV_32 => Form::word(NearSymbol, |_, target, _| Ok(either(target, 32)? as u32)),
        elf::R_RISCV_64 => Form::quad(Symbol, Origin::Place, absolute64),
        elf::R_RISCV_BRANCH => Form::word(Branch, branch),
        elf::R_RISCV_JAL => Form::word(Branch, jump),
        elf::R_RISCV_RVC_BRANCH => Form::half(Branch, short_branch),
        elf::R_RISCV_RVC_JUMP => Form::half(Branch, short_jump),
        elf::R_RISCV_CALL | elf::R_RISCV_CALL_PLT => Form::quad(Branch, Origin::Place, call),
        elf::R_RISCV_PLT32 => Form::word(Branch, relative32),
        elf::R_RISCV_32_PCREL => Form::word(NearSymbol, relative32),
        elf::R_RISCV_GOT32_PCREL => Form::word(GotEntry, relative32),
        elf::R_RISCV_GOT_HI20 => Form::word(GotEntry, high_distance),
        elf::R_RISCV_PCREL_HI20 => Form::word(NearSymbol, high_distance),
        elf::R_RISCV_PCREL_LO12_I => {
            Form::word(NearSymbol, |code, target, place| Ok(low_i(code, target.wrapping_sub(place))))
        }
        elf::R_RISCV_PCREL_LO12_S => {
            Form::word(NearSymbol, |code, target, place| Ok(low_s(code, target.wrapping_sub(place))))
        }
        elf::R_RISCV_HI20 => Form::word(NearSymbol, |code, target, _| high(code, target as i64)),
        elf::R_RISCV_LO12_I => Form::word(NearSymbol, |code, target, _| Ok(low_i(code, target))),
        elf::R_RISCV_LO12_S => Form::word(NearSymbol, |code, target, _| Ok(low_s(code, target))),
        // Pairs of these make the differences of two symbols.
        elf::R_RISCV_ADD8 => Form::byte(Symbol, |old, target, _| Ok(old.wrapping_add(target as u8))),
        elf::R_RISCV_ADD16 => Form::half(Symbol, |old, target, _| Ok(old.wrapping_add(target as u16))),
        elf::R_RISCV_ADD32 => Form::word(Symbol, |old, target, _| Ok(old.wrapping_add(target as u32))),
        elf::R_RISCV_ADD64 => {
            Form::quad(Symbol, Origin::Place, |old, target, _| Ok(old.wrapping_add(target)))
        }
        elf::R_RISCV_SUB8 => Form::byte(Symbol, |old, target, _| Ok(old.wrapping_sub(target as u8))),
        elf::R_RISCV_SUB16 => Form::half(Symbol, |old, target, _| Ok(old.wrapping_sub(target as u16))),
        elf::R_RISCV_SUB32 => Form::word(Symbol, |old, target, _| Ok(old.wrapping_sub(target as u32))),
        elf::R_RISCV_SUB64 => {
            Form::quad(Symbol, Origin::Place, |old, target, _| Ok(old.wrapping_sub(target)))
        }
        elf::R_RISCV_SET6 => Form::byte(Symbol, |old, target, _| Ok(low6(old, target as u8))),
        elf::R_RISCV_SUB6 => {
            Form::byte(Symbol, |old, target, _| Ok(low6(old, old.wrapping_sub(target as u8))))
        }
        elf::R_RISCV_SET8 => Form::byte(Symbol, |_, target, _| Ok(target as u8)),
        elf::R_RISCV_SET16 => Form::half(Symbol, |_, target, _| Ok(target as u16)),
        elf::R_RISCV_SET32 => Form::word(Symbol, |_, target, _| Ok(target as u32)),
        elf::R_RISCV_SET_ULEB128 => {
            Form { target: Symbol, origin: Origin::Place, field: Field::Leb(|_, target, _| Ok(target)) }
        }
        elf::R_RISCV_SUB_ULEB128 => Form {
            target: Symbol,
            origin: Origin::Place,
            field: Field::Leb(|old, target, _| Ok(old.wrapping_sub(target))),
        },
        _ => return None,
    })
}

/// `auipc t3, entry; ld t3, entry(t3); jr t3; nop`, as entries of a PLT use that register.
pub fn stub(place: u64, entry: u64) -> Result<[u8; STUB as usize], Misfit> {
    let words = [
        high_distance(0x0000_0e17, entry, place)?,
        low_i(0x000e_3e03, entry.wrapping_sub(place)),
        0x000e_0067,
        0x0000_0013,
    ];
    let mut code = [0; STUB as usize];
    for (bytes, word) in code.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Ok(code)
}

/// Bits of a value, moved to where an instruction has them: from bit `from` on, `count` bits, to bit `to`.
const fn bits(value: u32, from: u32, count: u32, to: u32) -> u32 {
    (value >> from & ((1 << count) - 1)) << to
}

/// The distance of a branch as a signed number of `width` bits, of which the lowest is zero.
const fn even(target: u64, place: u64, width: u32) -> Result<u32, Misfit> {
    match distance(target, place, width) {
        Ok(distance) if distance & 1 != 0 => Err(Misfit::Misaligned),
        Ok(distance) => Ok(distance as u32),
        Err(misfit) => Err(misfit),
    }
}

/// `beq` and the like: 4 KiB either way.
fn branch(code: u32, target: u64, place: u64) -> Result<u32, Misfit> {
    let way = even(target, place, 13)?;
    let field = bits(way, 12, 1, 31) | bits(way, 5, 6, 25) | bits(way, 1, 4, 8) | bits(way, 11, 1, 7);
    Ok(code & 0x01ff_f07f | field)
}

/// `jal`: 1 MiB either way.
fn jump(code: u32, target: u64, place: u64) -> Result<u32, Misfit> {
    let way = even(target, place, 21)?;
    let field = bits(way, 20, 1, 31) | bits(way, 1, 10, 21) | bits(way, 11, 1, 20) | bits(way, 12, 8, 12);
    Ok(code & 0xfff | field)
}

/// `c.beqz`, `c.bnez`: 256 bytes either way.
fn short_branch(code: u16, target: u64, place: u64) -> Result<u16, Misfit> {
    let way = even(target, place, 9)?;
    let field = bits(way, 8, 1, 12)
        | bits(way, 3, 2, 10)
        | bits(way, 6, 2, 5)
        | bits(way, 1, 2, 3)
        | bits(way, 5, 1, 2);
    Ok(code & 0xe383 | field as u16)
}

/// `c.j`: 2 KiB either way.
fn short_jump(code: u16, target: u64, place: u64) -> Result<u16, Misfit> {
    let way = even(target, place, 12)?;
    let field = bits(way, 11, 1, 12)
        | bits(way, 4, 1, 11)
        | bits(way, 8, 2, 9)
        | bits(way, 10, 1, 8)
        | bits(way, 6, 1, 7)
        | bits(way, 7, 1, 6)
        | bits(way, 1, 3, 3)
        | bits(way, 5, 1, 2);
    Ok(code & 0xe003 | field as u16)
}

/// `auipc`, `lui`: the upper 20 bits, so that the lower twelve, which are signed, lead to the value.
fn high(code: u32, value: i64) -> Result<u32, Misfit> {
    let rounded = value.checked_add(0x800).ok_or(Misfit::OutOfRange)?;
    let rounded = distance(rounded as u64, 0, 32)? as u32;
    Ok(code & 0xfff | rounded & 0xffff_f000)
}

fn high_distance(code: u32, target: u64, place: u64) -> Result<u32, Misfit> {
    high(code, target.wrapping_sub(place) as i64)
}

/// The lower twelve bits, in `addi`, `jalr` and loads.
const fn low_i(code: u32, value: u64) -> u32 {
    code & 0x000f_ffff | bits(value as u32, 0, 12, 20)
}

/// The lower twelve bits, in stores.
const fn low_s(code: u32, value: u64) -> u32 {
    code & 0x01ff_f07f | bits(value as u32, 5, 7, 25) | bits(value as u32, 0, 5, 7)
}

/// `auipc` and `jalr` behind it: 2 GiB either way.
fn call(code: u64, target: u64, place: u64) -> Result<u64, Misfit> {
    let upper = high_distance(code as u32, target, place)?;
    let lower = low_i((code >> 32) as u32, target.wrapping_sub(place));
    Ok(u64::from(upper) | u64::from(lower) << 32)
}

/// The low six bits of a byte, in the tables of unwinders.
const fn low6(old: u8, value: u8) -> u8 {
    old & 0xc0 | value & 0x3f
}

#[cfg(test)]
mod tests;
