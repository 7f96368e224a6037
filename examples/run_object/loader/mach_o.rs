//! Reading a relocatable Mach-O file. Its relocations mean the same as ELF's, in other words and with some
//! of their numbers kept in the bytes that they change: they are translated into ELF's.

use super::error::Error;
use super::object_file::{Definition, ObjectFile, Relocation, Section, SectionKind, Symbol};
use super::relocate::Architecture;
use object::LittleEndian;
use object::elf;
use object::macho::{self, MachHeader64, Nlist64, RelocationInfo, Section64};
use object::read::StringTable;
use object::read::macho::{MachHeader, Nlist, Section as _, Segment as _};
use std::borrow::Cow;

type Header = MachHeader64<LittleEndian>;

const ENDIAN: LittleEndian = LittleEndian;

/// Whether a file is a 64-bit little-endian Mach-O file.
pub fn is_mach_o(file: &[u8]) -> bool {
    file.starts_with(&macho::MH_MAGIC_64.to_le_bytes())
}

/// Reads a file's bytes.
pub fn parse(file: &[u8]) -> Result<ObjectFile<'_>, Error> {
    let header = Header::parse(file, 0)?;
    if header.filetype(ENDIAN) != macho::MH_OBJECT {
        return Err(Error::NotRelocatable);
    }
    let architecture = match header.cputype(ENDIAN) {
        macho::CPU_TYPE_X86_64 => Architecture::X86_64,
        macho::CPU_TYPE_ARM64 => Architecture::Aarch64,
        _ => return Err(Error::Damaged("code for a processor that isn't known".into())),
    };
    let mut reader =
        Reader { file, object: ObjectFile::empty(architecture), addresses: Vec::new(), symbols: 0 };
    let mut headers: &[Section64<LittleEndian>] = &[];
    let mut commands = header.load_commands(ENDIAN, file, 0)?;
    while let Some(command) = commands.next()? {
        if let Some((segment, data)) = command.segment_64()? {
            headers = segment.sections(ENDIAN, data)?;
            for section in headers {
                reader.read_section(section)?;
            }
        } else if let Some(table) = command.symtab()? {
            let symbols = table.symbols::<Header, _>(ENDIAN, file)?;
            for symbol in symbols.iter() {
                reader.read_symbol(symbol, symbols.strings())?;
            }
        }
    }
    reader.name_sections();
    for (index, section) in headers.iter().enumerate() {
        reader.read_relocations(index, section)?;
    }
    Ok(reader.object)
}

struct Reader<'data> {
    file: &'data [u8],
    object: ObjectFile<'data>,
    /// Where the file thinks that its sections are.
    addresses: Vec<u64>,
    /// How many symbols the file has. Behind them are ours: one for each section.
    symbols: usize,
}

fn outside(what: &str) -> Error {
    Error::Damaged(format!("{what} is outside of its section"))
}

impl<'data> Reader<'data> {
    fn read_section(&mut self, section: &'data Section64<LittleEndian>) -> Result<(), Error> {
        let (segment, name) = (text(section.segment_name()), text(section.name()));
        let kind = section_kind(section, &segment, &name)?;
        let data = match kind {
            SectionKind::Ignored | SectionKind::Zeroed => &[][..],
            _ => section.data(ENDIAN, self.file, section.offset(ENDIAN).into())?,
        };
        let alignment = 1u64.checked_shl(section.align(ENDIAN)).ok_or_else(|| {
            Error::Damaged(format!("the alignment of {segment},{name} is not a power of two"))
        })?;
        let (size, alignment) =
            if kind == SectionKind::Ignored { (0, 1) } else { (section.size(ENDIAN), alignment) };
        let name = Cow::Owned(format!("{segment},{name}"));
        self.addresses.push(section.addr(ENDIAN));
        self.object.sections.push(Section { name, kind, data, size, alignment, relocations: Vec::new() });
        Ok(())
    }

    fn read_symbol(
        &mut self,
        symbol: &'data Nlist64<LittleEndian>,
        strings: StringTable<'data, &'data [u8]>,
    ) -> Result<(), Error> {
        let full_name = symbol.name(ENDIAN, strings)?;
        // C's names have an underscore in front; those without mark places in the code.
        let plain = full_name.strip_prefix(b"_");
        let name = String::from_utf8_lossy(plain.unwrap_or(full_name));
        let value = symbol.n_value(ENDIAN);
        let definition = if symbol.is_stab() {
            Definition::Absolute(0)
        } else if symbol.is_common() {
            let alignment = 1 << (symbol.n_desc(ENDIAN).0 >> 8 & 0xf);
            Definition::Common { size: value, alignment }
        } else if symbol.is_undefined() {
            Definition::Undefined { weak: symbol.n_desc(ENDIAN).0 & macho::N_WEAK_REF.0 != 0 }
        } else if symbol.n_sect() == 0 {
            Definition::Absolute(value)
        } else {
            self.place(usize::from(symbol.n_sect()) - 1, value, &name)?
        };
        let may_be_function = plain.is_some() && !symbol.is_stab();
        let is_global = symbol.n_type().is_ext();
        self.object.symbols.push(Symbol { name, definition, may_be_function, is_global });
        self.symbols += 1;
        Ok(())
    }

    /// The place that the file calls by this address.
    fn place(&self, section: usize, address: u64, name: &str) -> Result<Definition, Error> {
        let home = self.object.sections.get(section).zip(self.addresses.get(section));
        let (home, start) = home.ok_or_else(|| Error::Damaged(format!("{name} is in no section")))?;
        let offset = address.wrapping_sub(*start);
        if offset > home.size && home.kind != SectionKind::Ignored {
            return Err(outside(name));
        }
        Ok(Definition::InSection { section, offset })
    }

    /// Adds a symbol for each section, since relocations may refer to sections themselves.
    fn name_sections(&mut self) {
        for (section, home) in self.object.sections.iter().enumerate() {
            let definition = Definition::InSection { section, offset: 0 };
            let name = home.name.clone();
            self.object.symbols.push(Symbol { name, definition, may_be_function: false, is_global: false });
        }
    }

    fn read_relocations(
        &mut self,
        index: usize,
        header: &'data Section64<LittleEndian>,
    ) -> Result<(), Error> {
        if !matches!(self.object.sections.get(index), Some(home) if home.kind != SectionKind::Ignored) {
            return Ok(());
        }
        let mut pending = Pending::None;
        for relocation in header.relocations(ENDIAN, self.file)? {
            let info = relocation.info(ENDIAN);
            pending = match self.object.architecture {
                Architecture::X86_64 => self.read_x86_64(index, info, pending)?,
                Architecture::Aarch64 => self.read_aarch64(index, info, pending)?,
            };
        }
        match pending {
            Pending::None => Ok(()),
            _ => Err(Error::Damaged("half of a pair of relocations".into())),
        }
    }

    /// Reads one relocation, or the half of a pair that the next one completes.
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
        // The processor counts from the instruction's end: the field, and what may come behind it.
        let (symbol, addend) = if info.r_extern {
            (self.symbol(info)?, inside - 4)
        } else {
            let end = self.addresses[index].wrapping_add(offset + 4 + behind);
            let (symbol, addend) = self.section_symbol(info, end.wrapping_add_signed(inside))?;
            (symbol, addend - 4 - behind as i64)
        };
        self.add(index, Relocation { offset, kind, symbol, addend })
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
                // 24 bits with a sign, in place of a symbol's number.
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
        self.add(index, Relocation { offset, kind, symbol, addend })
    }

    /// A pointer to a symbol, or to what the file has at an address.
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
        self.add(index, Relocation { offset, kind, symbol, addend })
    }

    /// The first half of `minuend - subtrahend`: where the subtrahend is, from this section's start.
    fn subtrahend(&self, index: usize, info: RelocationInfo) -> Result<Pending, Error> {
        let symbol = self.symbol(info)?;
        match self.object.symbols[symbol].definition {
            Definition::InSection { section, offset } if section == index => Ok(Pending::Minus(offset)),
            _ => Err(Error::Damaged("a difference from a symbol of another section".into())),
        }
    }

    /// The second half. The place is as far from the subtrahend here as in the file, so the difference is one
    /// from the place.
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
        self.add(index, Relocation { offset, kind, symbol, addend })
    }

    fn symbol(&self, info: RelocationInfo) -> Result<usize, Error> {
        let symbol = info.r_symbolnum as usize;
        match info.r_extern && symbol < self.symbols {
            true => Ok(symbol),
            false => Err(Error::Damaged("a relocation refers to no symbol".into())),
        }
    }

    /// Our symbol of the section that a relocation names by its ordinal, and how far behind it an address is.
    fn section_symbol(&self, info: RelocationInfo, address: u64) -> Result<(usize, i64), Error> {
        let section = (info.r_symbolnum as usize).checked_sub(1);
        let start = section.and_then(|section| Some((section, self.addresses.get(section)?)));
        let (section, start) =
            start.ok_or_else(|| Error::Damaged("a relocation refers to no section".into()))?;
        Ok((self.symbols + section, address.wrapping_sub(*start) as i64))
    }

    fn add(&mut self, index: usize, relocation: Relocation) -> Result<Pending, Error> {
        self.object.sections[index].relocations.push(relocation);
        Ok(Pending::None)
    }

    fn bytes<const N: usize>(&self, index: usize, offset: u64) -> Result<[u8; N], Error> {
        let data = self.object.sections[index].data.get(offset as usize..).unwrap_or_default();
        data.first_chunk().copied().ok_or_else(|| outside("a relocation"))
    }

    fn word(&self, index: usize, offset: u64) -> Result<u32, Error> {
        self.bytes(index, offset).map(u32::from_le_bytes)
    }

    fn quad(&self, index: usize, offset: u64) -> Result<u64, Error> {
        self.bytes(index, offset).map(u64::from_le_bytes)
    }

    fn unknown(&self, index: usize, info: RelocationInfo) -> Error {
        let (section, kind, length) = (&self.object.sections[index].name, info.r_type.0, info.r_length);
        Error::Damaged(format!("a relocation in {section} of type {kind} and length {length} is not known"))
    }
}

/// A relocation that the next one completes.
#[derive(Clone, Copy)]
enum Pending {
    None,
    /// To be added to the next one's symbol.
    Addend(i64),
    /// To be subtracted: an offset in the section.
    Minus(u64),
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn section_kind(section: &Section64<LittleEndian>, segment: &str, name: &str) -> Result<SectionKind, Error> {
    let attributes = section.flags(ENDIAN).0;
    // Nothing unwinds through the loaded code, so unwind tables would have no reader.
    let is_table = ["__eh_frame", "__compact_unwind"].contains(&name);
    if is_table
        || attributes & macho::S_ATTR_DEBUG.0 != 0
        || !["__TEXT", "__DATA", "__DATA_CONST"].contains(&segment)
    {
        return Ok(SectionKind::Ignored);
    }
    let is_code = attributes & (macho::S_ATTR_PURE_INSTRUCTIONS.0 | macho::S_ATTR_SOME_INSTRUCTIONS.0) != 0;
    Ok(match section.section_type(ENDIAN) {
        macho::S_ZEROFILL | macho::S_GB_ZEROFILL => SectionKind::Zeroed,
        macho::S_MOD_INIT_FUNC_POINTERS => SectionKind::Constructors,
        macho::S_MOD_TERM_FUNC_POINTERS => SectionKind::Destructors,
        macho::S_THREAD_LOCAL_REGULAR
        | macho::S_THREAD_LOCAL_ZEROFILL
        | macho::S_THREAD_LOCAL_VARIABLES
        | macho::S_THREAD_LOCAL_VARIABLE_POINTERS
        | macho::S_THREAD_LOCAL_INIT_FUNCTION_POINTERS => {
            return Err(Error::ThreadLocal(format!("section {segment},{name}")));
        }
        _ if is_code => SectionKind::Code,
        // What has pointers is in a data segment for their sake; they are over before it runs.
        _ if segment != "__DATA" || name == "__const" => SectionKind::ReadOnly,
        _ => SectionKind::Data,
    })
}

/// The low twelve bits of an address: of a load or store, in units of its size.
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
