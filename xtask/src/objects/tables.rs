//! The tables in execmem-object's README, which the tests write and check.

use std::fmt::Write as _;

use execmem_tests_counter::Counter;

use super::machines::Machine;
use super::matrix::Table;
use crate::project::{self, Project};
use crate::result::Result;
use crate::tally::Tally;

const README: &str = "integrations/object/README.md";

/// The lines before and behind a machine's table.
fn marks(machine: &Machine) -> [String; 2] {
    ["begin", "end"].map(|word| format!("<!-- {word}: {}, by cargo xtask objects -->\n", machine.name))
}

fn shown(machine: &Machine, table: &Table) -> String {
    let mut text = format!("{}: {}\n\n", machine.name, table.compilers.join(", "));
    text += "| source and options | gcc | clang, rustc |\n|---|---|---|\n";
    for (options, results) in &table.rows {
        let _ = writeln!(text, "| {options} | {} |", results.join(" | "));
    }
    text
}

/// The README up to a machine's table, the table, and what is behind it.
fn parts(project: &Project, machine: &Machine) -> Result<[String; 3]> {
    let text = project::read(&project.file(README))?;
    let [begin, end] = marks(machine);
    let missing = || format!("{README} has no place for the table of {}", machine.name);
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (table, behind) = rest.split_once(&end).ok_or_else(missing)?;
    Ok([format!("{before}{begin}"), table.into(), format!("{end}{behind}")])
}

/// Puts a table into the README.
pub fn write(project: &Project, machine: &Machine, table: &Table) -> Result<()> {
    let [before, _, behind] = parts(project, machine)?;
    project::write(&project.file(README), &format!("{before}{}{behind}", shown(machine, table)))
}

/// Whether every object worked or was refused for a reason, and the README's table says so.
pub fn check(project: &Project, machine: &Machine, table: &Table, tally: &mut Tally) -> Result<()> {
    let is_right = |result: &String| !result.starts_with("FAILS") && result != "WRONG RESULT";
    for (options, results) in &table.rows {
        tally.check(&format!("{options} on {} works or is refused for a reason", machine.name), || {
            match results.iter().find(|result| !is_right(result)) {
                None => Ok(()),
                Some(wrong) => Err(wrong.clone()),
            }
        });
    }
    let [_, written, _] = parts(project, machine)?;
    let found = shown(machine, table);
    if written.lines().next() != found.lines().next() {
        println!("the table of {} is of other compilers: {}", machine.name, table.compilers.join(", "));
        tally.add(Counter { not_applicable: 1, ..Counter::default() });
        return Ok(());
    }
    tally.check(&format!("the README's table of {} is what was found", machine.name), || {
        let differs = written.lines().zip(found.lines()).find(|(written, found)| written != found);
        match differs {
            None if written.len() == found.len() => Ok(()),
            None => Err("the table is longer or shorter: cargo xtask objects writes it anew".into()),
            Some((written, found)) => Err(format!("written: {written}\nfound:   {found}")),
        }
    });
    Ok(())
}
