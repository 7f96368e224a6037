//! Memory that is read-write until it is finished, in slabs near the code: of data objects, and of what `Provider` gives.

use execmem::{ErrorKind, Protection, runtime};
use std::io;

/// Objects share slabs of so many bytes.
const SLAB: usize = 64 * 1024;

/// How far data may lie from code, and pieces of code from each other: what a 32-bit displacement reaches on x86_64.
pub const REACH: usize = 1 << 30;

struct Slab {
    base: usize,
    size: usize,
    used: usize,
    /// Up to here the pages have their final protection.
    finished: usize,
}

/// Memory of one kind: constants, variables, or code.
pub struct Pool {
    slabs: Vec<Slab>,
    finally: Protection,
}

impl Pool {
    pub fn new(finally: Protection) -> Self {
        Self { slabs: Vec::new(), finally }
    }

    /// `size` zeroed bytes that can be written, within [`REACH`] of `near`.
    pub fn alloc(&mut self, size: usize, align: usize, near: Option<usize>) -> Result<usize, ErrorKind> {
        if let Some(slab) = self.slabs.last_mut() {
            let start = (slab.base + slab.used).next_multiple_of(align);
            if start.checked_add(size).is_some_and(|end| end <= slab.base + slab.size) {
                slab.used = start + size - slab.base;
                return Ok(start);
            }
        }
        // Pages are aligned: only more than that takes room.
        let room = if align > runtime().page_size() { align } else { 0 };
        let wanted = size.checked_add(room).ok_or(ErrorKind::OverLimit)?.max(SLAB);
        let wanted = wanted.checked_next_multiple_of(runtime().page_size()).ok_or(ErrorKind::OverLimit)?;
        let base = self.pages(wanted, near)?;
        let start = base.next_multiple_of(align);
        self.slabs.push(Slab { base, size: wanted, used: start + size - base, finished: 0 });
        Ok(start)
    }

    /// Gives what was allocated its final protection. What shares its last page is not handed out any more. `then` is
    /// told the address and the size of what has it now.
    pub fn finish(&mut self, then: impl Fn(usize, usize) -> io::Result<()>) -> io::Result<()> {
        if self.finally == Protection::RW {
            return Ok(());
        }
        for slab in &mut self.slabs {
            let end = slab.used.next_multiple_of(runtime().page_size());
            if end > slab.finished {
                let (start, size) = (slab.base + slab.finished, end - slab.finished);
                runtime()
                    .set_protection(start as i64, size as i64, self.finally)
                    .map_err(io::Error::other)?;
                then(start, size)?;
                (slab.used, slab.finished) = (end, end);
            }
        }
        Ok(())
    }

    /// Frees the memory.
    pub fn free(&mut self) {
        for slab in self.slabs.drain(..) {
            // The pair is right; if the system can't unmap it there is nobody to tell.
            let _ = runtime().free_exec(slab.base as i64, slab.size as i64);
        }
    }

    /// Read-write pages.
    fn pages(&self, size: usize, near: Option<usize>) -> Result<usize, ErrorKind> {
        let runtime = runtime();
        let size = size as i64;
        let Some(near) = near else { return runtime.alloc_rw(size) };
        let (near, reach) = (near as i64, REACH as i64);
        if self.finally != Protection::RX {
            return runtime.alloc_rw_near(size, near, reach);
        }
        let base = runtime.alloc_exec_near(size, near, reach)?;
        let writable = runtime.set_protection(base as i64, size, Protection::RW);
        if let Err(error) = writable {
            runtime.free_exec(base as i64, size)?;
            return Err(error);
        }
        Ok(base)
    }
}

#[cfg(feature = "provider")]
impl Pool {
    /// An address in the memory, if there is any.
    pub fn anywhere(&self) -> Option<usize> {
        self.slabs.first().map(|slab| slab.base)
    }

    /// Keeps the memory for the rest of the process's life.
    pub fn leak(&mut self) {
        self.slabs.clear();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.free();
    }
}
