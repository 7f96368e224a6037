//! What kind of system it is.

use execmem_core::{Hardening, Policy};

/// All false or none: a system that grants everything but `MAP_JIT`.
#[derive(Clone, Copy, Debug, Default)]
pub struct Switches {
    /// Pages that are writable and executable are refused, as SELinux, PaX or macOS do.
    pub refuse_writable_code: bool,
    /// Adding EXEC to pages that were mapped without it is refused, as Linux's MDWE does.
    pub refuse_exec_gain: bool,
    /// There is no memory with two views.
    pub refuse_dual: bool,
    /// There is memory with a write switch for each thread.
    pub has_jit: bool,
    /// No other core runs this program.
    pub is_alone: bool,
    /// A writable and executable page is recorded as a violation: the core should not even have asked.
    pub forbid_writable_code: bool,
    /// Parts of mappings may be unmapped: the allocator of the built-in value store does that.
    pub allow_partial_unmap: bool,
    /// What hardening the system can do.
    pub hardening: Hardening,
    /// Bytes of a huge page, where there are any.
    pub huge_page: Option<usize>,
}

impl Switches {
    /// Nothing but a policy works, where the system can see to that.
    pub(crate) fn grant_only(&mut self, policy: Policy) {
        self.forbid_writable_code = policy != Policy::Rwx;
        self.refuse_writable_code = policy != Policy::Rwx;
        // What `dual` is for. `toggle` needs the flip, and so does RW memory under `jit`.
        self.refuse_exec_gain = policy == Policy::Dual;
        self.refuse_dual = policy != Policy::Dual;
        self.has_jit = policy == Policy::Jit;
    }
}
