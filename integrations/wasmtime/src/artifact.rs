//! What a compiled module says of itself: Wasmtime's artifacts are ELF files.

use core::ops::Range;
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, SectionHeader as _};
use wasmtime::{Result, ensure, format_err};

/// Wasmtime's flag of code that its interpreter reads (`SH_WASMTIME_NOT_EXECUTED` in wasmtime-environ).
const NOT_EXECUTED: u64 = 1;

/// Where an artifact has its code; an empty range at its start if it has none. The bytes begin at a page.
pub fn text(artifact: &[u8]) -> Result<Range<usize>> {
    let mut text = 0..0;
    let page = execmem::runtime().page_size();
    let elf = |error: object::Error| format_err!("it is no compiled module: {error}");
    let header = FileHeader64::<Endianness>::parse(artifact).map_err(elf)?;
    let endian = header.endian().map_err(elf)?;
    let sections = header.sections(endian, artifact).map_err(elf)?;
    for section in sections.iter() {
        let data = section.data(endian, artifact).map_err(elf)?;
        if data.is_empty() {
            continue;
        }
        match sections.section_name(endian, section).map_err(elf)? {
            b".text" => {
                ensure!(
                    section.sh_flags(endian) & NOT_EXECUTED == 0,
                    "it was compiled for Wasmtime's interpreter"
                );
                let start = data.as_ptr().addr() - artifact.as_ptr().addr();
                ensure!(start.is_multiple_of(page), "it was compiled for pages of another size");
                text = start..start + data.len();
            }
            b".eh_frame" => {
                return Err(format_err!("it was compiled with native unwind records: see `configure`"));
            }
            _ => {}
        }
    }
    Ok(text)
}
