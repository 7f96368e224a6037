//! Who uses a region, and who waits for it.
//!
//! Who asks for a region that others use draws a ticket, and nobody overtakes: whoever waits for exclusive use stops
//! later ones from sharing, and the other way round.

use crate::lock::SPINS;
use crate::platform::Platform;
use crate::sync::{AtomicUsize, Ordering};

/// Whether others may use the region at the same time.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Yes, if they share it too.
    Shared,
    /// No.
    Exclusive,
}

/// The value of [`Use::users`] while one exclusive user has the region.
const EXCLUSIVE: u32 = u32::MAX;

/// Who uses a region now, and who waits for it.
#[derive(Clone, Copy, Default)]
pub(crate) struct Use {
    /// 0 nobody, n shared users, or [`EXCLUSIVE`].
    users: u32,
    /// The ticket of whoever is first in the queue, and the next one to be drawn. Equal: nobody waits.
    first: u16,
    next: u16,
}

impl Use {
    pub(crate) fn is_in_use(self) -> bool {
        self.users != 0
    }

    pub(crate) fn is_exclusive(self) -> bool {
        self.users == EXCLUSIVE
    }

    /// Begins a use, if the others leave room for it and it is the turn of this ticket; of nobody without one while
    /// somebody waits.
    pub(super) fn begin(&mut self, ticket: Option<u16>, access: Access) -> bool {
        let (is_free, users) = match access {
            Access::Shared => (self.users < EXCLUSIVE - 1, self.users.wrapping_add(1)),
            Access::Exclusive => (self.users == 0, EXCLUSIVE),
        };
        if !is_free || ticket.unwrap_or(self.next) != self.first {
            return false;
        }
        self.users = users;
        self.first = self.first.wrapping_add(ticket.is_some().into());
        true
    }

    pub(super) fn draw_ticket(&mut self) -> u16 {
        let ticket = self.next;
        self.next = ticket.wrapping_add(1);
        ticket
    }

    /// There may be none to end: a fork in the middle of an operation, in a signal handler, makes all claims void in
    /// the child, that of its own thread too.
    pub(super) fn end(&mut self) {
        self.users = if self.is_exclusive() { 0 } else { self.users.saturating_sub(1) };
    }
}

/// How those who wait hear that a use has ended, or that a queue has moved on.
pub(super) struct Wakeups(AtomicUsize);

impl Wakeups {
    pub(super) const fn new() -> Self {
        Self(AtomicUsize::new(0))
    }

    /// How many there were so far.
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::Acquire)
    }

    pub(super) fn wake_all(&self, platform: impl Platform) {
        self.0.fetch_add(1, Ordering::Release);
        platform.wake(&self.0, true);
    }

    /// Waits until there are others than `seen`.
    pub(super) fn wait(&self, seen: usize, platform: impl Platform) {
        for _ in 0..SPINS {
            if self.count() != seen {
                return;
            }
            core::hint::spin_loop();
        }
        while self.count() == seen {
            platform.wait(&self.0, seen);
        }
    }
}
