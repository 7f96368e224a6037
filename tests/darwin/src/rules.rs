//! What Apple's kernel and libpthread allow, by processor, by signature and by system version.
//!
//! Sources: xnu (`bsd/kern/kern_mman.c`, `osfmk/vm/vm_map.c`, `osfmk/vm/vm_fault.c`), libpthread (`pthread.h`), Apple's pages on the
//! hardened runtime and on porting just-in-time compilers to Apple silicon.

/// How the program was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    /// Without the hardened runtime.
    Plain,
    /// Hardened runtime with `com.apple.security.cs.allow-jit`.
    Entitled,
    /// Hardened runtime without any entitlement.
    Hardened,
    /// As `Entitled`, with `com.apple.security.cs.jit-write-allowlist` besides.
    AllowList,
}

impl Mood {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Plain, Self::Entitled, Self::Hardened, Self::AllowList];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Entitled => "hardened with entitlement",
            Self::Hardened => "hardened without",
            Self::AllowList => "allow-list",
        }
    }
}

/// A machine, its system and the program's signature.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How the program was signed.
    pub mood: Mood,
    /// Whether the processor is Apple's.
    pub is_arm: bool,
    /// macOS 11.0 to 11.3, which lack `pthread_jit_write_with_callback_np`.
    pub is_early_system: bool,
    /// A stricter kernel, which refuses what others only punish, gives a child no `MAP_JIT` pages, and doesn't
    /// tell what it enforces. Other kernels give them to native macOS programs' children.
    pub is_strict: bool,
}

impl Rules {
    /// For the processor that this program runs on.
    pub fn new(mood: Mood) -> Self {
        Self { mood, is_arm: cfg!(target_arch = "aarch64"), is_early_system: false, is_strict: false }
    }

    /// Bytes in a page.
    pub fn page_size(self) -> usize {
        if self.is_arm { 16384 } else { 4096 }
    }

    /// Whether the hardened runtime is in force.
    pub fn is_hardened(self) -> bool {
        self.mood != Mood::Plain
    }

    /// Whether memory other than `MAP_JIT` may be writable and executable at once.
    pub fn allows_writable_code(self) -> bool {
        !self.is_arm && !self.is_hardened()
    }

    /// Whether memory that is neither `MAP_JIT` nor signed may be executed.
    pub fn allows_unsigned_code(self) -> bool {
        !self.is_hardened()
    }

    /// Whether such memory can't even be made executable.
    pub fn refuses_unsigned_code(self) -> bool {
        self.is_hardened() && self.is_strict
    }

    /// Whether it can, and who executes it is killed.
    pub fn kills_for_unsigned_code(self) -> bool {
        self.is_hardened() && !self.is_strict
    }

    /// Whether a forked child has its parent's `MAP_JIT` pages.
    pub fn inherits_jit(self) -> bool {
        !self.is_strict
    }

    /// Whether `MAP_JIT` is granted.
    pub fn allows_jit(self) -> bool {
        self.mood != Mood::Hardened
    }

    /// Whether the write switch does anything: not on Intel.
    pub fn has_write_switch(self) -> bool {
        self.is_arm
    }

    /// Whether only listed callbacks may write.
    pub fn has_allow_list(self) -> bool {
        self.mood == Mood::AllowList
    }
}
