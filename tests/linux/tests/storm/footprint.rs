//! What a process has mapped and open: it must not grow with the number of forks.

use crate::calls::Board;
use execmem_conformance::memory::{EMPTY_STATISTICS, page};
use execmem_conformance::symbols::fill_statistics;
use execmem_core::abi::*;
use execmem_tests_linux::maps;
use execmem_tests_linux::system::is_emulated;

/// Bytes of mappings by their kind, and how many there are.
#[derive(Clone, Copy, Debug)]
pub struct Footprint {
    mappings: i64,
    private: i64,
    code: i64,
    second_views: i64,
    files: i64,
    records: i64,
    figures: RtExecMemoryStats,
}

impl Footprint {
    pub fn measure() -> Self {
        let mut figures = EMPTY_STATISTICS;
        fill_statistics(Some(&mut figures));
        let lines = maps::lines();
        let bytes = |is_wanted: &dyn Fn(&maps::Line) -> bool| -> i64 {
            lines.iter().filter(|line| is_wanted(line)).map(|line| line.end - line.start).sum()
        };
        let is_shared =
            |line: &maps::Line| line.name.starts_with(b"/dev/zero") || line.name.starts_with(b"/memfd:");
        let can_be = |line: &maps::Line, protection| line.protection & protection != 0;
        let board = size_of::<Board>().next_multiple_of(page() as usize) as i64;
        Self {
            mappings: lines.len() as i64,
            private: bytes(&|line| line.name.is_empty() && can_be(line, RT_PROT_WRITE)),
            code: bytes(&|line| (line.name.is_empty() || is_shared(line)) && can_be(line, RT_PROT_EXEC)),
            second_views: bytes(&|line| is_shared(line) && !can_be(line, RT_PROT_EXEC)) - board,
            files: std::fs::read_dir("/proc/self/fd").map_or(-1, |files| files.count() as i64),
            records: figures.record_bytes,
            figures,
        }
    }

    /// What has been left, compared with an earlier storm of few forks. Nothing of the library's is live in either.
    pub fn leaks(&self, earlier: &Self) -> Vec<String> {
        // What threads and the allocator take differs from time to time, and so do the heap's own tables.
        const SLACK: i64 = 16 << 20;
        let now = self.figures;
        let mut leaks = vec![
            ("regions", now.regions, 0),
            ("requested bytes", now.requested_bytes, 0),
            ("blocks", now.code_blocks, 0),
            ("bytes of blocks", now.code_bytes, 0),
            ("regions of any kind", now.regions_by_protection.iter().sum(), now.code_chunks),
            ("files", self.files, earlier.files),
            ("bytes of records", self.records, earlier.records + (4 << 20)),
        ];
        if !is_emulated() {
            // qemu keeps its guest's pages as it likes.
            leaks.extend([
                ("bytes of code mappings", self.code, now.code_chunk_bytes),
                ("bytes of second views", self.second_views, now.mapped_bytes - now.code_chunk_bytes),
                ("mappings", self.mappings, earlier.mappings + 200),
                ("private bytes", self.private, earlier.private + SLACK),
            ]);
        }
        let grown = leaks.into_iter().filter(|(_, now, most)| now > most);
        grown.map(|(what, now, most)| format!("{now} {what} are left, where {most} may be")).collect()
    }
}
