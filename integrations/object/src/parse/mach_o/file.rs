//! The file as a whole: its header, and what its load commands lead to.

use super::reader::{ENDIAN, Reader};
use crate::architecture::Architecture;
use crate::error::Error;
use crate::object_file::{Definition, ObjectFile, Symbol};
use object::LittleEndian;
use object::macho::{self, MachHeader64, Nlist64};
use object::read::macho::{MachHeader, Segment as _};

type Header = MachHeader64<LittleEndian>;

/// Whether a file is a 64-bit little-endian Mach-O file.
pub fn is_mach_o(file: &[u8]) -> bool {
    file.starts_with(&macho::MH_MAGIC_64.to_le_bytes())
}

/// Reads a Mach-O file.
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
    let mut reader = Reader::new(file, architecture);
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
    check_unwinding(&reader.object)?;
    reader.name_sections();
    for (index, section) in headers.into_iter().enumerate() {
        reader.read_relocations(index, section)?;
    }
    Ok(reader.object)
}

/// Refuses code that throws, catches or cleans up: what nobody but a linker makes of its tables is what macOS unwinds
/// by, so that an exception would end the process.
fn check_unwinding(object: &ObjectFile<'_>) -> Result<(), Error> {
    let is_undefined = |symbol: &&Symbol<'_>| matches!(symbol.definition, Definition::Undefined { .. });
    let unwinding = object.symbols.iter().filter(is_undefined).find(|symbol| is_unwinding(&symbol.name));
    unwinding.map_or(Ok(()), |symbol| Err(Error::Unwinding(symbol.name.to_string())))
}

fn is_unwinding(name: &str) -> bool {
    let is_personality = name.contains("_personality_v") || name.ends_with("_eh_personality");
    let throws = ["__cxa_throw", "__cxa_rethrow", "__cxa_begin_catch", "__cxa_end_catch"];
    is_personality || name.starts_with("_Unwind_") || throws.contains(&name)
}
