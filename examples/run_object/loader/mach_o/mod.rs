//! Reading a relocatable Mach-O file of 64 bits. Its relocations mean the same as ELF's, in other words and with
//! some of their numbers kept in the bytes that they change: `relocations` translates them.

mod relocations;

use super::error::Error;
use super::object_file::{Definition, ObjectFile, Section, SectionKind, Symbol};
use super::proportion::Bounds;
use super::relocate::Architecture;
use object::LittleEndian;
use object::macho::{self, MachHeader64, Nlist64, Section64};
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
    match header.filetype(ENDIAN) {
        macho::MH_OBJECT => {}
        macho::MH_CORE => return Err(Error::NotAnObject("a core dump")),
        _ => return Err(Error::NotRelocatable),
    }
    let architecture = match header.cputype(ENDIAN) {
        macho::CPU_TYPE_X86_64 => Architecture::X86_64,
        macho::CPU_TYPE_ARM64 => Architecture::Aarch64,
        processor => return Err(Error::UnknownMachine(processor.0)),
    };
    let object = ObjectFile::empty(architecture);
    let mut reader = Reader { file, object, bounds: Bounds::new(file), addresses: Vec::new(), symbols: 0 };
    let mut headers = Vec::new();
    let mut commands = header.load_commands(ENDIAN, file, 0)?;
    while let Some(command) = commands.next()? {
        if let Some((segment, data)) = command.segment_64()? {
            for section in segment.sections(ENDIAN, data)? {
                reader.read_section(section)?;
                headers.push(section);
            }
        } else if let Some(table) = command.symtab()? {
            let symbols = table.symbols::<Header, _>(ENDIAN, file)?;
            let size = symbols.len() as u64 * size_of::<Nlist64<LittleEndian>>() as u64;
            reader.bounds.claim(table.symoff.get(ENDIAN).into(), size)?;
            for symbol in symbols.iter() {
                reader.read_symbol(symbol, symbols.strings())?;
            }
        }
    }
    reader.name_sections();
    for (index, section) in headers.into_iter().enumerate() {
        reader.read_relocations(index, section)?;
    }
    Ok(reader.object)
}

struct Reader<'data> {
    file: &'data [u8],
    object: ObjectFile<'data>,
    bounds: Bounds,
    /// Where the file thinks that its sections are.
    addresses: Vec<u64>,
    /// How many symbols the file has. Behind them are ours: one for each section.
    symbols: usize,
}

impl<'data> Reader<'data> {
    fn read_section(&mut self, section: &'data Section64<LittleEndian>) -> Result<(), Error> {
        let (segment, name) = (text(section.segment_name()), text(section.name()));
        let kind = section_kind(section, &segment, &name)?;
        let data = match kind {
            SectionKind::Ignored | SectionKind::Zeroed => &[][..],
            _ => {
                self.bounds.claim(section.offset(ENDIAN).into(), section.size(ENDIAN))?;
                section.data(ENDIAN, self.file, section.offset(ENDIAN).into())?
            }
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
        let name = self.bounds.name(plain.unwrap_or(full_name))?;
        let value = symbol.n_value(ENDIAN);
        let definition = if symbol.is_stab() {
            Definition::Absolute(0)
        } else if symbol.is_common() {
            let alignment = 1 << (symbol.n_desc(ENDIAN).0 >> 8 & 0xf);
            Definition::Common { size: value, alignment }
        } else if symbol.is_undefined() {
            Definition::Undefined { weak: symbol.n_desc(ENDIAN).0 & macho::N_WEAK_REF.0 != 0 }
        } else {
            match symbol.n_type().typ() {
                macho::N_ABS => Definition::Absolute(value),
                macho::N_SECT => self.place(symbol.n_sect(), value, &name)?,
                macho::N_INDR => {
                    return Err(Error::Unsupported(format!("{name}, another symbol's second name")));
                }
                _ => return Err(Error::Damaged(format!("the symbol {name} is nowhere"))),
            }
        };
        let may_be_function = plain.is_some() && !symbol.is_stab();
        let is_global = symbol.n_type().is_ext();
        self.object.symbols.push(Symbol { name, definition, may_be_function, is_global });
        self.symbols += 1;
        Ok(())
    }

    /// The place that the file calls by this address.
    fn place(&self, section: u8, address: u64, name: &str) -> Result<Definition, Error> {
        let home = self.home(section.into());
        let (section, start) = home.ok_or_else(|| Error::Damaged(format!("{name} is in no section")))?;
        Ok(Definition::InSection { section, offset: address.wrapping_sub(start) })
    }

    /// The index of the section with an ordinal, the first one's being 1, and the address that the file gives it.
    fn home(&self, ordinal: usize) -> Option<(usize, u64)> {
        let section = ordinal.checked_sub(1)?;
        Some((section, *self.addresses.get(section)?))
    }

    /// Adds a symbol for each section, since relocations may refer to sections themselves.
    fn name_sections(&mut self) {
        for (section, home) in self.object.sections.iter().enumerate() {
            let definition = Definition::InSection { section, offset: 0 };
            let name = home.name.clone();
            self.object.symbols.push(Symbol { name, definition, may_be_function: false, is_global: false });
        }
    }
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
        // What these mean is in tables that linkers make for dyld.
        macho::S_NON_LAZY_SYMBOL_POINTERS
        | macho::S_LAZY_SYMBOL_POINTERS
        | macho::S_LAZY_DYLIB_SYMBOL_POINTERS
        | macho::S_SYMBOL_STUBS
        | macho::S_INTERPOSING
        | macho::S_INIT_FUNC_OFFSETS => {
            return Err(Error::Unsupported(format!("a section like {segment},{name} of a linked file")));
        }
        _ if is_code => SectionKind::Code,
        // What has pointers is in a data segment for their sake; they are over before it runs.
        _ if segment != "__DATA" || name == "__const" => SectionKind::ReadOnly,
        _ => SectionKind::Data,
    })
}
