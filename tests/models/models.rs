//! What the models of the core's parts stand on: a system of which loom steps through what threads share.

extern crate std;

use crate::Error;
use crate::platform::{FilePart, Mapping, Memory, PageRequest, Pages, Process, Turn, Views};
use crate::protection::Protection;
use crate::span::Span;
use crate::sync::{AtomicUsize, Ordering};
use core::cell::RefCell;
use core::ffi::CStr;
use core::ops::ControlFlow;
use std::boxed::Box;
use std::vec::Vec;

/// Of an address, seen from another core: whether pages are there, and whether it has fetched from them.
pub(crate) static CORE: AtomicUsize = AtomicUsize::new(0);
pub(crate) const MAPPED: usize = 1;
pub(crate) const FETCHED: usize = 2;

loom::lazy_static! {
    static ref SLEEPERS: (loom::sync::Mutex<()>, loom::sync::Condvar) = Default::default();
}

loom::thread_local! {
    static OWN: Box<u32> = Box::new(0);
}

std::thread_local! {
    static MAPS: RefCell<Vec<Vec<u64>>> = const { RefCell::new(Vec::new()) };
}

/// Maps zeroed memory, sleeps until it is woken, and makes the core drop what it has fetched.
#[derive(Clone, Copy)]
pub(crate) struct System;

impl System {
    /// Before an execution: unmaps all of the last one.
    pub(crate) fn reset() {
        MAPS.take();
    }
}

// SAFETY: `map` gives zeroed memory that is nobody else's in this execution; nothing else is asked.
unsafe impl Pages for System {
    fn page_size(self) -> usize {
        4096
    }
    fn physical_memory(self) -> usize {
        1 << 30
    }
    fn map(self, length: usize, _: Memory, _: Option<usize>) -> Result<Views, Error> {
        let mut memory = std::vec![0u64; length / 8];
        let address = memory.as_mut_ptr().expose_provenance();
        MAPS.with_borrow_mut(|maps| maps.push(memory));
        Ok(Views { address, writable: 0 })
    }
    unsafe fn unmap(self, _: Span) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    unsafe fn protect(self, _: Span, _: Protection) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    fn mappings(self, _: usize, _: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    fn map_file(
        self,
        _: &CStr,
        _: bool,
        _: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
    ) -> Result<usize, Error> {
        Err(Error::Unsupported)
    }
    fn file_size(self, _: &CStr) -> Result<u64, Error> {
        Err(Error::Unsupported)
    }
    unsafe fn request(self, _: Span, _: PageRequest) -> Result<(), Error> {
        Err(Error::Unsupported)
    }
    fn synchronize_cores(self) -> Result<(), Error> {
        CORE.fetch_and(!FETCHED, Ordering::SeqCst);
        Ok(())
    }
}

// SAFETY: it never says that a thread holds locks for a fork.
unsafe impl Process for System {
    fn thread(self) -> usize {
        OWN.with(|own| core::ptr::from_ref(&**own).addr())
    }
    fn wait(self, word: &AtomicUsize, value: usize) -> Turn {
        let asleep = SLEEPERS.0.lock().unwrap();
        // As the kernel looks, once more, while nobody can wake.
        if word.load(Ordering::SeqCst) == value {
            drop(SLEEPERS.1.wait(asleep).unwrap());
        }
        Turn::Again
    }
    fn wake(self, _: &AtomicUsize, everybody: bool) {
        let _awake = SLEEPERS.0.lock().unwrap();
        if everybody { SLEEPERS.1.notify_all() } else { SLEEPERS.1.notify_one() }
    }
    fn print(self, _: &[u8]) {}
    fn set_last_error(self, _: i32) {}
    fn last_error(self) -> i32 {
        0
    }
}
