//! The W^X policy: what the pages of code memory are, chosen once for each process.

use crate::error::{Error, Result};
use crate::header::*;
use crate::platform::{Memory, Platform};
use crate::protection::Protection;
use crate::span::Span;
use crate::sync::{AtomicI32, Ordering};
use core::ffi::CStr;

/// The environment variable that says which policy is wished for.
pub(crate) const VARIABLE: &CStr = c"EXECMEM_POLICY";

/// How `rt_alloc_exec_memory` keeps its promise of memory that can be written and executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Policy {
    /// The first of `rwx`, `jit`, `dual`, `toggle` that the system grants.
    Auto = RT_POLICY_AUTO,
    /// Pages that are writable and executable at once.
    Rwx = RT_POLICY_RWX,
    /// Two views of the same memory: read-execute at the address, read-write elsewhere.
    Dual = RT_POLICY_DUAL,
    /// Read-execute pages, flipped to read-write around each write by this library.
    Toggle = RT_POLICY_TOGGLE,
    /// macOS: `MAP_JIT` pages with a write switch for each thread.
    Jit = RT_POLICY_JIT,
}

impl Policy {
    /// By their numbers.
    pub(crate) const ALL: [Self; 5] = [Self::Auto, Self::Rwx, Self::Dual, Self::Toggle, Self::Jit];

    /// What `auto` tries, in this order.
    const PREFERENCE: [Self; 4] = [Self::Rwx, Self::Jit, Self::Dual, Self::Toggle];

    /// From the contract's number.
    pub fn from_number(number: i32) -> Result<Self> {
        Self::ALL.into_iter().find(|policy| *policy as i32 == number).ok_or(Error::InvalidArgument)
    }

    /// As in the environment variable and the statistics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Rwx => "rwx",
            Self::Dual => "dual",
            Self::Toggle => "toggle",
            Self::Jit => "jit",
        }
    }

    /// From its name in any case; an empty one stands for no wish.
    fn from_name(name: &[u8]) -> Result<Self> {
        if name.is_empty() {
            return Ok(Self::Auto);
        }
        let is_it = |policy: &Self| policy.name().as_bytes().eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(is_it).ok_or(Error::UnknownPolicy)
    }

    /// What the platform is asked for when code memory is allocated.
    pub(crate) const fn code_memory(self) -> Memory {
        match self {
            Self::Auto | Self::Toggle => Memory::Private(Protection::RX),
            Self::Rwx => Memory::Private(Protection::RWX),
            Self::Dual => Memory::Dual,
            Self::Jit => Memory::Jit,
        }
    }

    /// What the pages of code memory allow to the caller.
    pub(crate) const fn code_protection(self) -> Protection {
        match self {
            Self::Rwx => Protection::RWX,
            _ => Protection::RX,
        }
    }

    /// Whether the system grants what this policy needs: tried out on one page.
    fn probe(self, platform: impl Platform) -> Result {
        let length = platform.page_size();
        let is_flipped = self == Self::Toggle;
        let memory = if is_flipped { Memory::Private(Protection::RW) } else { self.code_memory() };
        let views = platform.map(length, memory, None)?;
        let page = Span::from_parts(views.address, length);
        let mut granted = Ok(());
        // SAFETY: the page was mapped above, and nobody has seen it.
        unsafe {
            if is_flipped {
                // The flip that every write will need: pages that were writable become executable.
                granted = platform.protect(page, Protection::RX);
            }
            views.unmap(length, platform);
        }
        granted
    }
}

/// The process's choice: open until the first allocation, then fixed. Each is a number, or [`UNSET`].
pub(crate) struct Choice {
    /// What was asked for with `set` or, once it was granted, in the environment.
    wish: AtomicI32,
    /// What it has become.
    fixed: AtomicI32,
    /// Whether the system lets pages that were writable become executable: 0 or 1.
    adds_exec: AtomicI32,
    /// What came of trying each policy out: 0 for granted, or the error's code.
    trials: [AtomicI32; Policy::ALL.len()],
}

const UNSET: i32 = -1;

/// Whether the system grants what was tried out. A shortage is neither yes nor no.
fn is_granted(trial: Result) -> Result<bool> {
    match trial {
        Ok(()) => Ok(true),
        Err(Error::Refused | Error::Unsupported) => Ok(false),
        Err(shortage) => Err(shortage),
    }
}

impl Choice {
    pub(crate) const fn new() -> Self {
        Self {
            wish: AtomicI32::new(UNSET),
            fixed: AtomicI32::new(UNSET),
            adds_exec: AtomicI32::new(UNSET),
            trials: [const { AtomicI32::new(UNSET) }; Policy::ALL.len()],
        }
    }

    fn fixed(&self) -> Option<Policy> {
        Policy::from_number(self.fixed.load(Ordering::Acquire)).ok()
    }

    fn wish(&self, platform: impl Platform) -> Result<Policy> {
        match Policy::from_number(self.wish.load(Ordering::Acquire)) {
            Ok(policy) => Ok(policy),
            Err(_) => Policy::from_name(platform.environment(VARIABLE).unwrap_or_default().to_bytes()),
        }
    }

    /// The policy in force, or, while that is open, the wish.
    pub(crate) fn get(&self, platform: impl Platform) -> Result<Policy> {
        self.fixed().map_or_else(|| self.wish(platform), Ok)
    }

    /// Sets the wish. Once a policy is in force only that one is accepted.
    pub(crate) fn set(&self, policy: Policy) -> Result {
        match self.fixed() {
            Some(fixed) if fixed != policy => return Err(Error::Refused),
            Some(_) => {}
            None => self.wish.store(policy as i32, Ordering::Release),
        }
        Ok(())
    }

    /// The policy in force, decided now if it was open. A refused wish leaves it open.
    pub(crate) fn fix(&self, platform: impl Platform) -> Result<Policy> {
        self.tried_out(platform).and_then(|(wish, policy)| self.put_in_force(wish, policy))
    }

    /// The wish, and what it becomes, which the system grants: it stays open. Once a policy is in force, that one.
    pub(crate) fn tried_out(&self, platform: impl Platform) -> Result<(Policy, Policy)> {
        if let Some(policy) = self.fixed() {
            return Ok((policy, policy));
        }
        let wish = self.wish(platform)?;
        if wish != Policy::Auto {
            return self.try_out(wish, platform).map(|()| (wish, wish));
        }
        // A shortage is reported, and `auto` stays open.
        for policy in Policy::PREFERENCE {
            if is_granted(self.try_out(policy, platform))? {
                return Ok((wish, policy));
            }
        }
        Err(Error::Refused)
    }

    /// Puts in force what was tried out. The policy that is: another thread may have been faster.
    #[cfg_attr(target_os = "none", inline(never))]
    pub(crate) fn put_in_force(&self, wish: Policy, policy: Policy) -> Result<Policy> {
        self.keep(wish);
        match self.fixed.compare_exchange(UNSET, policy as i32, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(policy),
            Err(earlier) => Policy::from_number(earlier),
        }
    }

    /// The wish, and the policy that a code heap prefers, where the choice is left to us: nothing in a heap's contract
    /// needs pages that are writable and executable, so it has two views, whatever the other allocations get. Not tried
    /// out: most systems grant it, and the heap's first memory shows.
    pub(crate) fn preferred_for_heap(&self, platform: impl Platform) -> Result<Option<(Policy, Policy)>> {
        Ok((self.wish(platform)? == Policy::Auto).then_some((Policy::Auto, Policy::Dual)))
    }

    /// The wish, and the policy that it becomes for a code heap, tried out: it stays open.
    pub(crate) fn for_heap(&self, platform: impl Platform) -> Result<(Policy, Policy)> {
        match self.preferred_for_heap(platform)? {
            Some(preferred) if is_granted(self.try_out(preferred.1, platform))? => Ok(preferred),
            _ => self.tried_out(platform),
        }
    }

    /// A heap has memory of this policy: it is in force, unless the choice was ours. False: another one is.
    pub(crate) fn keep_for_heap(&self, wish: Policy, policy: Policy) -> bool {
        if (wish, policy) == (Policy::Auto, Policy::Dual) {
            self.note_trial(policy, Ok(()));
            self.keep(wish);
            return true;
        }
        self.put_in_force(wish, policy) == Ok(policy)
    }

    /// Keeps a wish that was granted: what the environment says later doesn't count. `set` still does while
    /// no policy is in force.
    fn keep(&self, wish: Policy) {
        let _ = self.wish.compare_exchange(UNSET, wish as i32, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether the system lets pages that were writable become executable. Under policy `dual` it may not
    /// (SELinux, `prctl(PR_SET_MDWE)`), and a read-execute view has to be kept for that.
    pub(crate) fn can_add_exec(&self, platform: impl Platform) -> Result<bool> {
        if self.adds_exec.load(Ordering::Relaxed) == UNSET {
            let granted = is_granted(Policy::Toggle.probe(platform))?;
            self.adds_exec.store(granted.into(), Ordering::Relaxed);
        }
        Ok(self.adds_exec.load(Ordering::Relaxed) != 0)
    }

    fn try_out(&self, policy: Policy, platform: impl Platform) -> Result {
        let result = policy.probe(platform);
        self.note_trial(policy, result);
        result
    }

    fn note_trial(&self, policy: Policy, result: Result) {
        if let Some(trial) = self.trials.get(policy as usize) {
            trial.store(result.map_or_else(|error| error as i32, |()| 0), Ordering::Relaxed);
        }
    }

    /// What came of trying each policy out, by its number, as `rt_exec_memory_stats` tells it.
    pub(crate) fn trials(&self) -> [i32; Policy::ALL.len()] {
        self.trials.each_ref().map(|trial| trial.load(Ordering::Relaxed))
    }
}
