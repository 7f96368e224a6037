//! Telling debuggers, profilers and unwinders of code.

use super::Runtime;
use crate::error::{Error, Result};
use crate::platform::{About, Platform};
use crate::registry::{Access, Wanted};
use crate::span::Span;
use core::ffi::CStr;
use core::ptr;

/// Bytes of a record's length, and of the word behind it.
const WORD: usize = 4;

impl<P: Platform> Runtime<P> {
    /// Names code for debuggers and profilers: `size` bytes inside one live block or region.
    pub fn set_name(&self, address: i64, size: i64, name: &CStr) -> Result {
        let code = self.live_code(address, size)?;
        if name.is_empty() {
            return Err(Error::InvalidArgument);
        }
        // SAFETY: a name is copied.
        unsafe { self.space.platform.announce(code, About::Name(name.to_bytes())) }
    }

    /// Gives the process's unwinder the records of code, `length` bytes in the format of `.eh_frame`. It goes by what
    /// they say, not by `address` and `size`, which say with which code the records go.
    ///
    /// # Safety
    /// The records are readable, true of this code, and stay as they are until they are replaced or the code was freed.
    pub unsafe fn set_unwind(&self, address: i64, size: i64, eh_frame: *const u8, length: i64) -> Result {
        let code = self.live_code(address, size)?;
        let records = Span::new(eh_frame.expose_provenance() as i64, length)?;
        // SAFETY: the caller lends so many bytes.
        if !unsafe { is_whole(records) } {
            return Err(Error::InvalidArgument);
        }
        // SAFETY: they are whole, and the caller's promise is passed on.
        unsafe { self.space.platform.announce(code, About::Frames(records)) }
    }

    /// A range inside one live block, or inside one region's requested size. That it stays so is the caller's promise.
    fn live_code(&self, address: i64, size: i64) -> Result<Span> {
        let code = Span::new(address, size)?;
        match self.find_block(address) {
            Some(block) if block.span().contains(code) => Ok(code),
            Some(_) => Err(Error::NotOwned),
            None => {
                let wanted = Wanted::Bytes(code.start(), code);
                self.space.registry.claim(wanted, Access::Shared).map(|_| code)
            }
        }
    }
}

/// Whether memory holds what an unwinder reads without a limit: a common record first, at least one of a function, each
/// of which refers to one in front of it, and a length of zero behind the last, which also ends the memory. Lengths
/// of 64 bits are for files of gigabytes, and are not read.
///
/// # Safety
/// The memory can be read.
unsafe fn is_whole(records: Span) -> bool {
    let length = records.length();
    if !(records.start() | length).is_multiple_of(WORD) {
        return false;
    }
    // SAFETY: the caller's promise; offsets stay below the length, and words are aligned.
    let word =
        |offset: usize| unsafe { ptr::with_exposed_provenance::<u32>(records.start() + offset).read() };
    let (mut at, mut functions) = (0, 0);
    while at + WORD < length {
        let (size, back) = (word(at) as usize, word(at + WORD) as usize);
        if size < WORD || !size.is_multiple_of(WORD) || size > length - at - 2 * WORD {
            return false;
        }
        if back != 0 {
            // Counted from the word itself; what stands there has to be a common record.
            let common = (at + WORD).checked_sub(back).filter(|common| common.is_multiple_of(WORD));
            if common.is_none_or(|common| word(common + WORD) != 0) {
                return false;
            }
            functions += 1;
        }
        at += WORD + size;
    }
    functions > 0 && at + WORD == length && word(at) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_whole(words: &[u32]) -> bool {
        let start = words.as_ptr().expose_provenance();
        // SAFETY: the words are borrowed.
        unsafe { super::is_whole(Span::from_parts(start, size_of_val(words))) }
    }

    #[test]
    fn records_that_lead_out_of_their_memory_are_not_read() {
        // A common record of three words, a function's of three, the end.
        let good = [8, 0, 1, 8, 16, 2, 0];
        assert!(is_whole(&good));
        for (index, word, why) in [
            (6, 4, "no end"),
            (0, 12, "the next record is not where it should be"),
            (0, u32::MAX, "64 bits, or beyond the end"),
            (0, 0, "an end before the end"),
            (0, 7, "not in words"),
            (3, 12, "beyond the end"),
            (4, 20, "refers to what lies before all records"),
            (4, 4, "refers to itself"),
            (4, 0, "no function"),
        ] {
            let mut words = good;
            words[index] = word;
            assert!(!is_whole(&words), "{why}");
        }
        assert!(!is_whole(&[0]) && !is_whole(&good[..6]));
    }
}
