//! The W^X policy: what the pages of code memory are, chosen once for each process.

use crate::error::Error;
use crate::platform::{Memory, Platform};
use crate::protection::Protection;
use crate::span::Span;
use core::ffi::CStr;
use core::sync::atomic::{AtomicI32, Ordering};

/// The environment variable that says which policy is wished for.
pub(crate) const VARIABLE: &CStr = c"EXECMEM_POLICY";

/// How `rt_alloc_exec_memory` keeps its promise of memory that can be written and executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Policy {
    /// The first of `rwx`, `jit`, `dual`, `toggle` that the system grants.
    Auto = 0,
    /// Pages that are writable and executable at once.
    Rwx = 1,
    /// Two views of the same memory: read-execute at the address, read-write elsewhere.
    Dual = 2,
    /// Read-execute pages, flipped to read-write around each write by this library.
    Toggle = 3,
    /// macOS: `MAP_JIT` pages with a write switch for each thread.
    Jit = 4,
}

impl Policy {
    /// What `auto` tries, in this order.
    const PREFERENCE: [Self; 4] = [Self::Rwx, Self::Jit, Self::Dual, Self::Toggle];

    /// From the contract's number.
    pub const fn from_number(number: i32) -> Result<Self, Error> {
        Ok(match number {
            0 => Self::Auto,
            1 => Self::Rwx,
            2 => Self::Dual,
            3 => Self::Toggle,
            4 => Self::Jit,
            _ => return Err(Error::InvalidArgument),
        })
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
    fn from_name(name: &[u8]) -> Result<Self, Error> {
        if name.is_empty() {
            return Ok(Self::Auto);
        }
        [Self::Auto, Self::Rwx, Self::Dual, Self::Toggle, Self::Jit]
            .into_iter()
            .find(|policy| policy.name().as_bytes().eq_ignore_ascii_case(name))
            .ok_or(Error::UnknownPolicy)
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
    fn probe(self, platform: impl Platform) -> Result<(), Error> {
        let page = platform.page_size();
        let views = match self {
            // The flip that every write will need: pages that were writable become executable.
            Self::Toggle => platform.map(page, Memory::Private(Protection::RW), None)?,
            _ => platform.map(page, self.code_memory(), None)?,
        };
        let pages = Span::from_parts(views.address, page);
        let granted = match self {
            // SAFETY: the page was mapped above and nobody uses it.
            Self::Toggle => unsafe { platform.protect(pages, Protection::RX) },
            _ => Ok(()),
        };
        // SAFETY: mapped above, and nobody has seen it.
        unsafe { views.unmap(page, platform) };
        granted
    }
}

/// What came of trying a policy out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trial {
    /// Nobody had to know.
    #[default]
    NotTried,
    /// The system grants what it needs.
    Granted,
    /// The system doesn't, for this reason.
    Failed(Error),
}

/// How many numbers [`Policy`] has.
pub const POLICIES: usize = 5;

/// The process's choice: open until the first allocation, then fixed.
pub(crate) struct Choice {
    /// What was asked for with `set` or, once it was granted, in the environment; or [`UNSET`].
    wish: AtomicI32,
    /// What it has become, or [`UNSET`].
    fixed: AtomicI32,
    /// Whether the system lets pages that were writable become executable: 0, 1 or [`UNSET`].
    adds_exec: AtomicI32,
    /// What came of trying out, by the policy's number: [`UNSET`], 0 for granted, or the error's code.
    trials: [AtomicI32; POLICIES],
}

const UNSET: i32 = -1;

impl Choice {
    pub(crate) const fn new() -> Self {
        Self {
            wish: AtomicI32::new(UNSET),
            fixed: AtomicI32::new(UNSET),
            adds_exec: AtomicI32::new(UNSET),
            trials: [const { AtomicI32::new(UNSET) }; POLICIES],
        }
    }

    /// The policy in force, or, while that is open, the wish.
    pub(crate) fn get(&self, platform: impl Platform) -> Result<Policy, Error> {
        match Policy::from_number(self.fixed.load(Ordering::Acquire)) {
            Ok(policy) => Ok(policy),
            Err(_) => self.wish(platform),
        }
    }

    /// Sets the wish. Once a policy is in force only that one is accepted.
    pub(crate) fn set(&self, policy: Policy) -> Result<(), Error> {
        match Policy::from_number(self.fixed.load(Ordering::Acquire)) {
            Ok(fixed) if fixed != policy => Err(Error::Refused),
            Ok(_) => Ok(()),
            Err(_) => {
                self.wish.store(policy as i32, Ordering::Release);
                Ok(())
            }
        }
    }

    /// The policy in force, decided now if it was open. A refused wish leaves it open.
    pub(crate) fn fix(&self, platform: impl Platform) -> Result<Policy, Error> {
        if let Ok(policy) = Policy::from_number(self.fixed.load(Ordering::Acquire)) {
            return Ok(policy);
        }
        let wish = self.wish(platform)?;
        let policy = match wish {
            Policy::Auto => self.first_granted(platform)?,
            wish => self.try_out(wish, platform).map(|()| wish)?,
        };
        self.keep(wish);
        match self.fixed.compare_exchange(UNSET, policy as i32, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => Ok(policy),
            Err(earlier) => Policy::from_number(earlier),
        }
    }

    /// The policy of a code heap: nothing in its contract needs pages that are writable and executable, so
    /// where the choice is left to us two views are preferred, whatever the other allocations get.
    pub(crate) fn for_heap(&self, platform: impl Platform) -> Result<Policy, Error> {
        if self.wish(platform)? != Policy::Auto {
            return self.fix(platform);
        }
        match self.try_out(Policy::Dual, platform) {
            Ok(()) => {
                self.keep(Policy::Auto);
                Ok(Policy::Dual)
            }
            Err(Error::Refused | Error::Unsupported) => self.fix(platform),
            Err(shortage) => Err(shortage),
        }
    }

    /// Keeps a wish that was granted: what the environment says later doesn't count. `set` still does while
    /// no policy is in force.
    fn keep(&self, wish: Policy) {
        let _ = self.wish.compare_exchange(UNSET, wish as i32, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Whether the system lets pages that were writable become executable. Under policy `dual` it may not
    /// (SELinux, `prctl(PR_SET_MDWE)`), and a read-execute view has to be kept for that.
    pub(crate) fn can_add_exec(&self, platform: impl Platform) -> Result<bool, Error> {
        match self.adds_exec.load(Ordering::Relaxed) {
            UNSET => {
                let granted = match Policy::Toggle.probe(platform) {
                    Ok(()) => true,
                    Err(Error::Refused | Error::Unsupported) => false,
                    Err(shortage) => return Err(shortage),
                };
                self.adds_exec.store(granted.into(), Ordering::Relaxed);
                Ok(granted)
            }
            known => Ok(known != 0),
        }
    }

    fn wish(&self, platform: impl Platform) -> Result<Policy, Error> {
        match Policy::from_number(self.wish.load(Ordering::Acquire)) {
            Ok(policy) => Ok(policy),
            Err(_) => match platform.environment(VARIABLE) {
                Some(name) => Policy::from_name(name.to_bytes()),
                None => Ok(Policy::Auto),
            },
        }
    }

    /// The first policy that the system grants. A shortage is not a refusal: it is reported, and `auto`
    /// stays open.
    fn first_granted(&self, platform: impl Platform) -> Result<Policy, Error> {
        for policy in Policy::PREFERENCE {
            match self.try_out(policy, platform) {
                Ok(()) => return Ok(policy),
                Err(Error::Refused | Error::Unsupported) => {}
                Err(shortage) => return Err(shortage),
            }
        }
        Err(Error::Refused)
    }

    fn try_out(&self, policy: Policy, platform: impl Platform) -> Result<(), Error> {
        let result = policy.probe(platform);
        let outcome = result.map_or_else(|error| error as i32, |()| 0);
        if let Some(trial) = self.trials.get(policy as usize) {
            trial.store(outcome, Ordering::Relaxed);
        }
        result
    }

    /// What came of trying each policy out, by its number: why the choice is what it is.
    pub(crate) fn trials(&self) -> [Trial; POLICIES] {
        self.trials.each_ref().map(|trial| match trial.load(Ordering::Relaxed) {
            0 => Trial::Granted,
            code => Error::from_code(code).map_or(Trial::NotTried, Trial::Failed),
        })
    }
}
