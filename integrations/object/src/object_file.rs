//! What a relocatable file has, whatever its format.

use crate::architecture::Architecture;
use object::elf::RelocationType;
use std::borrow::Cow;

/// A relocatable object. Sections and symbols have the indices that the file gives them.
#[derive(Debug)]
pub struct ObjectFile<'data> {
    /// What it has code for.
    pub architecture: Architecture,
    /// All sections, also those that aren't loaded.
    pub sections: Vec<Section<'data>>,
    /// All symbols.
    pub symbols: Vec<Symbol<'data>>,
}

/// A section of the file.
#[derive(Debug)]
pub struct Section<'data> {
    /// As in the file.
    pub name: Cow<'data, str>,
    /// What to do with it.
    pub kind: SectionKind,
    /// Its bytes in the file. What is missing up to `size` is zero.
    pub data: &'data [u8],
    /// Its length in memory.
    pub size: u64,
    /// A power of two.
    pub alignment: u64,
    /// What to change in its bytes.
    pub relocations: Vec<Relocation>,
}

/// What to do with a section.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SectionKind {
    /// Instructions.
    Code,
    /// Data that is not written any more once it is relocated.
    ReadOnly,
    /// Addresses of functions to call before all others.
    Constructors,
    /// Addresses of functions to call after all others.
    Destructors,
    /// Data.
    Data,
    /// Data that starts as zero and has no bytes in the file.
    Zeroed,
    /// Not loaded: debug information, notes, unwind tables.
    Ignored,
}

/// A change to a section's bytes.
#[derive(Clone, Copy, Debug)]
pub struct Relocation {
    /// Where in the section.
    pub offset: u64,
    /// Its number in the psABI.
    pub kind: RelocationType,
    /// Index of the symbol that it refers to.
    pub symbol: usize,
    /// Added to the symbol's address.
    pub addend: i64,
}

/// A symbol of the file.
#[derive(Debug)]
pub struct Symbol<'data> {
    /// As C has it, without Mach-O's underscore. A section's symbol has the section's name.
    pub name: Cow<'data, str>,
    /// Where it is.
    pub definition: Definition,
    /// Whether it may be a function: the file says that it is one, or doesn't say what it is.
    pub may_be_function: bool,
    /// Whether other objects could refer to it.
    pub is_global: bool,
}

/// Where a symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// Outside of the object.
    Undefined {
        /// Whether it may be missing. Its address is 0 then.
        weak: bool,
    },
    /// At this address, wherever the object is.
    Absolute(u64),
    /// Zeroed data that is in no section. The layout makes room for it.
    Common {
        /// In bytes.
        size: u64,
        /// A power of two.
        alignment: u64,
    },
    /// In a section.
    InSection {
        /// The section's index.
        section: usize,
        /// Bytes from the section's start. They may lead out of the section.
        offset: u64,
    },
    /// The start of the global offset table: `_GLOBAL_OFFSET_TABLE_`.
    Got,
}

impl<'data> ObjectFile<'data> {
    /// An object without sections and symbols.
    pub fn empty(architecture: Architecture) -> Self {
        Self { architecture, sections: Vec::new(), symbols: Vec::new() }
    }

    /// The sections that are loaded, with their indices.
    pub fn loaded(&self) -> impl Iterator<Item = (usize, &Section<'data>)> {
        self.sections.iter().enumerate().filter(|(_, section)| section.kind != SectionKind::Ignored)
    }
}
