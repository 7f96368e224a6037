//! What compilers and whole libraries make, loaded and run by the example run_object: beside the same files linked by the
//! system's own linker, and with every usual option of a compiler.

mod libraries;
mod machines;
mod matrix;
mod packages;
mod tables;

use crate::project::Project;
use crate::result::Result;
use crate::tally::Tally;
use machines::Machine;

/// This machine alone.
pub fn test_short_form(project: &Project, tally: &mut Tally) -> Result<()> {
    test_on(project, &machines::host()?, tally)
}

/// This machine, and the others in QEMU's user mode.
pub fn test(project: &Project, tally: &mut Tally) -> Result<()> {
    for machine in machines::all()? {
        test_on(project, &machine, tally)?;
    }
    Ok(())
}

/// Writes down which compilers work with which options.
pub fn write_tables(project: &Project) -> Result<()> {
    for machine in machines::all()? {
        let program = machine.build(project)?;
        let table = matrix::run(project, &machine, &program)?;
        tables::write(project, &machine, &table)?;
    }
    Ok(())
}

fn test_on(project: &Project, machine: &Machine, tally: &mut Tally) -> Result<()> {
    let program = machine.build(project)?;
    libraries::test(project, machine, &program, tally)?;
    let table = matrix::run(project, machine, &program)?;
    tables::check(project, machine, &table, tally)
}
