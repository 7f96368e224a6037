//! libpthread's switches for writing `MAP_JIT` pages, as its header documents them.

use crate::violation::violation;
use crate::{jit, kernel};
use std::ffi::c_void;
use std::ops::Range;
use std::sync::Mutex;

type Callback = unsafe extern "C" fn(*mut c_void) -> i32;

/// Where the loaded library keeps its list of allowed callbacks.
static LIST: Mutex<Range<usize>> = Mutex::new(0..0);

/// The list is read when the program starts, before any of its code runs.
pub fn set_list(list: Range<usize>) {
    *LIST.lock().expect("nothing panics with the lock held") = list;
}

fn is_listed(callback: Callback) -> bool {
    let list = LIST.lock().expect("nothing panics with the lock held").clone();
    list.step_by(8).any(|entry| {
        // SAFETY: an entry of the list, which is in memory as long as its library.
        unsafe { *(entry as *const usize) == callback as usize }
    })
}

/// `pthread_jit_write_protect_np`.
pub extern "C" fn write_protect(enabled: i32) {
    if kernel::rules().has_allow_list() {
        violation("pthread_jit_write_protect_np under the write allow-list");
    }
    if kernel::rules().has_write_switch() {
        jit::set_may_write(enabled == 0);
    }
}

/// `pthread_jit_write_with_callback_np`.
pub extern "C" fn write_with_callback(callback: Callback, context: *mut c_void) -> i32 {
    if kernel::rules().has_allow_list() && !is_listed(callback) {
        violation("a callback that is not on the write allow-list");
    }
    if jit::may_write() {
        violation("pthread_jit_write_with_callback_np inside a callback");
    }
    let turn = |may_write| {
        if kernel::rules().has_write_switch() {
            jit::set_may_write(may_write);
        }
    };
    turn(true);
    // SAFETY: the program's own callback with its own context.
    let result = unsafe { callback(context) };
    turn(false);
    result
}
