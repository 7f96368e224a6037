//! The memory of the modules that are live.
//!
//! An image is a copy of an artifact: its code, and what Wasmtime reads beside it. Wasmtime tells nobody when it needs an
//! image no longer, but for taking back what it published: that is the last thing that it does with it.

use crate::artifact;
use alloc::collections::BTreeMap;
use core::ops::Range;
use core::ptr::{self, NonNull};
use execmem::{CodeMemory, ErrorKind, Protection, runtime};
use spin::Mutex;
use wasmtime::{Error, Result};

/// By the addresses of their first bytes. The lock is held for the time of a look-up, and no fork waits for it: README.
static IMAGES: Mutex<Images> = Mutex::new(Images { live: BTreeMap::new(), added: 0 });

struct Images {
    live: BTreeMap<usize, Image>,
    added: u64,
}

struct Image {
    memory: CodeMemory,
    size: usize,
    number: u64,
}

/// Which image it is: another one may come to the same address later.
pub struct Id {
    address: usize,
    number: u64,
}

impl Images {
    fn at(&self, address: usize) -> Option<&Image> {
        let (start, image) = self.live.range(..=address).next_back()?;
        (address - start < image.size).then_some(image)
    }
}

/// Copies an artifact. Its code can be executed when it was published; all else can only be read.
pub fn add(artifact: &[u8]) -> Result<(Id, NonNull<[u8]>)> {
    // One byte more, so that an address at its end is the image's and not that of another one.
    let size = artifact.len() + 1;
    let memory = CodeMemory::new(size).map_err(Error::new)?;
    memory.write(0, artifact).map_err(Error::new)?;
    let start = ptr::with_exposed_provenance_mut::<u8>(memory.address());
    let bytes =
        NonNull::slice_from_raw_parts(NonNull::new(start).expect("memory is not at 0"), artifact.len());
    // SAFETY: the memory is of that size at least, written, readable, and nobody else knows it.
    let text = artifact::text(unsafe { bytes.as_ref() })?;
    protect(&memory, 0..text.start)?;
    protect(&memory, text.end.next_multiple_of(runtime().page_size())..size)?;

    let mut images = IMAGES.lock();
    images.added += 1;
    let (address, number) = (memory.address(), images.added);
    images.live.insert(address, Image { memory, size, number });
    Ok((Id { address, number }, bytes))
}

/// Makes whole pages readable, and no more.
fn protect(memory: &CodeMemory, range: Range<usize>) -> Result<()> {
    if range.is_empty() {
        return Ok(());
    }
    let (start, size) = ((memory.address() + range.start) as i64, range.len() as i64);
    match runtime().set_protection(start, size, Protection::READ) {
        // Under policy `jit` all of it stays code.
        Err(ErrorKind::Unsupported) => Ok(()),
        other => other.map_err(Error::new),
    }
}

/// Whether an image has a byte at the address.
pub fn holds(address: usize) -> bool {
    IMAGES.lock().at(address).is_some()
}

/// Frees an image that may be gone.
pub fn remove(id: Id) {
    remove_if(id.address, |image| image.number == id.number);
}

/// Frees the image that has a byte at the address, if there is one.
pub fn remove_at(address: usize) {
    remove_if(address, |_| true);
}

fn remove_if(address: usize, is_meant: impl FnOnce(&Image) -> bool) {
    let mut images = IMAGES.lock();
    let start = images.at(address).filter(|image| is_meant(image)).map(|image| image.memory.address());
    let image = start.and_then(|start| images.live.remove(&start));
    // Its memory is unmapped beyond the lock.
    drop(images);
    drop(image);
}
