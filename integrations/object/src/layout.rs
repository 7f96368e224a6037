//! Where everything goes: pure arithmetic on one range of offsets that starts at 0.
//!
//! ```text
//! | code sections | stubs || read-only sections | GOT | data | zeroed data, common symbols |
//!  read-execute             read-only                  read-write
//! ```
//! There is a segment for each protection, and each begins on a page of its own.
//!
//! At `||` the range is split into two mappings, since some systems never give code memory another protection. The
//! mappings are near each other, so that all parts of an object reach each other. What an object imports may be
//! anywhere: a stub jumps to an imported function, and an entry of the global offset table (GOT) holds an address.

use crate::error::Error;
use crate::import::{Import, Imports};
use crate::object_file::{Definition, ObjectFile, Section, SectionKind};
use crate::relocate::{STUB, Target};
use execmem::Protection;
use std::ops::Range;

/// The most memory that an object may need beyond the bytes of its file: zeroed data (`.bss`, common symbols) and
/// the gaps that alignment leaves. A small damaged file would get as much as it asks for otherwise.
pub const ZEROED_LIMIT: u64 = 1 << 30;

/// Bytes of an entry of the GOT: an address.
const GOT_ENTRY: u64 = 8;

/// The offsets of all parts.
#[derive(Debug)]
pub struct Layout {
    /// Code, read-only data, data. They are whole pages, one behind the other, and some may be empty.
    pub segments: [(Range<u64>, Protection); 3],
    /// By section index: its start; `None` for what is not loaded.
    pub sections: Vec<Option<u64>>,
    /// By symbol index: the room of a common symbol.
    pub commons: Vec<Option<u64>>,
    /// By symbol index: the stub of an imported function.
    pub stubs: Vec<Option<Stub>>,
    /// By symbol index: the GOT entry that holds the symbol's address.
    pub got_entries: Vec<Option<u64>>,
    /// The start of the GOT.
    pub got: u64,
    /// From here on all is zero.
    pub initialised: u64,
}

/// Code that jumps to an imported function. It is near, wherever the function is. In an ELF file that a linker makes
/// it would be an entry of the procedure linkage table (PLT).
#[derive(Clone, Copy, Debug, Default)]
pub struct Stub {
    /// Where the code is.
    pub code: u64,
    /// The GOT entry that it loads the function's own address from.
    pub entry: u64,
    /// Whether the stub's address is the function's address in the whole image. It is if some instruction takes the
    /// address that can't reach the function itself: a function must have one address.
    pub is_function: bool,
}

/// The addresses of the two mappings.
#[derive(Clone, Copy, Debug)]
pub struct Bases {
    /// Of the code.
    pub code: u64,
    /// Of the rest.
    pub data: u64,
}

impl Layout {
    /// The end of the code and its mapping.
    pub fn split(&self) -> u64 {
        self.segments[0].0.end
    }

    /// The address of what is at an offset.
    pub fn address(&self, bases: Bases, offset: u64) -> u64 {
        match offset.checked_sub(self.split()) {
            None => bases.code + offset,
            Some(offset) => bases.data + offset,
        }
    }

    /// Places the sections of an object, and the stubs and GOT entries that its relocations ask for.
    pub fn new(object: &ObjectFile<'_>, imports: &Imports, page_size: u64) -> Result<Self, Error> {
        let symbols = object.symbols.len();
        let mut layout = Self {
            segments: [(0..0, Protection::RX), (0..0, Protection::READ), (0..0, Protection::RW)],
            sections: vec![None; object.sections.len()],
            commons: vec![None; symbols],
            stubs: vec![None; symbols],
            got_entries: vec![None; symbols],
            got: 0,
            initialised: 0,
        };
        layout.note_stubs_and_got_entries(object, imports)?;
        let mut end = End { offset: 0, zeroed: 0, page_size };

        layout.place_sections(object, &mut end, |kind| kind == SectionKind::Code)?;
        for stub in layout.stubs.iter_mut().flatten() {
            stub.code = end.place(STUB, STUB, "a stub")?;
        }
        layout.segments[0].0 = end.close_segment(0)?;

        let read_only = [SectionKind::ReadOnly, SectionKind::Constructors, SectionKind::Destructors];
        layout.place_sections(object, &mut end, |kind| read_only.contains(&kind))?;
        layout.got = end.place(0, GOT_ENTRY, "the GOT")?;
        for entry in layout.got_entries.iter_mut().flatten() {
            *entry = end.place(GOT_ENTRY, GOT_ENTRY, "the GOT")?;
        }
        for stub in layout.stubs.iter_mut().flatten() {
            stub.entry = end.place(GOT_ENTRY, GOT_ENTRY, "the GOT")?;
        }
        layout.initialised = end.offset;
        layout.segments[1].0 = end.close_segment(layout.segments[0].0.end)?;

        let data_start = end.offset;
        layout.place_sections(object, &mut end, |kind| kind == SectionKind::Data)?;
        if end.offset > data_start {
            layout.initialised = end.offset;
        }
        layout.place_sections(object, &mut end, |kind| kind == SectionKind::Zeroed)?;
        for (symbol, offset) in object.symbols.iter().zip(&mut layout.commons) {
            if let Definition::Common { size, alignment } = symbol.definition {
                end.take_zeroed(size)?;
                *offset = Some(end.place(size, alignment, &symbol.name)?);
            }
        }
        layout.segments[2].0 = end.close_segment(layout.segments[1].0.end)?;
        Ok(layout)
    }

    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.segments[2].0.end
    }

    /// Marks the symbols that need a stub or a GOT entry. Their places are decided later.
    fn note_stubs_and_got_entries(
        &mut self,
        object: &ObjectFile<'_>,
        imports: &Imports,
    ) -> Result<(), Error> {
        for (_, section) in object.loaded() {
            for relocation in &section.relocations {
                let Some(form) = object.architecture.form(relocation.kind) else {
                    return Err(unknown(object, section, relocation.kind));
                };
                let symbol = relocation.symbol;
                if needs_stub(form.target, imports[symbol]) {
                    let stub = self.stubs[symbol].get_or_insert_default();
                    // Nobody sees the address that a branch goes to.
                    stub.is_function |= form.target != Target::Branch;
                }
                if form.target == Target::GotEntry {
                    self.got_entries[symbol] = Some(0);
                }
            }
        }
        Ok(())
    }

    fn place_sections(
        &mut self,
        object: &ObjectFile<'_>,
        end: &mut End,
        belongs: impl Fn(SectionKind) -> bool,
    ) -> Result<(), Error> {
        for (index, section) in object.loaded().filter(|(_, section)| belongs(section.kind)) {
            // What has no bytes in the file is zero.
            end.take_zeroed(section.size.saturating_sub(section.data.len() as u64))?;
            self.sections[index] = Some(end.place(section.size, section.alignment, &section.name)?);
        }
        Ok(())
    }
}

/// Whether a reference goes through a stub. How far away the import is doesn't matter: both instructions of a pair
/// (`adrp` and `add`) must decide alike, and the relocation of the second doesn't tell the distance.
pub fn needs_stub(target: Target, import: Option<Import>) -> bool {
    match (target, import) {
        (Target::Branch, Some(_)) => true,
        (Target::NearSymbol, Some(import)) => import.is_code,
        _ => false,
    }
}

fn unknown(object: &ObjectFile<'_>, section: &Section<'_>, kind: object::elf::RelocationType) -> Error {
    let relocation = object.architecture.relocation_name(kind);
    Error::UnknownRelocation { relocation, section: section.name.to_string() }
}

/// The end of what is placed so far.
struct End {
    offset: u64,
    /// How many of the bytes before it are not in the file.
    zeroed: u64,
    page_size: u64,
}

impl End {
    /// Takes room for `size` bytes and gives its offset.
    fn place(&mut self, size: u64, alignment: u64, what: &str) -> Result<u64, Error> {
        // A mapping starts at a page, and a larger alignment can't be promised.
        if alignment > self.page_size {
            return Err(Error::Alignment(what.into()));
        }
        let start = self.offset.checked_next_multiple_of(alignment).ok_or(Error::TooLarge)?;
        self.take_zeroed(start - self.offset)?;
        self.offset = start.checked_add(size).filter(|end| *end <= i64::MAX as u64).ok_or(Error::TooLarge)?;
        Ok(start)
    }

    /// Counts bytes that are not in the file.
    fn take_zeroed(&mut self, size: u64) -> Result<(), Error> {
        let zeroed = self.zeroed.checked_add(size).filter(|zeroed| *zeroed <= ZEROED_LIMIT);
        self.zeroed = zeroed.ok_or(Error::TooMuchZeroed { limit: ZEROED_LIMIT })?;
        Ok(())
    }

    /// Ends a segment, at the end of a page.
    fn close_segment(&mut self, start: u64) -> Result<Range<u64>, Error> {
        self.place(0, self.page_size, "a page")?;
        Ok(start..self.offset)
    }
}
