//! A small file system in memory.

use std::collections::BTreeMap;
use std::ffi::CString;

/// A regular file.
pub(crate) struct File {
    pub(crate) size: u64,
    /// The first bytes; behind them are zeros.
    pub(crate) contents: Vec<u8>,
    pub(crate) is_regular: bool,
    pub(crate) is_writable: bool,
}

#[derive(Default)]
pub(crate) struct Files {
    names: BTreeMap<CString, usize>,
    pub(crate) files: Vec<File>,
}

impl Files {
    /// Adds a file, or replaces the one of that name. Mappings of the earlier one keep it.
    pub(crate) fn add(&mut self, name: CString, file: File) {
        self.names.insert(name, self.files.len());
        self.files.push(file);
    }

    pub(crate) fn find(&self, name: &std::ffi::CStr) -> Option<usize> {
        self.names.get(name).copied()
    }
}

impl File {
    /// The bytes from an offset, zeros behind the last.
    pub(crate) fn read(&self, offset: usize, length: usize) -> Vec<u8> {
        let rest = self.contents.get(offset..).unwrap_or(&[]);
        let present = rest.len().min(length);
        let mut bytes = vec![0; length];
        bytes[..present].copy_from_slice(&rest[..present]);
        bytes
    }

    /// Stores into the file, up to its end.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = (offset + bytes.len()).min(self.size as usize);
        let Some(length) = end.checked_sub(offset) else { return };
        if self.contents.len() < end {
            self.contents.resize(end, 0);
        }
        self.contents[offset..end].copy_from_slice(&bytes[..length]);
    }
}
