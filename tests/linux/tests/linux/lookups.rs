//! Lookups in a signal handler that interrupts other work: what they say of watched addresses, and whether they leave
//! the interrupted thread's errors alone.
//!
//! Nothing here allocates or panics while the work goes on: what is wrong is noted, and told afterwards.

use crate::operations::{Ground, LARGE, WIDE, page, size};
use execmem_conformance::memory::{RW, RWX, RX};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::system::{foreign_data, foreign_function};
use std::cell::Cell;
use std::sync::atomic::{AtomicI64, AtomicPtr, Ordering};

/// The answers of the three lookups, as numbers.
pub type Answers = [i64; 3];
const LOOKUPS: [&str; 3] = ["rt_get_protection", "rt_is_executable", "rt_code_find"];
const NONE: Answers = [-1, 0, -1];

fn ask(lookup: usize, address: i64) -> i64 {
    match lookup {
        0 => rt_get_protection(address).into(),
        1 => rt_is_executable(address).into(),
        _ => find_block(address).map_or(-1, packed),
    }
}

/// Blocks start at multiples of 64, below 2^47, and are shorter than 2^20.
fn packed((start, size): (i64, i64)) -> i64 {
    start << 14 | size
}

/// An address that lookups are asked about, and what they said before the work and will say after it.
pub struct Place {
    name: &'static str,
    pub address: i64,
    expected: Option<Answers>,
    pub before: Answers,
    pub after: Answers,
    /// Whether the work is about this address: then it is asked about after every instruction.
    is_concerned: bool,
    has_changed: [Cell<bool>; 3],
}

/// Whether the system answers what the library asks it about addresses that are not its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It does. So lookups know of pages that the library has mapped and not yet entered, or not yet unmapped: what the
    /// kernel says of these is right, too.
    Sighted,
    /// No descriptor is left to ask with. What a lookup says comes from the library's own records: it is what was right
    /// before the work until it is what is right after it.
    Blind,
}

/// What is known of some work as it goes on, in memory that parent and child share: a child that hangs tells no more.
#[derive(Default)]
pub struct Board {
    pub steps: AtomicI64,
    place: AtomicI64,
    lookup: AtomicI64,
    next: AtomicI64,
    /// What the work gives, known from a child that did it before.
    pub given: AtomicI64,
    pub after: [[AtomicI64; 3]; MOST_PLACES],
}

pub const MOST_PLACES: usize = 32;

impl Board {
    pub fn shared() -> &'static Self {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: a new mapping, zeroed, as large, and never unmapped; zero is a number of each atomic.
        unsafe {
            let board = libc::mmap(std::ptr::null_mut(), size_of::<Self>(), protection, flags, -1, 0);
            assert_ne!(board, libc::MAP_FAILED, "memory to share with children");
            &*board.cast()
        }
    }

    /// Where a child was that tells no more.
    pub fn whereabouts(&self) -> String {
        let [steps, place, lookup, next] =
            [&self.steps, &self.place, &self.lookup, &self.next].map(|number| number.load(Ordering::Relaxed));
        let lookup = LOOKUPS.get(lookup as usize).unwrap_or(&"no lookup");
        format!("after {steps} instructions, before {next:#x}, in {lookup} of place {place}")
    }
}

/// What was wrong first.
#[derive(Clone, Copy)]
struct Complaint {
    what: &'static str,
    place: usize,
    lookup: usize,
    answer: i64,
    next: usize,
    step: i64,
}

pub struct Watch {
    pub places: Vec<Place>,
    sight: Sight,
    board: &'static Board,
    /// The kernel's list of mappings, open for the test itself.
    maps: libc::c_int,
    files: libc::rlimit,
    turn: Cell<usize>,
    complaint: Cell<Option<Complaint>>,
}

static WATCH: AtomicPtr<Watch> = AtomicPtr::new(std::ptr::null_mut());

/// All of so many instructions is asked at once.
const ROUND: i64 = 64;

impl Watch {
    pub fn new(sight: Sight, board: &'static Board) -> Self {
        // SAFETY: the path is a C string; the structure is room for a limit.
        let (maps, files) = unsafe {
            let mut files = std::mem::zeroed();
            assert_eq!(libc::getrlimit(libc::RLIMIT_NOFILE, &mut files), 0);
            (libc::open(c"/proc/self/maps".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC), files)
        };
        let (turn, complaint) = (Cell::new(0), Cell::new(None));
        Self { places: Vec::new(), sight, board, maps, files, turn, complaint }
    }

    /// Watches an address. `expected` is what lookups say of it now, if that is known otherwise than by asking.
    pub fn place(&mut self, name: &'static str, address: i64, expected: Option<Answers>) {
        let is_concerned = false;
        let has_changed = Default::default();
        let place = Place { name, address, expected, before: NONE, after: NONE, is_concerned, has_changed };
        self.places.push(place);
        assert!(self.places.len() <= MOST_PLACES);
    }

    /// Watches what an operation works on, and what it has nothing to do with.
    pub fn ground(&mut self, on: &Ground, freed: i64, freed_block: i64) {
        let writable = rt_exec_memory_policy() == RT_POLICY_RWX;
        let code = [if writable { RWX } else { RX }.into(), 1, -1];
        let data = |protection: i32| Some([protection.into(), i64::from(protection & RT_PROT_EXEC != 0), -1]);
        // Under `auto` the heap has another policy than regions have.
        let heap = i64::from(rt_get_protection(on.function));
        let block = |start, size| Some([heap, 1, packed((start, size))]);
        let dead = Some([heap, 0, -1]);
        self.place("code", on.code, Some(code));
        self.place("its second page", on.code + page(), Some(code));
        self.place("data", on.data, data(RW));
        self.place("its second page", on.data + page(), data(RW));
        self.place("readable page", on.mixed, data(RT_PROT_READ));
        self.place("writable page", on.mixed + page(), data(RW));
        self.place("executable page", on.mixed + 2 * page() + 5, data(RX));
        self.place("file", on.mapping.address, data(RW));
        self.place("wide", on.wide, data(RW));
        self.place("its inner page", on.inner_page(), data(RW));
        self.place("the page before that", on.inner_page() - page(), data(RW));
        self.place("its end", on.wide + WIDE - 1, data(RW));
        self.place("function", on.function, block(on.function, 8));
        self.place("its last byte", on.function + 7, block(on.function, 8));
        self.place("the byte behind it", on.function + 8, dead);
        self.place("large block", on.large + page(), block(on.large, LARGE));
        self.place("the byte behind it", on.large + LARGE, dead);
        self.place("freed region", freed, None);
        self.place("freed block", freed_block, dead);
    }

    /// Watches what is not the library's.
    pub fn foreign(&mut self) {
        let seen = |answers| Some(if self.sight == Sight::Sighted { answers } else { NONE });
        let (function, data) = (seen([RX.into(), 1, -1]), seen([RW.into(), 0, -1]));
        self.place("foreign function", foreign_function(), function);
        self.place("foreign data", foreign_data(), data);
        self.place("nothing", 1, Some(NONE));
        self.place("beyond all addresses", i64::MAX, Some(NONE));
    }

    /// What lookups say now, of each place.
    pub fn answers(&self) -> Vec<Answers> {
        let ask_all = |place: &Place| [0, 1, 2].map(|lookup| ask(lookup, place.address));
        self.in_sight(|| self.places.iter().map(ask_all).collect())
    }

    /// What is right after the work is what lookups say now.
    pub fn tell_after(&self) {
        for (answers, slots) in self.answers().iter().zip(&self.board.after) {
            answers.iter().zip(slots).for_each(|(answer, slot)| slot.store(*answer, Ordering::Relaxed));
        }
    }

    /// The work comes next. It is about the first two places, and those whose answers it changes.
    pub fn begin(&mut self) {
        let before = self.answers();
        for (index, place) in self.places.iter_mut().enumerate() {
            place.before = before[index];
            place.after = self.board.after[index].each_ref().map(|answer| answer.load(Ordering::Relaxed));
            place.is_concerned = index < 2 || place.before != place.after;
            if let Some(expected) = place.expected {
                assert_eq!(place.before, expected, "{}", place.name);
            }
        }
        WATCH.store(self, Ordering::Relaxed);
    }

    /// The work is done. What was wrong with it, if anything.
    pub fn end(&self) -> Result<(), String> {
        let now = self.answers();
        if let Some(Complaint { what, place, lookup, answer, next, step }) = self.complaint.get() {
            let Place { name, address, before, after, .. } = &self.places[place];
            return Err(format!(
                "{what}: {} of {name} ({address:#x}) says {answer:#x}, where {:#x} was right before and {:#x} is \
                 after; {step} instructions into it, before the one at {next:#x} (foreign_function is at {:#x})",
                LOOKUPS[lookup],
                before[lookup],
                after[lookup],
                foreign_function(),
            ));
        }
        match self.places.iter().zip(now).find(|(place, now)| place.after != *now) {
            None => Ok(()),
            Some((place, now)) => {
                Err(format!("{} is {now:x?} at last, but was {:x?} before", place.name, place.after))
            }
        }
    }

    /// Runs lookups as far as the kernel is to answer them.
    fn in_sight<R>(&self, lookups: impl FnOnce() -> R) -> R {
        if self.sight == Sight::Sighted {
            return lookups();
        }
        let none = libc::rlimit { rlim_cur: 0, ..self.files };
        // SAFETY: sets this process's own limit, and puts it back.
        unsafe {
            libc::setrlimit(libc::RLIMIT_NOFILE, &none);
            let result = lookups();
            libc::setrlimit(libc::RLIMIT_NOFILE, &self.files);
            result
        }
    }

    /// In the handler: asks, and looks at the answers.
    fn look(&self, next: usize) {
        let step = self.board.steps.fetch_add(1, Ordering::Relaxed) + 1;
        self.board.next.store(next as i64, Ordering::Relaxed);
        let count = self.places.len();
        let turn = self.turn.get();
        self.turn.set((turn + 1) % (3 * count));
        self.in_sight(|| {
            for (index, place) in self.places.iter().enumerate() {
                for lookup in 0..3 {
                    if place.is_concerned || step % ROUND == 0 || turn == 3 * index + lookup {
                        self.question(index, lookup, step, next);
                    }
                }
            }
        });
        self.board.lookup.store(-1, Ordering::Relaxed);
    }

    fn question(&self, index: usize, lookup: usize, step: i64, next: usize) {
        const MARK: i32 = 7777;
        self.board.place.store(index as i64, Ordering::Relaxed);
        self.board.lookup.store(lookup as i64, Ordering::Relaxed);
        let place = &self.places[index];
        let last_error = rt_last_error();
        set_errno(MARK);
        let answer = ask(lookup, place.address);
        let what = if errno() != MARK {
            "errno was changed"
        } else if rt_last_error() != last_error {
            "rt_last_error was changed"
        } else if !self.is_right(place, lookup, answer) {
            "wrong"
        } else {
            return;
        };
        if self.complaint.get().is_none() {
            self.complaint.set(Some(Complaint { what, place: index, lookup, answer, next, step }));
        }
    }

    fn is_right(&self, place: &Place, lookup: usize, answer: i64) -> bool {
        let (before, after, has_changed) =
            (place.before[lookup], place.after[lookup], &place.has_changed[lookup]);
        if self.sight == Sight::Blind {
            has_changed.set(has_changed.get() || answer != before);
            return answer == if has_changed.get() { after } else { before };
        }
        answer == before || answer == after || lookup < 2 && answer == self.kernels(lookup, place.address)
    }

    /// What the kernel says in place of a lookup: `PROCMAP_QUERY` of the test's own. (Anything else is no answer.)
    fn kernels(&self, lookup: usize, address: i64) -> i64 {
        const QUERY: u64 = 0xc068_6611;
        let mut query = [0u64; 13];
        (query[0], query[2]) = (size_of_val(&query) as u64, address as u64);
        // SAFETY: the kernel reads and writes as much as the structure says, which is its size.
        let protection = match unsafe { libc::ioctl(self.maps, QUERY as _, &raw mut query) } {
            0 => (query[5] & 7) as i64,
            _ => -1,
        };
        match lookup {
            0 => protection,
            _ => i64::from(protection >= 0 && protection & i64::from(RT_PROT_EXEC) != 0),
        }
    }
}

/// What is to be called after each instruction.
pub fn look(next: usize) {
    let interrupted = errno();
    // SAFETY: null, or what `begin` stored, which the work's caller keeps.
    if let Some(watch) = unsafe { WATCH.load(Ordering::Relaxed).as_ref() } {
        watch.look(next);
    }
    set_errno(interrupted);
}

fn errno() -> i32 {
    // SAFETY: the thread's own cell.
    unsafe { *libc::__errno_location() }
}

fn set_errno(number: i32) {
    // SAFETY: the thread's own cell.
    unsafe { *libc::__errno_location() = number };
}

/// A region and a block that were freed: what lookups say of them, the kernel and the heap decide.
pub fn freed() -> (i64, i64) {
    let (region, block) = (rt_alloc_rw_memory(size()), rt_code_alloc(8));
    assert!(region > 0 && write_block(block, &[0; 8], 0) == 8 && rt_code_publish(block, 8));
    assert!(rt_free_exec_memory(region, size()) && rt_code_free(block));
    (region, block)
}
