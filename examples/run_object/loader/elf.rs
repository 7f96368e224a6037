//! Reading a relocatable ELF file of 64 bits.

use super::error::Error;
use super::object_file::{Definition, ObjectFile, Relocation, Section, SectionKind, Symbol};
use super::relocate::Architecture;
use object::LittleEndian;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, Rela, SectionHeader, SectionTable, Sym, SymbolTable};

type Header = FileHeader64<LittleEndian>;
type Sections<'data> = SectionTable<'data, Header>;
type Symbols<'data> = SymbolTable<'data, Header>;

const ENDIAN: LittleEndian = LittleEndian;

/// Reads a file's bytes.
pub fn parse(file: &[u8]) -> Result<ObjectFile<'_>, Error> {
    let (architecture, sections) = check_header(file)?;
    let symbols = sections.symbols(ENDIAN, file, elf::SHT_SYMTAB)?;
    let mut object = ObjectFile::empty(architecture);
    for section in sections.iter() {
        object.sections.push(read_section(file, &sections, section)?);
    }
    for (index, symbol) in symbols.iter().enumerate() {
        let symbol = object.read_symbol(&symbols, index, symbol)?;
        object.symbols.push(symbol);
    }
    for section in sections.iter() {
        object.read_relocations(file, section)?;
    }
    Ok(object)
}

impl<'data> ObjectFile<'data> {
    fn read_symbol(
        &self,
        table: &Symbols<'data>,
        index: usize,
        symbol: &'data elf::Sym64<LittleEndian>,
    ) -> Result<Symbol<'data>, Error> {
        let mut name = String::from_utf8_lossy(table.symbol_name(ENDIAN, symbol)?);
        let section = table.symbol_section(ENDIAN, symbol, object::SymbolIndex(index))?;
        let (value, size) = (symbol.st_value(ENDIAN), symbol.st_size(ENDIAN));
        let definition = match (section, symbol.st_shndx(ENDIAN)) {
            (Some(section), _) => {
                let home = self
                    .sections
                    .get(section.0)
                    .ok_or_else(|| Error::Damaged(format!("the symbol {name} is in no section")))?;
                if symbol.st_type() == elf::STT_SECTION {
                    name = home.name.clone();
                }
                if value > home.size && home.kind != SectionKind::Ignored {
                    return Err(Error::Damaged(format!("the symbol {name} is outside of its section")));
                }
                Definition::InSection { section: section.0, offset: value }
            }
            (None, elf::SHN_UNDEF) if name == "_GLOBAL_OFFSET_TABLE_" => Definition::SlotTable,
            (None, elf::SHN_UNDEF) => Definition::Undefined { weak: symbol.st_bind() == elf::STB_WEAK },
            (None, elf::SHN_ABS) => Definition::Absolute(value),
            // A common symbol's value is its alignment.
            (None, elf::SHN_COMMON) => Definition::Common { size, alignment: alignment(value)? },
            _ => return Err(Error::Damaged(format!("the symbol {name} is in no section"))),
        };
        match symbol.st_type() {
            elf::STT_TLS => return Err(Error::ThreadLocal(name.into())),
            elf::STT_GNU_IFUNC => return Err(Error::IndirectFunction(name.into())),
            _ => {}
        }
        Ok(Symbol {
            name,
            definition,
            may_be_function: matches!(symbol.st_type(), elf::STT_FUNC | elf::STT_NOTYPE),
            is_global: symbol.st_bind() != elf::STB_LOCAL,
        })
    }

    /// Reads a section of relocations into the section that they are for.
    fn read_relocations(
        &mut self,
        file: &'data [u8],
        section: &'data elf::SectionHeader64<LittleEndian>,
    ) -> Result<(), Error> {
        let kind = section.sh_type(ENDIAN);
        if !matches!(kind, elf::SHT_RELA | elf::SHT_REL | elf::SHT_CREL) {
            return Ok(());
        }
        let (symbols, architecture) = (self.symbols.len(), self.architecture);
        let target = self
            .sections
            .get_mut(section.info_link(ENDIAN).0)
            .ok_or_else(|| Error::Damaged("relocations for no section".into()))?;
        if target.kind == SectionKind::Ignored {
            return Ok(());
        }
        let entry = size_of::<elf::Rela64<LittleEndian>>() as u64;
        let Some((relocations, _)) =
            section.rela(ENDIAN, file)?.filter(|_| section.sh_size(ENDIAN).is_multiple_of(entry))
        else {
            let what = format!("the relocations of {} are not of the usual form", target.name);
            return Err(Error::Damaged(what));
        };
        for relocation in relocations {
            let kind = relocation.r_type(ENDIAN, false);
            // What compilers and assemblers leave behind to keep a section, or nothing.
            if architecture.is_nothing(kind) {
                continue;
            }
            let symbol = relocation.r_sym(ENDIAN, false) as usize;
            if symbol >= symbols {
                return Err(Error::Damaged(format!("a relocation in {} refers to no symbol", target.name)));
            }
            target.relocations.push(Relocation {
                offset: relocation.r_offset(ENDIAN),
                kind,
                symbol,
                addend: relocation.r_addend(ENDIAN),
            });
        }
        Ok(())
    }
}

fn check_header(file: &[u8]) -> Result<(Architecture, Sections<'_>), Error> {
    if !file.starts_with(&elf::ELFMAG) {
        return Err(Error::NotElf);
    }
    // Class and byte order follow the magic number.
    if file.get(4..6).is_some_and(|ident| ident != [elf::ELFCLASS64.0, elf::ELFDATA2LSB.0]) {
        return Err(Error::WrongClass);
    }
    let header = Header::parse(file)?;
    if header.e_type(ENDIAN) != elf::ET_REL {
        return Err(Error::NotRelocatable);
    }
    let machine = header.e_machine(ENDIAN);
    let architecture = Architecture::from_machine(machine).ok_or(Error::UnknownMachine(machine.0))?;
    Ok((architecture, header.sections(ENDIAN, file)?))
}

fn read_section<'data>(
    file: &'data [u8],
    sections: &Sections<'data>,
    section: &'data elf::SectionHeader64<LittleEndian>,
) -> Result<Section<'data>, Error> {
    let name = String::from_utf8_lossy(sections.section_name(ENDIAN, section)?);
    let kind = section_kind(section, &name)?;
    // What isn't loaded needs not be sound.
    let (data, size, alignment) = match kind {
        SectionKind::Ignored => (&[][..], 0, 1),
        _ => (section.data(ENDIAN, file)?, section.sh_size(ENDIAN), alignment(section.sh_addralign(ENDIAN))?),
    };
    Ok(Section { name, kind, data, size, alignment, relocations: Vec::new() })
}

fn section_kind(section: &elf::SectionHeader64<LittleEndian>, name: &str) -> Result<SectionKind, Error> {
    let has = |flag| section.sh_flags(ENDIAN).contains(flag);
    let kind = section.sh_type(ENDIAN);
    if name == ".note.GNU-stack" && has(elf::SHF_EXECINSTR) {
        return Err(Error::ExecutableStack);
    }
    // Nothing unwinds through the loaded code, so unwind tables would have no reader.
    if !has(elf::SHF_ALLOC) || kind == elf::SHT_NOTE || name == ".eh_frame" {
        return Ok(SectionKind::Ignored);
    }
    if has(elf::SHF_TLS) {
        return Err(Error::ThreadLocal(format!("section {name}")));
    }
    Ok(match (kind, has(elf::SHF_WRITE), has(elf::SHF_EXECINSTR)) {
        (_, true, true) => return Err(Error::WritableCode(name.into())),
        (elf::SHT_NOBITS, _, false) => SectionKind::Zeroed,
        (elf::SHT_NOBITS, _, true) => return Err(Error::Damaged(format!("{name} is code without bytes"))),
        (_, _, true) if matches!(name, ".init" | ".fini") && section.sh_size(ENDIAN) != 0 => {
            return Err(Error::FunctionPiece(name.into()));
        }
        (_, _, true) => SectionKind::Code,
        (elf::SHT_INIT_ARRAY | elf::SHT_PREINIT_ARRAY, ..) => SectionKind::Constructors,
        (elf::SHT_FINI_ARRAY, ..) => SectionKind::Destructors,
        // Linkers go by these names: assemblers and older compilers don't set the types.
        _ if is_named(name, &[".preinit_array", ".init_array", ".ctors"]) => SectionKind::Constructors,
        _ if is_named(name, &[".fini_array", ".dtors"]) => SectionKind::Destructors,
        // Compilers mark it writable for the sake of the relocations, which are over before it runs.
        (_, true, _) if name.starts_with(".data.rel.ro") => SectionKind::ReadOnly,
        (_, true, _) => SectionKind::Data,
        (_, false, _) => SectionKind::ReadOnly,
    })
}

/// Whether a section has one of these names, or one of them with a priority behind it (`.ctors.65435`).
fn is_named(name: &str, names: &[&str]) -> bool {
    let rest = names.iter().find_map(|start| name.strip_prefix(start));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// ELF writes no alignment as 0 or 1.
fn alignment(value: u64) -> Result<u64, Error> {
    match value {
        0 => Ok(1),
        value if value.is_power_of_two() => Ok(value),
        _ => Err(Error::Damaged(format!("an alignment of {value} is not a power of two"))),
    }
}
