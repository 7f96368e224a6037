//! What is read of a file so far: its sections and symbols.

use crate::architecture::Architecture;
use crate::error::Error;
use crate::object_file::{Definition, ObjectFile, Section, SectionKind, Symbol};
use crate::parse::bounds::Bounds;
use object::LittleEndian;
use object::macho::{self, Nlist64, Section64};
use object::read::StringTable;
use object::read::macho::{Nlist, Section as _};
use std::borrow::Cow;

/// The byte order of all files that are read here.
pub const ENDIAN: LittleEndian = LittleEndian;

/// Reads a file part by part: first all sections and symbols, then the relocations.
pub struct Reader<'data> {
    /// The file's bytes.
    pub file: &'data [u8],
    /// What is read.
    pub object: ObjectFile<'data>,
    /// What of the file is used.
    pub bounds: Bounds,
    /// By section index: the address that the file gives a section. Relocations within the file count with it.
    pub addresses: Vec<u64>,
    /// How many symbols the file has. Behind them the object has one more for each section.
    pub symbols: usize,
}

impl<'data> Reader<'data> {
    /// Nothing is read yet.
    pub fn new(file: &'data [u8], architecture: Architecture) -> Self {
        let object = ObjectFile::empty(architecture);
        Self { file, object, bounds: Bounds::new(file), addresses: Vec::new(), symbols: 0 }
    }

    /// Reads the next section.
    pub fn read_section(&mut self, section: &'data Section64<LittleEndian>) -> Result<(), Error> {
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
        // Compilers let the linker drop what nothing refers to, except for these.
        let is_kept = section.flags(ENDIAN).0 & macho::S_ATTR_NO_DEAD_STRIP.0 != 0;
        self.object.sections.push(Section {
            size,
            is_kept,
            ..Section::new(name, kind, data.into(), alignment)
        });
        Ok(())
    }

    /// Reads the next symbol.
    pub fn read_symbol(
        &mut self,
        symbol: &'data Nlist64<LittleEndian>,
        strings: StringTable<'data, &'data [u8]>,
    ) -> Result<(), Error> {
        let full_name = symbol.name(ENDIAN, strings)?;
        // Names of C have an underscore in front. Those without one mark places in the code.
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
        let is_defined = !matches!(definition, Definition::Undefined { .. });
        let is_weak = is_defined && symbol.n_desc(ENDIAN).0 & macho::N_WEAK_DEF.0 != 0;
        self.object.symbols.push(Symbol {
            name,
            definition,
            size: 0,
            may_be_function,
            is_global,
            is_weak,
            is_thread_local: false,
            is_indirect: false,
        });
        self.symbols += 1;
        Ok(())
    }

    /// Where in a section an address of the file is.
    fn place(&self, section: u8, address: u64, name: &str) -> Result<Definition, Error> {
        let home = self.home(section.into());
        let (section, start) = home.ok_or_else(|| Error::Damaged(format!("{name} is in no section")))?;
        Ok(Definition::InSection { section, offset: address.wrapping_sub(start) })
    }

    /// The index of a section and the address that the file gives it. Ordinals count from 1.
    pub fn home(&self, ordinal: usize) -> Option<(usize, u64)> {
        let section = ordinal.checked_sub(1)?;
        Some((section, *self.addresses.get(section)?))
    }

    /// Adds a symbol for each section, since relocations may refer to sections. To be called when the file's own
    /// symbols are all read.
    pub fn name_sections(&mut self) {
        for (section, home) in self.object.sections.iter().enumerate() {
            let definition = Definition::InSection { section, offset: 0 };
            let name = home.name.clone();
            self.object.symbols.push(Symbol {
                name,
                definition,
                size: 0,
                may_be_function: false,
                is_global: false,
                is_weak: false,
                is_thread_local: false,
                is_indirect: false,
            });
        }
    }
}

fn text(name: &[u8]) -> String {
    String::from_utf8_lossy(name).into_owned()
}

fn section_kind(section: &Section64<LittleEndian>, segment: &str, name: &str) -> Result<SectionKind, Error> {
    let attributes = section.flags(ENDIAN).0;
    // macOS unwinds by tables of another form, which only its linker makes.
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
        // Only a linker's tables for dyld say what these mean.
        macho::S_NON_LAZY_SYMBOL_POINTERS
        | macho::S_LAZY_SYMBOL_POINTERS
        | macho::S_LAZY_DYLIB_SYMBOL_POINTERS
        | macho::S_SYMBOL_STUBS
        | macho::S_INTERPOSING
        | macho::S_INIT_FUNC_OFFSETS => {
            return Err(Error::Unsupported(format!("a section like {segment},{name} of a linked file")));
        }
        _ if is_code => SectionKind::Code,
        // `__DATA,__const` is in a writable segment for its relocations alone.
        _ if segment != "__DATA" || name == "__const" => SectionKind::ReadOnly,
        _ => SectionKind::Data,
    })
}
