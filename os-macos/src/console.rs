//! Text for people: stderr.

use crate::errno::retried;

/// Writes a line at once, so that lines of several threads don't mix. What stderr refuses is lost.
pub(crate) fn print(line: &[u8]) {
    let mut rest = line;
    while !rest.is_empty() {
        // SAFETY: the slice is readable.
        match retried(|| unsafe { libc::write(libc::STDERR_FILENO, rest.as_ptr().cast(), rest.len()) }) {
            Ok(written @ 1..) => rest = &rest[written.min(rest.len())..],
            _ => return,
        }
    }
}
