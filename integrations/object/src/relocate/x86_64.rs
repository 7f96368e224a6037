//! x86_64: "System V ABI, AMD64 Architecture Processor Supplement", section 4.4.

use super::form::{Field, Form, Origin, STUB, Target, absolute64, distance, either, relative32, relative64};
use crate::error::Misfit;
use object::elf::{self, RelocationType};

/// What a relocation number asks for.
pub const fn form(kind: RelocationType) -> Option<Form> {
    Some(match kind {
        elf::R_X86_64_64 => Form::quad(Target::Symbol, Origin::Place, absolute64),
        elf::R_X86_64_PC64 => Form::quad(Target::Symbol, Origin::Place, relative64),
        elf::R_X86_64_32 => Form::word(Target::NearSymbol, unsigned32),
        elf::R_X86_64_32S => Form::word(Target::NearSymbol, signed32),
        elf::R_X86_64_PC32 => Form::word(Target::NearSymbol, relative32),
        elf::R_X86_64_PLT32 => Form::word(Target::Branch, relative32),
        // The X forms let a linker replace the load from the GOT. The load is right too.
        elf::R_X86_64_GOTPCREL | elf::R_X86_64_GOTPCRELX | elf::R_X86_64_REX_GOTPCRELX => {
            Form::word(Target::GotEntry, relative32)
        }
        elf::R_X86_64_GOTPCREL64 => Form::quad(Target::GotEntry, Origin::Place, relative64),
        elf::R_X86_64_GOTPC32 => Form::word(Target::Got, relative32),
        elf::R_X86_64_GOTPC64 => Form::quad(Target::Got, Origin::Place, relative64),
        // The large code model computes these from the start of the GOT.
        elf::R_X86_64_GOT32 => {
            Form { target: Target::GotEntry, origin: Origin::Got, field: Field::Word(relative32) }
        }
        elf::R_X86_64_GOT64 => Form::quad(Target::GotEntry, Origin::Got, relative64),
        elf::R_X86_64_GOTOFF64 => Form::quad(Target::Symbol, Origin::Got, relative64),
        elf::R_X86_64_PLTOFF64 => Form::quad(Target::Branch, Origin::Got, relative64),
        elf::R_X86_64_8 => Form::byte(Target::Symbol, |_, target, _| Ok(either(target, 8)? as u8)),
        elf::R_X86_64_16 => Form::half(Target::Symbol, |_, target, _| Ok(either(target, 16)? as u16)),
        elf::R_X86_64_PC8 => Form::byte(Target::Branch, |_, target, at| Ok(distance(target, at, 8)? as u8)),
        elf::R_X86_64_PC16 => {
            Form::half(Target::Branch, |_, target, at| Ok(distance(target, at, 16)? as u16))
        }
        elf::R_X86_64_SIZE32 => Form::word(Target::Size, |_, size, _| Ok(either(size, 32)? as u32)),
        elf::R_X86_64_SIZE64 => Form::quad(Target::Size, Origin::Place, absolute64),
        _ => return None,
    })
}

/// `jmp *entry(%rip)`, and traps up to the stub's end.
pub fn stub(place: u64, entry: u64) -> Result<[u8; STUB as usize], Misfit> {
    // The distance counts from the end of the six-byte instruction.
    let distance = relative32(0, entry, place.wrapping_add(6))?.to_le_bytes();
    let mut code = [0xcc; STUB as usize];
    code[..2].copy_from_slice(&[0xff, 0x25]);
    code[2..6].copy_from_slice(&distance);
    Ok(code)
}

/// The CPU zero-extends the field.
fn unsigned32(_: u32, target: u64, _: u64) -> Result<u32, Misfit> {
    u32::try_from(target).map_err(|_| Misfit::OutOfRange)
}

/// The CPU sign-extends the field.
fn signed32(_: u32, target: u64, _: u64) -> Result<u32, Misfit> {
    i32::try_from(target as i64).map(|value| value as u32).map_err(|_| Misfit::OutOfRange)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_words_refuse_what_the_cpu_would_not_extend_back() {
        assert_eq!(unsigned32(0, 0xffff_ffff, 0), Ok(0xffff_ffff));
        assert_eq!(unsigned32(0, 0x1_0000_0000, 0), Err(Misfit::OutOfRange));
        assert_eq!(unsigned32(0, u64::MAX, 0), Err(Misfit::OutOfRange));
        assert_eq!(signed32(0, 0x7fff_ffff, 0), Ok(0x7fff_ffff));
        assert_eq!(signed32(0, 0x8000_0000, 0), Err(Misfit::OutOfRange));
        assert_eq!(signed32(0, -0x8000_0000_i64 as u64, 0), Ok(0x8000_0000));
        assert_eq!(signed32(0, -0x8000_0001_i64 as u64, 0), Err(Misfit::OutOfRange));
    }

    #[test]
    fn a_stub_jumps_through_its_got_entry() {
        // Assembled: `jmp *0xffa(%rip)` at 0x1000 reads 0x2000.
        let expected =
            [0xff, 0x25, 0xfa, 0x0f, 0, 0, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc];
        assert_eq!(stub(0x1000, 0x2000), Ok(expected));
        assert_eq!(stub(0x1000, 0x1_0000_0000), Err(Misfit::OutOfRange));
    }

    #[test]
    fn thread_local_and_dynamic_relocations_are_unknown() {
        let kinds = [
            elf::R_X86_64_TPOFF32,
            elf::R_X86_64_GOTTPOFF,
            elf::R_X86_64_TLSGD,
            elf::R_X86_64_COPY,
            elf::R_X86_64_RELATIVE,
        ];
        assert!(kinds.into_iter().all(|kind| form(kind).is_none()));
    }
}
