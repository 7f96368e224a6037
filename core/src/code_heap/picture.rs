//! A chunk as people see it.

use super::chunk::Chunk;
use super::heaps::Heaps;

/// A chunk of a code heap, drawn: see [`Runtime::each_chunk`](crate::Runtime::each_chunk).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkPicture {
    /// Its first address.
    pub address: usize,
    /// Bytes of its pages.
    pub length: usize,
    /// What is in each of 64 equal parts: `#` live blocks, `+` live blocks in half of it at least, `-` in less, `.` nothing,
    /// `,` nothing now, but what cores may have fetched before.
    pub parts: [u8; 64],
}

impl Heaps {
    /// Each chunk that is mapped. Takes no lock: what changes meanwhile is drawn as it was or as it is.
    pub(crate) fn pictures(&self) -> impl Iterator<Item = ChunkPicture> {
        self.records().filter(|chunk| !chunk.is_free()).map(draw)
    }
}

fn draw(chunk: &'static Chunk) -> ChunkPicture {
    let (address, length) = (chunk.base(), chunk.length());
    let granules = if chunk.blocks.is_single() { 1 } else { chunk.granules() };
    let mut parts = [0; 64];
    for (number, part) in parts.iter_mut().enumerate() {
        let first = number * granules / 64;
        let inside = first..((number + 1) * granules / 64).max(first + 1);
        let used = inside.clone().filter(|granule| chunk.find(chunk.address_of(*granule)).is_some()).count();
        *part = match (used, inside.len() - used) {
            (0, _) if chunk.blocks.was_fetched(inside) => b',',
            (0, _) => b'.',
            (_, 0) => b'#',
            (used, free) if used >= free => b'+',
            _ => b'-',
        };
    }
    ChunkPicture { address, length, parts }
}
