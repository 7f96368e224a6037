//! Records that come and go: they are found by a number, and their memory goes with them.

use crate::error::{Error, Result};
use crate::memory::{Index, Pool, STEP, Table};
use crate::platform::{Memory, Platform};
use crate::protection::Protection;
use crate::span::Span;
use core::marker::PhantomData;
use core::mem::{self, MaybeUninit};
use core::ops::Range;
use core::ptr;

/// Records that come and go, each at an index that another one has later. Nobody reads them without the lock that guards
/// them.
///
/// They lie in blocks of [`STEP`] bytes. A block's memory goes when its last record does, but for one block's: so there
/// is one at most without a record, and who adds and removes the same few maps nothing.
pub(crate) struct Slots<T> {
    blocks: Table<Block>,
    /// The first block with a free slot, as number + 1, whether it has its memory or not.
    room: Index,
    /// A block that has its memory and no record, as number + 1.
    empty: Index,
    /// Bytes of the blocks that have their memory.
    held: usize,
    /// The generation of the record that was added last.
    generation: u32,
    records: PhantomData<T>,
}

struct Block {
    /// Its memory; 0: it has none.
    start: usize,
    used: u32,
    /// Slots from here on were not used since the block has its memory.
    fresh: u32,
    /// The first free slot before that, as place + 1.
    free: u32,
    /// The next block with a free slot, as number + 1.
    next: Index,
}

struct Slot<T> {
    /// Tells a record apart from others that had the slot before; 0: the slot is free.
    generation: u32,
    /// The next free slot of the block, as place + 1.
    next: u32,
    record: MaybeUninit<T>,
}

impl<T: Copy> Slots<T> {
    /// Slots of a block.
    const COUNT: Index = 1 << (STEP / size_of::<Slot<T>>()).ilog2();

    pub(crate) const fn new() -> Self {
        let (room, empty, held, generation) = (0, 0, 0, 0);
        Self { blocks: Table::new(), room, empty, held, generation, records: PhantomData }
    }

    /// Bytes of memory that the records take, beside what the pool has.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Adds a record. *No memory*: there is none for another block.
    pub(crate) fn insert(&mut self, record: T, pool: &mut Pool, platform: impl Platform) -> Result<Index> {
        if self.room == 0 {
            let block = Block { start: 0, used: 0, fresh: 0, free: 0, next: 0 };
            // SAFETY: `&mut self` keeps others out.
            self.room = 1 + unsafe { self.blocks.add(pool, platform, |_| block) }?;
        }
        let number = self.room - 1;
        let block = self.blocks.get_mut(number).ok_or(Error::NoMemory)?;
        if block.start == 0 {
            let bytes = STEP.next_multiple_of(platform.page_size());
            block.start = platform.map(bytes, Memory::Private(Protection::RW), None)?.address;
            self.held += bytes;
        }
        let place = block.free.checked_sub(1).unwrap_or(block.fresh);
        let slot = block.slot::<T>(place);
        if place == block.fresh {
            block.fresh += 1;
        } else {
            // SAFETY: the slot was used before, and `&mut self` makes the access exclusive.
            block.free = unsafe { (*slot).next };
        }
        block.used += 1;
        if block.used == Self::COUNT {
            self.room = block.next;
        }
        if self.empty == number + 1 {
            self.empty = 0;
        }
        self.generation = self.generation.wrapping_add(1).max(1);
        let slot_of_record = Slot { generation: self.generation, next: 0, record: MaybeUninit::new(record) };
        // SAFETY: the block has the place, and `&mut self` makes the access exclusive.
        unsafe { slot.write(slot_of_record) };
        Ok(number * Self::COUNT + place)
    }

    pub(crate) fn get(&self, index: Index) -> Option<&T> {
        // SAFETY: an occupied slot holds a record.
        Some(unsafe { (*self.occupied(index)?).record.assume_init_ref() })
    }

    pub(crate) fn get_mut(&mut self, index: Index) -> Option<&mut T> {
        // SAFETY: an occupied slot holds a record, and `&mut self` makes the access exclusive.
        Some(unsafe { (*self.occupied(index)?).record.assume_init_mut() })
    }

    /// Tells the record apart from others that had its index before.
    pub(crate) fn generation(&self, index: Index) -> Option<u32> {
        // SAFETY: the table's records are initialised.
        Some(unsafe { (*self.occupied(index)?).generation })
    }

    pub(crate) fn remove(&mut self, index: Index, platform: impl Platform) -> Option<T> {
        let slot = self.occupied(index)?;
        let (number, place) = (index / Self::COUNT, index % Self::COUNT);
        let block = self.blocks.get_mut(number)?;
        // SAFETY: an occupied slot holds a record, and `&mut self` makes the access exclusive.
        let record = unsafe {
            (*slot).generation = 0;
            (*slot).next = block.free;
            (*slot).record.assume_init()
        };
        block.free = place + 1;
        if block.used == Self::COUNT {
            block.next = mem::replace(&mut self.room, number + 1);
        }
        block.used -= 1;
        if block.used == 0
            && let Some(other) = mem::replace(&mut self.empty, number + 1).checked_sub(1)
            && let Some(other) = self.blocks.get_mut(other)
        {
            let pages = Span::from_parts(other.start, STEP.next_multiple_of(platform.page_size()));
            // SAFETY: the pages are the block's, which has no record, and `&mut self` keeps others out. If it fails the
            // block keeps them.
            if unsafe { platform.unmap(pages) }.is_ok() {
                (other.start, other.fresh, other.free) = (0, 0, 0);
                self.held -= pages.length();
            }
        }
        Some(record)
    }

    /// All records.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.indexes().filter_map(|index| self.get(index))
    }

    /// Every index that was ever used is one of these.
    pub(crate) fn indexes(&self) -> Range<Index> {
        0..self.blocks.indexes().end * Self::COUNT
    }

    #[inline]
    fn occupied(&self, index: Index) -> Option<*mut Slot<T>> {
        let (number, place) = (index / Self::COUNT, index % Self::COUNT);
        let block = self.blocks.get(number).filter(|block| place < block.fresh)?;
        let slot = block.slot(place);
        // SAFETY: the slot was used since the block has its memory, so it is initialised, and who has the slots has the
        // lock.
        (unsafe { (*slot).generation } != 0).then_some(slot)
    }
}

impl Block {
    fn slot<T>(&self, place: u32) -> *mut Slot<T> {
        ptr::with_exposed_provenance_mut::<Slot<T>>(self.start).wrapping_add(place as usize)
    }
}
