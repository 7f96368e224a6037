//! Statistics, and the dump for people.

use super::Runtime;
use crate::code_heap::ChunkPicture;
use crate::header::RtExecMemoryStats;
use crate::platform::Platform;
use crate::policy::{self, Policy};
use crate::registry::Page;
use crate::span::Span;

/// A line of text on the stack: the dump must not allocate, and the formatting of the standard library would
/// be a tenth of the code that a small kernel gets. What doesn't fit is cut off.
struct Line {
    text: [u8; 128],
    length: usize,
}

impl Line {
    const fn new() -> Self {
        Self { text: [0; 128], length: 0 }
    }

    #[inline(never)]
    fn text(&mut self, text: &str) -> &mut Self {
        text.bytes().for_each(|byte| self.byte(byte));
        self
    }

    /// Bytes from elsewhere, of which as many are shown as leave room on the line, and only what is printable.
    fn foreign(&mut self, bytes: &[u8]) -> &mut Self {
        const MOST: usize = 32;
        let printable = |byte: u8| if matches!(byte, b' '..=b'~') { byte } else { b'?' };
        bytes.iter().take(MOST).for_each(|byte| self.byte(printable(*byte)));
        self.text(if bytes.len() > MOST { "..." } else { "" })
    }

    /// A decimal number, with spaces in front up to `width`.
    fn decimal(&mut self, number: i64, width: u32) -> &mut Self {
        if number < 0 {
            self.byte(b'-');
        }
        let mut rest = number.unsigned_abs();
        let (mut digits, mut count) = ([0; 20], 0);
        for digit in &mut digits {
            (*digit, rest, count) = (b'0' + (rest % 10) as u8, rest / 10, count + 1);
            if rest == 0 {
                break;
            }
        }
        (count..width).for_each(|_| self.byte(b' '));
        digits.iter().take(count as usize).rev().for_each(|digit| self.byte(*digit));
        self
    }

    /// An address, with all its digits.
    fn address(&mut self, address: usize) -> &mut Self {
        self.text("0x");
        for shift in (0..usize::BITS).step_by(4).rev() {
            self.byte(b"0123456789abcdef"[address >> shift & 15]);
        }
        self
    }

    fn byte(&mut self, byte: u8) {
        if let Some(place) = self.text.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }

    /// The line, with its end. What is written next begins a new one.
    fn finish(&mut self) -> &[u8] {
        self.length = self.length.min(self.text.len() - 1);
        self.byte(b'\n');
        let length = core::mem::take(&mut self.length);
        self.text.get(..length).unwrap_or_default()
    }
}

impl<P: Platform> Runtime<P> {
    /// How many regions of code and data memory are live.
    pub fn region_count(&self) -> i64 {
        self.space.counters.live.get()
    }

    /// The bytes that were requested for them.
    pub fn requested_bytes(&self) -> i64 {
        self.space.counters.requested.get()
    }

    /// Figures of this moment. While other threads allocate, figures of one call need not add up to the byte.
    pub fn statistics(&self) -> RtExecMemoryStats {
        let (counters, heaps) = (&self.space.counters, self.heaps.figures(self.space.platform));
        let mut figures = RtExecMemoryStats {
            size: size_of::<RtExecMemoryStats>() as i64,
            regions: self.region_count(),
            requested_bytes: self.requested_bytes(),
            mapped_bytes: counters.mapped.get(),
            peak_mapped_bytes: counters.peak_mapped.get(),
            failed_calls: counters.failed_calls.get(),
            policy: self.policy().map_or(-1, |policy| policy as i64),
            record_bytes: self.space.registry.record_bytes() as i64 + heaps.record_bytes,
            policy_trials: self.space.policy.trials().map(i64::from),
            hardening: self.hardening().bits().into(),
            ..heaps
        };
        let mut previous = None;
        for (run, page) in self.base_runs() {
            let index = usize::from(page.protection.bits() & 7);
            figures.bytes_by_protection[index] += run.length() as i64;
            if previous != Some(page.region) {
                figures.regions_by_protection[index] += 1;
            }
            previous = Some(page.region);
        }
        figures
    }

    /// Prints a head line with the policy, or what `EXECMEM_POLICY` holds if that is none, and with those that the
    /// system did not grant; the number of allocations, their bytes, and a line for each with address, size and
    /// protection, in address order. Where pages of one differ, the first one's protection has a `+`. Then each chunk of
    /// the code heaps, drawn.
    pub fn dump(&self) {
        let line = &mut Line::new();
        self.dump_policy(line);
        self.print(line.text("allocations: ").decimal(self.region_count(), 0));
        self.print(line.text("bytes: ").decimal(self.requested_bytes(), 0));
        let mut pending: Option<(Page, bool)> = None;
        for (_, page) in self.base_runs() {
            match &mut pending {
                Some((first, is_mixed)) if first.region == page.region => *is_mixed = true,
                _ => self.dump_region(pending.replace((page, false)), line),
            }
        }
        self.dump_region(pending, line);
        // The heap would be linked into every small kernel that has the dump.
        let chunks = (!cfg!(target_os = "none")).then(|| self.heaps.pictures());
        for chunk in chunks.into_iter().flatten() {
            line.text("chunk ").address(chunk.address).text(" ").decimal(chunk.length as i64, 12);
            line.text(" ");
            chunk.parts.into_iter().for_each(|part| line.byte(part));
            self.print(line);
        }
    }

    /// Draws each chunk of the code heaps.
    pub fn each_chunk(&self, visit: &mut dyn FnMut(ChunkPicture)) {
        self.heaps.pictures().for_each(visit);
    }

    fn dump_policy(&self, line: &mut Line) {
        line.text("execmem: executable memory, ");
        match self.policy() {
            Ok(policy) => line.text("policy ").text(policy.name()),
            Err(_) => {
                let value = self.space.platform.environment(policy::VARIABLE).unwrap_or_default();
                line.text("no policy, EXECMEM_POLICY is \"").foreign(value.to_bytes()).text("\"")
            }
        };
        for (trial, policy) in self.space.policy.trials().into_iter().zip(Policy::ALL) {
            if trial > 0 {
                line.text(", no ").text(policy.name());
            }
        }
        // Where there are none nothing is linked for them.
        if self.space.platform.huge_page().is_some() {
            match self.heaps.huge_bytes() {
                0 => {}
                bytes => _ = line.text(", huge code: ").decimal(bytes as i64, 0),
            }
        }
        self.print(line);
    }

    fn dump_region(&self, pending: Option<(Page, bool)>, line: &mut Line) {
        let Some((page, is_mixed)) = pending else { return };
        let Some(region) = self.space.registry.region_of(page) else { return };
        if region.kind.is_exec_memory() {
            line.text("  ").address(region.base).text(" ").decimal(region.size as i64, 12);
            line.text(" ").text(page.protection.letters()).text(if is_mixed { "+" } else { "" });
            self.print(line);
        }
    }

    /// Runs of equal pages at addresses that callers were given, in address order.
    fn base_runs(&self) -> impl Iterator<Item = (Span, Page)> + '_ {
        self.space.registry.runs(Span::from_parts(0, usize::MAX)).filter(|(_, page)| !page.is_other_view)
    }

    #[inline(never)]
    fn print(&self, line: &mut Line) {
        self.space.platform.print(line.finish());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_whole_whatever_their_size() {
        for (number, width, expected) in [
            (0, 0, "0\n"),
            (7, 3, "  7\n"),
            (1000, 3, "1000\n"),
            (-15, 0, "-15\n"),
            (i64::MAX, 0, "9223372036854775807\n"),
            (i64::MIN, 0, "-9223372036854775808\n"),
        ] {
            assert_eq!(Line::new().decimal(number, width).finish(), expected.as_bytes());
        }
        assert_eq!(Line::new().address(0).finish(), b"0x0000000000000000\n");
        assert_eq!(Line::new().address(0x1b_9000_00af).finish(), b"0x0000001b900000af\n");
        assert_eq!(Line::new().address(usize::MAX).finish(), b"0xffffffffffffffff\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_off_and_still_ends() {
        let mut line = Line::new();
        (0..20).for_each(|_| _ = line.text("123456789 "));
        let text = line.finish();
        assert_eq!((text.len(), text.last()), (128, Some(&b'\n')));
    }
}
