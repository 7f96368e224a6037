//! What is known of each call that the core makes.

use execmem_core::Protection;
use execmem_core::platform::{Memory, PageRequest};

/// The methods of a platform that can fail, or that tests count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the method of that name")]
pub enum Call {
    Map,
    Unmap,
    Protect,
    MapAgain,
    MoveOnto,
    Mappings,
    MapFile,
    MapDescriptor,
    FileSize,
    Request,
    Seal,
    Resident,
    MakeHuge,
    CopyGuarded,
    SynchronizeCores,
    FlushIcache,
    JitWrites,
    Print,
    Wait,
}

impl Call {
    /// How many there are.
    pub(crate) const COUNT: usize = Self::Wait as usize + 1;

    /// Whether the method gives a `Result`.
    pub const fn can_fail(self) -> bool {
        !matches!(self, Self::FlushIcache | Self::JitWrites | Self::Print | Self::Wait)
    }
}

/// A call that is about to be carried out.
#[derive(Clone, Copy, Debug)]
pub struct Event {
    /// Which.
    pub call: Call,
    /// The address that it names, or 0.
    pub start: usize,
    /// The bytes that it names, or 0.
    pub length: usize,
    /// What [`Call::Map`] asks for.
    pub memory: Option<Memory>,
    /// What [`Call::Protect`] asks for.
    pub protection: Option<Protection>,
}

impl Event {
    pub(crate) fn new(call: Call, start: usize, length: usize) -> Self {
        Self { call, start, length, memory: None, protection: None }
    }
}

/// One call of `flush_icache`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flush {
    /// The view that was written.
    pub written: usize,
    /// The view that is executed.
    pub executed: usize,
    /// Bytes.
    pub length: usize,
}

/// One call of `request`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// First page.
    pub start: usize,
    /// Bytes.
    pub length: usize,
    /// What was asked for.
    pub request: PageRequest,
}
