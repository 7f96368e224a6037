//! The platform itself: each call is shown to the test, may have to fail, and is carried out.

use crate::bytes;
use crate::calls::{Call, Event, Flush};
use crate::faults::Verdict;
use crate::state::FakePlatform;
use execmem_core::platform::{FilePart, Mapping, Memory, PageRequest, Pages, Process, Turn, Views};
use execmem_core::{Error, Hardening, Protection, Span};
use std::ffi::CStr;
use std::ops::ControlFlow;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

/// What a call answers that has to fail.
fn failed(verdict: Option<Verdict>) -> Result<(), Error> {
    verdict.map_or(Ok(()), |verdict| Err(verdict.error))
}

impl FakePlatform {
    fn map_open(
        self,
        index: usize,
        choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
    ) -> Result<usize, Error> {
        let inner = self.lock();
        let file = inner.files.files.get(index).ok_or(Error::InvalidArgument)?;
        if !file.is_regular {
            return Err(Error::NotRegularFile);
        }
        let (size, is_writable) = (file.size, file.is_writable);
        drop(inner);
        let part = choose(size)?;
        if part.shared && part.protection.contains(Protection::WRITE) && !is_writable {
            return Err(Error::Refused);
        }
        self.lock().map_file(index, part)
    }
}

// SAFETY: pages come from an arena that lives for ever, each handed out once and zeroed; as plain memory
// they are readable and writable. `protect` changes exactly what the records say of the given pages.
unsafe impl Pages for FakePlatform {
    // Miri can't follow atomic stores of words over atomic numbers of 16 bits: there the units of the page map show it.
    const DROPS_PAGES: bool = !cfg!(miri);
    const CAN_SEAL: bool = true;
    const HARDENING: Hardening = Hardening::all();
    const HAS_WRITE_SWITCH: bool = true;

    fn page_size(self) -> usize {
        self.state.page_size
    }

    fn physical_memory(self) -> usize {
        self.lock().physical_memory
    }

    fn map(self, length: usize, memory: Memory, at: Option<usize>) -> Result<Views, Error> {
        let event = Event { memory: Some(memory), ..Event::new(Call::Map, at.unwrap_or(0), length) };
        let (mut inner, verdict) = self.begin(event);
        failed(verdict)?;
        inner.map(length, memory, at)
    }

    fn try_hardening(self, wish: Hardening) -> Result<(), Error> {
        if self.lock().switches.hardening.contains(wish) { Ok(()) } else { Err(Error::Unsupported) }
    }

    fn map_hardened(
        self,
        length: usize,
        memory: Memory,
        at: Option<usize>,
        hardening: Hardening,
    ) -> Result<Views, Error> {
        let event = Event { memory: Some(memory), ..Event::new(Call::Map, at.unwrap_or(0), length) };
        let (mut inner, verdict) = self.begin(event);
        failed(verdict)?;
        match hardening.contains(Hardening::GUARDS) {
            true => inner.map_guarded(length, memory, at),
            false => inner.map(length, memory, at),
        }
    }

    unsafe fn unmap(self, pages: Span) -> Result<(), Error> {
        let (mut inner, verdict) = self.begin(Event::new(Call::Unmap, pages.start(), pages.length()));
        failed(verdict)?;
        inner.unmap(pages.start(), pages.length())
    }

    unsafe fn protect(self, pages: Span, protection: Protection) -> Result<(), Error> {
        let event = Event::new(Call::Protect, pages.start(), pages.length());
        let (mut inner, verdict) = self.begin(Event { protection: Some(protection), ..event });
        if let Some(Verdict { error, halfway }) = verdict {
            let half = (pages.length() / inner.space.page_size / 2) * inner.space.page_size;
            if halfway && half > 0 {
                inner.protect(pages.start(), half, protection)?;
            }
            return Err(error);
        }
        inner.protect(pages.start(), pages.length(), protection)
    }

    unsafe fn map_again(self, source: Span, onto: Option<usize>) -> Result<usize, Error> {
        let (mut inner, verdict) = self.begin(Event::new(Call::MapAgain, source.start(), source.length()));
        failed(verdict)?;
        inner.map_again(source, onto)
    }

    unsafe fn move_onto(self, source: Span, onto: usize) -> Result<(), Error> {
        let (mut inner, verdict) = self.begin(Event::new(Call::MoveOnto, source.start(), source.length()));
        failed(verdict)?;
        inner.move_onto(source, onto)
    }

    fn mappings(self, from: usize, visit: &mut dyn FnMut(Mapping) -> ControlFlow<()>) -> Result<(), Error> {
        let (inner, verdict) = self.begin(Event::new(Call::Mappings, from, 0));
        failed(verdict)?;
        let own = inner.space.areas.values().map(|area| (area.start, area.end, area.protection));
        let foreign =
            inner.space.foreign.iter().map(|(start, (end, protection))| (*start, *end, *protection));
        let mut all: Vec<_> = own.chain(foreign).filter(|(_, end, _)| *end > from).collect();
        drop(inner);
        all.sort_by_key(|(start, ..)| *start);
        for (start, end, protection) in all {
            self.lock().shown += 1;
            if visit(Mapping { start, end, protection }).is_break() {
                break;
            }
        }
        Ok(())
    }

    fn map_file(
        self,
        path: &CStr,
        for_write: bool,
        choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
    ) -> Result<usize, Error> {
        let (inner, verdict) = self.begin(Event::new(Call::MapFile, 0, 0));
        failed(verdict)?;
        let index = inner.files.find(path).ok_or(Error::NotFound)?;
        let file = &inner.files.files[index];
        if file.is_regular && for_write && !file.is_writable {
            return Err(Error::Refused);
        }
        drop(inner);
        self.map_open(index, choose)
    }

    fn map_descriptor(
        self,
        descriptor: i32,
        choose: &mut dyn FnMut(u64) -> Result<FilePart, Error>,
    ) -> Result<usize, Error> {
        let (inner, verdict) = self.begin(Event::new(Call::MapDescriptor, 0, 0));
        failed(verdict)?;
        drop(inner);
        self.map_open(usize::try_from(descriptor).map_err(|_| Error::InvalidArgument)?, choose)
    }

    fn file_size(self, path: &CStr) -> Result<u64, Error> {
        let (inner, verdict) = self.begin(Event::new(Call::FileSize, 0, 0));
        failed(verdict)?;
        let file = &inner.files.files[inner.files.find(path).ok_or(Error::NotFound)?];
        if file.is_regular { Ok(file.size) } else { Err(Error::NotRegularFile) }
    }

    unsafe fn request(self, pages: Span, request: PageRequest) -> Result<(), Error> {
        let (mut inner, verdict) = self.begin(Event::new(Call::Request, pages.start(), pages.length()));
        failed(verdict)?;
        inner.request(pages.start(), pages.length(), request)
    }

    unsafe fn seal(self, pages: Span) -> Result<(), Error> {
        let (mut inner, verdict) = self.begin(Event::new(Call::Seal, pages.start(), pages.length()));
        failed(verdict)?;
        inner.seal(pages.range())
    }

    fn huge_page(self) -> Option<usize> {
        self.lock().switches.huge_page
    }

    unsafe fn resident(self, pages: Span) -> Result<usize, Error> {
        let (mut inner, verdict) = self.begin(Event::new(Call::Resident, pages.start(), pages.length()));
        failed(verdict)?;
        inner.resident(pages)
    }

    unsafe fn make_huge(self, pages: Span) -> Result<(), Error> {
        let (mut inner, verdict) = self.begin(Event::new(Call::MakeHuge, pages.start(), pages.length()));
        failed(verdict)?;
        inner.make_huge(pages)
    }

    unsafe fn copy_guarded(self, source: usize, target: usize, length: usize) -> Result<(), Error> {
        let (mut inner, verdict) = self.begin(Event::new(Call::CopyGuarded, source, length));
        failed(verdict)?;
        inner.check_copy(source, target, length)?;
        drop(inner);
        // SAFETY: the caller's promise; pages of the fake's files are always there.
        unsafe { bytes::copy(source, target, length) };
        Ok(())
    }

    unsafe fn flush_icache(self, written: usize, executed: usize, length: usize) {
        let (mut inner, _) = self.begin(Event::new(Call::FlushIcache, executed, length));
        inner.flush(Flush { written, executed, length });
    }

    fn synchronize_cores(self) -> Result<(), Error> {
        let (mut inner, verdict) = self.begin(Event::new(Call::SynchronizeCores, 0, 0));
        failed(verdict)?;
        inner.caches.synchronize();
        Ok(())
    }

    fn may_run_on_other_cores(self) -> bool {
        !self.lock().switches.is_alone
    }

    fn with_jit_writes(self, write: &mut dyn FnMut()) {
        drop(self.begin(Event::new(Call::JitWrites, 0, 0)));
        // One at a time, so that what the other threads store meanwhile isn't taken for this one's.
        let _writer = self.state.jit_writer.lock().unwrap_or_else(PoisonError::into_inner);
        self.lock().space.for_jit(|space, pages| space.check_snapshots(pages));
        write();
        self.lock().space.for_jit(|space, pages| space.take_snapshot(pages));
    }
}

// SAFETY: it never says that a thread holds locks for a fork.
unsafe impl Process for FakePlatform {
    fn environment(self, name: &CStr) -> Option<&'static CStr> {
        if name == c"EXECMEM_POLICY" { self.lock().environment } else { None }
    }

    fn thread(self) -> usize {
        std::thread_local!(static OWN: u32 = const { 0 });
        OWN.with(|own| std::ptr::from_ref(own).addr())
    }

    fn wait(self, word: &AtomicUsize, value: usize) -> Turn {
        self.begin(Event::new(Call::Wait, 0, 0)).0.waited.insert(std::thread::current().id());
        // A moment is enough: nobody is left asleep, whoever forgets to wake him.
        if word.load(Ordering::SeqCst) == value {
            std::thread::yield_now();
        }
        Turn::Again
    }

    fn print(self, line: &[u8]) {
        let (mut inner, _) = self.begin(Event::new(Call::Print, 0, 0));
        inner.text.extend_from_slice(line);
    }

    fn set_last_error(self, code: i32) {
        self.lock().last_errors.insert(std::thread::current().id(), code);
    }

    fn last_error(self) -> i32 {
        self.lock().last_errors.get(&std::thread::current().id()).copied().unwrap_or(0)
    }
}
