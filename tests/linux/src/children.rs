//! A forked child for each test.

use crate::system::is_slow;
use libc::c_int;
use std::fmt;
use std::io::{PipeReader, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What became of a test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It holds.
    Passed,
    /// The system lacks what it needs: the reason.
    NotApplicable(String),
    /// It does not hold: what was seen.
    Failed(String),
}

impl fmt::Display for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Passed => formatter.write_str("ok"),
            Self::NotApplicable(reason) => write!(formatter, "does not apply: {reason}"),
            Self::Failed(what) => write!(formatter, "FAILED\n    {what}"),
        }
    }
}

/// A test that takes longer has hung. Generous, as a busy machine is slow.
fn patience() -> u32 {
    if is_slow() { 600 } else { 120 }
}

const PASSED: c_int = 0;
const FAILED: c_int = 1;
const NOT_APPLICABLE: c_int = 2;

/// Runs a test in a forked child. A signal, a hang or a panic there is a failure of this test alone.
pub fn run(test: impl FnOnce() -> Outcome) -> Outcome {
    let (reader, mut writer) = std::io::pipe().expect("a pipe for the child's report");
    // SAFETY: the process has one thread, so that its child may do whatever a program may.
    match unsafe { libc::fork() } {
        -1 => Outcome::Failed(format!("fork failed: {}", std::io::Error::last_os_error())),
        0 => {
            drop(reader);
            // SAFETY: asks for a SIGALRM, which ends the child.
            unsafe { libc::alarm(patience()) };
            let outcome = catch_unwind(AssertUnwindSafe(test))
                .unwrap_or_else(|_| Outcome::Failed("it panicked, as told above".to_owned()));
            let (status, text) = match outcome {
                Outcome::Passed => (PASSED, String::new()),
                Outcome::Failed(text) => (FAILED, text),
                Outcome::NotApplicable(text) => (NOT_APPLICABLE, text),
            };
            // What can't be reported is seen as a failure by the parent.
            let _ = writer.write_all(text.as_bytes());
            // SAFETY: ends the child at once: the parent's buffers and exit handlers are not its own.
            unsafe { libc::_exit(status) }
        }
        child => {
            drop(writer);
            outcome_of(child, reader)
        }
    }
}

/// Runs a test in a thread of a forked child whose main thread has ended. It panics where it fails.
pub fn run_without_main_thread(test: impl FnOnce() + Send + 'static) -> Outcome {
    run(|| {
        std::thread::spawn(|| {
            while std::fs::read("/proc/self/maps").is_ok_and(|text| !text.is_empty()) {
                std::thread::yield_now();
            }
            let result = catch_unwind(AssertUnwindSafe(test));
            // SAFETY: ends the child.
            unsafe { libc::_exit(if result.is_ok() { PASSED } else { FAILED }) };
        });
        // SAFETY: ends this thread alone; nothing of it is used by the other.
        unsafe { libc::syscall(libc::SYS_exit, 0) };
        unreachable!("the thread has ended")
    })
}

fn outcome_of(child: libc::pid_t, mut reader: PipeReader) -> Outcome {
    let mut text = Vec::new();
    // A child that dies closes the pipe; its status tells the rest.
    let _ = reader.read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).into_owned();
    match wait(child) {
        Status::Exit(PASSED) => Outcome::Passed,
        Status::Exit(NOT_APPLICABLE) => Outcome::NotApplicable(text),
        Status::Exit(FAILED) => Outcome::Failed(text),
        Status::Signal(libc::SIGALRM) => Outcome::Failed(format!("it hung {text}")),
        other => Outcome::Failed(format!("its process ended with {other:?} {text}")),
    }
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// With this exit status.
    Exit(c_int),
    /// By this signal.
    Signal(c_int),
}

/// Waits for a child.
pub fn wait(child: libc::pid_t) -> Status {
    let mut status = 0;
    // SAFETY: waits for a child of this process.
    while unsafe { libc::waitpid(child, &mut status, 0) } < 0 {
        let error = std::io::Error::last_os_error();
        assert_eq!(error.kind(), std::io::ErrorKind::Interrupted, "waiting for a child: {error}");
    }
    match libc::WIFSIGNALED(status) {
        true => Status::Signal(libc::WTERMSIG(status)),
        false => Status::Exit(libc::WEXITSTATUS(status)),
    }
}
