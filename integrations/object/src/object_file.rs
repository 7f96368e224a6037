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
    pub data: Cow<'data, [u8]>,
    /// Its length in memory.
    pub size: u64,
    /// A power of two.
    pub alignment: u64,
    /// What to change in its bytes.
    pub relocations: Vec<Relocation>,
    /// The name of the group that it belongs to. Of groups of one name only the first one is linked.
    pub group: Option<Cow<'data, str>>,
    /// Whether it is linked even if nothing refers to it.
    pub is_kept: bool,
    /// Of code for aarch64: whether the file says that indirect branches find a landing pad wherever they may end (BTI).
    pub has_landing_pads: bool,
}

impl<'data> Section<'data> {
    /// A section in no group, without relocations.
    pub fn new(name: Cow<'data, str>, kind: SectionKind, data: Cow<'data, [u8]>, alignment: u64) -> Self {
        let size = data.len() as u64;
        Self {
            name,
            kind,
            data,
            size,
            alignment,
            relocations: Vec::new(),
            group: None,
            is_kept: false,
            has_landing_pads: false,
        }
    }
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
    /// Unwind tables, of which the linked ones become one section.
    Unwind,
    /// The first contents of thread-local variables. Not loaded: what refers to them is refused.
    ThreadLocal,
    /// Not loaded: debug information, notes.
    Ignored,
}

impl SectionKind {
    /// Whether nothing is written to such a section once it is relocated.
    pub fn is_read_only(self) -> bool {
        matches!(self, Self::ReadOnly | Self::Constructors | Self::Destructors)
    }

    /// Whether such a section has a place in memory.
    pub fn is_loaded(self) -> bool {
        !matches!(self, Self::Ignored | Self::Unwind | Self::ThreadLocal)
    }
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
    /// For the low half of an address that two instructions make: the other half, from whose place it counts.
    pub high: Option<High>,
}

/// The relocation of the upper half of an address. Its symbol and addend are those of the lower half as well.
#[derive(Clone, Copy, Debug)]
pub struct High {
    /// Where in the section.
    pub offset: u64,
    /// Its number in the psABI.
    pub kind: RelocationType,
}

/// A symbol of the file.
#[derive(Debug)]
pub struct Symbol<'data> {
    /// As C has it, without Mach-O's underscore. A section's symbol has the section's name.
    pub name: Cow<'data, str>,
    /// Where it is.
    pub definition: Definition,
    /// Its size in bytes, where the file says it.
    pub size: u64,
    /// Whether it may be a function: the file says that it is one, or doesn't say what it is.
    pub may_be_function: bool,
    /// Whether other objects can refer to it.
    pub is_global: bool,
    /// Whether another object's definition may replace this one.
    pub is_weak: bool,
    /// Whether each thread has one of its own.
    pub is_thread_local: bool,
    /// Whether it is a function that gives the address of the function of this name: an indirect function (IFUNC).
    pub is_indirect: bool,
}

impl Symbol<'_> {
    /// Whether it is named as functions are. `$x` and `.L5` mark places in the code.
    pub fn is_function_name(&self) -> bool {
        self.may_be_function && self.is_name()
    }

    /// Whether people know it by its name.
    pub fn is_name(&self) -> bool {
        !self.name.is_empty() && !self.name.starts_with(['$', '.'])
    }
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
        self.sections.iter().enumerate().filter(|(_, section)| section.kind.is_loaded())
    }
}
