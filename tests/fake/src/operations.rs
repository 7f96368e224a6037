//! What the calls do to the address space, to files and to instruction caches.

use crate::bytes;
use crate::calls::{Call, Flush, Request};
use crate::memory::{Area, HUGE, Kind};
use crate::state::Inner;
use execmem_core::platform::{FilePart, Memory, PageRequest, Views};
use execmem_core::{Advice, Error, Hardening, Protection, Span};
use std::ops::Range;

impl Inner {
    /// Records as a violation what is wrong with a range that a call names, if anything is.
    fn check_pages(&mut self, call: Call, start: usize, length: usize) -> Result<(), Error> {
        let page_size = self.space.page_size;
        let problem = if !start.is_multiple_of(page_size) || !length.is_multiple_of(page_size) || length == 0
        {
            "is not whole pages"
        } else if self.space.piece_around(&(start..start + length)).is_none() {
            "is not inside one mapping"
        } else {
            return Ok(());
        };
        self.space.violation(format!("{call:?} of {start:#x}, {length:#x} bytes, which {problem}"));
        Err(Error::InvalidArgument)
    }

    /// Pages that are for ever what they are.
    pub(crate) fn seal(&mut self, pages: Range<usize>) -> Result<(), Error> {
        self.check_pages(Call::Seal, pages.start, pages.len())?;
        self.sealed.push(pages);
        Ok(())
    }

    fn check_not_sealed(&self, start: usize, length: usize) -> Result<(), Error> {
        let overlaps = |sealed: &Range<usize>| sealed.start < start + length && start < sealed.end;
        if self.sealed.iter().any(overlaps) { Err(Error::Refused) } else { Ok(()) }
    }

    fn check_protection(&mut self, protection: Protection) -> Result<(), Error> {
        let has_exec = protection.contains(Protection::EXEC);
        if protection.contains(Protection::BTI)
            && !(self.switches.hardening.contains(Hardening::BTI) && has_exec)
        {
            self.space.violation(format!("landing pads were asked for with {}", protection.letters()));
        }
        if !protection.is_writable_code() {
            return Ok(());
        }
        if self.switches.forbid_writable_code {
            self.space.violation(format!("{} was asked for", protection.letters()));
        }
        if self.switches.refuse_writable_code { Err(Error::Refused) } else { Ok(()) }
    }

    pub(crate) fn map(&mut self, length: usize, memory: Memory, at: Option<usize>) -> Result<Views, Error> {
        let page_size = self.space.page_size;
        let is_aligned = at.is_none_or(|at| at.is_multiple_of(page_size));
        if length == 0 || !length.is_multiple_of(page_size) || !is_aligned {
            self.space.violation(format!("Map of {length:#x} bytes at {at:#x?}"));
            return Err(Error::InvalidArgument);
        }
        at.map_or(Ok(()), |at| self.space.refusal(at, length))?;
        let at = if at.is_some() && self.elsewhere > 0 { None } else { at };
        self.elsewhere = self.elsewhere.saturating_sub(1);
        let (protection, kind) = match memory {
            Memory::Private(protection) => (protection, Kind::Private),
            Memory::Shared(protection) => (protection, Kind::Shared),
            Memory::Dual if self.switches.refuse_dual => return Err(Error::Refused),
            Memory::Dual => return self.map_dual(length, at),
            Memory::Jit if !self.switches.has_jit => return Err(Error::Unsupported),
            Memory::Jit => (Protection::RX, Kind::Jit),
        };
        self.check_protection(protection)?;
        let address = self.space.map(length, protection, kind, at).ok_or(Error::NoMemory)?;
        Ok(Views { address, writable: 0 })
    }

    fn map_dual(&mut self, length: usize, at: Option<usize>) -> Result<Views, Error> {
        if length >= HUGE {
            return Err(Error::NoMemory);
        }
        let memory = self.space.new_memory(vec![0; length]);
        let kind = Kind::View { memory, offset: 0 };
        let address = self.space.map(length, Protection::RX, kind, at).ok_or(Error::NoMemory)?;
        let Some(writable) = self.space.map(length, Protection::RW, kind, None) else {
            self.space.unmap(address, length);
            return Err(Error::NoMemory);
        };
        Ok(Views { address, writable })
    }

    /// As [`map`](Self::map), each view between two pages without access, which are a piece with it.
    pub(crate) fn map_guarded(
        &mut self,
        length: usize,
        memory: Memory,
        at: Option<usize>,
    ) -> Result<Views, Error> {
        at.map_or(Ok(()), |at| self.space.refusal(at, length))?;
        let at = if at.is_some() && self.elsewhere > 0 { None } else { at };
        let Views { address, writable } = self.map(length, memory, None)?;
        self.elsewhere = self.elsewhere.saturating_sub(1);
        let address = self.guard(address, length, at)?;
        let writable = if writable == 0 { 0 } else { self.guard(writable, length, None)? };
        Ok(Views { address, writable })
    }

    fn guard(&mut self, view: usize, length: usize, at: Option<usize>) -> Result<usize, Error> {
        let guard = self.space.page_size;
        let place = at.map(|at| at - guard);
        let whole = self.space.map(length + 2 * guard, Protection::NONE, Kind::Private, place);
        let guarded = whole.ok_or(Error::NoMemory)? + guard;
        let area = self.space.areas_in(view..view + length).next();
        let (protection, kind) = area.map(|(_, area)| (area.protection, area.kind)).ok_or(Error::NoMemory)?;
        self.space.replace(guarded, length, protection, kind);
        self.space.unmap(view, length);
        Ok(guarded)
    }

    pub(crate) fn unmap(&mut self, start: usize, length: usize) -> Result<(), Error> {
        self.check_pages(Call::Unmap, start, length)?;
        self.check_not_sealed(start, length)?;
        if self.space.pieces.get(&start) != Some(&length) {
            if !self.switches.allow_partial_unmap {
                self.space.violation(format!("Unmap of a part: {start:#x}, {length:#x} bytes"));
                return Err(Error::InvalidArgument);
            }
            self.space.divide(start, length);
        }
        self.write_back(start, length);
        self.space.unmap(start, length);
        self.caches.forget(start, start + length);
        Ok(())
    }

    pub(crate) fn protect(
        &mut self,
        start: usize,
        length: usize,
        protection: Protection,
    ) -> Result<(), Error> {
        self.check_pages(Call::Protect, start, length)?;
        self.check_not_sealed(start, length)?;
        self.check_protection(protection)?;
        let range = start..start + length;
        if self.space.areas_in(range.clone()).any(|(_, area)| area.kind == Kind::Jit) {
            self.space.violation(format!("Protect of pages behind a write switch: {range:x?}"));
            return Err(Error::Refused);
        }
        if protection.contains(Protection::EXEC) && self.switches.refuse_exec_gain {
            let had_exec = |protection: Protection| protection.contains(Protection::EXEC);
            if !self.space.areas_in(range.clone()).all(|(_, area)| had_exec(area.protection)) {
                return Err(Error::Refused);
            }
        }
        self.space.protect(range, protection);
        Ok(())
    }

    pub(crate) fn map_again(&mut self, source: Span, onto: Option<usize>) -> Result<usize, Error> {
        self.check_pages(Call::MapAgain, source.start(), source.length())?;
        self.space.settle(source.range());
        let views = self.space.views_in(source.range());
        let first = self.space.areas_in(source.range()).next();
        let first = first.map(|(_, area)| (area.protection, area.is_withheld));
        let ([(_, memory, shown)], Some((protection, is_withheld))) = (&views[..], first) else {
            self.space.violation(format!("MapAgain of what has no second view: {source:x?}"));
            return Err(Error::InvalidArgument);
        };
        let kind = Kind::View { memory: *memory, offset: shown.start };
        let Some(target) = onto else {
            let view = self.space.map(source.length(), protection, kind, None).ok_or(Error::NoMemory)?;
            self.space.show(view..view + source.length());
            self.space.inherit(view..view + source.length(), !is_withheld);
            return Ok(view);
        };
        self.check_pages(Call::MapAgain, target, source.length())?;
        self.check_not_sealed(target, source.length())?;
        let range = target..target + source.length();
        let is_reserved = |area: &Area| area.kind == Kind::Private && area.protection == Protection::NONE;
        if self.space.areas_in(range.clone()).all(|(_, area)| is_reserved(area)) {
            self.space.replace(target, source.length(), protection, kind);
            return Ok(target);
        }
        self.space.settle(range.clone());
        let views = self.space.views_in(range);
        let is_whole = views.iter().map(|(.., part)| part.len()).sum::<usize>() == shown.len();
        let mut offset = shown.start;
        let is_same = |(_, other, part): (usize, usize, Range<usize>)| {
            let expected = offset..offset + part.len();
            offset = expected.end;
            // Another memory has to hold the same: the copy of it that takes its place.
            (other == *memory && part == expected)
                || self.space.contents(other, part) == self.space.contents(*memory, expected)
        };
        if !is_whole || !views.into_iter().all(is_same) {
            self.space.violation(format!("MapAgain of {source:x?} onto other contents at {target:#x}"));
            return Err(Error::InvalidArgument);
        }
        self.space.replace(target, source.length(), protection, kind);
        self.space.inherit(target..target + source.length(), !is_withheld);
        Ok(target)
    }

    pub(crate) fn move_onto(&mut self, source: Span, onto: usize) -> Result<(), Error> {
        self.map_again(source, Some(onto))?;
        self.space.divide(source.start(), source.length());
        self.space.unmap(source.start(), source.length());
        self.caches.forget(source.start(), source.end());
        Ok(())
    }

    /// Stores through shared mappings reach their file.
    fn write_back(&mut self, start: usize, length: usize) {
        for (part, area) in self.space.areas_in(start..start + length) {
            if let Kind::File { file, offset, shared: true } = area.kind_at(part.start)
                && area.may_store()
                && part.len() < HUGE
            {
                self.files.files[file].write(offset, &bytes::read(part.start, part.len()));
            }
        }
    }

    pub(crate) fn request(&mut self, start: usize, length: usize, request: PageRequest) -> Result<(), Error> {
        self.check_pages(Call::Request, start, length)?;
        self.requests.push(Request { start, length, request });
        match request {
            PageRequest::Sync { .. } => self.write_back(start, length),
            PageRequest::Populate { for_write } => {
                self.check_presence(start, length)?;
                if !for_write {
                    // Whoever asks is about to load what is there.
                    self.space.settle(start..start + length);
                    self.space.show(start..start + length);
                }
            }
            PageRequest::Advise(Advice::DontNeed) => {
                self.check_not_sealed(start, length)?;
                self.drop_contents(start, length);
            }
            PageRequest::Advise(Advice::DontFork) => self.space.inherit(start..start + length, false),
            PageRequest::Fork => self.space.inherit(start..start + length, true),
            _ => {}
        }
        Ok(())
    }

    /// Pages that hold something.
    pub(crate) fn resident(&mut self, pages: Span) -> Result<usize, Error> {
        self.check_pages(Call::Resident, pages.start(), pages.length())?;
        self.space.settle(pages.range());
        self.space.show(pages.range());
        let bytes = bytes::read(pages.start(), pages.length());
        let page_size = self.space.page_size;
        let holds_some = |page: &&[u8]| page.iter().any(|byte| *byte != 0);
        Ok(bytes.chunks(page_size).filter(holds_some).count() * page_size)
    }

    pub(crate) fn make_huge(&mut self, pages: Span) -> Result<(), Error> {
        self.check_pages(Call::MakeHuge, pages.start(), pages.length())?;
        let huge_page = self.switches.huge_page.ok_or(Error::Unsupported)?;
        if !pages.start().is_multiple_of(huge_page) || !pages.length().is_multiple_of(huge_page) {
            self.space.violation(format!("MakeHuge of {pages:x?}"));
            return Err(Error::InvalidArgument);
        }
        if !self.space.huge.contains(&pages) {
            self.space.huge.push(pages);
        }
        Ok(())
    }

    /// Pages wholly behind the end of their file can't be brought in.
    fn check_presence(&self, start: usize, length: usize) -> Result<(), Error> {
        for (part, area) in self.space.areas_in(start..start + length) {
            if let Kind::File { file, offset, .. } = area.kind_at(part.start) {
                let present = (self.files.files[file].size as usize).next_multiple_of(self.space.page_size);
                if offset + part.len() > present {
                    return Err(Error::Io);
                }
            }
        }
        Ok(())
    }

    /// What may be copied: no page is behind the end of its file, and the protection allows it.
    pub(crate) fn check_copy(&mut self, source: usize, target: usize, length: usize) -> Result<(), Error> {
        for (start, needed) in [(source, Protection::READ), (target, Protection::WRITE)] {
            let range = start..start + length;
            if !self.space.areas_in(range.clone()).all(|(_, area)| area.protection.contains(needed)) {
                self.space.violation(format!("a copy needs {} of {range:x?}", needed.letters()));
                return Err(Error::InvalidArgument);
            }
            self.check_presence(start, length)?;
        }
        Ok(())
    }

    /// Private memory is zero again, a private file mapping shows its file again.
    fn drop_contents(&mut self, start: usize, length: usize) {
        self.space.check_snapshots(start..start + length);
        let (mut zeroed, mut fresh) = (Vec::new(), Vec::new());
        for (part, area) in self.space.areas_in(start..start + length) {
            match area.kind_at(part.start) {
                Kind::Private | Kind::Jit => zeroed.push(part),
                Kind::File { file, offset, shared: false } if part.len() < HUGE => {
                    fresh.push((part.start, self.files.files[file].read(offset, part.len())));
                }
                _ => {}
            }
        }
        zeroed.into_iter().for_each(|part| bytes::zero(part.start, part.len()));
        fresh.into_iter().for_each(|(start, contents)| bytes::write(start, &contents));
        self.space.take_snapshot(start..start + length);
    }

    pub(crate) fn flush(&mut self, flush: Flush) {
        let Flush { written, executed, length } = flush;
        self.flushes.push(flush);
        for range in [written..written + length, executed..executed + length] {
            let readable = |protection: Protection| protection.contains(Protection::READ);
            if self.space.piece_around(&range).is_none()
                || !self.space.areas_in(range.clone()).all(|(_, area)| readable(area.protection))
            {
                self.space.violation(format!("{flush:x?} reads {range:x?}, which is not readable"));
                return;
            }
            self.space.settle(range);
        }
        self.space.show(written..written + length);
        self.space.show(executed..executed + length);
        let memory_of = |start: usize| {
            let views = self.space.views_in(start..start + length);
            views.into_iter().map(|(_, memory, part)| (memory, part)).collect::<Vec<_>>()
        };
        // A copy of which only one view could be moved into place holds the same until it is tried again.
        let is_other = written != executed && memory_of(written) != memory_of(executed);
        if is_other && bytes::read(written, length) != bytes::read(executed, length) {
            self.space.violation(format!("a flush of two views of different memory: {flush:x?}"));
            return;
        }
        self.caches.flush(executed, &bytes::read(executed, length));
        if self.switches.is_alone {
            // A core that runs this program later has nothing of it yet.
            self.caches.synchronize();
        }
    }

    pub(crate) fn map_file(&mut self, file: usize, part: FilePart) -> Result<usize, Error> {
        let FilePart { offset, length, protection, shared } = part;
        let page_size = self.space.page_size;
        let end = offset.checked_add(length as u64);
        if length == 0
            || !(offset as usize).is_multiple_of(page_size)
            || end.is_none_or(|end| end > self.files.files[file].size)
        {
            self.space.violation(format!("MapFile of {part:?}"));
            return Err(Error::InvalidArgument);
        }
        self.check_protection(protection)?;
        let pages = length.next_multiple_of(page_size);
        let kind = Kind::File { file, offset: offset as usize, shared };
        let start = self.space.map(pages, protection, kind, None).ok_or(Error::NoMemory)?;
        if pages < HUGE {
            bytes::write(start, &self.files.files[file].read(offset as usize, pages));
            self.space.take_snapshot(start..start + pages);
        }
        Ok(start)
    }
}
