//! An object in memory: two mappings, in which each segment has its own protection.
//!
//! The code's mapping is memory that execmem's policy makes for code, and its bytes are written by execmem. So it works
//! wherever there is code memory at all, also where plain memory can't become executable.

use crate::error::Error;
use crate::import::{self, Import, Imports};
use crate::layout::{Bases, Layout};
use crate::link::link;
use crate::object_file::{Definition, ObjectFile, SectionKind, Symbol};
use crate::parse::parse;
use crate::startup;
use execmem::{Protection, runtime};
use std::collections::BTreeMap;

/// A loaded object. When it is dropped, its destructors run if its constructors did, and its memory is freed.
#[derive(Debug)]
pub struct Image {
    /// Held for as long as the image lives.
    _memory: [Mapping; 2],
    size: u64,
    segments: Vec<Segment>,
    functions: BTreeMap<String, usize>,
    /// Those that haven't run.
    constructors: Vec<i64>,
    destructors: Vec<i64>,
    constructed: bool,
}

/// A part of an image with one protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first address.
    pub address: usize,
    /// Its size in bytes: whole pages.
    pub size: usize,
    /// What may be done there.
    pub protection: Protection,
}

impl Image {
    /// Loads the bytes of an object file, and links it with what `resolver` finds for the names of the symbols that
    /// it doesn't define. No code of it runs yet.
    ///
    /// # Errors
    /// What is wrong with the file; a symbol that `resolver` doesn't find, unless it is weak; [`Error::Memory`] if
    /// execmem gives no memory.
    pub fn load(file: &[u8], resolver: impl FnMut(&str) -> Option<Import>) -> Result<Self, Error> {
        let object = parse(file)?;
        if !object.architecture.is_host() {
            return Err(Error::WrongArchitecture(object.architecture));
        }
        let imports = import::resolve(&object, resolver)?;
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
        let mut segments = Vec::new();
        for (range, protection) in layout.segments.iter().filter(|(range, _)| !range.is_empty()) {
            let address = layout.address(bases, range.start);
            let size = range.end - range.start;
            // Also where the protection doesn't change: this makes the instruction caches coherent.
            runtime().set_protection(address as i64, size as i64, *protection)?;
            segments.push(Segment {
                address: address as usize,
                size: size as usize,
                protection: *protection,
            });
        }
        let functions = functions(object, layout, bases);
        let constructors = startup::constructors(object, layout, &bytes);
        let destructors = startup::destructors(object, layout, &bytes);
        let (size, constructed) = (layout.size(), false);
        Ok(Self { _memory: [code, data], size, segments, functions, constructors, destructors, constructed })
    }

    /// Code, read-only data and data, without those that are empty.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The address of a function that the object defines. Static functions are found too; a global one goes before a
    /// static one of the same name.
    ///
    /// # Errors
    /// [`Error::MissingFunction`], which names those that there are.
    pub fn function(&self, name: &str) -> Result<usize, Error> {
        self.functions.get(name).copied().ok_or_else(|| Error::MissingFunction {
            name: name.into(),
            defined: self.functions.keys().cloned().collect(),
        })
    }

    /// Calls the object's constructors (`.init_array`, `.ctors`) with the arguments and the environment of this
    /// program, as a program's start does. A second call does nothing.
    ///
    /// # Errors
    /// [`Error::Memory`] if the list of constructors has an address that is not executable.
    ///
    /// # Safety
    /// The constructors, and the destructors when the image is dropped, return and do nothing that is undefined
    /// behaviour in this process. A compiler's objects keep that as far as their source does.
    pub unsafe fn construct(&mut self) -> Result<(), Error> {
        for constructor in std::mem::take(&mut self.constructors) {
            // SAFETY: the caller vouches for the constructors.
            unsafe { runtime().call(constructor, &startup::arguments()) }?;
        }
        self.constructed = true;
        Ok(())
    }

    /// Calls the function at an address with up to six integers, in the C convention.
    ///
    /// # Errors
    /// [`Error::Memory`] if there are more arguments, or nothing executable is at the address.
    ///
    /// # Safety
    /// The function takes so many integers, returns, and does nothing that is undefined behaviour in this process.
    pub unsafe fn call(&self, function: usize, arguments: &[i64]) -> Result<i64, Error> {
        // SAFETY: the caller vouches for the function.
        Ok(unsafe { runtime().call(function as i64, arguments) }?)
    }

    /// The size of the image in bytes.
    pub fn size(&self) -> usize {
        self.size as usize
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        for destructor in self.destructors.iter().filter(|_| self.constructed) {
            // SAFETY: whoever called `construct` has vouched for the destructors, and the memory is still there.
            // If one can't be called there is nobody to tell.
            let _ = unsafe { runtime().call(*destructor, &[]) };
        }
    }
}

/// The functions of an object and their addresses. Global ones come last, and so go before static ones of the same
/// name.
fn functions(object: &ObjectFile<'_>, layout: &Layout, bases: Bases) -> BTreeMap<String, usize> {
    let mut functions = BTreeMap::new();
    let is_named = |symbol: &&Symbol<'_>| {
        // `$x` and `.L5` mark places in the code.
        symbol.may_be_function && !symbol.name.is_empty() && !symbol.name.starts_with(['$', '.'])
    };
    for is_global in [false, true] {
        for symbol in object.symbols.iter().filter(is_named).filter(|symbol| symbol.is_global == is_global) {
            let Definition::InSection { section, offset } = symbol.definition else { continue };
            let home = &object.sections[section];
            let start =
                layout.sections[section].filter(|_| home.kind == SectionKind::Code && offset < home.size);
            if let Some(start) = start {
                functions.insert(symbol.name.to_string(), layout.address(bases, start + offset) as usize);
            }
        }
    }
    functions
}

/// Memory of execmem that is freed when it is dropped.
#[derive(Debug)]
struct Mapping {
    address: i64,
    size: i64,
}

/// As far apart code and data may be: on both architectures each can still address the other.
const REACH: i64 = i32::MAX as i64;

impl Mapping {
    /// Read-write memory. There is some even if nothing is asked for: the code is placed near it.
    fn for_data(size: u64) -> Result<Self, Error> {
        let size = i64::try_from(size.max(1)).map_err(|_| Error::TooLarge)?;
        Ok(Self { address: runtime().alloc_rw(size)? as i64, size })
    }

    /// Memory for code that reaches all of `data`.
    fn for_code(size: u64, data: &Self) -> Result<Self, Error> {
        let size = i64::try_from(size.max(1)).map_err(|_| Error::TooLarge)?;
        let distance = REACH.checked_sub(data.size).filter(|left| *left > 0).ok_or(Error::TooLarge)?;
        Ok(Self { address: runtime().alloc_exec_near(size, data.address, distance)? as i64, size })
    }

    fn write(&self, bytes: &[u8]) -> Result<(), Error> {
        // SAFETY: the slice is readable for its length.
        unsafe { runtime().write(self.address, bytes.as_ptr(), bytes.len() as i64, 0) }?;
        Ok(())
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Address and size are those of the allocation. If the system can't unmap it there is nobody to tell.
        let _ = runtime().free_exec(self.address, self.size);
    }
}
