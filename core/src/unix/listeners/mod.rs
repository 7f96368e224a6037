//! Who is told of code: debuggers and profilers, if the environment asks for it, and the process's unwinder.
//!
//! | listener | by | code that goes |
//! |---|---|---|
//! | `gdb` | [`gdb`]: a list in memory, and a function where it stops the process | goes from the list |
//! | `perf` | [`files`]: lines in `/tmp/perf-PID.map` | stays there: the file has no word for it |
//! | `jitdump` | [`files`]: records in `/tmp/jit-PID.dump` | stays; later code at its place is told apart by its time |
//! | the unwinder | [`frames`]: two functions of the C++ runtime | is taken back |
//!
//! What was said is kept in [`ranges`], under a lock that is the last of all. Files are written and the unwinder is
//! called without it: it may allocate by functions of the program's own. Under it run the function of `gdb`, which is
//! empty and the library's own, and the first writing of a process's files.
#![allow(rustdoc::private_intra_doc_links, reason = "who reads the source can follow them")]

mod elf;
mod files;
mod frames;
mod gdb;
mod ranges;

use crate::Error;
use crate::lock::Lock;
use crate::platform::{About, Platform};
use crate::span::Span;
use crate::sync::{AtomicBool, AtomicU32, Ordering};
use core::ffi::CStr;
use files::{Files, Kind};
use frames::Frames;
use gdb::Entry;
use ranges::Ranges;

/// The environment variable that lists who wants to hear of names.
const VARIABLE: &CStr = c"EXECMEM_NAMES";

/// Whether the variable was read.
const READ: u32 = 1;
const GDB: u32 = 2;
const PERF: u32 = 4;
const JITDUMP: u32 = 8;
/// There is a word in it that is none of those.
const UNKNOWN: u32 = 16;

/// The listeners of a process.
pub struct Listeners<P: Platform> {
    platform: P,
    /// Who they are: bits.
    wanted: AtomicU32,
    has_announced: AtomicBool,
    said: Lock<Said>,
}

/// What they were told.
struct Said {
    names: Ranges<Entry>,
    frames: Ranges<Frames>,
    files: Files,
}

// SAFETY: what it points to is reached through it alone, and by a debugger while the process stands.
unsafe impl Send for Said {}

impl<P: Platform> Listeners<P> {
    /// Nobody was told anything.
    pub const fn new(platform: P) -> Self {
        let said = Said { names: Ranges::new(), frames: Ranges::new(), files: Files::new() };
        Self {
            platform,
            wanted: AtomicU32::new(0),
            has_announced: AtomicBool::new(false),
            said: Lock::new(said),
        }
    }

    /// As [`Process::has_announced`](crate::platform::Process::has_announced).
    #[inline]
    pub fn has_announced(&self) -> bool {
        self.has_announced.load(Ordering::Relaxed)
    }

    /// Whether somebody wants to hear of this.
    pub fn is_wanted(&self, about: About<'_>) -> bool {
        matches!(about, About::Frames(_)) || self.wanted() != READ
    }

    /// As [`Process::can_unwind`](crate::platform::Process::can_unwind).
    pub fn can_unwind() -> bool {
        Frames::are_taken()
    }

    /// As [`Process::announce`](crate::platform::Process::announce).
    ///
    /// # Safety
    /// As there.
    pub unsafe fn announce(&self, code: Span, about: About<'_>) -> Result<(), Error> {
        match about {
            About::Name(name) => self.name(code, name),
            About::Frames(records) => {
                let frames = Frames::new(records)?;
                let node = Ranges::node(code, frames, 0)?;
                let replaced = self.said.lock(self.platform).frames.take(code);
                take_back(&replaced);
                // SAFETY: the caller's promise; what the unwinder had of this code was taken back.
                unsafe { frames.register() };
                let mut said = self.said.lock(self.platform);
                // Others may have said something of the same code meanwhile.
                let outdated = said.frames.take(code);
                said.frames.put(node);
                self.note(&said);
                drop(said);
                take_back(&outdated);
                Ok(())
            }
        }
    }

    fn name(&self, code: Span, name: &[u8]) -> Result<(), Error> {
        let wanted = self.wanted();
        if wanted & UNKNOWN != 0 {
            return Err(Error::Unsupported);
        }
        let mut node = Ranges::node(code, Entry::new(), elf::length(name))?;
        let (entry, image) = node.parts();
        elf::write(code, name, image);
        entry.set_image(image);
        let kinds = [(PERF, Kind::Map), (JITDUMP, Kind::Dump)];
        for (_, kind) in kinds.into_iter().filter(|(bit, _)| wanted & bit != 0) {
            self.begin_file(kind)?;
            files::append(kind, code, elf::name_in(entry.image()))?;
        }
        let mut said = self.said.lock(self.platform);
        let mut replaced = said.names.take(code);
        let entry = said.names.put(node);
        if wanted & GDB != 0 {
            replaced.each_pointer(&mut remove_entry);
            add_entry(entry);
        }
        self.note(&said);
        drop(said);
        Ok(())
    }

    /// A file is begun by each process for itself. A forked child's tells first of what it has from its parent.
    fn begin_file(&self, kind: Kind) -> Result<(), Error> {
        let mut said = self.said.lock(self.platform);
        if said.files.is_begun(kind) {
            return Ok(());
        }
        files::begin(kind)?;
        said.files.set_begun(kind);
        // What of it can't be told, since its code can't be read in this process, stays untold.
        said.names.each_range(&mut |code, entry| {
            let _ = files::append(kind, code, elf::name_in(entry.image()));
        });
        Ok(())
    }

    /// As [`Process::while_retracted`](crate::platform::Process::while_retracted).
    pub fn while_retracted(&self, code: Span, end: &mut dyn FnMut() -> bool) {
        let is_seen = self.wanted() & GDB != 0;
        let mut said = self.said.lock(self.platform);
        let (mut names, mut frames) = (said.names.take(code), said.frames.take(code));
        if is_seen {
            names.each_pointer(&mut remove_entry);
        }
        self.note(&said);
        drop(said);
        take_back(&frames);
        if end() {
            return;
        }
        give_again(&frames);
        let mut said = self.said.lock(self.platform);
        while let Some(single) = names.pop() {
            if !said.names.overlaps(single.code()) {
                let entry = said.names.put(single);
                if is_seen {
                    add_entry(entry);
                }
            }
        }
        let outdated = said.frames.put_back(&mut frames);
        self.note(&said);
        drop(said);
        take_back(&outdated);
    }

    fn note(&self, said: &Said) {
        let any = !said.names.is_empty() || !said.frames.is_empty();
        self.has_announced.store(any, Ordering::Relaxed);
    }

    /// Who listens: what the environment said when it was asked first.
    fn wanted(&self) -> u32 {
        let known = self.wanted.load(Ordering::Relaxed);
        if known != 0 {
            return known;
        }
        let asked = match files::is_privileged() {
            // Whoever starts it doesn't decide what a program with rights of its own writes where.
            true => READ,
            false => parse(self.platform.environment(VARIABLE).unwrap_or_default().to_bytes()),
        };
        match self.wanted.compare_exchange(0, asked, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => asked,
            Err(earlier) => earlier,
        }
    }

    /// Whether this thread is in the middle of a change.
    pub(in crate::unix) fn is_own(&self) -> bool {
        self.said.is_own(self.platform)
    }

    /// As [`Process::forget_announced`](crate::platform::Process::forget_announced). The unwinder has nothing of such code.
    pub fn forget(&self, code: Span) {
        let is_seen = self.wanted() & GDB != 0;
        let mut names = self.said.lock(self.platform).names.take(code);
        if is_seen {
            names.each_pointer(&mut remove_entry);
        }
        // Their memory is lost to this process: the allocator may be one whose own handler gives back its locks later.
        core::mem::forget(names);
    }

    /// Takes the lock until [`unlock_after_fork`](Self::unlock_after_fork). The last lock of all.
    pub(in crate::unix) fn lock_for_fork(&self) {
        self.said.lock_for_fork(self.platform);
    }

    /// # Safety
    /// This thread took the lock with [`lock_for_fork`](Self::lock_for_fork), or is the copy of the one that did.
    pub(in crate::unix) unsafe fn unlock_after_fork(&self) {
        // SAFETY: the caller's promise.
        unsafe { self.said.unlock_after_fork(self.platform) };
    }
}

/// Shows an entry of the names to `gdb`. The callers hold the lock.
fn add_entry(entry: *mut Entry) {
    // SAFETY: the callers' lock; an entry stays where it is until it is taken out of the names, and is removed then.
    unsafe { gdb::add(entry) };
}

/// Takes an entry of the names from `gdb`. The callers hold the lock.
fn remove_entry(entry: *mut Entry) {
    // SAFETY: the callers' lock; every entry was added with its name.
    unsafe { gdb::remove(entry) };
}

/// Takes back from the unwinder what is out of the ranges.
fn take_back(frames: &Ranges<Frames>) {
    // SAFETY: they were registered, and nobody else has them in hand to take them back.
    frames.each(&mut |frames| unsafe { frames.deregister() });
}

/// Gives the unwinder again what was taken back.
fn give_again(frames: &Ranges<Frames>) {
    // SAFETY: the code is there still, and so are its records, by the word of whoever gave them.
    frames.each(&mut |frames| unsafe { frames.register() });
}

/// The bits of a list of words between commas.
fn parse(list: &[u8]) -> u32 {
    let bit = |word: &[u8]| match word {
        b"" => 0,
        b"gdb" => GDB,
        b"perf" => PERF,
        b"jitdump" => JITDUMP,
        _ => UNKNOWN,
    };
    list.split(|byte| *byte == b',').fold(READ, |bits, word| bits | bit(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_words_between_commas() {
        assert_eq!(parse(b""), READ);
        assert_eq!(parse(b"perf,gdb"), READ | PERF | GDB);
        assert_eq!(parse(b"jitdump,,map"), READ | JITDUMP | UNKNOWN);
        assert_eq!(parse(b"gdb "), READ | UNKNOWN);
    }
}
