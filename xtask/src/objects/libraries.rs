//! Whole libraries: a driver calls much of each, once linked by the system's linker and once by execmem-object under each
//! policy. Both must give the same number.

use std::path::Path;
use std::process::Command;

use super::machines::Machine;
use super::packages;
use crate::process::capture;
use crate::project::{Project, make_folder};
use crate::result::Result;
use crate::tally::Tally;

/// The driver in `integrations/object/libraries`, and the archive that it is linked with.
const LIBRARIES: [(&str, &str); 7] = [
    ("zlib", "libz.a"),
    ("lz4", "liblz4.a"),
    ("zstd", "libzstd.a"),
    ("bz2", "libbz2.a"),
    ("lua", "liblua5.4.a"),
    ("gmp", "libgmp.a"),
    ("sqlite", "libsqlite3.a"),
];

const POLICIES: [&str; 3] = ["rwx", "dual", "toggle"];

/// Tests all of them.
pub fn test(project: &Project, machine: &Machine, program: &Path, tally: &mut Tally) -> Result<()> {
    let packages = packages::unpacked(project, machine)?;
    let work = project.built(&format!("objects/work/{}", machine.name));
    make_folder(&work)?;
    for (name, archive) in LIBRARIES {
        let archive = packages.join(format!("usr/lib/{}-linux-gnu/{archive}", machine.name));
        let prepared = prepare(project, machine, name, &archive, &packages, &work);
        for policy in POLICIES {
            let title = format!(
                "{name}, linked from its archive, is what it is natively: {}, {policy}",
                machine.name
            );
            tally.check(&title, || {
                let expected = prepared.clone()?;
                let mut command = machine.program(program);
                command.env("EXECMEM_POLICY", policy).args(["-l", "m"]);
                command.arg(work.join(name).with_extension("o")).arg(&archive).arg("run");
                let found = result(&mut command)?;
                if found == expected { Ok(()) } else { Err(format!("{found} instead of {expected}")) }
            });
        }
    }
    Ok(())
}

/// Compiles a driver, and gives the number of the native program.
fn prepare(
    project: &Project,
    machine: &Machine,
    name: &str,
    archive: &Path,
    packages: &Path,
    work: &Path,
) -> Result<String> {
    let sources = project.file("integrations/object/libraries");
    let include = packages.join("usr/include");
    let object = work.join(name).with_extension("o");
    let mut compile = machine.compiler("gcc");
    compile.args(["-c", "-O2", "-Wall", "-Werror", "-I"]).arg(&include);
    compile.arg("-I").arg(include.join("lua5.4"));
    compile.arg("-I").arg(include.join(format!("{}-linux-gnu", machine.name)));
    capture(compile.arg(sources.join(name).with_extension("c")).arg("-o").arg(&object))?;
    let native = work.join(name);
    let mut link = machine.compiler("gcc");
    link.arg("-O2")
        .arg(sources.join("main.c"))
        .arg(&object)
        .arg(archive)
        .args(["-lm", "-ldl", "-pthread", "-o"]);
    capture(link.arg(&native))?;
    result(&mut machine.program(&native))
}

/// The number in the line that both programs print. run_object shows a second one behind it.
fn result(command: &mut Command) -> Result<String> {
    let printed = capture(command)?;
    let line = printed.lines().find_map(|line| line.strip_prefix("run() = "));
    let number = line.and_then(|line| line.split(' ').next());
    number.map(str::to_owned).ok_or_else(|| format!("it printed no result: {printed}"))
}
