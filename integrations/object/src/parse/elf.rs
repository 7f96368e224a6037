//! Reading a relocatable ELF file of 64 bits.

use super::bounds::Bounds;
use super::{property, riscv64};
use crate::architecture::Architecture;
use crate::error::Error;
use crate::object_file::{Definition, ObjectFile, Relocation, Section, SectionKind, Symbol};
use object::LittleEndian;
use object::elf::{self, FileHeader64, SectionHeader64, Sym64, SymbolSection};
use object::read::elf::{FileHeader, Rela, SectionHeader, SectionTable, Sym, SymbolTable};

type Header = FileHeader64<LittleEndian>;
type Sections<'data> = SectionTable<'data, Header>;
type Symbols<'data> = SymbolTable<'data, Header>;

const ENDIAN: LittleEndian = LittleEndian;

/// The section number of common symbols in gcc's medium code model: "AMD64 Architecture Processor Supplement", table
/// 4.9. That model is for more than 2 GiB of data, which no image here has.
const SHN_X86_64_LCOMMON: u16 = 0xff02;

/// Whether a file is an ELF file of any kind.
pub fn is_elf(file: &[u8]) -> bool {
    file.starts_with(&elf::ELFMAG)
}

/// Reads an ELF file.
pub fn parse(file: &[u8]) -> Result<ObjectFile<'_>, Error> {
    let (architecture, sections) = check_header(file)?;
    let symbols = sections.symbols(ENDIAN, file, elf::SHT_SYMTAB)?;
    let object = ObjectFile::empty(architecture);
    let mut reader = Reader { file, object, bounds: Bounds::new(file) };
    for section in sections.iter() {
        reader.read_section(&sections, section)?;
    }
    if architecture == Architecture::Aarch64 {
        reader.read_properties(&sections)?;
    }
    for (index, symbol) in symbols.iter().enumerate() {
        reader.read_symbol(&symbols, index, symbol)?;
    }
    for section in sections.iter() {
        reader.read_group(section, symbols.len())?;
        reader.read_relocations(section)?;
    }
    if architecture == Architecture::Riscv64 {
        riscv64::align(&mut reader.object)?;
        riscv64::pair(&mut reader.object)?;
    }
    Ok(reader.object)
}

fn check_header(file: &[u8]) -> Result<(Architecture, Sections<'_>), Error> {
    // The class and the byte order are behind the magic number.
    if file.get(4..6).is_some_and(|ident| ident != [elf::ELFCLASS64.0, elf::ELFDATA2LSB.0]) {
        return Err(Error::WrongClass);
    }
    let header = Header::parse(file)?;
    match header.e_type(ENDIAN) {
        elf::ET_REL => {}
        elf::ET_EXEC | elf::ET_DYN => return Err(Error::NotRelocatable),
        elf::ET_CORE => return Err(Error::NotAnObject("a core dump")),
        kind => return Err(Error::Damaged(format!("{} is no type of a file", kind.0))),
    }
    let machine = header.e_machine(ENDIAN);
    let architecture = Architecture::from_machine(machine);
    let architecture = architecture.ok_or_else(|| Error::UnknownMachine(machine.0.into()))?;
    Ok((architecture, header.sections(ENDIAN, file)?))
}

struct Reader<'data> {
    file: &'data [u8],
    object: ObjectFile<'data>,
    bounds: Bounds,
}

impl<'data> Reader<'data> {
    fn read_section(
        &mut self,
        sections: &Sections<'data>,
        section: &'data SectionHeader64<LittleEndian>,
    ) -> Result<(), Error> {
        let name = self.bounds.name(sections.section_name(ENDIAN, section)?)?;
        let kind = section_kind(section, &name)?;
        // The bytes of what isn't loaded may be damaged.
        let (data, size, alignment) = match kind {
            SectionKind::Ignored | SectionKind::ThreadLocal => (&[][..], 0, 1),
            _ => {
                self.claim(section)?;
                let data = section.data(ENDIAN, self.file)?;
                (data, section.sh_size(ENDIAN), alignment(section.sh_addralign(ENDIAN))?)
            }
        };
        let mut section = Section {
            is_kept: section.sh_flags(ENDIAN).contains(elf::SHF_GNU_RETAIN),
            ..Section::new(name, kind, data.into(), alignment)
        };
        section.size = size;
        self.object.sections.push(section);
        Ok(())
    }

    /// Notes whether the code has landing pads.
    fn read_properties(&mut self, sections: &Sections<'data>) -> Result<(), Error> {
        let mut all = None;
        for (index, section) in sections.iter().enumerate() {
            if property::is_properties(section, &self.object.sections[index].name) {
                self.claim(section)?;
                let has = property::has_landing_pads(section, self.file)?;
                all = has.map(|has| has && all.unwrap_or(true)).or(all);
            }
        }
        for section in &mut self.object.sections {
            section.has_landing_pads = all == Some(true);
        }
        Ok(())
    }

    /// Notes the group of those sections of which one copy is enough (COMDAT): C++ has them for templates and inline
    /// functions.
    fn read_group(
        &mut self,
        section: &'data SectionHeader64<LittleEndian>,
        symbols: usize,
    ) -> Result<(), Error> {
        let Some((flags, members)) = section.group(ENDIAN, self.file)? else { return Ok(()) };
        self.claim(section)?;
        let signature = section.sh_info(ENDIAN) as usize;
        if !flags.contains(elf::GRP_COMDAT) || signature >= symbols {
            return Ok(());
        }
        let name = self.object.symbols[signature].name.clone();
        for member in members {
            if let Some(member) = self.object.sections.get_mut(member.get(ENDIAN) as usize) {
                member.group = Some(name.clone());
            }
        }
        Ok(())
    }

    fn claim(&mut self, section: &SectionHeader64<LittleEndian>) -> Result<(), Error> {
        section.file_range(ENDIAN).map_or(Ok(()), |(start, size)| self.bounds.claim(start, size))
    }

    fn read_symbol(
        &mut self,
        table: &Symbols<'data>,
        index: usize,
        symbol: &'data Sym64<LittleEndian>,
    ) -> Result<(), Error> {
        let mut name = self.bounds.name(table.symbol_name(ENDIAN, symbol)?)?;
        let section = table.symbol_section(ENDIAN, symbol, object::SymbolIndex(index))?;
        let (value, size) = (symbol.st_value(ENDIAN), symbol.st_size(ENDIAN));
        let definition = match (section, symbol.st_shndx(ENDIAN)) {
            (Some(section), _) => {
                let home = self.object.sections.get(section.0);
                let home =
                    home.ok_or_else(|| Error::Damaged(format!("the symbol {name} is in no section")))?;
                if symbol.st_type() == elf::STT_SECTION {
                    name = home.name.clone();
                }
                Definition::InSection { section: section.0, offset: value }
            }
            (None, elf::SHN_UNDEF) if name == "_GLOBAL_OFFSET_TABLE_" => Definition::Got,
            (None, elf::SHN_UNDEF) => Definition::Undefined { weak: symbol.st_bind() == elf::STB_WEAK },
            (None, elf::SHN_ABS) => Definition::Absolute(value),
            // A common symbol's value is its alignment.
            (None, place) if self.is_common(place) => {
                Definition::Common { size, alignment: alignment(value)? }
            }
            _ => return Err(Error::Damaged(format!("the symbol {name} is in no section"))),
        };
        let is_indirect = symbol.st_type() == elf::STT_GNU_IFUNC;
        if is_indirect && !matches!(definition, Definition::InSection { .. }) {
            return Err(Error::Damaged(format!("the indirect function {name} is in no section")));
        }
        // gcc's mark of an object that has intermediate code alone.
        if name == "__gnu_lto_slim" {
            return Err(Error::NotAnObject("intermediate code of gcc, as gcc -flto makes it"));
        }
        self.object.symbols.push(Symbol {
            name,
            definition,
            size,
            may_be_function: is_indirect || matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_NOTYPE),
            is_global: symbol.st_bind() != elf::STB_LOCAL,
            is_weak: matches!(symbol.st_bind(), elf::STB_WEAK | elf::STB_GNU_UNIQUE),
            is_thread_local: symbol.st_type() == elf::STT_TLS,
            is_indirect,
        });
        Ok(())
    }

    fn is_common(&self, place: SymbolSection) -> bool {
        let is_large =
            self.object.architecture == Architecture::X86_64 && place == SymbolSection(SHN_X86_64_LCOMMON);
        place == elf::SHN_COMMON || is_large
    }

    /// Reads a section of relocations into the section that they are for.
    fn read_relocations(&mut self, section: &'data SectionHeader64<LittleEndian>) -> Result<(), Error> {
        let kind = section.sh_type(ENDIAN);
        if !matches!(kind, elf::SHT_RELA | elf::SHT_REL | elf::SHT_CREL) {
            return Ok(());
        }
        let index = section.info_link(ENDIAN).0;
        let target = self.object.sections.get(index);
        let target = target.ok_or_else(|| Error::Damaged("relocations for no section".into()))?;
        let name = target.name.clone();
        if !target.kind.is_loaded() && target.kind != SectionKind::Unwind {
            return Ok(());
        }
        if kind != elf::SHT_RELA {
            let form = if kind == elf::SHT_REL { "without addends (REL)" } else { "in short form (CREL)" };
            return Err(Error::Unsupported(format!("relocations {form}, as {name} has them")));
        }
        self.claim(section)?;
        // `rela` below ignores a rest that is less than an entry.
        let entry = size_of::<elf::Rela64<LittleEndian>>() as u64;
        let relocations = section.rela(ENDIAN, self.file)?;
        let relocations = relocations.filter(|_| section.sh_size(ENDIAN).is_multiple_of(entry));
        let Some((relocations, _)) = relocations else {
            return Err(Error::Damaged(format!("half a relocation of {name}")));
        };
        for relocation in relocations {
            let kind = relocation.r_type(ENDIAN, false);
            // Such relocations only keep a section from being discarded. Their symbol need not exist.
            if self.object.architecture.is_nothing(kind) {
                continue;
            }
            let symbol = relocation.r_sym(ENDIAN, false) as usize;
            if symbol >= self.object.symbols.len() {
                return Err(Error::Damaged(format!("a relocation in {name} refers to no symbol")));
            }
            let (offset, addend) = (relocation.r_offset(ENDIAN), relocation.r_addend(ENDIAN));
            let relocation = Relocation { offset, kind, symbol, addend, high: None };
            self.object.sections[index].relocations.push(relocation);
        }
        Ok(())
    }
}

fn section_kind(section: &SectionHeader64<LittleEndian>, name: &str) -> Result<SectionKind, Error> {
    let has = |flag| section.sh_flags(ENDIAN).contains(flag);
    let kind = section.sh_type(ENDIAN);
    if name == ".note.GNU-stack" && has(elf::SHF_EXECINSTR) {
        return Err(Error::ExecutableStack);
    }
    if !has(elf::SHF_ALLOC) || kind == elf::SHT_NOTE {
        return Ok(SectionKind::Ignored);
    }
    if name == ".eh_frame" && kind != elf::SHT_NOBITS {
        return Ok(SectionKind::Unwind);
    }
    if has(elf::SHF_TLS) {
        return Ok(SectionKind::ThreadLocal);
    }
    let is_empty = section.sh_size(ENDIAN) == 0;
    Ok(match (kind, has(elf::SHF_WRITE), has(elf::SHF_EXECINSTR)) {
        (_, true, true) => return Err(Error::WritableCode(name.into())),
        (_, _, true) if matches!(name, ".init" | ".fini") && !is_empty => {
            return Err(Error::FunctionPiece(name.into()));
        }
        (elf::SHT_NOBITS, _, false) => SectionKind::Zeroed,
        (elf::SHT_NOBITS, _, true) if !is_empty => {
            let what = format!("code without bytes, as {name} is (debug information that was split off?)");
            return Err(Error::Unsupported(what));
        }
        (_, _, true) => SectionKind::Code,
        (elf::SHT_INIT_ARRAY | elf::SHT_PREINIT_ARRAY, ..) => SectionKind::Constructors,
        (elf::SHT_FINI_ARRAY, ..) => SectionKind::Destructors,
        // Assemblers and older compilers don't set the types. Linkers go by these names, too.
        _ if is_named(name, &[".preinit_array", ".init_array", ".ctors"]) => SectionKind::Constructors,
        _ if is_named(name, &[".fini_array", ".dtors"]) => SectionKind::Destructors,
        // It is marked writable for its relocations alone.
        (_, true, _) if name.starts_with(".data.rel.ro") => SectionKind::ReadOnly,
        (_, true, _) => SectionKind::Data,
        (_, false, _) => SectionKind::ReadOnly,
    })
}

/// Whether a section has one of these names, also with a priority behind it (`.ctors.65435`).
fn is_named(name: &str, names: &[&str]) -> bool {
    let rest = names.iter().find_map(|start| name.strip_prefix(start));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// An alignment, of which ELF says that 0 means 1.
fn alignment(value: u64) -> Result<u64, Error> {
    match value {
        0 => Ok(1),
        value if value.is_power_of_two() => Ok(value),
        _ => Err(Error::Damaged(format!("an alignment of {value} is not a power of two"))),
    }
}
