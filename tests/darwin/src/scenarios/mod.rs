//! What there is to show, each in a process of its own: a broken rule kills that process alone.

/// Goes on only if the condition is true.
macro_rules! check {
    ($condition:expr) => {
        if !$condition {
            return Err(format!("{}:{}: {}", file!(), line!(), stringify!($condition)));
        }
    };
}

/// Goes on only if both sides are equal.
macro_rules! check_eq {
    ($left:expr, $right:expr) => {
        match (&$left, &$right) {
            (left, right) if left == right => {}
            (left, right) => {
                let (file, line) = (file!(), line!());
                let (expression, expected) = (stringify!($left), stringify!($right));
                return Err(format!("{file}:{line}: {expression} is {left:?}, not {expected}, {right:?}"));
            }
        }
    };
}

mod caches;
mod children;
mod kernel;
mod objects;
mod policies;
mod queries;
mod writing;

use crate::library::Library;
use crate::rules::{Mood, Rules};
use crate::violation;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::path::PathBuf;

/// A library's file and the machine to load it on.
#[derive(Clone, Debug)]
pub struct Machine {
    /// The file.
    pub file: PathBuf,
    /// The machine.
    pub rules: Rules,
}

impl Machine {
    /// Loads the library.
    pub fn load(&self) -> Result<Library, String> {
        Library::load(&self.file, self.rules)
    }

    /// Loads the library and wishes for a policy.
    pub fn load_with_policy(&self, policy: i32) -> Result<Library, String> {
        let library = self.load()?;
        check!(library.call("rt_exec_memory_set_policy", &[policy.into()]) == 1);
        Ok(library)
    }
}

/// A sentence with its proof, for the moods in which it has something to say.
pub struct Scenario {
    /// The sentence.
    pub name: &'static str,
    /// Where it applies.
    pub applies: fn(Rules) -> bool,
    /// The proof; `Err` says what is wrong.
    pub run: fn(&Machine) -> Result<(), String>,
}

/// Everywhere.
pub fn everywhere(_: Rules) -> bool {
    true
}

/// All scenarios.
pub fn all() -> impl Iterator<Item = &'static Scenario> {
    [kernel::ALL, policies::ALL, writing::ALL, children::ALL, queries::ALL, caches::ALL, objects::ALL]
        .into_iter()
        .flatten()
}

/// The machines to run them on: the four moods, the first systems of Apple silicon, and stricter kernels.
pub fn machines() -> impl Iterator<Item = (String, Rules)> {
    let early = [Mood::Plain, Mood::Entitled].map(|mood| Rules { is_early_system: true, ..Rules::new(mood) });
    let strict = Mood::ALL.map(|mood| Rules { is_strict: true, ..Rules::new(mood) });
    let name = |rules: &Rules| {
        let system = match (rules.is_early_system, rules.is_strict) {
            (true, _) => ", macOS 11.0",
            (_, true) => ", strict",
            _ => "",
        };
        format!("{}{system}", rules.mood.name())
    };
    let all = Mood::ALL.map(Rules::new).into_iter().chain(early).chain(strict);
    all.map(move |rules| (name(&rules), rules))
}

/// How a process ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// With this exit status.
    Status(i32),
    /// By this signal.
    Signal(i32),
}

/// Seconds after which a process that hangs is killed: far more than any needs, even emulated.
const PATIENCE: u32 = 300;

/// Runs `body` in a child and gives how it ended and what it returned, or wrote to stderr if `with_errors`.
pub fn in_child(with_errors: bool, body: impl FnOnce() -> (i32, String)) -> (End, String) {
    let mut ends = [0; 2];
    // SAFETY: room for two numbers, which are files of ours then.
    let (mut reader, mut writer) = unsafe {
        assert_eq!(libc::pipe(ends.as_mut_ptr()), 0);
        (File::from_raw_fd(ends[0]), File::from_raw_fd(ends[1]))
    };
    // SAFETY: this process has one thread, or the child uses nothing that another could hold.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: sets a timer; duplicates a file of ours.
        unsafe {
            libc::alarm(PATIENCE);
            if with_errors {
                libc::dup2(ends[1], libc::STDERR_FILENO);
            }
        }
        let (status, text) = body();
        let _ = writer.write_all(text.as_bytes());
        // SAFETY: ends the process, without what the parent would have done at its end.
        unsafe { libc::_exit(status) };
    }
    drop(writer);
    let mut said = Vec::new();
    reader.read_to_end(&mut said).expect("a pipe can be read");
    let mut status = 0;
    // SAFETY: our own child.
    unsafe { libc::waitpid(child, &mut status, 0) };
    let end = match libc::WIFEXITED(status) {
        true => End::Status(libc::WEXITSTATUS(status)),
        false => End::Signal(libc::WTERMSIG(status)),
    };
    (end, String::from_utf8_lossy(&said).into_owned())
}

/// Runs a scenario in a child.
pub fn run(scenario: &Scenario, machine: &Machine) -> Result<(), String> {
    let (end, said) = in_child(false, || match (scenario.run)(machine) {
        Ok(()) => (0, String::new()),
        Err(reason) => (1, reason),
    });
    match end {
        End::Status(0) => Ok(()),
        End::Status(1) => Err(said),
        other => Err(format!("the process ended with {other:?}: {said}")),
    }
}

/// Whether `body` is killed by the model for breaking this rule. It runs in a copy of this process.
fn is_killed_for(rule: &str, body: impl FnOnce()) -> Result<(), String> {
    crate::kernel::copy_all_to_children(true);
    let (end, said) = in_child(true, || {
        body();
        (0, "it lived".to_owned())
    });
    crate::kernel::copy_all_to_children(false);
    let expected = (End::Status(violation::STATUS), format!("killed by the model: {rule}\n"));
    check_eq!((end, said), expected);
    Ok(())
}

/// A function that returns a number.
fn code(number: u16) -> Vec<u8> {
    if cfg!(target_arch = "aarch64") {
        let mov = 0x5280_0000 | u32::from(number) << 5;
        [mov.to_le_bytes(), 0xd65f_03c0_u32.to_le_bytes()].concat()
    } else {
        [&[0xb8][..], &u32::from(number).to_le_bytes(), &[0xc3]].concat()
    }
}

/// A new empty temporary file, already without a name.
fn nameless_file(contents: &[u8]) -> OwnedFd {
    let template = c"/tmp/execmem-darwin-XXXXXX".to_owned().into_raw();
    // SAFETY: the template is writable; the name is a C string until it is freed with the template.
    let mut file = unsafe {
        let number = libc::mkstemp(template);
        assert!(number >= 0, "a temporary file");
        libc::unlink(template);
        drop(std::ffi::CString::from_raw(template));
        File::from_raw_fd(number)
    };
    file.write_all(contents).expect("the file takes bytes");
    // SAFETY: the file is ours and is given on.
    unsafe { OwnedFd::from_raw_fd(file.into_raw_fd()) }
}
