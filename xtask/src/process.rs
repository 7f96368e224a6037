//! Running other programs, and saying in one sentence what went wrong with them.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use crate::result::Result;

/// Runs a command whose output interests nobody unless it fails, and returns what it printed.
pub fn capture(command: &mut Command) -> Result<String> {
    let output = command.output().map_err(|error| not_started(command, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    Err(format!("`{}` failed ({}): {}", shown(command), output.status, said.trim_end()))
}

/// Runs a command that speaks to the user, and shows `read` each line that it prints.
pub fn watch(command: &mut Command, mut read: impl FnMut(&str)) -> Result<ExitStatus> {
    let start = command.stdout(Stdio::piped()).spawn();
    let mut child = start.map_err(|error| not_started(command, &error))?;
    let lost = |error| format!("the output of `{}` was lost: {error}", shown(command));
    if let Some(output) = child.stdout.take() {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        // Lines of bytes: what a test prints need not be text.
        while output.read_until(b'\n', &mut line).map_err(lost)? > 0 {
            let text = String::from_utf8_lossy(&line);
            print!("{text}");
            read(&text);
            line.clear();
        }
    }
    child.wait().map_err(lost)
}

fn not_started(command: &Command, error: &std::io::Error) -> String {
    format!("`{}` could not be started: {error}", command.get_program().display())
}

/// The command as a person would type it.
pub fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

/// A program found through PATH.
pub fn find_program(name: &str) -> Option<PathBuf> {
    find_in(name, &std::env::var_os("PATH")?)
}

fn find_in(name: &str, path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(name)).find(|file| is_program(file))
}

fn is_program(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_found_through_the_path_and_a_plain_file_is_not() {
        assert_eq!(find_in("sh", OsStr::new("/nowhere:/bin")), Some("/bin/sh".into()));
        assert_eq!(find_in("passwd", OsStr::new("/etc")), None);
    }

    #[test]
    fn a_failing_command_is_quoted_with_what_it_said() {
        let error = capture(Command::new("sh").args(["-c", "echo no such thing; exit 3"]));
        let error = error.expect_err("the command exits with 3");
        assert!(error.contains("exit 3") && error.contains("no such thing"), "{error}");
    }

    #[test]
    fn a_watched_command_shows_its_lines_and_its_exit_status() {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        command.args(["-c", "printf 'one\\ntwo'; exit 3"]);
        let status = watch(&mut command, |line| lines.push(line.trim_end().to_owned()));
        assert_eq!(status.map(|status| status.code()), Ok(Some(3)));
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_command_that_does_not_exist_is_a_sentence() {
        let error = capture(&mut Command::new("no-such-program-here"));
        let error = error.expect_err("there is no such program");
        assert!(error.starts_with("`no-such-program-here` could not be started"), "{error}");
    }
}
