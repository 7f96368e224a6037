//! Linking objects for addresses at which nothing is mapped, and changing single fields of their files.

use crate::error::Error;
use crate::import::{Import, resolve};
use crate::layout::{Bases, Layout, Shape};
use crate::link::link;
use crate::select::{Input, select};
use execmem_object_samples as samples;
use object::LittleEndian;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, SectionHeader};

/// Links an object as loading does, but for fixed addresses, and with functions far away for all imports. So it works
/// for any architecture on any machine. Gives the linked bytes, without what is zero at the end.
pub fn prepare(file: &[u8]) -> Result<Vec<u8>, Error> {
    prepare_with(file, |_| Some(Import { address: 0x7fff_f7de_1230, is_code: true }))
}

/// As [`prepare`], with the imports that `resolver` knows.
pub fn prepare_with(file: &[u8], mut resolver: impl FnMut(&str) -> Option<Import>) -> Result<Vec<u8>, Error> {
    let selected =
        select(&[Input { name: String::new(), bytes: file }], &[]).map_err(|error| match error {
            Error::InFile { error, .. } => *error,
            error => error,
        })?;
    let object = &selected.object;
    let imports = resolve(object, &mut resolver)?;
    let layout = Layout::new(object, &imports, Shape::Pages(4096))?;
    let code = 0x5555_5555_4000;
    let mut image = Vec::new();
    let bases = Bases { code, data: code + layout.split };
    link(object, &layout, &imports, bases, &mut |offset, bytes| {
        // Gaps that a hostile file asks for are no bytes here either.
        if offset < image.len() as u64 + (1 << 16) {
            image.resize(offset as usize, 0);
        }
        image.extend(bytes);
        Ok(())
    })?;
    Ok(image)
}

/// Changes both bundled samples, and gives the errors that they lead to.
pub fn refused(change: impl Fn(Patch) -> Patch) -> [Error; 2] {
    [0, 1].map(|which| {
        let patched = change(Patch::new(samples::BUNDLED[which].1));
        prepare(&patched.0).expect_err("the change is refused")
    })
}

/// Bytes of a section's header.
pub const SECTION_HEADER: usize = size_of::<elf::SectionHeader64<LittleEndian>>();

/// An object's file, to be changed.
pub struct Patch(pub Vec<u8>);

impl Patch {
    /// A copy of a sound file.
    pub fn new(file: &[u8]) -> Self {
        Self(file.to_vec())
    }

    /// Writes bytes at an offset in the file.
    pub fn put(mut self, at: usize, bytes: &[u8]) -> Self {
        self.0[at..][..bytes.len()].copy_from_slice(bytes);
        self
    }

    /// The index of a section.
    pub fn section(&self, name: &str) -> usize {
        let (header, data) = (header(&self.0), self.0.as_slice());
        let sections = header.sections(LittleEndian, data).expect("a sound file");
        let (index, _) = sections.section_by_name(LittleEndian, name.as_bytes()).expect("it has the section");
        index.0
    }

    /// Where a section's header is.
    pub fn section_header(&self, name: &str) -> usize {
        let start = header(&self.0).e_shoff(LittleEndian) as usize;
        start + self.section(name) * SECTION_HEADER
    }

    /// A copy of a section's header.
    pub fn header(&self, name: &str) -> [u8; SECTION_HEADER] {
        self.0[self.section_header(name)..].first_chunk().copied().expect("a sound file")
    }

    /// Adds headers of sections. The table moves to the file's end for that.
    pub fn add_headers(mut self, headers: &[[u8; SECTION_HEADER]]) -> Self {
        let (start, count) = {
            let header = header(&self.0);
            (header.e_shoff(LittleEndian) as usize, header.e_shnum(LittleEndian) as usize)
        };
        let table = self.0[start..][..count * SECTION_HEADER].to_vec();
        self.0.resize(self.0.len().next_multiple_of(8), 0);
        let moved = self.0.len() as u64;
        self.0.extend(table);
        self.0.extend(headers.as_flattened());
        let count = (count + headers.len()) as u16;
        self.put(0x28, &moved.to_le_bytes()).put(0x3c, &count.to_le_bytes())
    }

    /// Where a section's bytes are.
    pub fn contents(&self, name: &str) -> usize {
        let (header, data) = (header(&self.0), self.0.as_slice());
        let sections = header.sections(LittleEndian, data).expect("a sound file");
        let section = sections.section(object::SectionIndex(self.section(name))).expect("it has it");
        section.sh_offset(LittleEndian) as usize
    }

    /// Where the symbol table's entry of a name is.
    pub fn symbol(&self, name: &str) -> usize {
        let (header, data) = (header(&self.0), self.0.as_slice());
        let sections = header.sections(LittleEndian, data).expect("a sound file");
        let symbols = sections.symbols(LittleEndian, data, elf::SHT_SYMTAB).expect("a sound file");
        let index = symbols
            .iter()
            .position(|symbol| symbols.symbol_name(LittleEndian, symbol) == Ok(name.as_bytes()))
            .expect("it has the symbol");
        self.contents(".symtab") + index * size_of::<elf::Sym64<LittleEndian>>()
    }
}

fn header(file: &[u8]) -> &FileHeader64<LittleEndian> {
    FileHeader64::parse(file).expect("a sound file")
}
