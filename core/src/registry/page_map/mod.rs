//! The page map: from any address to its page's protection and region, without a lock.
//!
//! A radix tree in the shape of a page table. Four levels of nine bits above a unit of 4 KiB make 48 bits of address:
//!
//! ```text
//!   47      39 38      30 29      21 20      12 11       0
//!  +----------+----------+----------+----------+----------+
//!  | level 3  | level 2  | level 1  | level 0  |          |
//!  | the root |          |          |          |          |
//!  +----------+----------+----------+----------+----------+
//!    512 GiB     1 GiB      2 MiB      4 KiB     for each entry
//! ```
//!
//! An entry is empty, leads to a node of the level below, or is the word of a page. A word high up in the tree stands
//! for all the units below it, so that a terabyte costs a few words. Readers walk it with four loads at most. Writers
//! (one at a time) store whole words, so a reader sees the old page or the new one.
//!
//! # How a node is used again
//!
//! A node stays a node for ever, but not in one place: once it is empty it can be taken out of the tree and put in
//! elsewhere. A reader that is in it then reads entries of the wrong place, and has to notice. For that, `generation`
//! counts the nodes that were taken out. The writer
//! 1. empties the entry that leads to the node,
//! 2. increments the generation,
//! 3. uses the node for something else.
//!
//! All of these are Release stores. A reader loads the generation, walks, and loads the generation again, all but the
//! last with Acquire; if it has changed, the reader walks again. Suppose that a walk reads an entry that was stored in
//! step 3. If the first load saw the increment of step 2, then the walk came after step 1 and could not have got into
//! the node. If it did not, then the last load does, because reading what was stored in step 3 makes all that came
//! before it visible. Entries that a walk reads from before step 3 are empty or older, and were true during the lookup.
//!
//! A wrong walk comes to no harm: whatever it takes for a node is one, and it ends at level 0. A walk is repeated only
//! if a node was taken out while it went on, so a signal handler that interrupts the writer, at whatever instruction,
//! finds an answer at its first walk.
//!
//! # How a node's memory is given back
//!
//! Where many more nodes are spare than in the tree, the system gets the memory of some back, but not their addresses:
//! a reader may still be there. Such a node was emptied before, link and all, so whatever it is seen to hold meanwhile,
//! the old bytes or the zeros that come in their place, is an empty node. Nor does the order matter in which another
//! core sees that: a walk got into the node before step 1, and when that was done nothing was there. When it is used
//! again that is step 3, as of any other.
//!
//! # What it costs
//!
//! Every node leads to a page of a live region: the entry that leads to a node counts those of its entries that are
//! used, and with the last of them the node goes. A region's first and last page need at most three nodes each, and
//! three more for each boundary inside of it where protections differed since it was made. So the nodes in the tree take
//! at most 24 KiB for each view of the regions that are live, and 12 KiB for each such boundary. Neighbours share, so it
//! is much less where regions are close together: 8 bytes a page.
//!
//! Spare nodes have their memory up to three times as much, or 256 KiB. The others are noted in 8 bytes each. Where the
//! system can't drop them (`drops_nodes`), there are as many as when most regions were live.

mod map;
mod node;
mod page;
mod spare;
#[cfg(test)]
mod tests;

pub(crate) use map::PageMap;
pub(crate) use node::Node;
pub(crate) use page::{Change, Page};
