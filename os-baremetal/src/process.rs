//! The cell for the last error: one for each core, as a bare machine has no other threads. A kernel that
//! moves threads between cores asks for the code before it can be moved.

use crate::cores;
use core::sync::atomic::Ordering;

pub(crate) fn set_last_error(code: i32) {
    cores::this().last_error.store(code, Ordering::Relaxed);
}

pub(crate) fn last_error() -> i32 {
    cores::this().last_error.load(Ordering::Relaxed)
}
