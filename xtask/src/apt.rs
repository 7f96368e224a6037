//! An apt of its own, beside the machine's: what this machine has installed and where it installs from stays as it is.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::debian;
use crate::project::{make_folder, write};
use crate::result::Result;

/// An apt that keeps all that it knows in a folder.
pub struct Apt {
    configuration: PathBuf,
}

impl Apt {
    /// One for a suite and an architecture, as Debian calls them.
    pub fn configure(folder: &Path, suite: &str, architecture: &str) -> Result<Apt> {
        for part in ["sources", "lists/partial", "cache/archives/partial"] {
            make_folder(&folder.join(part))?;
        }
        write(&folder.join("sources/release.sources"), &debian::source_of(suite)?.to_string())?;
        write(&folder.join("status"), "")?;
        let configuration = folder.join("apt.conf");
        let folder = folder.display();
        // apt reads this file before its defaults for this machine, and the other settings after them.
        let text = format!(
            "Dir::Etc::SourceList \"/dev/null\";\nDir::Etc::SourceParts \"{folder}/sources\";\n\
             Dir::State::Lists \"{folder}/lists\";\nDir::State::Status \"{folder}/status\";\n\
             Dir::Cache \"{folder}/cache\";\nAPT::Architecture \"{architecture}\";\n\
             APT::Architectures {{ \"{architecture}\"; }};\nAPT::Sandbox::User \"\";\n\
             Acquire::Languages \"none\";\nAcquire::IndexTargets::deb::DEP-11::DefaultEnabled \"false\";\n"
        );
        write(&configuration, &text)?;
        Ok(Apt { configuration })
    }

    /// A program of apt.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env("APT_CONFIG", &self.configuration).arg("--quiet");
        command
    }
}
