//! Other programs for the tests to start. A guest has none but the tests themselves, so they play these parts too; in
//! qemu's user mode, where a program can't start itself, it is the host's that is started.

use crate::system::is_emulated;
use std::ffi::{CStr, OsStr};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::process::Command;
use std::sync::OnceLock;

const OWN: &CStr = c"/proc/self/exe";
const IDLE: &CStr = c"--do-nothing";
const OPEN_FILES: &CStr = c"--list-open-files";

/// A program and an argument: it does nothing, successfully.
///
/// The first call in a process asks the kernel; a child that shares its parent's memory must not be the first.
pub fn idle() -> [&'static CStr; 2] {
    static IS_EMULATED: OnceLock<bool> = OnceLock::new();
    if *IS_EMULATED.get_or_init(is_emulated) { [c"/bin/true", IDLE] } else { [OWN, IDLE] }
}

/// The same, to be started by the standard library.
pub fn idle_command() -> Command {
    command(idle())
}

/// A program that prints where its descriptors lead to, each behind an arrow. Not in qemu's user mode.
pub fn open_files_command() -> Command {
    command([OWN, OPEN_FILES])
}

fn command(words: [&CStr; 2]) -> Command {
    let [program, argument] = words.map(|word| OsStr::from_bytes(word.to_bytes()));
    let mut command = Command::new(program);
    command.arg(argument);
    command
}

/// Whether this process was started to play one of these parts, which it then has done.
pub fn is_asked_for() -> bool {
    let argument = std::env::args_os().nth(1).unwrap_or_default();
    if argument.as_bytes() == OPEN_FILES.to_bytes() {
        for entry in fs::read_dir("/proc/self/fd").expect("the kernel tells the open files") {
            let descriptor = entry.expect("a descriptor").path();
            // The one that lists them is closed by then.
            let file = fs::read_link(&descriptor).unwrap_or_default();
            println!("{} -> {}", descriptor.display(), file.display());
        }
    }
    [IDLE, OPEN_FILES].iter().any(|word| word.to_bytes() == argument.as_bytes())
}
