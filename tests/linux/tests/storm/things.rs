//! Memory of every kind that a fork has to get right, and what is known of it.
//!
//! A thing is a function that returns a number, and that number in every byte behind it. Its owner notes in plain memory
//! of the process what it is about to do; so a child, which has that memory as of the fork, knows what each thing may be.

use crate::calls::{Checked, did, given, holds, same};
use execmem_conformance::code::returning;
use execmem_conformance::memory::{RWX, RX};
use execmem_conformance::symbols::*;
use execmem_core::CodeHeap;
use execmem_core::abi::*;
use execmem_os_linux::Linux;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, Ordering::SeqCst};

/// Eight threads work, two fork, and each child owns things too.
pub const WORKERS: usize = 8;
pub const OWNERS: usize = WORKERS + crate::calls::FORKERS + 1;
pub const CHILD: usize = OWNERS - 1;

/// Numbers below it are parents', others children's.
pub const CHILDREN_FROM: u8 = 200;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Code,
    NearCode,
    Data,
    Block,
    NearBlock,
    /// A block whose write view was handed out.
    Lent,
    /// A block that has a chunk to itself.
    Single,
    /// A block in a heap of the owner's own.
    InOwnHeap,
}

use Kind::*;

pub const KINDS: [Kind; 8] = [Code, NearCode, Data, Block, NearBlock, Lent, Single, InOwnHeap];

const ABSENT: u8 = 0;
/// It is being made: nothing is known of it.
const ARRIVING: u8 = 1;
const RESTING: u8 = 2;
/// From `value` to `next`.
const CHANGING: u8 = 3;
const LEAVING: u8 = 4;

/// What is known of a thing.
pub struct Thing {
    state: AtomicU8,
    value: AtomicU8,
    next: AtomicU8,
    address: AtomicI64,
    size: AtomicI64,
    view: AtomicI64,
    /// How many times it was changed: the ways to do it take turns.
    changes: AtomicU32,
}

static THINGS: [[Thing; KINDS.len()]; OWNERS] = [const { [const { Thing::absent() }; KINDS.len()] }; OWNERS];

/// What all threads know.
pub struct World {
    pub policy: i32,
    /// A heap for each owner.
    pub heaps: Vec<CodeHeap<'static, Linux>>,
}

/// A function of the program: what lies near it?
pub fn anchor() -> i64 {
    execmem_tests_linux::system::foreign_function()
}

/// So many bytes of a thing are written at most.
const WRITTEN: usize = 5000;

/// What a thing of this value holds.
pub fn contents(value: u8, size: i64) -> &'static [u8] {
    static CONTENTS: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
    let make = |value: u8| {
        let code = returning(value);
        let mut bytes = vec![value; WRITTEN];
        bytes[..code.len()].copy_from_slice(&code);
        bytes
    };
    let all = CONTENTS.get_or_init(|| (0..=u8::MAX).map(make).collect());
    &all[usize::from(value)][..WRITTEN.min(size as usize)]
}

pub fn of(owner: usize) -> impl Iterator<Item = (Kind, &'static Thing)> {
    KINDS.into_iter().zip(&THINGS[owner])
}

impl Thing {
    const fn absent() -> Self {
        Self {
            state: AtomicU8::new(ABSENT),
            value: AtomicU8::new(0),
            next: AtomicU8::new(0),
            address: AtomicI64::new(0),
            size: AtomicI64::new(0),
            view: AtomicI64::new(0),
            changes: AtomicU32::new(0),
        }
    }

    pub fn address(&self) -> i64 {
        self.address.load(SeqCst)
    }

    fn size(&self) -> i64 {
        self.size.load(SeqCst)
    }

    fn value(&self) -> u8 {
        self.value.load(SeqCst)
    }

    pub fn is_absent(&self) -> bool {
        self.state.load(SeqCst) == ABSENT
    }

    pub fn is_resting(&self) -> bool {
        self.state.load(SeqCst) == RESTING
    }

    pub fn is_changing(&self) -> bool {
        self.state.load(SeqCst) == CHANGING
    }

    /// The bytes, read as their owner may.
    fn bytes(&self) -> &'static [u8] {
        let length = contents(0, self.size()).len();
        // SAFETY: live memory of its owner's, who calls this, or of a child that has one thread. It can be read: it
        // rests, or the registry says so. Nobody writes to it while the slice is used.
        unsafe {
            std::slice::from_raw_parts(std::ptr::with_exposed_provenance(self.address() as usize), length)
        }
    }

    /// Makes the thing.
    pub fn arrive(&self, owner: usize, kind: Kind, value: u8, size: i64, world: &World) -> Checked {
        self.state.store(ARRIVING, SeqCst);
        let target = anchor();
        let size = if kind == Single { 70_000 + size } else { size };
        let address = match kind {
            Code => did!(rt_alloc_exec_memory(size)),
            NearCode => did!(rt_alloc_exec_memory_near(size, target, 1 << 40)),
            Data => did!(rt_alloc_rw_memory(size)),
            Block | Single | Lent => did!(rt_code_alloc(size)),
            NearBlock => did!(rt_code_alloc_near(size, target, 1 << 40)),
            InOwnHeap => world.heaps[owner].alloc(size).map_or(0, |address| address as i64),
        };
        self.address.store(given(address, &"memory is given")?, SeqCst);
        self.size.store(size, SeqCst);
        if kind == Lent {
            let view = did!(rt_code_write_view(address));
            if view == 0 {
                same(did!(rt_last_error()).into(), RT_ERROR_UNSUPPORTED.into(), &"a view is given")?;
            }
            self.view.store(view, SeqCst);
        }
        self.write(owner, kind, value, world)?;
        self.value.store(value, SeqCst);
        self.state.store(RESTING, SeqCst);
        Ok(())
    }

    /// Gives the thing another value.
    pub fn change(&self, owner: usize, kind: Kind, value: u8, world: &World) -> Checked {
        self.next.store(value, SeqCst);
        self.state.store(CHANGING, SeqCst);
        self.write(owner, kind, value, world)?;
        self.value.store(value, SeqCst);
        self.state.store(RESTING, SeqCst);
        Ok(())
    }

    fn write(&self, owner: usize, kind: Kind, value: u8, world: &World) -> Checked {
        let (address, size) = (self.address(), self.size());
        let bytes = contents(value, size);
        let way = self.changes.fetch_add(1, SeqCst);
        match kind {
            Code | NearCode if !way.is_multiple_of(4) => {
                self.write_region(bytes, way)?;
                did!(rt_flush_icache(address, size));
            }
            Code | NearCode | Data => {
                holds(did!(rt_make_writable(address, size)), &"rt_make_writable")?;
                match way % 3 {
                    // SAFETY: read-write memory of its owner's.
                    0 => unsafe { store(address, bytes) },
                    _ => self.write_region(bytes, way)?,
                }
                let protection = if kind == Data { RX } else { code_protection(world) };
                match way % 2 {
                    0 if protection == RX => {
                        holds(did!(rt_make_executable(address, size)), &"rt_make_executable")?;
                    }
                    _ => holds(did!(rt_set_protection(address, size, protection)), &"rt_set_protection")?,
                }
            }
            Lent if self.view.load(SeqCst) != 0 => {
                // SAFETY: the view of a live block of its owner's.
                unsafe { store(self.view.load(SeqCst), bytes) };
                holds(did!(rt_code_publish(address, size)), &"rt_code_publish")?;
            }
            InOwnHeap => {
                let heap = &world.heaps[owner];
                // SAFETY: the slice is readable.
                let written = unsafe { heap.write(address, bytes.as_ptr(), bytes.len() as i64, 0) };
                same(written.map_or(-1, |count| count as i64), bytes.len() as i64, &"CodeHeap::write")?;
                holds(heap.publish(address, size).is_ok(), &"CodeHeap::publish")?;
            }
            _ => self.write_block(bytes, way, world)?,
        }
        Ok(())
    }

    fn write_region(&self, bytes: &[u8], way: u32) -> Checked {
        let length = bytes.len() as i64;
        if way.is_multiple_of(5) {
            let value = did!(rt_value_bytes: value_of(bytes));
            let written = did!(rt_write_exec_memory(self.address(), value, 0));
            crate::values::free(value)?;
            return same(written, length, &"rt_write_exec_memory");
        }
        same(did!(rt_write_exec_bytes: write_bytes(self.address(), bytes, 0)), length, &"rt_write_exec_bytes")
    }

    fn write_block(&self, bytes: &[u8], way: u32, world: &World) -> Checked {
        let (address, size) = (self.address(), self.size());
        let (first, rest) = bytes.split_at(8);
        if way % 3 == 1 && patch(address, first, world)? {
            let written = did!(rt_code_write: write_block(address, rest, 8));
            same(written, rest.len() as i64, &"rt_code_write of what follows")?;
        } else {
            let written = did!(rt_code_write: write_block(address, bytes, 0));
            same(written, bytes.len() as i64, &"rt_code_write")?;
        }
        match way % 2 {
            0 => holds(did!(rt_code_publish(address, size)), &"rt_code_publish"),
            _ => {
                let (addresses, sizes) = ([address, address + 8], [8, size - 8]);
                holds(did!(rt_code_publish_all: publish_all(&addresses, &sizes)), &"rt_code_publish_all")
            }
        }
    }

    /// The thing rests, and must be what is known of it.
    pub fn expect(&self, kind: Kind) -> Checked {
        let (address, size, value) = (self.address(), self.size(), self.value());
        holds(self.bytes() == contents(value, size), &"every byte is what was written last")?;
        holds(did!(rt_is_executable(address)), &"it can be executed")?;
        same(did!(rt_call_function_0: call(address, &[])), value.into(), &"its function returns its value")?;
        let protection = did!(rt_get_protection(address));
        holds(protection & 5 == 5, &"its pages are read-execute")?;
        match kind {
            Code | NearCode | Data => {
                let mut start = [0; 8];
                same(did!(rt_mmap_read_into: read_into(address, 0, &mut start)), 8, &"rt_mmap_read_into")?;
                holds(contents(value, size).starts_with(&start), &"what is read is what was written")
            }
            _ => {
                let found = did!(rt_code_find: find_block(address + size - 1));
                holds(found == Some((address, size)), &"its last byte leads to the block")
            }
        }
    }

    /// In a child: its owner was changing it when the process forked. Every byte is an old or a new one, and it can be
    /// brought to rest.
    pub fn settle(&self, owner: usize, kind: Kind, world: &World) -> Checked {
        let (address, size) = (self.address(), self.size());
        let (old, new) = (self.value(), self.next.load(SeqCst));
        match kind {
            Code | NearCode | Data => {
                holds(did!(rt_make_executable(address, size)), &"what was changing becomes executable")?;
            }
            InOwnHeap => {
                holds(world.heaps[owner].publish(address, size).is_ok(), &"what was changing is published")?
            }
            _ => holds(did!(rt_code_publish(address, size)), &"what was changing is published")?,
        }
        let candidates = contents(old, size).iter().zip(contents(new, size));
        let is_either = |(byte, (old, new))| byte == old || byte == new;
        holds(self.bytes().iter().zip(candidates).all(is_either), &"every byte is an old or a new one")?;
        let result = did!(rt_call_function_0: call(address, &[]));
        holds(result == old.into() || result == new.into(), &"the function is the old or the new one")?;
        if matches!(kind, Code | NearCode) {
            let protection = code_protection(world);
            holds(did!(rt_set_protection(address, size, protection)), &"rt_set_protection")?;
        }
        self.state.store(RESTING, SeqCst);
        self.change(owner, kind, new, world)
    }

    /// Frees the thing.
    pub fn leave(&self, owner: usize, kind: Kind, world: &World) -> Checked {
        let (address, size) = (self.address(), self.size());
        self.state.store(LEAVING, SeqCst);
        let is_freed = match kind {
            Code | NearCode | Data => did!(rt_free_exec_memory(address, size)),
            InOwnHeap => world.heaps[owner].free(address).is_ok(),
            _ => did!(rt_code_free(address)),
        };
        holds(is_freed, &"it is freed")?;
        self.state.store(ABSENT, SeqCst);
        Ok(())
    }
}

/// Replaces a word of a block. False where the policy can't.
pub fn patch(address: i64, word: &[u8], world: &World) -> Checked<bool> {
    let word = u64::from_le_bytes(word.try_into().unwrap_or_default());
    let is_done = did!(rt_code_patch(address, word));
    if !is_done {
        same(did!(rt_last_error()).into(), RT_ERROR_UNSUPPORTED.into(), &"rt_code_patch")?;
    }
    same(is_done.into(), (world.policy != RT_POLICY_TOGGLE).into(), &"the policy allows rt_code_patch")?;
    Ok(is_done)
}

/// What pages of code memory have that are not being changed.
fn code_protection(world: &World) -> i32 {
    if world.policy == RT_POLICY_RWX { RWX } else { RX }
}

/// # Safety
/// `target` can be written to, and the caller is its owner.
unsafe fn store(target: i64, bytes: &[u8]) {
    let target = std::ptr::with_exposed_provenance_mut(target as usize);
    // SAFETY: the caller's promise.
    unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len()) };
}
