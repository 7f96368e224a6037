//! Where everything goes: pure arithmetic on one range that starts at offset 0.
//!
//! ```text
//! | code sections | stubs || read-only sections | slots | data | zeroed data, common symbols |
//!  read-execute             read-only                     read-write
//! ```
//! Each protection begins on a page of its own. Code and the rest are two mappings near each other, since not
//! every system lets memory that code may be written to become anything else. So all parts of one object
//! reach each other; what they import, they reach through stubs and slots.

use super::error::Error;
use super::imports::{Import, Imports};
use super::object_file::{Definition, ObjectFile, Section, SectionKind};
use super::proportion::ZEROED_LIMIT;
use super::relocate::{STUB, Target};
use execmem::Protection;
use std::ops::Range;

/// Bytes of a slot: an address.
const SLOT: u64 = 8;

/// The offsets of all parts.
#[derive(Debug)]
pub struct Layout {
    /// What gets which protection, page-aligned at its start, in this order; some may be empty.
    pub groups: [(Range<u64>, Protection); 3],
    /// By section index; `None` for what is not loaded.
    pub sections: Vec<Option<u64>>,
    /// By symbol index: the room for common symbols.
    pub commons: Vec<Option<u64>>,
    /// By symbol index: how an import is reached.
    pub stubs: Vec<Option<Stub>>,
    /// By symbol index: the word that holds the symbol's address.
    pub slots: Vec<Option<u64>>,
    /// Where the slots begin.
    pub slot_table: u64,
    /// Behind the last byte that isn't zero.
    pub initialised: u64,
}

/// Code that jumps to an imported function. It is near, wherever the function is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stub {
    /// Where the code is.
    pub code: u64,
    /// The word that it loads the function's own address from.
    pub slot: u64,
    /// Whether the whole image takes the stub for the function, since some instruction that takes its address
    /// reaches no further: a function has one address.
    pub is_function: bool,
}

/// Where the two mappings of a layout are.
#[derive(Clone, Copy, Debug)]
pub struct Bases {
    /// Of the code.
    pub code: u64,
    /// Of all that follows it.
    pub data: u64,
}

impl Layout {
    /// Where the code ends and the rest begins.
    pub fn split(&self) -> u64 {
        self.groups[0].0.end
    }

    /// The address of what is at an offset.
    pub fn address(&self, bases: Bases, offset: u64) -> u64 {
        match offset.checked_sub(self.split()) {
            None => bases.code + offset,
            Some(offset) => bases.data + offset,
        }
    }

    /// Places the sections of an object, and the stubs and slots that its relocations ask for.
    pub fn new(object: &ObjectFile<'_>, imports: &Imports, page_size: u64) -> Result<Self, Error> {
        let symbols = object.symbols.len();
        let mut layout = Self {
            groups: [(0..0, Protection::RX), (0..0, Protection::READ), (0..0, Protection::RW)],
            sections: vec![None; object.sections.len()],
            commons: vec![None; symbols],
            stubs: vec![None; symbols],
            slots: vec![None; symbols],
            slot_table: 0,
            initialised: 0,
        };
        layout.note_slots(object, imports)?;
        let mut end = End { offset: 0, zeroed: 0, page_size };

        layout.place_sections(object, &mut end, |kind| kind == SectionKind::Code)?;
        for stub in layout.stubs.iter_mut().flatten() {
            stub.code = end.place(STUB, STUB, "a stub")?;
        }
        layout.groups[0].0 = end.close_group(0)?;

        let read_only = [SectionKind::ReadOnly, SectionKind::Constructors, SectionKind::Destructors];
        layout.place_sections(object, &mut end, |kind| read_only.contains(&kind))?;
        layout.slot_table = end.place(0, SLOT, "the slots")?;
        for slot in layout.slots.iter_mut().flatten() {
            *slot = end.place(SLOT, SLOT, "a slot")?;
        }
        for stub in layout.stubs.iter_mut().flatten() {
            stub.slot = end.place(SLOT, SLOT, "a slot")?;
        }
        layout.initialised = end.offset;
        layout.groups[1].0 = end.close_group(layout.groups[0].0.end)?;

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
        layout.groups[2].0 = end.close_group(layout.groups[1].0.end)?;
        Ok(layout)
    }

    /// Bytes in all.
    pub fn size(&self) -> u64 {
        self.groups[2].0.end
    }

    /// Marks the symbols that need a stub or a slot; where those are is decided later.
    fn note_slots(&mut self, object: &ObjectFile<'_>, imports: &Imports) -> Result<(), Error> {
        for (_, section) in object.loaded() {
            for relocation in &section.relocations {
                let Some(form) = object.architecture.form(relocation.kind) else {
                    return Err(unknown(object, section, relocation.kind));
                };
                let symbol = relocation.symbol;
                if needs_stub(form.target, imports[symbol]) {
                    let stub = self.stubs[symbol].get_or_insert_default();
                    // A branch doesn't tell where it led to.
                    stub.is_function |= form.target != Target::Branch;
                }
                if form.target == Target::Slot {
                    self.slots[symbol] = Some(0);
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

/// Whether a reference goes through a stub. That does not depend on how far the import is: the
/// instructions of a pair (adrp and add) must agree on it, and only one of them knows the distance.
pub fn needs_stub(target: Target, import: Option<Import>) -> bool {
    match (target, import) {
        (Target::Branch, Some(_)) => true,
        (Target::NearSymbol, Some(import)) => import.is_code,
        _ => false,
    }
}

fn unknown(object: &ObjectFile<'_>, section: &Section<'_>, kind: object::elf::RelocationType) -> Error {
    Error::UnknownRelocation { architecture: object.architecture, kind, section: section.name.to_string() }
}

/// The end of what is placed so far.
struct End {
    offset: u64,
    /// How much of it the file has no bytes for.
    zeroed: u64,
    page_size: u64,
}

impl End {
    /// Takes room for `size` bytes and gives its offset.
    fn place(&mut self, size: u64, alignment: u64, what: &str) -> Result<u64, Error> {
        // The mapping starts at a page: no more than that can be promised.
        if alignment > self.page_size {
            return Err(Error::Alignment(what.into()));
        }
        let start = self.offset.checked_next_multiple_of(alignment).ok_or(Error::TooLarge)?;
        self.take_zeroed(start - self.offset)?;
        self.offset = start.checked_add(size).filter(|end| *end <= i64::MAX as u64).ok_or(Error::TooLarge)?;
        Ok(start)
    }

    /// Allows for bytes that the file doesn't have.
    fn take_zeroed(&mut self, size: u64) -> Result<(), Error> {
        let zeroed = self.zeroed.checked_add(size).filter(|zeroed| *zeroed <= ZEROED_LIMIT);
        self.zeroed = zeroed.ok_or(Error::TooMuchZeroed)?;
        Ok(())
    }

    /// Ends a group of one protection. The next one begins on a page of its own.
    fn close_group(&mut self, start: u64) -> Result<Range<u64>, Error> {
        self.place(0, self.page_size, "a page")?;
        Ok(start..self.offset)
    }
}
