//! The owner, the handle, and what tests can ask and arrange.

use crate::caches::Caches;
use crate::calls::{Call, Event, Flush, Request};
use crate::faults::Faults;
use crate::files::{File, Files};
use crate::memory::{Area, Kind, Live, Space};
use crate::switches::Switches;
use execmem_core::{Error, Policy, Protection};
use std::collections::{HashMap, HashSet};
use std::ffi::{CStr, CString};
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

type Observer = Arc<dyn Fn(&Event) + Send + Sync>;

pub(crate) struct Inner {
    pub(crate) space: Space,
    pub(crate) caches: Caches,
    pub(crate) faults: Faults,
    pub(crate) files: Files,
    pub(crate) switches: Switches,
    pub(crate) physical_memory: usize,
    pub(crate) environment: Option<&'static CStr>,
    pub(crate) counts: [usize; Call::COUNT],
    pub(crate) shown: usize,
    pub(crate) flushes: Vec<Flush>,
    pub(crate) requests: Vec<Request>,
    pub(crate) sealed: Vec<Range<usize>>,
    pub(crate) text: Vec<u8>,
    pub(crate) last_errors: HashMap<ThreadId, i32>,
    pub(crate) waited: HashSet<ThreadId>,
    pub(crate) elsewhere: usize,
    observer: Option<Observer>,
}

/// What a handle points to.
pub(crate) struct State {
    pub(crate) page_size: usize,
    inner: Mutex<Inner>,
    /// Held by the one thread whose write switch is on.
    pub(crate) jit_writer: Mutex<()>,
}

/// Keeps what handles point to reachable, so that it is no leak to Miri.
static ALL: Mutex<Vec<&'static State>> = Mutex::new(Vec::new());

/// A copyable handle to a platform on plain memory.
#[derive(Clone, Copy)]
pub struct FakePlatform {
    pub(crate) state: &'static State,
}

/// The owner of a platform: when it is dropped everything is checked once more.
pub struct Fake {
    platform: FakePlatform,
}

impl Fake {
    /// A platform with pages of 4 KiB that grants everything but `MAP_JIT`.
    #[expect(clippy::new_without_default, reason = "each is a different one")]
    pub fn new() -> Self {
        Self::with_page_size(4096)
    }

    /// The same with pages of another size.
    pub fn with_page_size(page_size: usize) -> Self {
        // Natively the arena costs only the pages that are touched.
        Self::with_arena(page_size, if cfg!(miri) { 4 << 20 } else { 256 << 20 })
    }

    /// The same with room for so many bytes.
    pub fn with_arena(page_size: usize, length: usize) -> Self {
        assert!(page_size.is_power_of_two() && page_size >= 4096 && length.is_multiple_of(page_size));
        let inner = Inner {
            space: Space::new(page_size, length),
            caches: Caches::new(page_size),
            faults: Faults::default(),
            files: Files::default(),
            switches: Switches::default(),
            physical_memory: 1 << 36,
            environment: None,
            counts: [0; Call::COUNT],
            shown: 0,
            flushes: Vec::new(),
            requests: Vec::new(),
            sealed: Vec::new(),
            text: Vec::new(),
            last_errors: HashMap::new(),
            waited: HashSet::new(),
            elsewhere: 0,
            observer: None,
        };
        let state = State { page_size, inner: Mutex::new(inner), jit_writer: Mutex::new(()) };
        let state: &'static State = Box::leak(Box::new(state));
        ALL.lock().unwrap_or_else(PoisonError::into_inner).push(state);
        Self { platform: FakePlatform { state } }
    }

    /// The handle, for [`Runtime::new`](execmem_core::Runtime::new).
    pub fn platform(&self) -> FakePlatform {
        self.platform
    }
}

impl Deref for Fake {
    type Target = FakePlatform;

    fn deref(&self) -> &FakePlatform {
        &self.platform
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.platform.verify();
        }
    }
}

impl FakePlatform {
    pub(crate) fn lock(self) -> MutexGuard<'static, Inner> {
        self.state.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows a call to the observer, counts it, and says whether it has to fail.
    pub(crate) fn begin(self, event: Event) -> (MutexGuard<'static, Inner>, Option<crate::faults::Verdict>) {
        let observer = self.lock().observer.clone();
        if let Some(observer) = observer {
            observer(&event);
        }
        let mut inner = self.lock();
        inner.counts[event.call as usize] += 1;
        let verdict = if event.call.can_fail() { inner.faults.judge(event.call) } else { None };
        (inner, verdict)
    }

    /// Changes what kind of system it is.
    pub fn switch(self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.lock().switches);
    }

    /// Makes it a system on which nothing but a policy works, where it can see to that.
    pub fn grant_only(self, policy: Policy) {
        self.lock().switches.grant_only(policy);
    }

    /// Sets physical memory in bytes.
    pub fn set_physical_memory(self, bytes: usize) {
        self.lock().physical_memory = bytes;
    }

    /// Sets the value of `EXECMEM_POLICY`.
    pub fn set_environment(self, policy: Option<&'static CStr>) {
        self.lock().environment = policy;
    }

    /// Lets the `nth` call of this kind from now fail, counted from 0.
    pub fn fail(self, call: Call, nth: usize, error: Error) {
        self.lock().faults.add(Some(call), nth, error, false, false);
    }

    /// Lets the `nth` call from now fail that can, counted from 0.
    pub fn fail_any(self, nth: usize, error: Error) {
        self.lock().faults.add(None, nth, error, false, false);
    }

    /// Lets every call of this kind fail from now on.
    pub fn fail_always(self, call: Call, error: Error) {
        self.lock().faults.add(Some(call), 0, error, false, true);
    }

    /// Lets the `nth` call that can fail, and every later one, fail.
    pub fn fail_from(self, nth: usize, error: Error) {
        self.lock().faults.add(None, nth, error, false, true);
    }

    /// Lets the `nth` protect fail after the first half of its pages have changed, as Linux may.
    pub fn fail_halfway(self, nth: usize, error: Error) {
        self.lock().faults.add(Some(Call::Protect), nth, error, true, false);
    }

    /// Takes back the failures that wait. How many calls have failed since the last time.
    pub fn clear_faults(self) -> usize {
        self.lock().faults.clear()
    }

    /// Lets the next `count` calls of `map` ignore the address that they wish for.
    pub fn place_elsewhere(self, count: usize) {
        self.lock().elsewhere = count;
    }

    /// Calls back before each call, on the thread that makes it and without any lock of the platform.
    pub fn observe(self, observer: impl Fn(&Event) + Send + Sync + 'static) {
        self.lock().observer = Some(Arc::new(observer));
    }

    /// Ends it.
    pub fn stop_observing(self) {
        self.lock().observer = None;
    }

    /// Makes this the platform of a forked child: it has no pages behind a write switch. Where they were.
    pub fn lose_jit_pages(self) -> Vec<(usize, usize)> {
        self.lose(|area| area.kind == Kind::Jit)
    }

    /// Makes this the platform of a forked child: it has none of the pages that children don't get. Where they were.
    pub fn lose_withheld_pages(self) -> Vec<(usize, usize)> {
        self.lose(|area| area.is_withheld)
    }

    fn lose(self, is_lost: impl Fn(&Area) -> bool) -> Vec<(usize, usize)> {
        let mut inner = self.lock();
        let areas = inner.space.areas.values().filter(|area| is_lost(area));
        let lost: Vec<_> = areas.map(|area| (area.start, area.end - area.start)).collect();
        for (start, length) in &lost {
            inner.space.unmap(*start, *length);
            inner.caches.forget(*start, start + length);
        }
        lost
    }

    /// Adds a mapping of somebody else's. Nothing is mapped over it.
    pub fn add_foreign(self, range: Range<usize>, protection: Protection) {
        self.lock().space.foreign.insert(range.start, (range.end, protection));
    }

    /// Takes it away.
    pub fn remove_foreign(self, start: usize) {
        let space = &mut self.lock().space;
        space.foreign.remove(&start);
        space.full_to = space.arena.start;
    }

    /// Lets mapping at a place in this range fail, though nothing is shown there: addresses behind the end of
    /// user space, or kept free by the system.
    pub fn refuse_places(self, range: Range<usize>, error: Error) {
        self.lock().space.refused.push((range, error));
    }

    /// Adds a regular file, or replaces the one of that name.
    pub fn add_file(self, name: &CStr, contents: &[u8]) {
        self.add(name, contents.len() as u64, contents, true, true);
    }

    /// Adds a file that can't be opened for writing.
    pub fn add_read_only_file(self, name: &CStr, contents: &[u8]) {
        self.add(name, contents.len() as u64, contents, true, false);
    }

    /// Adds a file of zeros, of any size.
    pub fn add_sparse_file(self, name: &CStr, size: u64) {
        self.add(name, size, &[], true, true);
    }

    /// Adds something that is no regular file.
    pub fn add_device(self, name: &CStr) {
        self.add(name, 0, &[], false, true);
    }

    fn add(self, name: &CStr, size: u64, contents: &[u8], is_regular: bool, is_writable: bool) {
        let file = File { size, contents: contents.to_vec(), is_regular, is_writable };
        self.lock().files.add(CString::from(name), file);
    }

    /// A descriptor for a file. It is never closed.
    pub fn descriptor(self, name: &CStr) -> i32 {
        self.lock().files.find(name).expect("a file that was added") as i32
    }

    /// Cuts a file to `size` bytes. Bringing in pages behind its end is an I/O error from now on.
    pub fn shrink_file(self, name: &CStr, size: u64) {
        let mut inner = self.lock();
        let file = inner.files.find(name).expect("a file that was added");
        let file = &mut inner.files.files[file];
        file.size = size;
        file.contents.truncate(size as usize);
    }

    /// What the file holds: stores through a shared mapping arrive with a sync and with the unmap.
    pub fn file_contents(self, name: &CStr) -> Vec<u8> {
        let inner = self.lock();
        let file = inner.files.find(name).expect("a file that was added");
        inner.files.files[file].contents.clone()
    }

    /// Start and length of the memory that mappings come from.
    pub fn arena(self) -> (usize, usize) {
        let arena = self.lock().space.arena.clone();
        (arena.start, arena.len())
    }

    /// How many bytes are on huge pages.
    pub fn huge_bytes(self) -> usize {
        self.lock().space.huge.iter().map(|pages| pages.length()).sum()
    }

    /// What is mapped now. The core's own records are in it.
    pub fn live(self) -> Live {
        self.lock().space.live()
    }

    /// Start, length and protection of what is mapped now, in address order, one for each run of pages with
    /// equal protection of one mapping.
    pub fn areas(self) -> Vec<(usize, usize, Protection)> {
        let inner = self.lock();
        let mut areas: Vec<(usize, usize, Protection)> = Vec::new();
        for area in inner.space.areas.values() {
            let is_new_piece = inner.space.pieces.contains_key(&area.start);
            match areas.last_mut() {
                Some((_, length, protection)) if !is_new_piece && *protection == area.protection => {
                    *length += area.end - area.start;
                }
                _ => areas.push((area.start, area.end - area.start, area.protection)),
            }
        }
        areas
    }

    /// What the page at an address allows; `None` if it isn't mapped.
    pub fn protection(self, address: usize) -> Option<Protection> {
        self.lock().space.areas_in(address..address + 1).next().map(|(_, area)| area.protection)
    }

    /// What this core would execute.
    pub fn executed(self, address: usize, length: usize) -> Vec<u8> {
        self.lock().caches.executed(address, length, true)
    }

    /// What any other core would execute, if it had executed everything that was there before.
    pub fn executed_elsewhere(self, address: usize, length: usize) -> Vec<u8> {
        self.lock().caches.executed(address, length, false)
    }

    /// How often a method was called.
    pub fn count(self, call: Call) -> usize {
        self.lock().counts[call as usize]
    }

    /// How many mappings the core has looked at so far.
    pub fn mappings_shown(self) -> usize {
        self.lock().shown
    }

    /// Flushes of the instruction cache since the last time.
    pub fn take_flushes(self) -> Vec<Flush> {
        std::mem::take(&mut self.lock().flushes)
    }

    /// How many threads have waited for another one so far.
    pub fn threads_that_waited(self) -> usize {
        self.lock().waited.len()
    }

    /// Requests since the last time.
    pub fn take_requests(self) -> Vec<Request> {
        std::mem::take(&mut self.lock().requests)
    }

    /// What was printed since the last time.
    pub fn take_text(self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut self.lock().text)).into_owned()
    }

    /// Checks every page, and takes the list of what the core has done wrong.
    pub fn take_violations(self) -> Vec<String> {
        let mut inner = self.lock();
        inner.space.check_all();
        std::mem::take(&mut inner.space.violations)
    }

    /// Panics if the core has done anything wrong. Nothing else may use the memory meanwhile.
    pub fn verify(self) {
        let violations = self.take_violations();
        assert!(violations.is_empty(), "the platform's rules were broken: {violations:#?}");
    }
}
