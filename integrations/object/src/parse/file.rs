//! Which reader a file is for.

use super::{elf, foreign, mach_o};
use crate::error::Error;
use crate::object_file::ObjectFile;

/// Reads a file's bytes.
pub fn parse(file: &[u8]) -> Result<ObjectFile<'_>, Error> {
    if elf::is_elf(file) {
        elf::parse(file)
    } else if mach_o::is_mach_o(file) {
        mach_o::parse(file)
    } else {
        Err(Error::NotAnObject(foreign::name(file)))
    }
}
