//! aarch64: "ELF for the Arm 64-bit Architecture (AArch64)", section 5.7.

use super::form::{Field, Form, Origin, STUB, Target, absolute64, distance, either, relative32, relative64};
use crate::error::Misfit;
use object::elf::{self, RelocationType};

/// What a relocation number asks for.
pub const fn form(kind: RelocationType) -> Option<Form> {
    use Target::{Branch, GotEntry, NearSymbol, Symbol};
    Some(match kind {
        elf::R_AARCH64_ABS64 => Form::quad(Symbol, Origin::Place, absolute64),
        elf::R_AARCH64_PREL64 => Form::quad(Symbol, Origin::Place, relative64),
        elf::R_AARCH64_ABS32 => Form::word(NearSymbol, |_, target, _| Ok(either(target, 32)? as u32)),
        elf::R_AARCH64_PREL32 => {
            Form::word(NearSymbol, |_, target, place| Ok(either(target.wrapping_sub(place), 32)? as u32))
        }
        elf::R_AARCH64_ABS16 => Form::half(Symbol, |_, target, _| Ok(either(target, 16)? as u16)),
        elf::R_AARCH64_PREL16 => {
            Form::half(Symbol, |_, target, place| Ok(either(target.wrapping_sub(place), 16)? as u16))
        }
        elf::R_AARCH64_PLT32 => Form::word(Branch, relative32),
        elf::R_AARCH64_CALL26 | elf::R_AARCH64_JUMP26 => Form::word(Branch, branch26),
        elf::R_AARCH64_CONDBR19 => Form::word(Branch, literal19),
        elf::R_AARCH64_TSTBR14 => Form::word(Branch, branch14),
        elf::R_AARCH64_LD_PREL_LO19 => Form::word(NearSymbol, literal19),
        elf::R_AARCH64_ADR_PREL_LO21 => Form::word(NearSymbol, adr),
        elf::R_AARCH64_ADR_PREL_PG_HI21 => Form::word(NearSymbol, adrp),
        elf::R_AARCH64_ADR_PREL_PG_HI21_NC => Form::word(NearSymbol, adrp_low),
        elf::R_AARCH64_ADD_ABS_LO12_NC => Form::word(NearSymbol, low12::<0>),
        elf::R_AARCH64_LDST8_ABS_LO12_NC => Form::word(NearSymbol, low12::<0>),
        elf::R_AARCH64_LDST16_ABS_LO12_NC => Form::word(NearSymbol, low12::<1>),
        elf::R_AARCH64_LDST32_ABS_LO12_NC => Form::word(NearSymbol, low12::<2>),
        elf::R_AARCH64_LDST64_ABS_LO12_NC => Form::word(NearSymbol, low12::<3>),
        elf::R_AARCH64_LDST128_ABS_LO12_NC => Form::word(NearSymbol, low12::<4>),
        elf::R_AARCH64_MOVW_UABS_G0 => Form::word(Symbol, move_wide::<0, true>),
        elf::R_AARCH64_MOVW_UABS_G0_NC => Form::word(Symbol, move_wide::<0, false>),
        elf::R_AARCH64_MOVW_UABS_G1 => Form::word(Symbol, move_wide::<1, true>),
        elf::R_AARCH64_MOVW_UABS_G1_NC => Form::word(Symbol, move_wide::<1, false>),
        elf::R_AARCH64_MOVW_UABS_G2 => Form::word(Symbol, move_wide::<2, true>),
        elf::R_AARCH64_MOVW_UABS_G2_NC => Form::word(Symbol, move_wide::<2, false>),
        elf::R_AARCH64_MOVW_UABS_G3 => Form::word(Symbol, move_wide::<3, false>),
        elf::R_AARCH64_MOVW_SABS_G0 => Form::word(Symbol, |code, value, _| move_signed::<0>(code, value)),
        elf::R_AARCH64_MOVW_SABS_G1 => Form::word(Symbol, |code, value, _| move_signed::<1>(code, value)),
        elf::R_AARCH64_MOVW_SABS_G2 => Form::word(Symbol, |code, value, _| move_signed::<2>(code, value)),
        elf::R_AARCH64_MOVW_PREL_G0 => {
            Form::word(Symbol, |code, to, at| move_signed::<0>(code, to.wrapping_sub(at)))
        }
        elf::R_AARCH64_MOVW_PREL_G1 => {
            Form::word(Symbol, |code, to, at| move_signed::<1>(code, to.wrapping_sub(at)))
        }
        elf::R_AARCH64_MOVW_PREL_G2 => {
            Form::word(Symbol, |code, to, at| move_signed::<2>(code, to.wrapping_sub(at)))
        }
        elf::R_AARCH64_MOVW_PREL_G3 => {
            Form::word(Symbol, |code, to, at| move_signed::<3>(code, to.wrapping_sub(at)))
        }
        elf::R_AARCH64_MOVW_PREL_G0_NC => {
            Form::word(Symbol, |code, to, at| move_wide::<0, false>(code, to.wrapping_sub(at), 0))
        }
        elf::R_AARCH64_MOVW_PREL_G1_NC => {
            Form::word(Symbol, |code, to, at| move_wide::<1, false>(code, to.wrapping_sub(at), 0))
        }
        elf::R_AARCH64_MOVW_PREL_G2_NC => {
            Form::word(Symbol, |code, to, at| move_wide::<2, false>(code, to.wrapping_sub(at), 0))
        }
        elf::R_AARCH64_GOTREL64 => Form::quad(Symbol, Origin::Got, relative64),
        elf::R_AARCH64_GOTREL32 => {
            Form { target: NearSymbol, origin: Origin::Got, field: Field::Word(relative32) }
        }
        elf::R_AARCH64_ADR_GOT_PAGE => Form::word(GotEntry, adrp),
        elf::R_AARCH64_LD64_GOT_LO12_NC => Form::word(GotEntry, low12::<3>),
        elf::R_AARCH64_GOT_LD_PREL19 => Form::word(GotEntry, literal19),
        elf::R_AARCH64_GOTPCREL32 => Form::word(GotEntry, relative32),
        // gcc -fpic: an offset from the page where the GOT starts.
        elf::R_AARCH64_LD64_GOTPAGE_LO15 => {
            Form { target: GotEntry, origin: Origin::Got, field: Field::Word(page_offset15) }
        }
        _ => return None,
    })
}

/// `bti c; adrp x16, entry; ldr x16, [x16, :lo12:entry]; br x16`: the procedure call standard leaves x16 to such code
/// between a call and its function. The first is a landing pad, since a stub may stand for its function's address.
pub fn stub(place: u64, entry: u64) -> Result<[u8; STUB as usize], Misfit> {
    let words =
        [0xd503_245f, adrp(0x9000_0010, entry, place + 4)?, low12::<3>(0xf940_0210, entry, 0)?, 0xd61f_0200];
    let mut code = [0; STUB as usize];
    for (bytes, word) in code.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    Ok(code)
}

/// The start of an address's 4 KiB page, which `adrp` counts in on every system.
const fn page(address: u64) -> u64 {
    address & !0xfff
}

/// Stores a distance in instructions: `bits` bits of it, from bit `shift` on.
fn instructions(code: u32, target: u64, place: u64, bits: u32, shift: u32) -> Result<u32, Misfit> {
    let distance = distance(target, place, bits + 2)?;
    if distance & 3 != 0 {
        return Err(Misfit::Misaligned);
    }
    Ok(insert(code, (distance >> 2) as u32, bits, shift))
}

/// Puts the low `bits` bits of a value into an instruction, from bit `shift` on.
const fn insert(code: u32, value: u32, bits: u32, shift: u32) -> u32 {
    let mask = (1 << bits) - 1;
    code & !(mask << shift) | (value & mask) << shift
}

/// `b`, `bl`: 128 MiB either way.
fn branch26(code: u32, target: u64, place: u64) -> Result<u32, Misfit> {
    instructions(code, target, place, 26, 0)
}

/// `b.cond`, `cbz`, and `ldr` of a literal: 1 MiB either way.
fn literal19(code: u32, target: u64, place: u64) -> Result<u32, Misfit> {
    instructions(code, target, place, 19, 5)
}

/// `tbz`, `tbnz`: 32 KiB either way.
fn branch14(code: u32, target: u64, place: u64) -> Result<u32, Misfit> {
    instructions(code, target, place, 14, 5)
}

/// `adr`: 1 MiB either way. Its two low bits are stored apart.
fn adr(code: u32, target: u64, place: u64) -> Result<u32, Misfit> {
    let distance = distance(target, place, 21)? as u32;
    Ok(insert(insert(code, distance, 2, 29), distance >> 2, 19, 5))
}

/// `adrp`: the distance between the pages of two addresses, 4 GiB either way.
fn adrp(code: u32, target: u64, place: u64) -> Result<u32, Misfit> {
    let pages = distance(page(target), page(place), 33)? >> 12;
    adr(code, pages as u64, 0)
}

/// `adrp` without a check: the distance's low 21 bits.
fn adrp_low(code: u32, target: u64, place: u64) -> Result<u32, Misfit> {
    let pages = (page(target).wrapping_sub(page(place)) >> 12) as u32;
    Ok(insert(insert(code, pages, 2, 29), pages >> 2, 19, 5))
}

/// The low twelve bits of an address, in units of the load's or store's size.
fn low12<const SCALE: u32>(code: u32, target: u64, _: u64) -> Result<u32, Misfit> {
    let low = (target & 0xfff) as u32;
    if !low.is_multiple_of(1 << SCALE) {
        return Err(Misfit::Misaligned);
    }
    Ok(insert(code, low >> SCALE, 12, 10))
}

/// `movz`, `movk`: sixteen bits of an address, counted in `GROUP`s of sixteen. With `CHECK` no higher bit may be set.
fn move_wide<const GROUP: u32, const CHECK: bool>(code: u32, target: u64, _: u64) -> Result<u32, Misfit> {
    let value = target >> (16 * GROUP);
    if CHECK && value > 0xffff {
        return Err(Misfit::OutOfRange);
    }
    Ok(insert(code, value as u32, 16, 5))
}

/// `movz` for a number that isn't negative, `movn` for one that is, of a signed number that ends with the `GROUP`.
fn move_signed<const GROUP: u32>(code: u32, value: u64) -> Result<u32, Misfit> {
    const IS_MOVZ: u32 = 1 << 30;
    let negative = (value as i64) < 0;
    let magnitude = if negative { !value } else { value } >> (16 * GROUP);
    // The sign's bit is no bit of the number's.
    if magnitude > 0xffff {
        return Err(Misfit::OutOfRange);
    }
    let code = if negative { code & !IS_MOVZ } else { code | IS_MOVZ };
    Ok(insert(code, magnitude as u32, 16, 5))
}

/// `ldr` of 64 bits within 32 KiB from the page where `origin` is.
fn page_offset15(code: u32, target: u64, origin: u64) -> Result<u32, Misfit> {
    match target.wrapping_sub(page(origin)) {
        offset if offset > 0x7fff => Err(Misfit::OutOfRange),
        offset if offset & 7 != 0 => Err(Misfit::Misaligned),
        offset => Ok(insert(code, (offset >> 3) as u32, 12, 10)),
    }
}

#[cfg(test)]
mod tests;
