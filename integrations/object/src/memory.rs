//! The memory of an image: its code and its data, near each other.
//!
//! The code's is memory that execmem's policy makes for code, and its bytes are written by execmem. So it works wherever
//! there is code memory at all, also where plain memory can't become executable.

use crate::error::Error;
use crate::layout::{Bases, Layout, Shape};
use execmem::{ErrorKind, Protection, runtime};

/// As far apart code and data may be: on all architectures each can still address the other.
const REACH: i64 = i32::MAX as i64 - 0x1000;

/// Memory of execmem that is freed when it is dropped.
#[derive(Debug)]
pub struct Memory {
    code: Code,
    data: Option<Mapping>,
    /// The addresses of both.
    pub bases: Bases,
}

#[derive(Debug)]
enum Code {
    Pages(Mapping),
    Block(Block),
}

impl Memory {
    /// Memory for a layout.
    pub fn new(layout: &Layout) -> Result<Self, Error> {
        let [code_size, data_size] = layout.sizes();
        let [code_alignment, data_alignment] = layout.alignments;
        let data = match data_size {
            0 => None,
            size => Some(Mapping::new(size, data_alignment, |size| runtime().alloc_rw(size))?),
        };
        let near = match &data {
            None => None,
            Some(data) => {
                let distance =
                    REACH.checked_sub(data.size).filter(|left| *left > 0).ok_or(Error::TooLarge)?;
                Some((data.address, distance))
            }
        };
        let code = match layout.shape {
            Shape::Block => Code::Block(Block::new(code_size)?),
            Shape::Pages(_) => Code::Pages(Mapping::new(code_size, code_alignment, |size| match near {
                Some((target, distance)) => runtime().alloc_exec_near(size, target, distance),
                None => runtime().alloc_exec(size),
            })?),
        };
        let start = match &code {
            Code::Pages(mapping) => mapping.start,
            Code::Block(block) => block.address,
        };
        let bases = Bases { code: start as u64, data: data.as_ref().map_or(0, |data| data.start as u64) };
        Ok(Self { code, data, bases })
    }

    /// Writes bytes at an offset of the layout.
    pub fn write(&self, layout: &Layout, offset: u64, bytes: &[u8]) -> Result<(), Error> {
        let address = layout.address(self.bases, offset) as i64;
        let (source, length) = (bytes.as_ptr(), bytes.len() as i64);
        match &self.code {
            Code::Block(_) if offset < layout.split => {
                // SAFETY: the slice is readable for its length.
                unsafe { runtime().code_heap().write(address, source, length, 0) }?
            }
            // SAFETY: the slice is readable for its length.
            _ => unsafe { runtime().write(address, source, length, 0) }?,
        };
        Ok(())
    }

    /// Gives all parts their protection, and makes the code what every core executes. With `has_pads` its pages let
    /// indirect branches end at landing pads only, where the system and the processor can.
    pub fn protect(&self, layout: &Layout, has_pads: bool) -> Result<(), Error> {
        if let Code::Block(block) = &self.code {
            // The rest is read-write already.
            return Ok(runtime().code_heap().publish(block.address, block.size)?);
        }
        for (range, protection) in layout.segments.iter().filter(|(range, _)| !range.is_empty()) {
            let address = layout.address(self.bases, range.start) as i64;
            let size = (range.end - range.start) as i64;
            match *protection {
                Protection::RX => make_executable(address, size, has_pads)?,
                other => runtime().set_protection(address, size, other)?,
            }
        }
        Ok(())
    }

    /// Whether indirect branches into the code end at landing pads only.
    pub fn is_guarded(&self) -> Result<bool, Error> {
        let protection = runtime().protection_at(self.bases.code as i64)?;
        Ok(protection.is_some_and(|protection| protection.contains(Protection::BTI)))
    }

    /// The bytes of all mappings of its own.
    pub fn mapped(&self) -> usize {
        let code = match &self.code {
            Code::Pages(mapping) => mapping.size,
            Code::Block(_) => 0,
        };
        (code + self.data.as_ref().map_or(0, |data| data.size)) as usize
    }
}

/// Also where the protection doesn't change: this makes the instruction caches coherent.
fn make_executable(address: i64, size: i64, has_pads: bool) -> Result<(), ErrorKind> {
    if has_pads {
        match runtime().set_protection(address, size, Protection::RX | Protection::BTI) {
            // A filter may let pages be made executable once and not changed again.
            Err(ErrorKind::Unsupported | ErrorKind::Refused) => {}
            done => return done,
        }
    }
    runtime().make_executable(address, size)
}

#[derive(Debug)]
struct Mapping {
    address: i64,
    size: i64,
    /// The first address in it of the alignment that was asked for.
    start: i64,
}

impl Mapping {
    fn new(
        size: u64,
        alignment: u64,
        allocate: impl FnOnce(i64) -> Result<usize, execmem::ErrorKind>,
    ) -> Result<Self, Error> {
        // A mapping starts at a page. For more there is room in front.
        let spare = alignment.saturating_sub(runtime().page_size() as u64);
        let size = size.max(1).checked_add(spare).and_then(|size| i64::try_from(size).ok());
        let size = size.ok_or(Error::TooLarge)?;
        let address = allocate(size)?;
        let start = address.next_multiple_of(alignment as usize) as i64;
        Ok(Self { address: address as i64, size, start })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // Address and size are those of the allocation. If the system can't unmap it there is nobody to tell.
        let _ = runtime().free_exec(self.address, self.size);
    }
}

#[derive(Debug)]
struct Block {
    address: i64,
    size: i64,
}

impl Block {
    fn new(size: u64) -> Result<Self, Error> {
        let size = i64::try_from(size.max(1)).map_err(|_| Error::TooLarge)?;
        Ok(Self { address: runtime().code_heap().alloc(size)? as i64, size })
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        // The address is that of the allocation. If the system refuses, the heap tries again later.
        let _ = runtime().code_heap().free(self.address);
    }
}
