//! Ranges of code, and what was said of each: a tree by address.
//!
//! It is a treap: a node's priority is its address, scattered, so that the tree is about as deep as one that was built in
//! random order. Its memory is the C library's.

use crate::Error;
use crate::span::Span;
use core::mem;
use core::ptr::{self, NonNull};

/// Ranges that don't overlap, each with a `T`.
pub(super) struct Ranges<T> {
    root: *mut Node<T>,
}

struct Node<T> {
    left: *mut Node<T>,
    right: *mut Node<T>,
    code: Span,
    about: T,
    /// So many bytes behind it are its own.
    more: usize,
}

/// A range that is in no tree.
pub(super) struct Single<T>(NonNull<Node<T>>);

impl<T> Single<T> {
    /// The range.
    pub(super) fn code(&self) -> Span {
        // SAFETY: the node is this value's.
        unsafe { self.0.as_ref() }.code
    }

    /// What was said, and the bytes behind it.
    pub(super) fn parts(&mut self) -> (&mut T, &'static mut [u8]) {
        // SAFETY: the node was made with so many bytes, which `node` has zeroed, and is this one's alone. They stay
        // where they are for as long as the node.
        unsafe {
            let node = self.0.as_mut();
            let more = self.0.as_ptr().add(1).cast::<u8>();
            (&mut node.about, core::slice::from_raw_parts_mut(more, node.more))
        }
    }
}

impl<T> Drop for Single<T> {
    fn drop(&mut self) {
        // SAFETY: `malloc` gave the node, nobody else has it, and nothing in a `T` has to be dropped.
        unsafe { libc::free(self.0.as_ptr().cast()) };
    }
}

fn priority(start: usize) -> u64 {
    let mixed = (start as u64 ^ start as u64 >> 31).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed ^ mixed >> 29).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

impl<T> Ranges<T> {
    pub(super) const fn new() -> Self {
        const { assert!(!mem::needs_drop::<T>() && align_of::<Node<T>>() <= 16) };
        Self { root: ptr::null_mut() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.root.is_null()
    }

    /// A range that is not yet among others, with so many zeros behind it. *No memory*: there is none for it.
    pub(super) fn node(code: Span, about: T, more: usize) -> Result<Single<T>, Error> {
        // SAFETY: has no preconditions (malloc(3)).
        let memory = unsafe { libc::calloc(1, size_of::<Node<T>>() + more) };
        let node = NonNull::new(memory.cast::<Node<T>>()).ok_or(Error::NoMemory)?;
        // SAFETY: fresh, long enough, and aligned as `malloc` aligns everything.
        unsafe { node.write(Node { left: ptr::null_mut(), right: ptr::null_mut(), code, about, more }) };
        Ok(Single(node))
    }

    /// Takes out all that overlap a range.
    pub(super) fn take(&mut self, code: Span) -> Self {
        let (before, rest) = split(mem::replace(&mut self.root, ptr::null_mut()), code.start());
        let (inside, behind) = split(rest, code.end());
        // Of those that begin before, the last one alone can reach in.
        let (before, last) = split(before, last_start(before));
        // SAFETY: null, or a node that the tree had.
        let reaches_in = unsafe { last.as_ref() }.is_some_and(|last| last.code.end() > code.start());
        let (kept, taken) =
            if reaches_in { (before, merge(last, inside)) } else { (merge(before, last), inside) };
        self.root = merge(kept, behind);
        Self { root: taken }
    }

    /// Puts a range in. What was said of it stays where it is.
    pub(super) fn put(&mut self, single: Single<T>) -> *mut T {
        let node = single.0.as_ptr();
        mem::forget(single);
        // SAFETY: the node is this tree's from now on, and of no other.
        unsafe {
            let (before, behind) = split(self.root, (*node).code.start());
            self.root = merge(merge(before, node), behind);
            &raw mut (*node).about
        }
    }

    /// Whether something is known of any byte of a range.
    pub(super) fn overlaps(&mut self, code: Span) -> bool {
        let mut found = self.take(code);
        let any = !found.is_empty();
        while let Some(single) = found.pop() {
            self.put(single);
        }
        any
    }

    /// Puts others in that were taken out before. Gives back those of whose bytes something newer is known.
    pub(super) fn put_back(&mut self, others: &mut Self) -> Self {
        let mut outdated = Self::new();
        while let Some(single) = others.pop() {
            let to = if self.overlaps(single.code()) { &mut outdated } else { &mut *self };
            to.put(single);
        }
        outdated
    }

    /// Takes one out.
    pub(super) fn pop(&mut self) -> Option<Single<T>> {
        let mut node = NonNull::new(self.root)?;
        // SAFETY: the tree's nodes are its own.
        let node_ref = unsafe { node.as_mut() };
        self.root = merge(node_ref.left, node_ref.right);
        (node_ref.left, node_ref.right) = (ptr::null_mut(), ptr::null_mut());
        Some(Single(node))
    }

    pub(super) fn each(&self, visit: &mut dyn FnMut(&T)) {
        self.each_range(&mut |_, about| visit(about));
    }

    pub(super) fn each_range(&self, visit: &mut dyn FnMut(Span, &T)) {
        // SAFETY: the tree's nodes are its own, and borrowed with it.
        unsafe { walk(self.root, &mut |node| visit((*node).code, &(*node).about)) };
    }

    /// As pointers, which may be kept as long as the ranges.
    pub(super) fn each_pointer(&mut self, visit: &mut dyn FnMut(*mut T)) {
        // SAFETY: the tree's nodes are its own, and borrowed with it.
        unsafe { walk(self.root, &mut |node| visit(&raw mut (*node).about)) };
    }
}

impl<T> Drop for Ranges<T> {
    fn drop(&mut self) {
        while self.pop().is_some() {}
    }
}

/// In the order of addresses.
///
/// # Safety
/// The nodes are the caller's.
unsafe fn walk<T>(node: *mut Node<T>, visit: &mut dyn FnMut(*mut Node<T>)) {
    if node.is_null() {
        return;
    }
    // SAFETY: the caller's promise.
    unsafe {
        walk((*node).left, visit);
        visit(node);
        walk((*node).right, visit);
    }
}

/// Where the last range of a tree starts.
fn last_start<T>(mut node: *mut Node<T>) -> usize {
    let mut start = 0;
    // SAFETY: the callers' tree is their own.
    while let Some(last) = unsafe { node.as_ref() } {
        start = last.code.start();
        node = last.right;
    }
    start
}

/// Those that start before an address, and the others.
fn split<T>(node: *mut Node<T>, at: usize) -> (*mut Node<T>, *mut Node<T>) {
    // SAFETY: the callers' tree is their own.
    let Some(root) = (unsafe { node.as_mut() }) else { return (node, node) };
    if root.code.start() < at {
        let (before, behind) = split(root.right, at);
        root.right = before;
        (node, behind)
    } else {
        let (before, behind) = split(root.left, at);
        root.left = behind;
        (before, node)
    }
}

/// One tree of two, of which the second lies behind the first.
fn merge<T>(first: *mut Node<T>, second: *mut Node<T>) -> *mut Node<T> {
    // SAFETY: the callers' trees are their own, and have no node in common.
    let (Some(a), Some(b)) = (unsafe { (first.as_mut(), second.as_mut()) }) else {
        return if first.is_null() { second } else { first };
    };
    if priority(a.code.start()) > priority(b.code.start()) {
        a.right = merge(a.right, second);
        first
    } else {
        b.left = merge(first, b.left);
        second
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use super::*;
    use std::vec::Vec;

    fn starts(ranges: &Ranges<usize>) -> Vec<usize> {
        let mut starts = Vec::new();
        ranges.each_range(&mut |code, about| {
            assert_eq!(code.start(), *about);
            starts.push(code.start());
        });
        starts
    }

    #[test]
    fn what_overlaps_is_taken_out_and_nothing_else() {
        for (from, to) in [(100, 109), (99, 100), (109, 110), (90, 200), (105, 205), (111, 120), (500, 600)] {
            let mut ranges = Ranges::new();
            let all: Vec<usize> = (0..50).map(|index| index * 100).collect();
            for step in 0..all.len() {
                // In no order.
                let start = all[step * 7 % all.len()];
                if start > 0 {
                    ranges.put(Ranges::node(Span::from_parts(start, 10), start, 0).expect("memory"));
                }
            }
            let mut taken = ranges.take(Span::from_parts(from, to - from));
            let overlaps = |start: &&usize| **start > 0 && **start < to && **start + 10 > from;
            let (expected, rest): (Vec<_>, Vec<_>) = all.iter().partition(overlaps);
            assert_eq!(starts(&taken), expected);
            assert_eq!(starts(&ranges), rest[1..]);
            assert!(ranges.put_back(&mut taken).is_empty());
            assert_eq!(starts(&ranges), all[1..]);
        }
    }

    #[test]
    fn what_was_taken_out_does_not_come_back_where_there_is_something_newer() {
        let node = |start, about| Ranges::node(Span::from_parts(start, 100), about, 0).expect("memory");
        let mut ranges = Ranges::new();
        [100, 200, 300].into_iter().for_each(|start| _ = ranges.put(node(start, start)));
        let mut taken = ranges.take(Span::from_parts(100, 300));
        ranges.put(node(250, 250));
        let outdated = ranges.put_back(&mut taken);
        assert_eq!((starts(&outdated), starts(&ranges)), (std::vec![200, 300], std::vec![100, 250]));
    }

    #[test]
    fn a_tree_that_grows_upwards_is_not_deep() {
        fn depth(node: *mut Node<usize>) -> usize {
            // SAFETY: the test's own tree.
            unsafe { node.as_ref() }.map_or(0, |node| 1 + depth(node.left).max(depth(node.right)))
        }
        let mut ranges = Ranges::new();
        for index in 1..10_000 {
            let start = index * 64;
            ranges.put(Ranges::node(Span::from_parts(start, 64), start, 0).expect("memory"));
        }
        assert!(depth(ranges.root) < 60, "{}", depth(ranges.root));
    }
}
