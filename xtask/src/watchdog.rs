//! Running a program that may hang: it is stopped, and what it said last is shown.

use std::io::{BufRead, BufReader};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::process::shown;
use crate::result::Result;

/// How long a program may print nothing, and how long it may run.
#[derive(Clone, Copy)]
pub struct Limits {
    /// Between two lines.
    pub quiet: Duration,
    /// From its start to its end.
    pub total: Duration,
}

/// How a program ended.
pub struct End {
    /// What it told the system.
    pub status: ExitStatus,
}

/// So many lines are shown again when a program was stopped.
const LAST_LINES: usize = 20;

/// Runs a command, shows what it prints, and shows `read` each line. A command that exceeds a limit is stopped.
pub fn run(command: &mut Command, limits: Limits, mut read: impl FnMut(&str)) -> Result<End> {
    let start = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    let mut child = start.map_err(|error| format!("`{}` can't be started: {error}", shown(command)))?;
    let output = child.stdout.take().ok_or("the output is piped")?;
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        let mut output = BufReader::new(output);
        let mut line = Vec::new();
        while output.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                return;
            }
            line.clear();
        }
    });
    let start = Instant::now();
    let mut last = Vec::new();
    loop {
        let rest = limits.total.saturating_sub(start.elapsed());
        match lines.recv_timeout(limits.quiet.min(rest)) {
            Ok(line) => {
                print!("{line}");
                read(&line);
                if last.len() == LAST_LINES {
                    last.remove(0);
                }
                last.push(line);
            }
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait().map_err(|error| error.to_string())?;
                return Ok(End { status });
            }
            Err(RecvTimeoutError::Timeout) => {
                // If it has ended in the meantime there is nothing left to stop.
                let _ = child.kill();
                let _ = child.wait();
                let said = last.concat();
                return Err(format!("`{}` hung and was stopped. It said last:\n{said}", shown(command)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(script: &str, quiet: u64, total: u64) -> Result<End> {
        let limits = Limits { quiet: Duration::from_millis(quiet), total: Duration::from_millis(total) };
        run(Command::new("sh").args(["-c", script]), limits, |_| ())
    }

    #[test]
    fn a_program_that_ends_is_left_alone() {
        let end = limited("echo good; exit 3", 60_000, 60_000);
        assert_eq!(end.map(|end| end.status.code()), Ok(Some(3)));
    }

    #[test]
    fn a_program_that_falls_silent_or_never_ends_is_stopped_and_quoted() {
        let silent = limited("echo last words; exec sleep 1000", 200, 1_000_000).err();
        assert!(silent.is_some_and(|reason| reason.contains("last words")));
        let endless = limited("while echo again; do sleep 0.05; done", 1_000_000, 400).err();
        assert!(endless.is_some_and(|reason| reason.contains("again")));
    }
}
