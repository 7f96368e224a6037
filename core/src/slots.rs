//! Records that come and go: they are found by a number, and their memory goes with them.

use crate::error::{Error, Result};
use crate::memory::{Index, Pool, SLAB, Table};
use crate::platform::{Memory, Platform};
use crate::protection::Protection;
use crate::span::Span;
use core::iter;
use core::marker::PhantomData;
use core::mem;
use core::ptr::{self, NonNull};

/// Records, each at an index that another one has later. Nobody reads them without the lock that guards them.
pub(crate) struct Slots<T> {
    slabs: Slabs,
    records: PhantomData<T>,
}

#[repr(C)]
struct Slot<T> {
    head: Head,
    record: T,
}

impl<T: Copy> Slots<T> {
    pub(crate) const fn new() -> Self {
        const { assert!(align_of::<Slot<T>>() <= 64 && size_of::<Slot<T>>() <= 64) };
        Self { slabs: Slabs::new(size_of::<Slot<T>>() as u32), records: PhantomData }
    }

    /// Bytes of memory that the records take, beside what the pool has.
    pub(crate) fn held(&self) -> usize {
        self.slabs.held
    }

    /// Adds a record. *No memory*: there is none for another slab.
    pub(crate) fn insert(&mut self, record: T, pool: &mut Pool, platform: impl Platform) -> Result<Index> {
        let (index, slot) = self.slabs.take(pool, platform)?;
        // SAFETY: the slot was free, and `&mut self` keeps others out.
        unsafe { (&raw mut (*slot.cast::<Slot<T>>().as_ptr()).record).write(record) };
        Ok(index)
    }

    pub(crate) fn get(&self, index: Index) -> Option<&T> {
        // SAFETY: a slot that is in use holds a record.
        Some(unsafe { &self.slabs.used(index)?.cast::<Slot<T>>().as_ref().record })
    }

    pub(crate) fn get_mut(&mut self, index: Index) -> Option<&mut T> {
        // SAFETY: a slot that is in use holds a record, and `&mut self` makes the access exclusive.
        Some(unsafe { &mut self.slabs.used(index)?.cast::<Slot<T>>().as_mut().record })
    }

    /// Tells the record apart from others that had its index before.
    pub(crate) fn generation(&self, index: Index) -> Option<u32> {
        // SAFETY: the head of a slot that is in use is initialised.
        Some(unsafe { self.slabs.used(index)?.as_ref() }.generation)
    }

    pub(crate) fn remove(&mut self, index: Index, platform: impl Platform) -> Option<T> {
        let record = *self.get(index)?;
        self.slabs.give_back(index, platform);
        Some(record)
    }

    /// All records.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        let mut from = 0;
        iter::from_fn(move || {
            let index = self.next_from(from)?;
            from = index + 1;
            self.get(index)
        })
    }

    /// The first index from this one on that has a record. One step for each slab without any, whatever it held once.
    pub(crate) fn next_from(&self, mut index: Index) -> Option<Index> {
        loop {
            if self.slabs.table.get(index >> self.slabs.place_bits)?.used == 0 {
                index |= (1 << self.slabs.place_bits) - 1;
            } else if self.slabs.used(index).is_some() {
                return Some(index);
            }
            index = index.checked_add(1)?;
        }
    }
}

/// Slots of one size, in slabs of [`SLAB`] bytes.
///
/// A slab's memory goes when its last record does, but for one slab's: so there is one at most without a record, and
/// who adds and removes the same few maps nothing.
struct Slabs {
    table: Table<Slab>,
    /// Bytes of a slot.
    size: u32,
    /// How many bits of an index are the place in a slab.
    place_bits: u32,
    /// The generation of the record that was added last.
    generation: u32,
    /// The first slab with a free slot, as number + 1, whether it has its memory or not.
    room: Index,
    /// A slab that has its memory and no record, as number + 1.
    empty: Index,
    /// Bytes of the slabs that have their memory.
    held: usize,
}

struct Slab {
    /// Its memory; 0: it has none.
    start: usize,
    /// How many slots are in use.
    used: u32,
    /// Slots from here on were not used since the slab has its memory.
    fresh: u32,
    /// The first free slot before that, as place + 1.
    free: u32,
    /// The next slab with a free slot, as number + 1.
    next: Index,
}

struct Head {
    /// Tells a record apart from others that had the slot before; 0: the slot is free.
    generation: u32,
    /// The next free slot of the slab, as place + 1.
    next: u32,
}

impl Slabs {
    const fn new(size: u32) -> Self {
        let place_bits = (SLAB as u32 / size).ilog2();
        Self { table: Table::new(), size, place_bits, generation: 0, room: 0, empty: 0, held: 0 }
    }

    fn place(&self, index: Index) -> u32 {
        index & ((1 << self.place_bits) - 1)
    }

    /// The slot at an index, if it is in use.
    #[cfg_attr(not(target_os = "none"), inline)]
    #[cfg_attr(target_os = "none", inline(never))]
    fn used(&self, index: Index) -> Option<NonNull<Head>> {
        let place = self.place(index);
        let slab = self.table.get(index >> self.place_bits).filter(|slab| place < slab.fresh)?;
        let head = NonNull::new(slab.head(place, self.size))?;
        // SAFETY: the slot was used since the slab has its memory, so its head is initialised.
        (unsafe { head.as_ref() }.generation != 0).then_some(head)
    }

    /// A slot that was free, and its index.
    fn take(&mut self, pool: &mut Pool, platform: impl Platform) -> Result<(Index, NonNull<Head>)> {
        if self.room == 0 {
            let slab = Slab { start: 0, used: 0, fresh: 0, free: 0, next: 0 };
            // SAFETY: `&mut self` keeps others out.
            self.room = 1 + unsafe { self.table.add(pool, platform, |_| slab) }?;
        }
        let (number, bits) = (self.room - 1, self.place_bits);
        let slab = self.table.get_mut(number).ok_or(Error::NoMemory)?;
        if slab.start == 0 {
            let bytes = bytes(platform);
            slab.start = platform.map(bytes, Memory::Private(Protection::RW), None)?.address;
            self.held += bytes;
        }
        let place = slab.free.checked_sub(1).unwrap_or(slab.fresh);
        let head = NonNull::new(slab.head(place, self.size)).ok_or(Error::NoMemory)?;
        if place == slab.fresh {
            slab.fresh += 1;
        } else {
            // SAFETY: the slot was used since the slab has its memory, so its head is initialised.
            slab.free = unsafe { head.as_ref() }.next;
        }
        slab.used += 1;
        if slab.used >> bits != 0 {
            self.room = slab.next;
        }
        if self.empty == number + 1 {
            self.empty = 0;
        }
        self.generation = self.generation.wrapping_add(1).max(1);
        // SAFETY: the slab has the place, and `&mut self` keeps others out.
        unsafe { head.write(Head { generation: self.generation, next: 0 }) };
        Ok((number << bits | place, head))
    }

    /// Frees a slot that is in use.
    fn give_back(&mut self, index: Index, platform: impl Platform) {
        let (bits, place) = (self.place_bits, self.place(index));
        let number = index >> bits;
        let (Some(head), Some(slab)) = (self.used(index), self.table.get_mut(number)) else { return };
        // SAFETY: the head is that of a slot in use, and `&mut self` keeps others out.
        unsafe { head.write(Head { generation: 0, next: slab.free }) };
        slab.free = place + 1;
        if slab.used >> bits != 0 {
            slab.next = mem::replace(&mut self.room, number + 1);
        }
        slab.used -= 1;
        if slab.used == 0
            && let Some(other) = mem::replace(&mut self.empty, number + 1).checked_sub(1)
            && let Some(other) = self.table.get_mut(other)
        {
            let pages = Span::from_parts(other.start, bytes(platform));
            // SAFETY: no record is in the slab whose pages they are, and `&mut self` keeps others out. If it fails the
            // slab keeps them.
            if unsafe { platform.unmap(pages) }.is_ok() {
                (other.start, other.fresh, other.free) = (0, 0, 0);
                self.held -= pages.length();
            }
        }
    }
}

impl Slab {
    fn head(&self, place: u32, size: u32) -> *mut Head {
        ptr::with_exposed_provenance_mut(self.start + (place * size) as usize)
    }
}

/// Bytes of a slab.
fn bytes(platform: impl Platform) -> usize {
    SLAB.next_multiple_of(platform.page_size())
}
