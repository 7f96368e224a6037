//! Signal sets in Darwin's numbers (`sys/signal.h`): a word with bit `n - 1` for signal `n`.

use crate::errno::{EINVAL, Errno};
use std::mem::MaybeUninit;

/// Darwin's signals 1 to 31 by Linux's numbers; 0 where Linux has none.
const LINUX: [i32; 31] = [
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGILL,
    libc::SIGTRAP,
    libc::SIGABRT,
    0,
    libc::SIGFPE,
    libc::SIGKILL,
    libc::SIGBUS,
    libc::SIGSEGV,
    libc::SIGSYS,
    libc::SIGPIPE,
    libc::SIGALRM,
    libc::SIGTERM,
    libc::SIGURG,
    libc::SIGSTOP,
    libc::SIGTSTP,
    libc::SIGCONT,
    libc::SIGCHLD,
    libc::SIGTTIN,
    libc::SIGTTOU,
    libc::SIGIO,
    libc::SIGXCPU,
    libc::SIGXFSZ,
    libc::SIGVTALRM,
    libc::SIGPROF,
    libc::SIGWINCH,
    0,
    libc::SIGUSR1,
    libc::SIGUSR2,
];

fn signals() -> impl Iterator<Item = (u32, i32)> {
    LINUX.into_iter().enumerate().filter(|(_, linux)| *linux != 0).map(|(bit, linux)| (1 << bit, linux))
}

fn to_linux(set: u32) -> libc::sigset_t {
    let mut linux = MaybeUninit::uninit();
    // SAFETY: emptied first, then filled with numbers of signals.
    unsafe {
        libc::sigemptyset(linux.as_mut_ptr());
        for (_, signal) in signals().filter(|(bit, _)| set & bit != 0) {
            libc::sigaddset(linux.as_mut_ptr(), signal);
        }
        linux.assume_init()
    }
}

fn to_darwin(set: &libc::sigset_t) -> u32 {
    // SAFETY: the set is initialised.
    let is_member = |signal| unsafe { libc::sigismember(set, signal) } == 1;
    signals().filter(|(_, signal)| is_member(*signal)).map(|(bit, _)| bit).sum()
}

/// pthread_sigmask: the mask before.
pub fn change_mask(how: i32, set: Option<u32>) -> Result<u32, Errno> {
    let how = match (set, how) {
        (None, _) | (_, 1) => libc::SIG_BLOCK,
        (_, 2) => libc::SIG_UNBLOCK,
        (_, 3) => libc::SIG_SETMASK,
        _ => return Err(EINVAL),
    };
    let set = to_linux(set.unwrap_or(0));
    let mut before = to_linux(0);
    // SAFETY: both sets are ours.
    match unsafe { libc::pthread_sigmask(how, &set, &mut before) } {
        0 => Ok(to_darwin(&before)),
        number => Err(Errno::from_linux(number)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_survives_the_way_to_linux_and_back() {
        // SIGBUS is 10 on Darwin and 7 on Linux, SIGUSR1 30 and 10.
        let set = 1 << 9 | 1 << 29;
        let linux = to_linux(set);
        // SAFETY: the set is initialised.
        unsafe {
            assert_eq!(libc::sigismember(&linux, libc::SIGBUS), 1);
            assert_eq!(libc::sigismember(&linux, libc::SIGUSR1), 1);
        }
        assert_eq!(to_darwin(&linux), set);
    }
}
