//! An object that is loaded.

use crate::error::Error;
use crate::function::{Function, FunctionType};
use crate::image::{Image, Place, Segment};
use crate::import::Import;
use crate::process::process_symbol;
use crate::select::{Input, select};
use execmem::runtime;
use std::sync::Arc;

/// A loaded object, linked with what it needs. Its memory is freed when it and all [`Function`]s of it are dropped;
/// before that its destructors run, if it was started, and what it has registered by `atexit`.
///
/// A clone is the same object.
#[derive(Clone, Debug)]
pub struct Object {
    image: Arc<Image>,
}

impl Object {
    /// Loads the bytes of an object file, and links it with the symbols of this process. No code of it runs yet.
    ///
    /// # Errors
    /// What is wrong with the file; symbols that this process doesn't have, all at once; [`Error::NoLandingPads`];
    /// [`Error::Memory`] if execmem gives no memory.
    pub fn load(file: &[u8]) -> Result<Self, Error> {
        Self::load_with(file, process_symbol)
    }

    /// As [`load`](Self::load), with what `resolver` finds for the names of the symbols that the object doesn't define.
    ///
    /// # Errors
    /// As those of [`load`](Self::load).
    pub fn load_with(file: &[u8], mut resolver: impl FnMut(&str) -> Option<Import>) -> Result<Self, Error> {
        Self::link(&[Input { name: String::new(), bytes: file }], &[], &mut resolver).map_err(|error| {
            match error {
                // There is one file, and the caller knows which.
                Error::InFile { error, .. } => *error,
                error => error,
            }
        })
    }

    pub(crate) fn link(
        files: &[Input<'_>],
        entries: &[String],
        resolver: &mut dyn FnMut(&str) -> Option<Import>,
    ) -> Result<Self, Error> {
        let selected = select(files, entries)?;
        Ok(Self { image: Arc::new(Image::new(&selected, resolver)?) })
    }

    /// Starts the object: it finds the addresses of its indirect functions (IFUNC), and its constructors
    /// (`.init_array`, `.ctors`) run with the arguments and the environment of this program, as at a program's start.
    /// A second call does nothing. Objects that have neither need no start.
    ///
    /// # Errors
    /// [`Error::Memory`] if the list of constructors has an address that is not executable.
    ///
    /// # Safety
    /// The constructors, and the destructors when the object is dropped, return and do nothing that is undefined
    /// behaviour in this process. A compiler's objects keep that as far as their source does.
    pub unsafe fn start(&self) -> Result<(), Error> {
        // SAFETY: the caller vouches for the constructors.
        unsafe { self.image.start() }
    }

    /// A function that the object defines. Static functions are found too; a global one goes before a static one of the
    /// same name.
    ///
    /// # Errors
    /// [`Error::MissingFunction`], which names those that there are; [`Error::NotStarted`];
    /// [`Error::NotALandingPad`] for a static function that an indirect branch can't end at.
    pub fn function<F: FunctionType>(&self, name: &str) -> Result<Function<F>, Error> {
        Ok(Function::new(self.address(name)?, self.image.clone()))
    }

    /// The address of a function, which is valid as long as the object is.
    ///
    /// # Errors
    /// As those of [`function`](Self::function).
    pub fn address(&self, name: &str) -> Result<usize, Error> {
        match self.image.place(name) {
            Some(_) if !self.image.is_ready() => Err(Error::NotStarted),
            Some(place) if place.is_code && !self.image.can_be_called(place) => {
                Err(Error::NotALandingPad(name.into()))
            }
            Some(Place { address, is_code: true, .. }) => Ok(address),
            _ => Err(Error::MissingFunction { name: name.into(), defined: self.image.names(true) }),
        }
    }

    /// The address of a variable, which is valid as long as the object is. Constants are read-only.
    ///
    /// # Errors
    /// [`Error::MissingData`], which names the variables that there are; [`Error::OtherSize`] if the file says another
    /// size than that of `T`.
    pub fn data<T>(&self, name: &str) -> Result<*mut T, Error> {
        match self.image.place(name) {
            Some(Place { size, is_code: false, .. }) if size != 0 && size != size_of::<T>() as u64 => {
                Err(Error::OtherSize { name: name.into(), size, expected: size_of::<T>() as u64 })
            }
            Some(Place { address, is_code: false, .. }) => Ok(address as *mut T),
            _ => Err(Error::MissingData { name: name.into(), defined: self.image.names(false) }),
        }
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

    /// The named symbol of the object that an address is in, and how many bytes it is behind the symbol's start.
    pub fn symbol_at(&self, address: usize) -> Option<(&str, usize)> {
        self.image.symbol_at(address)
    }

    /// Code, read-only data and data, without those that are empty. In a small object the first two are one.
    pub fn segments(&self) -> &[Segment] {
        self.image.segments()
    }

    /// The objects, and the members of archives (`lib.a(member.o)`), of which something is linked.
    pub fn files(&self) -> &[String] {
        self.image.files()
    }

    /// Bytes of the mappings that are the object's own. The code of a small one lies in the code heap.
    pub fn mapped_bytes(&self) -> usize {
        self.image.mapped()
    }
}
