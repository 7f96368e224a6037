//! Where everything goes: pure arithmetic on one range of offsets that starts at 0.
//!
//! ```text
//! | code sections | stubs || read-only sections | GOT | data | slots | zeroed data, common symbols |
//!  read-execute             read-only                  read-write
//! ```
//! There is a segment for each protection, and each begins on a page of its own.
//!
//! At `||` the range is split into two pieces of memory, since some systems never give code memory another protection.
//! They are near each other, so that all parts of an object reach each other. What an object imports may be anywhere: a
//! stub jumps to an imported function, and an entry of the global offset table (GOT) holds an address. The slots are
//! the entries of indirect functions, whose addresses the object itself finds when it is started.
//!
//! Small objects without data have the shape of a block in the code heap, which shares its pages with others. There the
//! split is behind the read-only sections, which can be executed.

use crate::error::Error;
use crate::import::{Import, Imports};
use crate::object_file::{Definition, ObjectFile, Section, SectionKind, Symbol};
use crate::relocate::{STUB, Target};
use execmem::Protection;
use std::ops::Range;

/// The most memory that an object may need beyond the bytes of its file: zeroed data (`.bss`, common symbols) and
/// the gaps that alignment leaves. A small damaged file would get as much as it asks for otherwise.
pub const ZEROED_LIMIT: u64 = 1 << 30;

/// Bytes of an entry of the GOT: an address.
const GOT_ENTRY: u64 = 8;

/// How an image lies in memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// In mappings of its own, with pages of this size.
    Pages(u64),
    /// Code and read-only data in a block of the code heap. Data would be a mapping.
    Block,
}

/// The offsets of all parts.
#[derive(Debug)]
pub struct Layout {
    /// How it lies in memory.
    pub shape: Shape,
    /// Code, read-only data, data. Some may be empty. In [`Shape::Pages`] they are whole pages.
    pub segments: [(Range<u64>, Protection); 3],
    /// The offset from which on everything is in the second piece of memory.
    pub split: u64,
    /// What the addresses of both pieces are multiples of.
    pub alignments: [u64; 2],
    /// By section index: its start; `None` for what is not loaded.
    pub sections: Vec<Option<u64>>,
    /// By symbol index: the room of a common symbol.
    pub commons: Vec<Option<u64>>,
    /// By symbol index: the stub of an imported or indirect function.
    pub stubs: Vec<Option<Stub>>,
    /// By symbol index: the GOT entry that holds the symbol's address.
    pub got_entries: Vec<Option<u64>>,
    /// The start of the GOT.
    pub got: u64,
}

/// Code that jumps to an imported or indirect function. It is near, wherever the function is. In an ELF file that a
/// linker makes it would be an entry of the procedure linkage table (PLT).
#[derive(Clone, Copy, Debug, Default)]
pub struct Stub {
    /// Where the code is.
    pub code: u64,
    /// The GOT entry, or slot, that it loads the function's own address from.
    pub entry: u64,
    /// Whether the stub's address is the function's address in the whole image. It is if some instruction takes the
    /// address that can't reach the function itself: a function must have one address.
    pub is_function: bool,
}

/// The addresses of the two pieces of memory.
#[derive(Clone, Copy, Debug)]
pub struct Bases {
    /// Of the code.
    pub code: u64,
    /// Of the rest.
    pub data: u64,
}

impl Layout {
    /// The sizes of the two pieces of memory.
    pub fn sizes(&self) -> [u64; 2] {
        let end = self.segments[2].0.end;
        [self.segments[0].0.end, end - self.split]
    }

    /// The address of what is at an offset.
    pub fn address(&self, bases: Bases, offset: u64) -> u64 {
        match offset.checked_sub(self.split) {
            None => bases.code + offset,
            Some(offset) => bases.data + offset,
        }
    }

    /// Places the sections of an object, and the stubs and GOT entries that its relocations ask for.
    pub fn new(object: &ObjectFile<'_>, imports: &Imports, shape: Shape) -> Result<Self, Error> {
        let symbols = object.symbols.len();
        let mut layout = Self {
            shape,
            segments: [(0..0, Protection::RX), (0..0, Protection::READ), (0..0, Protection::RW)],
            split: 0,
            alignments: alignments(object, shape)?,
            sections: vec![None; object.sections.len()],
            commons: vec![None; symbols],
            stubs: vec![None; symbols],
            got_entries: vec![None; symbols],
            got: 0,
        };
        layout.note_stubs_and_got_entries(object, imports)?;
        let page = match shape {
            Shape::Pages(size) => size,
            Shape::Block => 1,
        };
        let mut end = End { offset: 0, zeroed: 0 };

        layout.place_sections(object, &mut end, |kind| kind == SectionKind::Code)?;
        for stub in layout.stubs.iter_mut().flatten() {
            stub.code = end.place(STUB, STUB)?;
        }
        if shape == Shape::Block {
            layout.place_read_only(object, &mut end)?;
        }
        layout.segments[0].0 = 0..end.place(0, page)?;
        layout.split = end.place(0, layout.alignments[1])?;
        if shape != Shape::Block {
            layout.place_read_only(object, &mut end)?;
        }
        layout.segments[1].0 = layout.split..end.place(0, page)?;

        let start = end.offset;
        layout.place_sections(object, &mut end, |kind| kind == SectionKind::Data)?;
        for (stub, _) in layout.stubs.iter_mut().zip(&object.symbols).filter(|(_, symbol)| symbol.is_indirect)
        {
            if let Some(stub) = stub {
                stub.entry = end.place(GOT_ENTRY, GOT_ENTRY)?;
            }
        }
        layout.place_sections(object, &mut end, |kind| kind == SectionKind::Zeroed)?;
        for (symbol, offset) in object.symbols.iter().zip(&mut layout.commons) {
            if let Definition::Common { size, alignment } = symbol.definition {
                end.take_zeroed(size)?;
                *offset = Some(end.place(size, alignment)?);
            }
        }
        layout.segments[2].0 = start..end.place(0, page)?;
        Ok(layout)
    }

    fn place_read_only(&mut self, object: &ObjectFile<'_>, end: &mut End) -> Result<(), Error> {
        self.place_sections(object, end, SectionKind::is_read_only)?;
        self.got = end.place(0, GOT_ENTRY)?;
        for entry in self.got_entries.iter_mut().flatten() {
            *entry = end.place(GOT_ENTRY, GOT_ENTRY)?;
        }
        for (stub, symbol) in self.stubs.iter_mut().zip(&object.symbols) {
            if let Some(stub) = stub.as_mut().filter(|_| !symbol.is_indirect) {
                stub.entry = end.place(GOT_ENTRY, GOT_ENTRY)?;
            }
        }
        Ok(())
    }

    /// Marks the symbols that need a stub or a GOT entry. Their places are decided later.
    fn note_stubs_and_got_entries(
        &mut self,
        object: &ObjectFile<'_>,
        imports: &Imports,
    ) -> Result<(), Error> {
        for (_, section) in object.loaded() {
            for relocation in &section.relocations {
                let Some(form) = object.architecture.form(relocation) else {
                    return Err(unknown(object, section, relocation.kind));
                };
                let symbol = relocation.symbol;
                if needs_stub(form.target, &object.symbols[symbol], imports[symbol]) {
                    let stub = self.stubs[symbol].get_or_insert_default();
                    // Nobody sees the address that a branch goes to.
                    stub.is_function |= form.target != Target::Branch;
                }
                if form.target == Target::GotEntry {
                    self.got_entries[symbol] = Some(0);
                }
            }
        }
        // An indirect function that nothing here refers to can still be asked for by its name.
        for (symbol, stub) in
            object.symbols.iter().zip(&mut self.stubs).filter(|(symbol, _)| symbol.is_indirect)
        {
            let Definition::InSection { section, .. } = symbol.definition else { continue };
            if object.sections[section].kind == SectionKind::Code {
                stub.get_or_insert_default().is_function = true;
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
            self.sections[index] = Some(end.place(section.size, section.alignment)?);
        }
        Ok(())
    }
}

/// What the two pieces of memory have to be aligned to.
fn alignments(object: &ObjectFile<'_>, shape: Shape) -> Result<[u64; 2], Error> {
    let mut alignments = match shape {
        Shape::Pages(size) => [size, size],
        Shape::Block => [STUB, GOT_ENTRY],
    };
    let mut note = |which: usize, alignment: u64, name: &str| {
        if alignment > ZEROED_LIMIT {
            return Err(Error::Alignment { name: name.into(), limit: ZEROED_LIMIT });
        }
        alignments[which] = alignments[which].max(alignment);
        Ok(())
    };
    for (_, section) in object.loaded() {
        let is_first = match section.kind {
            SectionKind::Code => true,
            kind => kind.is_read_only() && shape == Shape::Block,
        };
        note(usize::from(!is_first), section.alignment, &section.name)?;
    }
    for symbol in &object.symbols {
        if let Definition::Common { alignment, .. } = symbol.definition {
            note(1, alignment, &symbol.name)?;
        }
    }
    Ok(alignments)
}

/// Whether a reference goes through a stub. How far away the import is doesn't matter: both instructions of a pair
/// (`adrp` and `add`) must decide alike, and the relocation of the second doesn't tell the distance. Nobody knows the
/// address of an indirect function before it is started: its stub stands for it everywhere.
pub fn needs_stub(target: Target, symbol: &Symbol<'_>, import: Option<Import>) -> bool {
    match (target, import) {
        (Target::Got | Target::Size, _) => false,
        _ if symbol.is_indirect => true,
        (Target::Branch, Some(_)) => true,
        (Target::NearSymbol, Some(import)) => import.is_code,
        _ => false,
    }
}

fn unknown(object: &ObjectFile<'_>, section: &Section<'_>, kind: object::elf::RelocationType) -> Error {
    let relocation = object.architecture.relocation_name(kind);
    if ["_TLS", "TPOFF", "TPREL", "DTPOFF", "DTPREL"].iter().any(|part| relocation.contains(part)) {
        return Error::ThreadLocal(format!("what {} refers to by {relocation}", section.name));
    }
    Error::UnknownRelocation { relocation, section: section.name.to_string() }
}

/// The end of what is placed so far.
struct End {
    offset: u64,
    /// How many of the bytes before it are not in the file.
    zeroed: u64,
}

impl End {
    /// Takes room for `size` bytes and gives its offset.
    fn place(&mut self, size: u64, alignment: u64) -> Result<u64, Error> {
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
}
