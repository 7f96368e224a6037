//! Functions in steps: a place, then code for that place, then many published at once.

use crate::block::OwnedBlock;
use crate::error::{Call, Error, ErrorKind, positive};
use crate::function::Function;
use crate::os::runtime;
use crate::signature::Signature;
use core::marker::PhantomData;

/// A place for a function, freed when dropped. There is no code yet, so there is nothing to call:
///
/// ```
/// # #[cfg(target_arch = "x86_64")] fn code_for(_: usize) -> [u8; 6] { [0xb8, 42, 0, 0, 0, 0xc3] }
/// # #[cfg(target_arch = "aarch64")] fn code_for(_: usize) -> [u8; 8] { [0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6] }
/// # #[cfg(target_arch = "riscv64")] fn code_for(_: usize) -> [u8; 8] { [0x13, 0x05, 0xa0, 0x02, 0x67, 0x80, 0, 0] }
/// type Answer = unsafe extern "C" fn() -> i64;
/// let place = execmem::Function::<Answer>::reserve(1000)?;   // the most that the code may need
/// let code = code_for(place.address());
/// let answer = place.finish_shrunk(&code)?;                  // the rest is free for others
/// // SAFETY: the code is such a function.
/// assert_eq!((unsafe { answer.call() }, answer.len()), (42, code.len()));
/// # Ok::<(), execmem::Error>(())
/// ```
///
/// ```compile_fail,E0599
/// let place = execmem::Function::<unsafe extern "C" fn() -> i64>::reserve(1000)?;
/// unsafe { place.call() };
/// # Ok::<(), execmem::Error>(())
/// ```
///
/// What is finished can't be filled again while it may be called:
///
/// ```compile_fail,E0382
/// let place = execmem::Function::<unsafe extern "C" fn() -> i64>::reserve(1000)?;
/// let function = place.finish(&[0xc3])?;
/// place.finish(&[0x90])?;
/// # Ok::<(), execmem::Error>(())
/// ```
#[derive(Debug)]
pub struct Reserved<F: Signature> {
    block: OwnedBlock,
    signature: PhantomData<F>,
}

impl<F: Signature> Reserved<F> {
    /// The first byte's address, a multiple of 64: where the code will be executed.
    pub fn address(&self) -> usize {
        self.block.address as usize
    }

    /// How many bytes there are.
    #[expect(clippy::len_without_is_empty, reason = "no place is empty")]
    pub fn len(&self) -> usize {
        self.block.size
    }

    /// Copies `code` to where every core may execute it; of the place, that keeps all. If it fails, the place is freed.
    pub fn finish(self, code: &[u8]) -> Result<Function<F>, Error> {
        self.filled("Reserved::finish", code, false)?.published("Reserved::finish")
    }

    /// The same, and gives back what the code does not need.
    pub fn finish_shrunk(self, code: &[u8]) -> Result<Function<F>, Error> {
        self.filled("Reserved::finish_shrunk", code, true)?.published("Reserved::finish_shrunk")
    }

    /// Copies `code` into the place, and gives back what it does not need. It can be called when it was published, with
    /// others by [`publish_all`] or alone.
    pub fn write(self, code: &[u8]) -> Result<Written<F>, Error> {
        self.filled("Reserved::write", code, true)
    }

    fn filled(mut self, name: &'static str, code: &[u8], is_shrunk: bool) -> Result<Written<F>, Error> {
        let call = Call { name, address: self.address(), size: code.len() };
        let checked = match code.len() {
            0 => Err(ErrorKind::InvalidArgument),
            length if length > self.len() => Err(ErrorKind::WrongSize),
            _ => Ok(()),
        };
        // What was never written needs no traps: so the rest goes first.
        let shrunk = checked.and_then(|()| if is_shrunk { self.block.shrink(code.len()) } else { Ok(()) });
        shrunk.and_then(|()| self.block.write(code)).map_err(|kind| call.failed(kind))?;
        Ok(Written { block: self.block, is_published: false, signature: PhantomData })
    }
}

/// Code in its place that is not published: a core could still execute what was there before, so it can't be called.
///
/// ```compile_fail,E0599
/// let written = execmem::Function::<unsafe extern "C" fn() -> i64>::reserve(8)?.write(&[0xc3])?;
/// unsafe { written.call() };
/// # Ok::<(), execmem::Error>(())
/// ```
#[derive(Debug)]
pub struct Written<F: Signature> {
    block: OwnedBlock,
    /// Whether [`publish_all`] did it.
    is_published: bool,
    signature: PhantomData<F>,
}

impl<F: Signature> Written<F> {
    /// The first byte's address.
    pub fn address(&self) -> usize {
        self.block.address as usize
    }

    /// Makes every core execute what was written. If it fails, the code is freed.
    pub fn publish(self) -> Result<Function<F>, Error> {
        self.published("Written::publish")
    }

    fn published(self, name: &'static str) -> Result<Function<F>, Error> {
        if !self.is_published {
            let (address, size) = self.block.range();
            let call = Call { name, address: self.address(), size: self.block.size };
            runtime().code_heap().publish(address, size).map_err(|kind| call.failed(kind))?;
        }
        Ok(Function::of(self.block))
    }
}

/// Publishes all functions of an array or a `Vec` with one step of other cores at most, and gives them in their order.
/// If it fails, none is published and all are freed.
///
/// ```
/// # #[cfg(target_arch = "x86_64")] fn returning(n: u8) -> [u8; 6] { [0xb8, n, 0, 0, 0, 0xc3] }
/// # #[cfg(target_arch = "aarch64")] fn returning(n: u8) -> [u8; 8] { [n << 5, n >> 3, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6] }
/// # #[cfg(target_arch = "riscv64")] fn returning(n: u8) -> [u8; 8] { [0x13, 0x05, n << 4, n >> 4, 0x67, 0x80, 0, 0] }
/// type Number = unsafe extern "C" fn() -> i64;
/// let written: Result<Vec<_>, _> =
///     (0..10).map(|n| execmem::Function::<Number>::reserve(8)?.write(&returning(n))).collect();
/// let functions: Vec<_> = execmem::publish_all(written?)?.collect();
/// // SAFETY: each is such a function.
/// assert_eq!(unsafe { functions[7].call() }, 7);
/// # Ok::<(), execmem::Error>(())
/// ```
pub fn publish_all<F: Signature, W>(mut written: W) -> Result<impl Iterator<Item = Function<F>>, Error>
where
    W: AsMut<[Written<F>]> + IntoIterator<Item = Written<F>>,
{
    let all = written.as_mut();
    let ranges = all.iter().map(|written| written.block.range());
    let size = ranges.clone().map(|(_, size)| size as usize).sum();
    let call = Call { name: "publish_all", address: 0, size };
    runtime().code_heap().publish_all(ranges).map_err(|kind| call.failed(kind))?;
    all.iter_mut().for_each(|written| written.is_published = true);
    // Whoever lent some and gives others has those published alone, or freed.
    Ok(written.into_iter().filter_map(|written| written.published("publish_all").ok()))
}

impl<F: Signature> Function<F> {
    /// Copies `code` to where every core may execute it.
    pub fn new(code: &[u8]) -> Result<Self, Error> {
        Self::reserve(code.len())?.finish(code)
    }

    /// The same, with every byte within `max_distance` bytes of `target`.
    pub fn near(code: &[u8], target: usize, max_distance: usize) -> Result<Self, Error> {
        Self::reserve_near(code.len(), target, max_distance)?.finish(code)
    }

    /// A place for a function of at most `size` bytes, for code that depends on its address.
    pub fn reserve(size: usize) -> Result<Reserved<F>, Error> {
        let address = positive(size).and_then(|size| runtime().code_heap().alloc(size));
        reserved(address, Call { name: "Function::reserve", address: 0, size })
    }

    /// The same, with every byte within `max_distance` bytes of `target`.
    pub fn reserve_near(size: usize, target: usize, max_distance: usize) -> Result<Reserved<F>, Error> {
        let address = positive(size).and_then(|size| {
            runtime().code_heap().alloc_near(size, positive(target)?, positive(max_distance)?)
        });
        reserved(address, Call { name: "Function::reserve_near", address: target, size })
    }
}

fn reserved<F: Signature>(address: Result<usize, ErrorKind>, call: Call) -> Result<Reserved<F>, Error> {
    let address = address.map_err(|kind| call.failed(kind))? as i64;
    Ok(Reserved { block: OwnedBlock { address, size: call.size }, signature: PhantomData })
}
