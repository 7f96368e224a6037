//! Relocations. They mean the same as ELF's and are translated into those. Their addends are in the bytes that they
//! change, and some count with the addresses that the file gives its sections.

use super::reader::{ENDIAN, Reader};
use crate::architecture::Architecture;
use crate::error::Error;
use crate::object_file::{Definition, Relocation, SectionKind};
use object::LittleEndian;
use object::elf;
use object::macho::{self, RelocationInfo, Section64};
use object::read::macho::Section as _;

impl<'data> Reader<'data> {
    /// Reads a section's relocations. To be called when all sections and symbols are read.
    pub fn read_relocations(
        &mut self,
        index: usize,
        header: &'data Section64<LittleEndian>,
    ) -> Result<(), Error> {
        if !matches!(self.object.sections.get(index), Some(home) if home.kind != SectionKind::Ignored) {
            return Ok(());
        }
        let relocations = header.relocations(ENDIAN, self.file)?;
        self.bounds.claim(header.reloff(ENDIAN).into(), size_of_val(relocations) as u64)?;
        let mut pending = Pending::None;
        for relocation in relocations {
            let info = relocation.info(ENDIAN);
            pending = match self.object.architecture {
                Architecture::X86_64 => self.read_x86_64(index, info, pending)?,
                // Mach-O files are for these two.
                _ => self.read_aarch64(index, info, pending)?,
            };
        }
        match pending {
            Pending::None => Ok(()),
            _ => Err(Error::Damaged("half of a pair of relocations".into())),
        }
    }

    /// Reads one relocation. The first half of a pair is given back, and comes with the second one as `pending`.
    fn read_x86_64(
        &mut self,
        index: usize,
        info: RelocationInfo,
        pending: Pending,
    ) -> Result<Pending, Error> {
        let (kind, behind) = match (info.r_type, info.r_length) {
            (macho::X86_64_RELOC_SUBTRACTOR, _) => return self.subtrahend(index, info),
            (macho::X86_64_RELOC_UNSIGNED, 3) if matches!(pending, Pending::None) => {
                return self.absolute(index, info, elf::R_X86_64_64);
            }
            (macho::X86_64_RELOC_UNSIGNED, length) => {
                let kind = if length == 3 { elf::R_X86_64_PC64 } else { elf::R_X86_64_PC32 };
                return self.difference(index, info, pending, kind);
            }
            (macho::X86_64_RELOC_SIGNED, 2) => (elf::R_X86_64_PC32, 0),
            (macho::X86_64_RELOC_SIGNED_1, 2) => (elf::R_X86_64_PC32, 1),
            (macho::X86_64_RELOC_SIGNED_2, 2) => (elf::R_X86_64_PC32, 2),
            (macho::X86_64_RELOC_SIGNED_4, 2) => (elf::R_X86_64_PC32, 4),
            (macho::X86_64_RELOC_BRANCH, 2) => (elf::R_X86_64_PLT32, 0),
            (macho::X86_64_RELOC_GOT | macho::X86_64_RELOC_GOT_LOAD, 2) => (elf::R_X86_64_GOTPCREL, 0),
            _ => return Err(self.unknown(index, info)),
        };
        let offset = u64::from(info.r_address);
        let inside = i64::from(self.word(index, offset)? as i32);
        // The processor counts from the instruction's end, which is `behind` bytes after the field's end.
        let (symbol, addend) = if info.r_extern {
            (self.symbol(info)?, inside - 4)
        } else {
            let end = self.addresses[index].wrapping_add(offset + 4 + behind);
            let (symbol, addend) = self.section_symbol(info, end.wrapping_add_signed(inside))?;
            (symbol, addend.wrapping_sub(4 + behind as i64))
        };
        self.add(index, Relocation { offset, kind, symbol, addend, high: None })
    }

    /// As [`read_x86_64`](Self::read_x86_64).
    fn read_aarch64(
        &mut self,
        index: usize,
        info: RelocationInfo,
        pending: Pending,
    ) -> Result<Pending, Error> {
        let offset = u64::from(info.r_address);
        let kind = match (info.r_type, info.r_length) {
            (macho::ARM64_RELOC_SUBTRACTOR, _) => return self.subtrahend(index, info),
            (macho::ARM64_RELOC_ADDEND, _) => {
                // A signed number of 24 bits, where others have their symbol.
                return Ok(Pending::Addend(i64::from((info.r_symbolnum << 8) as i32 >> 8)));
            }
            (macho::ARM64_RELOC_UNSIGNED, 3) if matches!(pending, Pending::None) => {
                return self.absolute(index, info, elf::R_AARCH64_ABS64);
            }
            (macho::ARM64_RELOC_UNSIGNED, length) => {
                let kind = if length == 3 { elf::R_AARCH64_PREL64 } else { elf::R_AARCH64_PREL32 };
                return self.difference(index, info, pending, kind);
            }
            (macho::ARM64_RELOC_BRANCH26, _) => elf::R_AARCH64_CALL26,
            (macho::ARM64_RELOC_PAGE21, _) => elf::R_AARCH64_ADR_PREL_PG_HI21,
            (macho::ARM64_RELOC_PAGEOFF12, _) => page_offset(self.word(index, offset)?),
            (macho::ARM64_RELOC_GOT_LOAD_PAGE21, _) => elf::R_AARCH64_ADR_GOT_PAGE,
            (macho::ARM64_RELOC_GOT_LOAD_PAGEOFF12, _) => elf::R_AARCH64_LD64_GOT_LO12_NC,
            (macho::ARM64_RELOC_POINTER_TO_GOT, 2) if info.r_pcrel => elf::R_AARCH64_GOTPCREL32,
            _ => return Err(self.unknown(index, info)),
        };
        let addend = if let Pending::Addend(addend) = pending { addend } else { 0 };
        let symbol = self.symbol(info)?;
        self.add(index, Relocation { offset, kind, symbol, addend, high: None })
    }

    /// A pointer to a symbol, or to an address of the file.
    fn absolute(
        &mut self,
        index: usize,
        info: RelocationInfo,
        kind: elf::RelocationType,
    ) -> Result<Pending, Error> {
        let offset = u64::from(info.r_address);
        let inside = self.quad(index, offset)?;
        let (symbol, addend) = match info.r_extern {
            true => (self.symbol(info)?, inside as i64),
            false => self.section_symbol(info, inside)?,
        };
        self.add(index, Relocation { offset, kind, symbol, addend, high: None })
    }

    /// The first half of `minuend - subtrahend`: the subtrahend, which must be in this section.
    fn subtrahend(&self, index: usize, info: RelocationInfo) -> Result<Pending, Error> {
        let symbol = self.symbol(info)?;
        match self.object.symbols[symbol].definition {
            Definition::InSection { section, offset } if section == index => Ok(Pending::Minus(offset)),
            _ => Err(Error::Unsupported("a difference from a symbol of another section".into())),
        }
    }

    /// The second half of `minuend - subtrahend`. The subtrahend is in the section of the relocated bytes, so its
    /// distance from them is known: the pair becomes one relocation that is relative to its place.
    fn difference(
        &mut self,
        index: usize,
        info: RelocationInfo,
        pending: Pending,
        kind: elf::RelocationType,
    ) -> Result<Pending, Error> {
        let Pending::Minus(subtrahend) = pending else { return Err(self.unknown(index, info)) };
        let offset = u64::from(info.r_address);
        let inside = match info.r_length {
            3 => self.quad(index, offset)? as i64,
            _ => i64::from(self.word(index, offset)? as i32),
        };
        let (symbol, addend) = match info.r_extern {
            true => (self.symbol(info)?, inside),
            false => self.section_symbol(info, inside as u64)?,
        };
        let addend = addend.wrapping_add_unsigned(offset).wrapping_sub_unsigned(subtrahend);
        self.add(index, Relocation { offset, kind, symbol, addend, high: None })
    }

    fn symbol(&self, info: RelocationInfo) -> Result<usize, Error> {
        let symbol = info.r_symbolnum as usize;
        match info.r_extern && symbol < self.symbols {
            true => Ok(symbol),
            false => Err(Error::Damaged("a relocation refers to no symbol".into())),
        }
    }

    /// The symbol of the section that a relocation refers to, and how far behind its start an address of the file is.
    fn section_symbol(&self, info: RelocationInfo, address: u64) -> Result<(usize, i64), Error> {
        if info.r_symbolnum == macho::R_ABS {
            return Err(Error::Unsupported("relocations that refer to no section".into()));
        }
        let home = self.home(info.r_symbolnum as usize);
        let (section, start) =
            home.ok_or_else(|| Error::Damaged("a relocation refers to no section".into()))?;
        Ok((self.symbols + section, address.wrapping_sub(start) as i64))
    }

    fn add(&mut self, index: usize, relocation: Relocation) -> Result<Pending, Error> {
        self.object.sections[index].relocations.push(relocation);
        Ok(Pending::None)
    }

    fn bytes<const N: usize>(&self, index: usize, offset: u64) -> Result<[u8; N], Error> {
        let data = self.object.sections[index].data.get(offset as usize..).unwrap_or_default();
        let name = &self.object.sections[index].name;
        let outside = || Error::Damaged(format!("a relocation is outside of its section {name}"));
        data.first_chunk().copied().ok_or_else(outside)
    }

    fn word(&self, index: usize, offset: u64) -> Result<u32, Error> {
        self.bytes(index, offset).map(u32::from_le_bytes)
    }

    fn quad(&self, index: usize, offset: u64) -> Result<u64, Error> {
        self.bytes(index, offset).map(u64::from_le_bytes)
    }

    fn unknown(&self, index: usize, info: RelocationInfo) -> Error {
        let (section, kind, length) = (&self.object.sections[index].name, info.r_type.0, info.r_length);
        Error::Unsupported(format!("relocations of type {kind} and length {length}, as {section} has them"))
    }
}

/// A relocation that the next one completes.
#[derive(Clone, Copy)]
enum Pending {
    None,
    /// What to add to the next one's symbol.
    Addend(i64),
    /// The offset in the section of what to subtract from the next one's symbol.
    Minus(u64),
}

/// The relocation for the low twelve bits of an address: loads and stores count in units of their size.
fn page_offset(instruction: u32) -> elf::RelocationType {
    let is_load_or_store = instruction & 0x3b00_0000 == 0x3900_0000;
    let is_vector_of_16 = instruction & 0x0480_0000 == 0x0480_0000;
    match (is_load_or_store, instruction >> 30) {
        (false, _) => elf::R_AARCH64_ADD_ABS_LO12_NC,
        (true, 0) if is_vector_of_16 => elf::R_AARCH64_LDST128_ABS_LO12_NC,
        (true, 0) => elf::R_AARCH64_LDST8_ABS_LO12_NC,
        (true, 1) => elf::R_AARCH64_LDST16_ABS_LO12_NC,
        (true, 2) => elf::R_AARCH64_LDST32_ABS_LO12_NC,
        (true, _) => elf::R_AARCH64_LDST64_ABS_LO12_NC,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_low_bits_of_an_address_are_counted_in_the_instructions_units() {
        let kinds = [
            (0x9100_0000, elf::R_AARCH64_ADD_ABS_LO12_NC),   // add x0, x0, #0
            (0x3940_0000, elf::R_AARCH64_LDST8_ABS_LO12_NC), // ldrb w0, [x0]
            (0x7940_0000, elf::R_AARCH64_LDST16_ABS_LO12_NC), // ldrh w0, [x0]
            (0xb940_0000, elf::R_AARCH64_LDST32_ABS_LO12_NC), // ldr w0, [x0]
            (0xf940_0000, elf::R_AARCH64_LDST64_ABS_LO12_NC), // ldr x0, [x0]
            (0xfd40_0000, elf::R_AARCH64_LDST64_ABS_LO12_NC), // ldr d0, [x0]
            (0x3dc0_0000, elf::R_AARCH64_LDST128_ABS_LO12_NC), // ldr q0, [x0]
            (0x3d40_0000, elf::R_AARCH64_LDST8_ABS_LO12_NC), // ldr b0, [x0]
        ];
        for (instruction, kind) in kinds {
            assert_eq!(page_offset(instruction), kind, "{instruction:#x}");
        }
    }
}
