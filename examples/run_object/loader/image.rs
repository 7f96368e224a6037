//! An object in memory: two mappings of this library, each part with its own protection.
//!
//! Code goes into memory that the library's policy makes for code, and is written through the library: that
//! works wherever there is code memory at all, also where plain memory can't become executable.

use super::error::Error;
use super::imports::{self, Imports};
use super::layout::{Bases, Layout};
use super::link::link;
use super::object_file::{Definition, ObjectFile, SectionKind};
use super::startup;
use execmem::runtime;
use std::collections::BTreeMap;

/// A loaded object. When it is dropped, its destructors run if its constructors did, and its memory is freed.
#[derive(Debug)]
pub struct Image {
    /// Freed when the image is dropped.
    _memory: [Mapping; 2],
    size: u64,
    groups: Vec<Group>,
    functions: BTreeMap<String, i64>,
    /// Those that haven't run.
    constructors: Vec<i64>,
    destructors: Vec<i64>,
    constructed: bool,
}

/// A part of the mappings with one protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    /// First address.
    pub address: usize,
    /// Bytes, whole pages.
    pub size: usize,
    /// What they allow.
    pub protection: execmem::Protection,
}

impl Image {
    /// Loads an object that was compiled for this machine. No code of it runs yet.
    pub fn load(file: &[u8]) -> Result<Self, Error> {
        let object = ObjectFile::parse(file)?;
        if !object.architecture.is_host() {
            return Err(Error::WrongArchitecture(object.architecture));
        }
        let imports = imports::resolve(&object, imports::find)?;
        let layout = Layout::new(&object, &imports, runtime().page_size() as u64)?;
        Self::place(&object, &layout, &imports)
    }

    fn place(object: &ObjectFile<'_>, layout: &Layout, imports: &Imports) -> Result<Self, Error> {
        let data = Mapping::for_data(layout.size() - layout.split())?;
        let code = Mapping::for_code(layout.split(), &data)?;
        let bases = Bases { code: code.address as u64, data: data.address as u64 };
        let bytes = link(object, layout, imports, bases)?;
        let (code_bytes, data_bytes) = bytes.split_at(bytes.len().min(layout.split() as usize));
        code.write(code_bytes)?;
        data.write(data_bytes)?;
        let mut groups = Vec::new();
        for (range, protection) in layout.groups.iter().filter(|(range, _)| !range.is_empty()) {
            let address = layout.address(bases, range.start) as i64;
            let size = (range.end - range.start) as i64;
            // Of code too, though it may allow nothing else: what was written becomes what is executed.
            runtime().set_protection(address, size, *protection)?;
            groups.push(Group { address: address as usize, size: size as usize, protection: *protection });
        }
        let functions = functions(object, layout, bases.code as i64);
        let constructors = startup::constructors(object, layout, &bytes);
        let destructors = startup::destructors(object, layout, &bytes);
        let (size, constructed) = (layout.size(), false);
        Ok(Self { _memory: [code, data], size, groups, functions, constructors, destructors, constructed })
    }

    /// The parts of the mappings: code, read-only data, data; those that are empty are left out.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The address of a function by its name.
    pub fn function(&self, name: &str) -> Result<i64, Error> {
        self.functions.get(name).copied().ok_or_else(|| Error::MissingFunction {
            name: name.into(),
            defined: self.functions.keys().cloned().collect(),
        })
    }

    /// Calls the constructors (`.init_array`, `.ctors`) once, with the arguments of this program, as its start
    /// does for its own.
    ///
    /// # Safety
    /// The object is one that a compiler made: its constructors, and its destructors when this image is dropped,
    /// return and touch what they may.
    pub unsafe fn construct(&mut self) -> Result<(), Error> {
        for constructor in std::mem::take(&mut self.constructors) {
            // SAFETY: the caller's promise, passed on.
            unsafe { runtime().call(constructor, &startup::arguments()) }?;
        }
        self.constructed = true;
        Ok(())
    }

    /// Calls a function with up to six integers.
    ///
    /// # Safety
    /// The function takes so many integers, returns, and touches what it may.
    pub unsafe fn call(&self, function: i64, arguments: &[i64]) -> Result<i64, Error> {
        // SAFETY: the caller's promise, passed on.
        Ok(unsafe { runtime().call(function, arguments) }?)
    }

    /// The mappings' bytes.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for destructor in self.destructors.iter().filter(|_| self.constructed) {
            // SAFETY: whoever let the constructors run has promised it. The memory is freed after this.
            // What can't be called has nobody to tell.
            let _ = unsafe { runtime().call(*destructor, &[]) };
        }
    }
}

/// The functions of an object and where they are now. A local one is found too unless a global one has
/// its name.
fn functions(object: &ObjectFile<'_>, layout: &Layout, base: i64) -> BTreeMap<String, i64> {
    let mut functions = BTreeMap::new();
    let named = |symbol: &&super::object_file::Symbol<'_>| {
        // `$x` and `.L5` mark places in the code.
        symbol.may_be_function && !symbol.name.is_empty() && !symbol.name.starts_with(['$', '.'])
    };
    for is_global in [false, true] {
        for symbol in object.symbols.iter().filter(named).filter(|symbol| symbol.is_global == is_global) {
            let Definition::InSection { section, offset } = symbol.definition else { continue };
            let home = &object.sections[section];
            let start =
                layout.sections[section].filter(|_| home.kind == SectionKind::Code && offset < home.size);
            if let Some(start) = start {
                functions.insert(symbol.name.to_string(), base + (start + offset) as i64);
            }
        }
    }
    functions
}

/// Memory of the library that is freed when it is dropped.
#[derive(Debug)]
struct Mapping {
    address: i64,
    size: i64,
}

/// So far code and data address each other on both processors.
const REACH: i64 = i32::MAX as i64;

impl Mapping {
    /// Read-write memory; something even if nothing is asked for, since code is placed near it.
    fn for_data(size: u64) -> Result<Self, Error> {
        let size = i64::try_from(size.max(1)).map_err(|_| Error::TooLarge)?;
        Ok(Self { address: runtime().alloc_rw(size)? as i64, size })
    }

    /// Memory for code that reaches all of `data`: as close to it as there is room.
    fn for_code(size: u64, data: &Self) -> Result<Self, Error> {
        let size = i64::try_from(size.max(1)).map_err(|_| Error::TooLarge)?;
        let distance = REACH.checked_sub(data.size).filter(|left| *left > 0).ok_or(Error::TooLarge)?;
        Ok(Self { address: runtime().alloc_exec_near(size, data.address, distance)? as i64, size })
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        // SAFETY: the slice is readable.
        unsafe { runtime().write(self.address, bytes.as_ptr(), bytes.len() as i64, 0) }?;
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // The pair is right; if the system can't unmap it there is nobody to tell.
        let _ = runtime().free_exec(self.address, self.size);
    }
}
