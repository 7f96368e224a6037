//! What a loader wants to know of a relocatable file, whatever its format, with every index and size checked.

use super::error::Error;
use super::relocate::Architecture;
use super::{elf, foreign, mach_o};
use object::elf::RelocationType;
use std::borrow::Cow;

/// A relocatable object: its sections and symbols under the indices that the file gives them.
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
    /// Its bytes; none if the file has none for it.
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
    /// Data that nobody writes once it is relocated.
    ReadOnly,
    /// Addresses of functions to call before any other.
    Constructors,
    /// Addresses of functions to call at the end.
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
    /// The psABI's number.
    pub kind: RelocationType,
    /// Index of the symbol that it refers to.
    pub symbol: usize,
    /// Added to the symbol's address.
    pub addend: i64,
}

/// A symbol of the file.
#[derive(Debug)]
pub struct Symbol<'data> {
    /// As in the file; for a section's symbol, the section's name.
    pub name: Cow<'data, str>,
    /// Where it is.
    pub definition: Definition,
    /// Whether it may be a function: it says so, or says nothing.
    pub may_be_function: bool,
    /// Whether other objects could refer to it.
    pub is_global: bool,
}

/// Where a symbol is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Definition {
    /// Elsewhere in the process; a weak one may be nowhere, and is 0 then.
    Undefined {
        /// Whether it may be missing.
        weak: bool,
    },
    /// A number.
    Absolute(u64),
    /// Zeroed data that the loader makes room for.
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
        /// Bytes from its start; a symbol may lie outside of its section.
        offset: u64,
    },
    /// The start of the table of slots: `_GLOBAL_OFFSET_TABLE_`.
    SlotTable,
}

impl<'data> ObjectFile<'data> {
    /// Reads a file's bytes.
    pub fn parse(file: &'data [u8]) -> Result<Self, Error> {
        if elf::is_elf(file) {
            elf::parse(file)
        } else if mach_o::is_mach_o(file) {
            mach_o::parse(file)
        } else {
            Err(Error::NotAnObject(foreign::name(file)))
        }
    }

    /// Nothing read yet.
    pub fn empty(architecture: Architecture) -> Self {
        Self { architecture, sections: Vec::new(), symbols: Vec::new() }
    }

    /// The sections that are loaded, with their indices.
    pub fn loaded(&self) -> impl Iterator<Item = (usize, &Section<'data>)> {
        self.sections.iter().enumerate().filter(|(_, section)| section.kind != SectionKind::Ignored)
    }
}
