//! Calls that fail on demand.

use crate::calls::Call;
use execmem_core::Error;

/// A failure that waits for its call.
struct Fault {
    /// `None`: any call that can fail.
    call: Option<Call>,
    /// Calls to let through first.
    skip: usize,
    error: Error,
    /// Only [`Call::Protect`]: the first half of the work is done before it fails.
    halfway: bool,
    /// Every later call fails too.
    lasting: bool,
}

/// What a call has to suffer.
#[derive(Clone, Copy)]
pub(crate) struct Verdict {
    pub(crate) error: Error,
    pub(crate) halfway: bool,
}

#[derive(Default)]
pub(crate) struct Faults {
    waiting: Vec<Fault>,
    fired: usize,
}

impl Faults {
    pub(crate) fn add(
        &mut self,
        call: Option<Call>,
        skip: usize,
        error: Error,
        halfway: bool,
        lasting: bool,
    ) {
        self.waiting.push(Fault { call, skip, error, halfway, lasting });
    }

    /// Forgets all; how many calls failed since the last time.
    pub(crate) fn clear(&mut self) -> usize {
        self.waiting.clear();
        core::mem::take(&mut self.fired)
    }

    /// Counts a call against every fault that waits for it. The first that is due fails the call.
    pub(crate) fn judge(&mut self, call: Call) -> Option<Verdict> {
        let mut verdict = None;
        self.waiting.retain_mut(|fault| {
            if fault.call.is_some_and(|wanted| wanted != call) || verdict.is_some() {
                return true;
            }
            if fault.skip > 0 {
                fault.skip -= 1;
                return true;
            }
            verdict = Some(Verdict { error: fault.error, halfway: fault.halfway });
            fault.lasting
        });
        self.fired += usize::from(verdict.is_some());
        verdict
    }
}
