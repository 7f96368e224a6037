//! From an object, its layout and its imports to the bytes that run where the memory is.

use crate::error::{Error, Misfit};
use crate::import::Imports;
use crate::layout::{Bases, Layout, needs_stub};
use crate::object_file::{Definition, ObjectFile, Relocation, Section, SectionKind};
use crate::relocate::{Field, Form, Origin, STUB, Target};

/// Where linked bytes go: an offset of the layout, and the bytes. What comes to no offset is zero.
pub type Output<'a> = &'a mut dyn FnMut(u64, &[u8]) -> Result<(), Error>;

/// The largest gap that is written as zeroes, so that what lies close together goes to the output at once.
const GAP: u64 = 4096;

/// Computes all bytes, relocated. They come in the order of the layout.
pub fn link(
    object: &ObjectFile<'_>,
    layout: &Layout,
    imports: &Imports,
    bases: Bases,
    output: Output<'_>,
) -> Result<(), Error> {
    let mut pieces = Pieces { start: 0, bytes: Vec::new(), output };
    let linker = Linker { object, layout, imports, bases };
    linker.link_sections(&mut pieces, |kind| kind == SectionKind::Code)?;
    linker.write_stubs(&mut pieces)?;
    linker.link_sections(&mut pieces, SectionKind::is_read_only)?;
    linker.write_got(&mut pieces)?;
    linker.link_sections(&mut pieces, |kind| kind == SectionKind::Data)?;
    pieces.flush()
}

/// A section's bytes, relocated.
pub fn section(
    object: &ObjectFile<'_>,
    layout: &Layout,
    imports: &Imports,
    bases: Bases,
    index: usize,
) -> Result<Vec<u8>, Error> {
    let mut bytes = object.sections[index].data.to_vec();
    let start = layout.sections[index].unwrap_or(0);
    Linker { object, layout, imports, bases }.relocate_all(&object.sections[index], start, &mut bytes)?;
    Ok(bytes)
}

/// The address of a symbol.
pub fn symbol(
    object: &ObjectFile<'_>,
    layout: &Layout,
    imports: &Imports,
    bases: Bases,
    index: usize,
) -> Result<u64, Error> {
    Linker { object, layout, imports, bases }.symbol(index)
}

/// What is not yet written to the output.
struct Pieces<'a> {
    start: u64,
    bytes: Vec<u8>,
    output: Output<'a>,
}

impl Pieces<'_> {
    /// Room for `size` bytes at an offset behind all others.
    fn add(&mut self, offset: u64, size: usize, split: u64) -> Result<&mut [u8], Error> {
        let end = self.start + self.bytes.len() as u64;
        // Both sides of the split are never one piece.
        let is_near = end <= offset && offset - end <= GAP && (offset < split) == (self.start < split);
        if !is_near || self.bytes.is_empty() {
            self.flush()?;
            self.start = offset;
        }
        let from = (offset - self.start) as usize;
        let missing = from + size - self.bytes.len();
        // There may be less memory than the sections need.
        self.bytes.try_reserve(missing).map_err(|_| Error::Memory(execmem::ErrorKind::NoMemory))?;
        self.bytes.resize(from + size, 0);
        Ok(&mut self.bytes[from..])
    }

    fn flush(&mut self) -> Result<(), Error> {
        if !self.bytes.is_empty() {
            (self.output)(self.start, &self.bytes)?;
        }
        self.bytes.clear();
        Ok(())
    }
}

struct Linker<'a> {
    object: &'a ObjectFile<'a>,
    layout: &'a Layout,
    imports: &'a Imports,
    bases: Bases,
}

impl Linker<'_> {
    fn link_sections(
        &self,
        pieces: &mut Pieces<'_>,
        belongs: impl Fn(SectionKind) -> bool,
    ) -> Result<(), Error> {
        for (index, section) in self.object.loaded().filter(|(_, section)| belongs(section.kind)) {
            let Some(start) = self.layout.sections[index].filter(|_| !section.data.is_empty()) else {
                continue;
            };
            let bytes = pieces.add(start, section.data.len(), self.layout.split)?;
            bytes.copy_from_slice(&section.data);
            self.relocate_all(section, start, bytes)?;
        }
        Ok(())
    }

    fn relocate_all(&self, section: &Section<'_>, start: u64, bytes: &mut [u8]) -> Result<(), Error> {
        for relocation in &section.relocations {
            self.relocate(section, self.at(start), bytes, relocation)?;
        }
        Ok(())
    }

    /// The address of what is at an offset of the layout.
    fn at(&self, offset: u64) -> u64 {
        self.layout.address(self.bases, offset)
    }

    fn write_got(&self, pieces: &mut Pieces<'_>) -> Result<(), Error> {
        let mut put = |entry, address: u64| {
            pieces.add(entry, 8, self.layout.split).map(|bytes| bytes.copy_from_slice(&address.to_le_bytes()))
        };
        for (symbol, entry) in self.layout.got_entries.iter().enumerate() {
            if let Some(entry) = *entry {
                put(entry, self.symbol(symbol)?)?;
            }
        }
        for (stub, import) in self.layout.stubs.iter().zip(self.imports) {
            if let (Some(stub), Some(import)) = (stub, import) {
                put(stub.entry, import.address as u64)?;
            }
        }
        Ok(())
    }

    fn write_stubs(&self, pieces: &mut Pieces<'_>) -> Result<(), Error> {
        for stub in self.layout.stubs.iter().flatten() {
            // The GOT is out of a stub's reach only if there are more than 2 GiB between them.
            let code = self.object.architecture.stub(self.at(stub.code), self.at(stub.entry));
            let code = code.map_err(|_| Error::TooLarge)?;
            pieces.add(stub.code, STUB as usize, self.layout.split)?.copy_from_slice(&code);
        }
        Ok(())
    }

    fn relocate(
        &self,
        section: &Section<'_>,
        start: u64,
        bytes: &mut [u8],
        relocation: &Relocation,
    ) -> Result<(), Error> {
        // There is one: the layout has refused unknown relocations.
        let Some(form) = self.object.architecture.form(relocation) else { return Ok(()) };
        let outside = || Error::Damaged(format!("a relocation is outside of its section {}", section.name));
        let offset = usize::try_from(relocation.offset).map_err(|_| outside())?;
        let counted = relocation.high.map_or(relocation.offset, |high| high.offset);
        let target = self.target(form, relocation)?.wrapping_add_signed(relocation.addend);
        let origin = match form.origin {
            Origin::Place => start.wrapping_add(counted),
            Origin::Got => self.at(self.layout.got),
        };
        let misfit = |misfit| self.misfit(misfit, section, relocation);
        let bytes = bytes.get_mut(offset..).ok_or_else(outside)?;
        macro_rules! store {
            ($number:ty, $write:expr) => {{
                let bytes: &mut [u8; size_of::<$number>()] = bytes.first_chunk_mut().ok_or_else(outside)?;
                let old = <$number>::from_le_bytes(*bytes);
                *bytes = $write(old, target, origin).map_err(misfit)?.to_le_bytes();
            }};
        }
        match form.field {
            Field::Byte(write) => store!(u8, write),
            Field::Half(write) => store!(u16, write),
            Field::Word(write) => store!(u32, write),
            Field::Quad(write) => store!(u64, write),
            Field::Leb(write) => {
                let length = bytes.iter().take(10).position(|byte| byte & 0x80 == 0).ok_or_else(outside)?;
                let groups = bytes[..=length].iter().rev();
                let old = groups.fold(0_u64, |value, byte| value << 7 | u64::from(byte & 0x7f));
                let mut value = write(old, target, origin).map_err(misfit)?;
                for (index, byte) in bytes[..=length].iter_mut().enumerate() {
                    let more = if index < length { 0x80 } else { 0 };
                    *byte = (value & 0x7f) as u8 | more;
                    value >>= 7;
                }
            }
        }
        Ok(())
    }

    /// The address that a relocation points to, without its addend.
    fn target(&self, form: Form, relocation: &Relocation) -> Result<u64, Error> {
        let index = relocation.symbol;
        let symbol = &self.object.symbols[index];
        let part = |offset: Option<u64>| match offset {
            Some(offset) => Ok(self.at(offset)),
            None => Err(Error::Damaged("a relocation without its stub or GOT entry".into())),
        };
        match form.target {
            Target::Got => Ok(self.at(self.layout.got)),
            Target::Size => Ok(symbol.size),
            Target::GotEntry if relocation.addend != 0 && !self.object.architecture.allows_got_addend() => {
                Err(Error::Unsupported("relocations that refer to an entry of the GOT with an addend".into()))
            }
            Target::GotEntry => part(self.layout.got_entries[index]),
            target if needs_stub(target, symbol, self.imports[index]) => {
                part(self.layout.stubs[index].map(|stub| stub.code))
            }
            _ => self.symbol(index),
        }
    }

    /// The address of a symbol. It is the same wherever it is taken.
    fn symbol(&self, index: usize) -> Result<u64, Error> {
        if let Some(stub) = self.layout.stubs[index].filter(|stub| stub.is_function) {
            return Ok(self.at(stub.code));
        }
        match self.object.symbols[index].definition {
            Definition::Undefined { .. } => Ok(self.imports[index].map_or(0, |import| import.address as u64)),
            Definition::Absolute(value) => Ok(value),
            Definition::Common { .. } => Ok(self.at(self.layout.commons[index].unwrap_or(0))),
            Definition::Got => Ok(self.at(self.layout.got)),
            Definition::InSection { section, offset } => match self.layout.sections[section] {
                Some(start) => Ok(self.at(start).wrapping_add(offset)),
                None => {
                    let name = &self.object.sections[section].name;
                    Err(Error::Unsupported(format!("references to {name}, which is not loaded")))
                }
            },
        }
    }

    fn misfit(&self, misfit: Misfit, section: &Section<'_>, relocation: &Relocation) -> Error {
        Error::Misfit {
            misfit,
            relocation: self.object.architecture.relocation_name(relocation.kind),
            place: format!("{}+{:#x}", section.name, relocation.offset),
            symbol: self.object.symbols[relocation.symbol].name.to_string(),
        }
    }
}
