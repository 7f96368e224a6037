//! What a harness supplies: the things of its system that the rules need to ask about.

pub use crate::verdict::Offer;
use core::ffi::CStr;

/// What [`World::foreign_code`] returns.
pub const FOREIGN_RESULT: i64 = 0x5ca1_ab1e;

/// How a harness opens files.
#[derive(Clone, Copy)]
pub struct Descriptors {
    /// Opens what is at a path, for READ, WRITE or both, and moves to this offset, if it has any. Waits for nobody.
    pub open: fn(&CStr, access: i32, offset: i64) -> i64,
    /// Closes a descriptor, and gives the offset that it had, 0 for a FIFO; -1 if it was not open.
    pub close: fn(i64) -> i64,
}

/// A system as the rules see it. What it lacks is an `Err` with the reason; the rules that need it then
/// don't apply, and say so.
pub struct World {
    /// The policy that was asked for in the environment: `RT_POLICY_*`; AUTO if none was.
    pub wished_policy: i32,
    /// Makes a new regular file of these bytes. Its path stays good.
    pub file: Offer<fn(&[u8]) -> &'static CStr>,
    /// As `file`, with a name that is not UTF-8.
    pub file_with_odd_name: Offer<fn(&[u8]) -> &'static CStr>,
    /// Opens files by descriptor.
    pub descriptors: Offer<Descriptors>,
    /// Makes a file that shorter, while it may be mapped.
    pub shrink_file: Offer<fn(&CStr, u64)>,
    /// Whether stores through a SHARED mapping reach the file.
    pub shared_writes: Offer<()>,
    /// Whether pages of `rt_mmap_file` that were not mapped with EXEC may get it later.
    pub mappings_gain_exec: Offer<()>,
    /// A path where there is nothing.
    pub missing_file: Offer<&'static CStr>,
    /// The path of a directory.
    pub directory: Offer<&'static CStr>,
    /// The path of a FIFO that nobody writes to.
    pub fifo: Offer<&'static CStr>,
    /// A function of the harness, in pages that the library did not map: read-execute. It returns [`FOREIGN_RESULT`].
    pub foreign_code: extern "C" fn() -> i64,
    /// The address of 64 bytes that the library did not map: read-write, not executable.
    pub foreign_data: i64,
    /// Whether the system tells what is mapped where the library mapped nothing. Where it doesn't, nothing there has a
    /// protection or can be executed.
    pub tells_foreign: bool,
    /// An address where nothing is mapped, with nothing in the 16 pages before and behind it.
    pub unmapped: i64,
    /// Whether the system says that a page of the process is writable and executable at once.
    pub has_writable_code: Offer<fn() -> bool>,
    /// Maps so many bytes twice, by the harness's own means: (read-write view, read-execute view).
    pub two_views: Offer<fn(usize) -> (i64, i64)>,
    /// Whether this machine is known to execute stale code where instruction caches aren't invalidated.
    pub shows_stale_code: Offer<()>,
}
