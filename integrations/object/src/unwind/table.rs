//! A section of unwind tables as entries: descriptions of functions (FDE), and what several of them have in common
//! (CIE). All that an unwinder reads without a doubt is checked here: it would crash over a damaged table.

use super::cursor::{Cursor, width};
use crate::error::Error;
use crate::object_file::{Section, SectionKind};
use std::collections::BTreeMap;
use std::ops::Range;

/// The entries of a section. Numbers of relocations are those of the section, whose relocations are in order.
#[derive(Debug, Default)]
pub struct Table {
    /// What descriptions have in common, by the offset in the section.
    pub common: BTreeMap<usize, Common>,
    /// Descriptions of functions.
    pub frames: Vec<Frame>,
}

/// What descriptions have in common.
#[derive(Debug)]
pub struct Common {
    /// Its bytes, from its length on.
    pub bytes: Range<usize>,
    /// The numbers of its relocations.
    pub relocations: Range<usize>,
    /// How addresses of functions are written.
    encoding: u8,
    /// Whether descriptions have more data, with its length before it.
    has_more: bool,
}

/// The description of a function.
#[derive(Debug)]
pub struct Frame {
    /// Its bytes, from its length on.
    pub bytes: Range<usize>,
    /// The numbers of its relocations.
    pub relocations: Range<usize>,
    /// The offset of what it has in common with others.
    pub common: usize,
    /// The symbol that the function's address is made of; `None` if no relocation says it.
    pub function: Option<usize>,
}

impl Frame {
    /// Where in the section the function's address is.
    pub fn place(&self) -> u64 {
        (self.bytes.start + HEAD) as u64
    }
}

/// Bytes of the length and of the word behind it.
const HEAD: usize = 8;

impl Table {
    /// Reads a section. Sorts its relocations.
    pub fn new(section: &mut Section<'_>) -> Result<Self, Error> {
        section.relocations.sort_by_key(|relocation| relocation.offset);
        let mut table = Self::default();
        let mut start = 0;
        while let Some(bytes) = entry(&section.data, start)? {
            let first = section.relocations.partition_point(|one| one.offset < bytes.start as u64);
            let last = section.relocations.partition_point(|one| one.offset < bytes.end as u64);
            let content = &section.data[bytes.clone()];
            let back = u32::from_le_bytes(*content[4..].first_chunk().ok_or_else(damaged)?) as usize;
            start = bytes.end;
            if back == 0 {
                let common = common(content, bytes.clone(), first..last).ok_or_else(damaged)?;
                table.common.insert(bytes.start, common);
                continue;
            }
            let common = (bytes.start + 4).checked_sub(back).ok_or_else(damaged)?;
            let known = table.common.get(&common).ok_or_else(damaged)?;
            check_frame(content, known).ok_or_else(damaged)?;
            let place = (bytes.start + HEAD) as u64;
            let function = section.relocations[first..last].iter().find(|one| one.offset == place);
            let function = function.map(|one| one.symbol);
            table.frames.push(Frame { bytes, relocations: first..last, common, function });
        }
        Ok(table)
    }

    /// The descriptions' numbers, and the symbols of the functions that they describe.
    pub fn functions(&self) -> impl Iterator<Item = (usize, usize)> {
        self.frames.iter().enumerate().filter_map(|(number, frame)| Some((number, frame.function?)))
    }

    /// The numbers of the relocations that a description needs.
    pub fn references(&self, frame: usize) -> impl Iterator<Item = usize> {
        let frame = &self.frames[frame];
        let common = self.common.get(&frame.common).map(|common| common.relocations.clone());
        common.unwrap_or_default().chain(frame.relocations.clone())
    }
}

/// Checks that relocations have changed nothing of a table but the numbers that it is for.
pub fn check_linked(before: &[u8], after: &[u8]) -> Result<(), Error> {
    let entries = |bytes: &[u8]| -> Result<_, Error> {
        let table = Table::new(&mut Section::new("".into(), SectionKind::Unwind, bytes.to_vec().into(), 8))?;
        let common =
            table.common.into_values().map(|common| (common.bytes, common.encoding, common.has_more));
        let frames = table.frames.into_iter().map(|frame| (frame.bytes, frame.common));
        Ok((common.collect::<Vec<_>>(), frames.collect::<Vec<_>>()))
    };
    if entries(before)? == entries(after)? { Ok(()) } else { Err(damaged()) }
}

fn damaged() -> Error {
    Error::Damaged("its unwind tables (.eh_frame) contradict themselves".into())
}

/// The bytes of the entry at an offset; `None` at the end of all.
fn entry(data: &[u8], start: usize) -> Result<Option<Range<usize>>, Error> {
    let rest = data.get(start..).unwrap_or_default();
    let Some(length) = rest.first_chunk() else {
        return if rest.is_empty() { Ok(None) } else { Err(damaged()) };
    };
    match u32::from_le_bytes(*length) {
        0 => Ok(None),
        u32::MAX => Err(Error::Unsupported("unwind tables of more than 4 GiB".into())),
        length => {
            let end = start + 4 + length as usize;
            if end > data.len() || length < 4 { Err(damaged()) } else { Ok(Some(start..end)) }
        }
    }
}

fn common(content: &[u8], bytes: Range<usize>, relocations: Range<usize>) -> Option<Common> {
    let mut cursor = Cursor(&content[HEAD..]);
    let version = cursor.byte().filter(|version| [1, 3].contains(version))?;
    let augmentation = cursor.text()?;
    // The units of code and data, and the register of the return address.
    cursor.leb()?;
    cursor.leb()?;
    if version == 1 {
        cursor.byte().map(|_| ())?
    } else {
        cursor.leb().map(|_| ())?
    }
    let mut common = Common { bytes, relocations, encoding: 0, has_more: false };
    let Some(letters) = augmentation.strip_prefix(b"z") else {
        return augmentation.is_empty().then_some(common);
    };
    common.has_more = true;
    let length = usize::try_from(cursor.leb()?).ok()?;
    let mut more = Cursor(cursor.take(length)?);
    for letter in letters {
        match letter {
            b'R' => common.encoding = more.byte().filter(|encoding| *encoding & 0x80 == 0)?,
            b'P' => {
                let encoding = more.byte()?;
                more.pointer(encoding)?;
            }
            b'L' => {
                let encoding = more.byte()?;
                (encoding == 0xff || width(encoding).is_some()).then_some(())?;
            }
            b'S' | b'B' => {}
            _ => return None,
        }
    }
    // An address in an encoding that isn't known is refused where a description has one.
    Some(common)
}

fn check_frame(content: &[u8], common: &Common) -> Option<()> {
    let mut cursor = Cursor(&content[HEAD..]);
    // The function's start, and its length.
    cursor.pointer(common.encoding)?;
    cursor.pointer(common.encoding & 0xf)?;
    if common.has_more {
        let length = usize::try_from(cursor.leb()?).ok()?;
        cursor.take(length)?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What gcc makes for a function of 11 bytes: a CIE `zR`, and an FDE.
    const SOUND: [u8; 48] = [
        0x14, 0, 0, 0, 0, 0, 0, 0, 1, b'z', b'R', 0, 1, 0x78, 0x10, 1, 0x1b, 0x0c, 7, 8, 0x90, 1, 0,
        0, //
        0x14, 0, 0, 0, 0x1c, 0, 0, 0, 0, 0, 0, 0, 0x0b, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    fn read(bytes: &[u8]) -> Result<Table, Error> {
        Table::new(&mut Section::new(".eh_frame".into(), SectionKind::Unwind, bytes.to_vec().into(), 8))
    }

    fn changed(at: usize, byte: u8) -> Result<Table, Error> {
        let mut bytes = SOUND;
        bytes[at] = byte;
        read(&bytes)
    }

    #[test]
    fn a_sound_table_is_read_up_to_its_zero() {
        let table = read(&SOUND).unwrap();
        assert_eq!((table.common.len(), table.frames.len()), (1, 1));
        assert_eq!((table.frames[0].bytes.clone(), table.frames[0].common), (24..48, 0));
        let with_end = [&SOUND[..], &[0, 0, 0, 0], &SOUND[..]].concat();
        assert_eq!(read(&with_end).unwrap().frames.len(), 1);
        assert!(read(&[]).unwrap().frames.is_empty());
    }

    #[test]
    fn what_an_unwinder_would_crash_over_is_refused() {
        for (at, byte, what) in [
            (0, 0xff, "an entry behind the section's end"),
            (0, 2, "an entry without its second word"),
            (8, 9, "an unknown version"),
            (10, b'x', "an unknown letter"),
            (15, 0x7f, "more data than the entry has"),
            (16, 0x0d, "an unknown encoding"),
            (16, 0x9b, "an address that has to be looked up"),
            (28, 0x1b, "a way back to no entry"),
            (28, 0xff, "a way back before the section"),
            (40, 0x7f, "more data than the description has"),
        ] {
            assert!(matches!(changed(at, byte), Err(Error::Damaged(_))), "{what}");
        }
        let mut linked = SOUND;
        linked[32..36].copy_from_slice(&[1, 2, 3, 4]);
        assert!(check_linked(&SOUND, &linked).is_ok());
        for (at, byte, what) in [
            (0, 0, "an end before the end"),
            (4, 1, "nothing in common"),
            (16, 0, "another encoding"),
            (24, 0x10, "another length"),
        ] {
            let mut linked = SOUND;
            linked[at] = byte;
            assert!(check_linked(&SOUND, &linked).is_err(), "{what}");
        }
        for length in 1..SOUND.len() {
            let is_end = length == 24;
            assert_eq!(read(&SOUND[..length]).is_ok(), is_end, "{length} bytes");
        }
    }
}
