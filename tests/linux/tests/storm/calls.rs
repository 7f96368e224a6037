//! Calls that are counted, so that a symbol that the storm forgets is a failure; and what threads and children tell.
//!
//! What children tell lies in memory that they share with their parent. Nothing here takes a lock or panics: another
//! thread may have held the lock when the child was forked.

use execmem_conformance::symbols::rt_last_error;
use std::ops::Range;
use std::panic::Location;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicI64, AtomicPtr, AtomicU64, Ordering};

macro_rules! number_the_list {
    (() $runtime:ident $(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $(, else $failure:expr)? $(=> $call:expr)?;
    )*) => {
        /// The symbols, numbered in the order of the list.
        #[allow(non_camel_case_types, reason = "they are the symbols' names")]
        #[derive(Clone, Copy)]
        pub enum Symbol { $($name),* }

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

execmem_core::for_each_symbol!(number_the_list!());

/// Calls a symbol and counts the call: `did!(symbol(arguments))`, or `did!(symbol: a call of what wraps it)`.
macro_rules! did {
    ($symbol:ident($($argument:expr),*)) => {
        $crate::calls::did!($symbol: execmem_conformance::symbols::$symbol($($argument),*))
    };
    ($symbol:ident: $call:expr) => {{
        $crate::calls::count($crate::calls::Symbol::$symbol);
        $call
    }};
}
pub(crate) use did;

/// Two threads fork.
pub const FORKERS: usize = 2;

/// What a forking thread and its child are at.
pub struct Report {
    stage: AtomicPtr<&'static str>,
    wrong: AtomicPtr<&'static str>,
    place: AtomicPtr<Location<'static>>,
    seen: AtomicI64,
    wanted: AtomicI64,
    error: AtomicI32,
    /// The child's number, while it may be killed.
    pub child: AtomicI32,
    /// When the fork began, in milliseconds of the run; 0: none is under way.
    pub since: AtomicU64,
}

/// Memory that the process shares with its children.
pub struct Board {
    calls: [[AtomicU64; NAMES.len()]; 2],
    pub reports: [Report; FORKERS],
}

static BOARD: OnceLock<&'static Board> = OnceLock::new();
static IS_CHILD: AtomicBool = AtomicBool::new(false);

/// The board, which is mapped before anything is forked.
pub fn board() -> &'static Board {
    BOARD.get_or_init(|| {
        // SAFETY: a new mapping, which is never unmapped; zeros are good for all its fields.
        unsafe {
            let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
            let access = libc::PROT_READ | libc::PROT_WRITE;
            let start = libc::mmap(std::ptr::null_mut(), size_of::<Board>(), access, flags, -1, 0);
            assert_ne!(start, libc::MAP_FAILED, "memory to share with children");
            &*start.cast()
        }
    })
}

/// From now on calls count as a child's.
pub fn become_child() {
    IS_CHILD.store(true, Ordering::Relaxed);
}

pub fn count(symbol: Symbol) {
    let whose = usize::from(IS_CHILD.load(Ordering::Relaxed));
    board().calls[whose][symbol as usize].fetch_add(1, Ordering::Relaxed);
}

/// The symbols that threads, or children, have never called.
pub fn forgotten() -> Vec<String> {
    let calls = ["threads", "children"].into_iter().zip(&board().calls);
    let never = |(whose, calls): (&'static str, &'static [AtomicU64; NAMES.len()])| {
        let never = NAMES.iter().zip(calls).filter(|(_, count)| count.load(Ordering::Relaxed) == 0);
        never.map(move |(name, _)| format!("{name} by {whose}"))
    };
    calls.flat_map(never).collect()
}

/// Something that is not as it should be.
#[derive(Clone, Copy, Debug)]
pub struct Wrong {
    what: &'static &'static str,
    place: &'static Location<'static>,
    seen: i64,
    wanted: i64,
    error: i32,
}

pub type Checked<T = ()> = Result<T, Wrong>;

#[track_caller]
pub fn same(seen: i64, wanted: i64, what: &'static &'static str) -> Checked {
    match seen == wanted {
        true => Ok(()),
        false => Err(Wrong { what, place: Location::caller(), seen, wanted, error: rt_last_error() }),
    }
}

#[track_caller]
pub fn holds(is_so: bool, what: &'static &'static str) -> Checked {
    same(is_so.into(), 1, what)
}

#[track_caller]
pub fn within(seen: i64, wanted: Range<i64>, what: &'static &'static str) -> Checked {
    if wanted.contains(&seen) { Ok(()) } else { same(seen, wanted.start, what) }
}

/// An address that was given.
#[track_caller]
pub fn given(address: i64, what: &'static &'static str) -> Checked<i64> {
    holds(address > 0, what).map(|()| address)
}

impl Wrong {
    /// The line where it was seen, as an exit status.
    pub fn line(&self) -> i32 {
        (self.place.line() % 255) as i32 + 1
    }
}

impl Report {
    pub fn enter(&self, stage: &'static &'static str) {
        self.stage.store(std::ptr::from_ref(stage).cast_mut(), Ordering::Relaxed);
    }

    /// Tells the parent what is wrong.
    pub fn tell(&self, wrong: Wrong) {
        self.place.store(std::ptr::from_ref(wrong.place).cast_mut(), Ordering::Relaxed);
        self.seen.store(wrong.seen, Ordering::Relaxed);
        self.wanted.store(wrong.wanted, Ordering::Relaxed);
        self.error.store(wrong.error, Ordering::Relaxed);
        self.wrong.store(std::ptr::from_ref(wrong.what).cast_mut(), Ordering::Release);
    }

    /// What was entered last, and what was told since the last time.
    pub fn read(&self) -> String {
        // SAFETY: null, or a constant of the program, which is at the same address in parent and child.
        let stage = unsafe { self.stage.load(Ordering::Relaxed).as_ref() }.copied().unwrap_or("nothing");
        let what = self.wrong.swap(std::ptr::null_mut(), Ordering::Acquire);
        // SAFETY: null, or a constant of the program, as the place is, at the same address in parent and child.
        let Some(what) = (unsafe { what.as_ref() }) else { return format!("at: {stage}") };
        // SAFETY: `tell` stored it before what is wrong.
        let place = unsafe { self.place.load(Ordering::Relaxed).as_ref() }.unwrap_or(Location::caller());
        let wrong = Wrong {
            what,
            place,
            seen: self.seen.load(Ordering::Relaxed),
            wanted: self.wanted.load(Ordering::Relaxed),
            error: self.error.load(Ordering::Relaxed),
        };
        format!("at: {stage}; {wrong}")
    }
}

impl std::fmt::Display for Wrong {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { what, place, seen, wanted, error } = self;
        write!(formatter, "{place}: {what}: {seen:#x} instead of {wanted:#x}, last error {error}")
    }
}
