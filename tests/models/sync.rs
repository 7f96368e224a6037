//! In place of the core's `sync`: the same atomics, of the same size, which a model checker steps through.
//!
//! Under [`explore`] each is one of loom's, found by its address; so records may lie in any memory, and be constants.
//! In a run of shuttle each access lets other threads go first. Elsewhere they are plain memory of one thread.

extern crate std;

use core::cell::{RefCell, UnsafeCell};
pub use core::sync::atomic::Ordering;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::OnceLock;

type Object = Rc<loom::sync::atomic::AtomicU64>;

std::thread_local! {
    /// Of the run that loom explores. Its threads are all this one.
    static OBJECTS: RefCell<Option<HashMap<usize, Object>>> = const { RefCell::new(None) };
}

/// Explores a model by loom: each order of steps with so many preemptions at most, and each value that a load may give.
///
/// An atomic becomes loom's when it is touched first: that has to be before threads are spawned that use it.
#[cfg(test)]
pub(crate) fn explore(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.max_branches = 100_000;
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = runs.clone();
    builder.check(move || {
        counted.fetch_add(1, Ordering::Relaxed);
        OBJECTS.set(Some(HashMap::new()));
        crate::models::System::reset();
        model();
        OBJECTS.set(None);
    });
    std::println!("{} executions", runs.load(Ordering::Relaxed));
}

/// Whether the fault of this name is to be made: the text of the models says which there are.
pub fn is_seeded(fault: &str) -> bool {
    static SEEDED: OnceLock<Option<std::ffi::OsString>> = OnceLock::new();
    SEEDED.get_or_init(|| std::env::var_os("EXECMEM_FAULT")).as_deref().is_some_and(|seeded| seeded == fault)
}

/// What an atomic holds, as the number by which loom knows it.
pub trait Word: Copy {
    fn number(self) -> u64;
    fn of(number: u64) -> Self;
}

macro_rules! words {
    ($($word:ty, $atomic:ident;)*) => { $(
        pub type $atomic = Atomic<$word>;
        impl Word for $word {
            fn number(self) -> u64 { self as u64 }
            fn of(number: u64) -> Self { number as $word }
        }
    )* };
}
words! {
    u8, AtomicU8; u16, AtomicU16; u32, AtomicU32; u64, AtomicU64; usize, AtomicUsize; i32, AtomicI32; i64, AtomicI64;
}
pub type AtomicBool = Atomic<bool>;
pub type AtomicPtr<T> = Atomic<*mut T>;

impl Word for bool {
    fn number(self) -> u64 {
        self.into()
    }
    fn of(number: u64) -> Self {
        number != 0
    }
}

impl<T> Word for *mut T {
    fn number(self) -> u64 {
        self.expose_provenance() as u64
    }
    fn of(number: u64) -> Self {
        core::ptr::with_exposed_provenance_mut(number as usize)
    }
}

/// An atomic.
#[derive(Default)]
#[repr(transparent)]
pub struct Atomic<T>(UnsafeCell<T>);

// SAFETY: all threads of a model are one thread of the system, and the checkers change between them at an access only.
unsafe impl<T> Sync for Atomic<T> {}
// SAFETY: as for `Sync`.
unsafe impl<T> Send for Atomic<T> {}

impl<T: Word> Atomic<T> {
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// # Safety
    /// As for those of the standard library.
    pub const unsafe fn from_ptr<'a>(place: *mut T) -> &'a Self {
        // SAFETY: the caller's promise; the layout is that of the word.
        unsafe { &*place.cast() }
    }

    /// Loom's, if it explores. Else the place, after others were let go first.
    fn object(&self) -> Result<Object, *mut T> {
        let place = self.0.get();
        let found = OBJECTS.with_borrow_mut(|objects| {
            // SAFETY: nobody else accesses it: see `Sync`.
            let new = || Rc::new(loom::sync::atomic::AtomicU64::new(unsafe { *place }.number()));
            objects.as_mut().map(|objects| objects.entry(place.addr()).or_insert_with(new).clone())
        });
        found.ok_or_else(|| {
            if shuttle::current::try_get_current_task().is_some() && !std::thread::panicking() {
                shuttle::thread::yield_now();
            }
            place
        })
    }

    /// Puts `new` of what is there in its place, by loom's own operation where it explores.
    fn update(&self, by_loom: impl FnOnce(Object) -> u64, new: impl FnOnce(u64) -> u64) -> T {
        match self.object() {
            Ok(object) => T::of(by_loom(object)),
            Err(place) => {
                // SAFETY: nobody else accesses it: see `Sync`.
                let old = unsafe { *place };
                // SAFETY: nobody else accesses it: see `Sync`.
                unsafe { *place = T::of(new(old.number())) };
                old
            }
        }
    }

    pub fn load(&self, ordering: Ordering) -> T {
        match self.object() {
            Ok(object) => T::of(object.load(ordering)),
            // SAFETY: nobody else accesses it: see `Sync`.
            Err(place) => unsafe { *place },
        }
    }

    pub fn store(&self, value: T, ordering: Ordering) {
        match self.object() {
            Ok(object) => object.store(value.number(), ordering),
            // SAFETY: nobody else accesses it: see `Sync`.
            Err(place) => unsafe { *place = value },
        }
    }

    pub fn swap(&self, value: T, ordering: Ordering) -> T {
        let value = value.number();
        self.update(|object| object.swap(value, ordering), |_| value)
    }

    pub fn compare_exchange(&self, current: T, new: T, success: Ordering, failure: Ordering) -> Result<T, T> {
        let (current, new) = (current.number(), new.number());
        let by_loom = |object: Object| match object.compare_exchange(current, new, success, failure) {
            Ok(old) | Err(old) => old,
        };
        let old = self.update(by_loom, |old| if old == current { new } else { old });
        if old.number() == current { Ok(old) } else { Err(old) }
    }

    pub fn fetch_update(
        &self,
        success: Ordering,
        failure: Ordering,
        mut new: impl FnMut(T) -> Option<T>,
    ) -> Result<T, T> {
        let mut old = self.load(failure);
        while let Some(next) = new(old) {
            match self.compare_exchange(old, next, success, failure) {
                Ok(old) => return Ok(old),
                Err(other) => old = other,
            }
        }
        Err(old)
    }

    pub fn fetch_add(&self, more: T, ordering: Ordering) -> T {
        let more = more.number();
        self.update(|object| object.fetch_add(more, ordering), |old| old.wrapping_add(more))
    }

    pub fn fetch_sub(&self, less: T, ordering: Ordering) -> T {
        let less = less.number();
        self.update(|object| object.fetch_sub(less, ordering), |old| old.wrapping_sub(less))
    }

    /// Of numbers that are not negative.
    pub fn fetch_max(&self, other: T, ordering: Ordering) -> T {
        let other = other.number();
        self.update(|object| object.fetch_max(other, ordering), |old| old.max(other))
    }

    pub fn fetch_or(&self, bits: T, ordering: Ordering) -> T {
        let bits = bits.number();
        self.update(|object| object.fetch_or(bits, ordering), |old| old | bits)
    }

    pub fn fetch_and(&self, bits: T, ordering: Ordering) -> T {
        let bits = bits.number();
        self.update(|object| object.fetch_and(bits, ordering), |old| old & bits)
    }
}

pub fn fence(ordering: Ordering) {
    if OBJECTS.with_borrow(Option::is_some) {
        loom::sync::atomic::fence(ordering);
    }
}
