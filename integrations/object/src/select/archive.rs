//! Archives of objects, as `ar` makes them.

use crate::error::Error;
use crate::parse::{ARCHIVE, Bounds};
use object::read::archive::{ArchiveFile, ArchiveOffset};
use std::collections::BTreeMap;

/// An archive with an index of what its members define.
pub struct Archive<'data> {
    bytes: &'data [u8],
    file: ArchiveFile<'data>,
    /// From a symbol's name to the member that defines it. Of several the first counts, as for linkers.
    index: BTreeMap<&'data [u8], ArchiveOffset>,
    /// Whether its members are Mach-O's: their names of C have an underscore in front.
    is_mach_o: bool,
    /// What of the file was handed out.
    bounds: Bounds,
}

/// What a Mach-O file of 64 bits starts with.
const MACH_O: [u8; 4] = 0xfeed_facf_u32.to_le_bytes();

/// A member of an archive.
pub struct Member<'data> {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: &'data [u8],
}

impl<'data> Archive<'data> {
    /// Whether a file is one, also one without the objects.
    pub fn is_archive(bytes: &[u8]) -> bool {
        bytes.starts_with(ARCHIVE) || bytes.starts_with(b"!<thin>\n")
    }

    /// Reads an archive's index. Its members are read when something refers to them.
    pub fn new(bytes: &'data [u8]) -> Result<Self, Error> {
        let file = ArchiveFile::parse(bytes)?;
        if file.is_thin() {
            return Err(Error::ThinArchive);
        }
        let mut index = BTreeMap::new();
        let symbols = file.symbols()?;
        if symbols.is_none() && file.members().next().is_some() {
            return Err(Error::NoIndex);
        }
        for symbol in symbols.into_iter().flatten() {
            let symbol = symbol?;
            index.entry(symbol.name()).or_insert(symbol.offset());
        }
        let mut members = file.members().filter_map(|member| member.ok()?.data(bytes).ok());
        let is_mach_o = members.next().is_some_and(|first| first.starts_with(&MACH_O));
        Ok(Self { bytes, file, index, is_mach_o, bounds: Bounds::new(bytes) })
    }

    /// Where the member is that defines a symbol.
    pub fn place(&self, name: &str) -> Option<ArchiveOffset> {
        let decorated = || self.index.get(["_", name].concat().as_bytes());
        self.index.get(name.as_bytes()).or_else(|| decorated().filter(|_| self.is_mach_o)).copied()
    }

    /// The member at a place. No two overlap: a small file could be a thousand large ones otherwise.
    pub fn member(&mut self, place: ArchiveOffset) -> Result<Member<'data>, Error> {
        let member = self.file.member(place)?;
        let (start, size) = member.file_range();
        self.bounds.claim(start, size)?;
        let name = String::from_utf8_lossy(member.name()).into_owned();
        Ok(Member { name, bytes: member.data(self.bytes)? })
    }
}
