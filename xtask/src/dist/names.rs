//! What the symbols are called in the libraries: for programs that have functions of the same names.
//!
//! The table of symbols (`rt_symbol_lookup`) has them by their own names in every case.

use std::path::Path;
use std::process::Command;

use execmem_core::abi::SYMBOL_NAMES;

use super::files::copy;
use super::folder::Dist;
use crate::process::capture;
use crate::project::{Project, read, write};
use crate::result::Result;
use crate::toolchain::Toolchain;

/// The declarations of the package `integrations/simple`, from which its names are taken.
const SIMPLE_HEADER: &str = "integrations/simple/include/execmem_simple.h";

/// The default: all symbols by their own names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// Stands in front of each name.
    prefix: String,
    /// Names that the libraries don't define.
    local: Vec<String>,
    /// Whether the names of the Simple language's loader are there, too. They have no prefix.
    simple: bool,
}

impl Names {
    /// From the arguments of `cargo xtask dist`.
    pub fn from_arguments(mut arguments: &[&str]) -> Result<Names> {
        let mut names = Names::default();
        loop {
            arguments = match arguments {
                [] => return Ok(names),
                ["--simple", rest @ ..] => {
                    names.simple = true;
                    rest
                }
                ["--prefix", prefix, rest @ ..] if is_name(prefix) => {
                    names.prefix = (*prefix).to_owned();
                    rest
                }
                ["--local", rest @ ..] => {
                    let count = rest.iter().take_while(|name| !name.starts_with("--")).count();
                    let (local, rest) = rest.split_at(count);
                    if let Some(name) = local.iter().find(|name| !SYMBOL_NAMES.contains(name)) {
                        return Err(format!("{name} is no symbol of the library"));
                    }
                    names.local.extend(local.iter().map(|name| String::from(*name)));
                    rest
                }
                [other, ..] => {
                    return Err(format!("{other} is unknown here, or lacks what belongs behind it"));
                }
            }
        }
    }

    /// What a folder of such libraries is called, behind the target.
    pub(super) fn suffix(&self) -> String {
        let parts = [
            self.prefix.trim_matches('_'),
            if self.local.is_empty() { "" } else { "local" },
            if self.simple { "simple" } else { "" },
        ];
        parts.iter().filter(|part| !part.is_empty()).map(|part| format!("-{part}")).collect()
    }

    /// The package that is built: the adapter, or what stands on it.
    pub(super) fn package(&self, adapter: &'static str) -> &'static str {
        if self.simple { "execmem-simple" } else { adapter }
    }

    fn is_local(&self, name: &str) -> bool {
        self.local.iter().any(|local| local == name)
    }

    fn kept(&self) -> impl Iterator<Item = &'static str> {
        SYMBOL_NAMES.iter().copied().filter(|name| !self.is_local(name))
    }

    fn of_simple(&self, project: &Project) -> Result<Vec<String>> {
        match self.simple {
            true => Ok(declared(&read(&project.file(SIMPLE_HEADER))?)),
            false => Ok(Vec::new()),
        }
    }

    /// What stays global, by the names that the compiler gave it.
    pub(super) fn listed(&self, project: &Project) -> Result<Vec<String>> {
        Ok(self.kept().map(String::from).chain(self.of_simple(project)?).collect())
    }

    /// What the libraries define, by the names that they give it.
    pub fn exported(&self, project: &Project) -> Result<Vec<String>> {
        let own = self.kept().map(|name| format!("{}{name}", self.prefix));
        Ok(own.chain(self.of_simple(project)?).collect())
    }

    /// Renames what is defined in an object. `mark` is what the object's format puts in front of C names.
    pub(super) fn rename(&self, toolchain: &Toolchain, object: &Path, mark: &str) -> Result<()> {
        let Names { prefix, .. } = self;
        let rename = |name| format!("--redefine-sym={mark}{name}={mark}{prefix}{name}");
        match prefix.is_empty() {
            true => Ok(()),
            false => change(toolchain, object, self.kept().map(rename)),
        }
    }

    /// Makes what is local so, in an object.
    pub(super) fn hide(&self, toolchain: &Toolchain, object: &Path, mark: &str) -> Result<()> {
        match self.local.is_empty() {
            true => Ok(()),
            false => change(
                toolchain,
                object,
                self.local.iter().map(|name| format!("--localize-symbol={mark}{name}")),
            ),
        }
    }

    /// Writes the headers that go with the libraries.
    pub(super) fn write_headers(&self, project: &Project, dist: &Dist) -> Result<()> {
        let header = read(&project.file("include/execmem.h"))?;
        write(&dist.include().join("execmem.h"), &self.prefixed(&self.without_local(&header)))?;
        let wrapper = read(&project.file("include/execmem.hpp"))?;
        // Without all that it calls it is none.
        if !words(&wrapper).any(|word| self.is_local(word)) {
            write(&dist.include().join("execmem.hpp"), &self.prefixed(&wrapper))?;
        }
        if self.simple {
            copy(&project.file(SIMPLE_HEADER), &dist.include().join("execmem_simple.h"))?;
        }
        Ok(())
    }

    /// The header without the declarations of what is local, and without the comments on them.
    fn without_local(&self, header: &str) -> String {
        let paragraphs = header.split("\n\n").filter(|text| {
            let declared = declared(text);
            !declared.iter().any(|name| self.is_local(name))
        });
        paragraphs.collect::<Vec<_>>().join("\n\n")
    }

    fn prefixed(&self, text: &str) -> String {
        let mut result = String::new();
        for part in text.split_inclusive(|letter| !is_of_name(letter)) {
            let word = part.trim_end_matches(|letter| !is_of_name(letter));
            if self.kept().any(|name| name == word) {
                result.push_str(&self.prefix);
            }
            result.push_str(part);
        }
        result
    }
}

fn change(toolchain: &Toolchain, object: &Path, options: impl Iterator<Item = String>) -> Result<()> {
    let mut objcopy = Command::new(toolchain.llvm_tool("llvm-objcopy")?);
    capture(objcopy.args(options).arg(object)).map(drop)
}

fn is_of_name(letter: char) -> bool {
    letter.is_ascii_alphanumeric() || letter == '_'
}

fn is_name(text: &str) -> bool {
    text.chars().all(is_of_name) && text.starts_with(|first: char| !first.is_ascii_digit())
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter| !is_of_name(letter))
}

/// The functions that a header declares.
fn declared(header: &str) -> Vec<String> {
    let lines = header.lines().filter(|line| line.ends_with(");") && !line.trim_start().starts_with("//"));
    let name = |line: &str| {
        let before = line.split('(').next()?;
        words(before).last().filter(|name| name.starts_with("rt_")).map(String::from)
    };
    lines.filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = include_str!("../../../include/execmem.h");

    fn names(arguments: &[&str]) -> Names {
        Names::from_arguments(arguments).expect("they are right")
    }

    #[test]
    fn the_header_declares_every_symbol() {
        assert_eq!(declared(HEADER), SYMBOL_NAMES);
    }

    #[test]
    fn a_prefix_stands_in_front_of_whole_names() {
        let prefixed =
            names(&["--prefix", "my_"]).prefixed("/// As `rt_munmap`, not rt_munmap2.\nbool rt_munmap(x);");
        assert_eq!(prefixed, "/// As `my_rt_munmap`, not rt_munmap2.\nbool my_rt_munmap(x);");
        assert_eq!(names(&[]).prefixed(HEADER), HEADER);
    }

    #[test]
    fn a_local_name_is_not_declared() {
        let names = names(&["--local", "rt_mlock", "rt_value_free", "--simple"]);
        let header = names.without_local(HEADER);
        let left: Vec<_> = names.kept().collect();
        assert_eq!(declared(&header), left);
        assert_eq!(left.len(), SYMBOL_NAMES.len() - 2);
        assert!(!header.contains("Keeps the pages") && header.contains("No longer keeps the pages"));
        assert_eq!(names.suffix(), "-local-simple");
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in [&["--prefix"][..], &["--prefix", "a-b"], &["--local", "rt_no"], &["--other"]] {
            assert!(Names::from_arguments(wrong).is_err(), "{wrong:?}");
        }
    }
}
