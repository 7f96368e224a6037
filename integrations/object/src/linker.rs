//! Linking several objects and archives.

use crate::error::Error;
use crate::import::Import;
use crate::loaded::Object;
use crate::process::process_symbol;
use crate::select::Input;

/// Links objects and archives with each other, and with what a resolver finds.
///
/// All of each object is linked; of archives, what something refers to, member by member and section by section. With
/// [`entry`](Self::entry) it is of all files what the entries reach.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let (program, library) = (std::fs::read("program.o")?, std::fs::read("libz.a")?);
/// let object = execmem_object::Linker::new()
///     .file("program.o", &program)
///     .file("libz.a", &library)
///     .link()?;
/// let run = object.function::<unsafe extern "C" fn() -> i32>("run")?;
/// // SAFETY: the program's source has such a function.
/// println!("{}", unsafe { run() });
/// # Ok(())
/// # }
/// ```
pub struct Linker<'a> {
    files: Vec<Input<'a>>,
    entries: Vec<String>,
    resolver: Box<Resolver<'a>>,
}

/// What finds the symbols that no file defines.
type Resolver<'a> = dyn FnMut(&str) -> Option<Import> + 'a;

impl Default for Linker<'_> {
    fn default() -> Self {
        Self { files: Vec::new(), entries: Vec::new(), resolver: Box::new(process_symbol) }
    }
}

impl<'a> Linker<'a> {
    /// Nothing to link yet, and the symbols of this process.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an object or an archive. Its name is for errors and [`Object::files`]. Of several archives that define
    /// what is missing the first counts; else their order doesn't matter.
    #[must_use]
    pub fn file(mut self, name: impl Into<String>, bytes: &'a [u8]) -> Self {
        self.files.push(Input { name: name.into(), bytes });
        self
    }

    /// Names a function or variable that is wanted. With one entry or more, only what they reach is linked.
    #[must_use]
    pub fn entry(mut self, name: impl Into<String>) -> Self {
        self.entries.push(name.into());
        self
    }

    /// Replaces the symbols of this process by what a function finds for the names that no file defines.
    #[must_use]
    pub fn resolver(mut self, resolver: impl FnMut(&str) -> Option<Import> + 'a) -> Self {
        self.resolver = Box::new(resolver);
        self
    }

    /// Links, and puts the result into memory. No code of it runs yet.
    ///
    /// # Errors
    /// What is wrong with a file, as [`Error::InFile`]; [`Error::DuplicateSymbol`]; [`Error::MissingSymbols`], with
    /// all that are missing; [`Error::MissingFunction`] for an entry that no file defines; [`Error::Memory`] if
    /// execmem gives no memory.
    pub fn link(mut self) -> Result<Object, Error> {
        Object::link(&self.files, &self.entries, &mut *self.resolver)
    }
}
