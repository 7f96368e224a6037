//! The runtime that stands in for the Simple language's, linked with libraries that leave its own names to it.

use std::process::Command;

use crate::c_clients::{POLICIES, WARNINGS};
use crate::dist::{self, Names};
use crate::process::capture;
use crate::project::{Project, make_folder};
use crate::result::Result;
use crate::symbols;
use crate::tally::Tally;
use crate::toolchain::Toolchain;

/// What the runtime has functions of its own by.
const OWN_NAMES: [&str; 7] =
    ["rt_mlock", "rt_munlock", "rt_msync", "rt_madvise", "rt_munmap", "rt_error_message", "rt_value_free"];

/// Both ways to keep names apart, each under each policy.
pub fn test(project: &Project, toolchain: &Toolchain, tally: &mut Tally) {
    let hidden = [&["--simple", "--local"][..], &OWN_NAMES].concat();
    for (kind, arguments) in [("prefixed", &["--simple", "--prefix", "execmem_"][..]), ("hidden", &hidden)] {
        if let Err(reason) = run(project, toolchain, kind, arguments, tally) {
            tally.fail(&reason);
        }
    }
}

fn run(
    project: &Project,
    toolchain: &Toolchain,
    kind: &str,
    arguments: &[&str],
    tally: &mut Tally,
) -> Result<()> {
    let names = Names::from_arguments(arguments)?;
    let dist = dist::build_with(project, toolchain, &toolchain.host, &names)?;
    let exported = names.exported(project)?;
    tally.check(&format!("libraries with {kind} names define those and no other"), || {
        symbols::check_named(&exported, &dist.static_library(), &dist.shared_library())
    });
    let archive = dist.static_library().display().to_string();
    let compile = |name: &str, libraries: &[&str]| {
        let program = project.built(&format!("clients/simple-{kind}-{name}"));
        make_folder(&project.built("clients"))?;
        let mut compile = Command::new("cc");
        compile.args(["-std=c11", "-O1"]).args(WARNINGS);
        if kind == "prefixed" {
            compile.arg("-DPREFIXED");
        }
        let sources =
            ["runtime", "loader", "stubs"].map(|name| project.file(&format!("tests/simple/{name}.c")));
        compile.arg("-I").arg(dist.include()).arg("-o").arg(&program).args(sources);
        capture(compile.args(libraries)).map(|_| program)
    };
    let program = compile("runtime", &["-Wl,--whole-archive", &archive, "-Wl,--no-whole-archive"])?;
    for policy in POLICIES {
        println!("the stand-in for the Simple runtime, {kind} names, policy {policy}:");
        tally.run(Command::new(&program).env("EXECMEM_POLICY", policy));
    }
    tally.check(
        &format!("weak stubs stay unless the whole archive is linked, and are noticed ({kind})"),
        || {
            let status = Command::new(compile("stubs", &[&archive])?).status();
            match status.map_err(|error| error.to_string())?.code() {
                Some(2) => Ok(()),
                other => Err(format!("the program ended with {other:?}")),
            }
        },
    );
    Ok(())
}
