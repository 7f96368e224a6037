//! The program of C++, by way of pkg-config and of CMake.

use std::path::Path;
use std::process::Command;

use crate::c_clients::{WARNINGS, flags, succeed};
use crate::dist::Dist;
use crate::process::capture;
use crate::project::{Project, make_folder};
use crate::result::Result;
use crate::tally::Tally;

/// Both ways to be told of a failure.
const MODES: [(&str, &[&str]); 2] = [("with exceptions", &[]), ("without exceptions", &["-fno-exceptions"])];

/// Compiles and runs it with each library.
pub fn run_with_pkg_config(project: &Project, dist: &Dist, tally: &mut Tally) {
    for (mode, options) in MODES {
        for (kind, flags) in flags(dist) {
            tally.check(&format!("the C++ wrapper, {mode}, with the {kind} library"), || {
                let program = project.built(&format!("clients/cpp-{kind}-{}", mode.replace(' ', "-")));
                make_folder(&project.built("clients"))?;
                let mut compile = Command::new("c++");
                compile.args(["-std=c++17", "-O1"]).args(options).args(WARNINGS);
                compile.arg("-o").arg(&program).arg(project.file("examples/cpp/function.cpp"));
                capture(compile.args(flags?))?;
                succeed(&mut Command::new(&program))
            });
        }
    }
}

/// Lets CMake find the package where it was laid out, and where it was moved to.
pub fn run_with_cmake(project: &Project, dist: &Dist, tally: &mut Tally) {
    let moved = project.built("clients/moved dist");
    tally.check("CMake finds the package, moved or not, and both libraries in it", || {
        renew(&moved)?;
        capture(Command::new("cp").arg("-a").arg(dist.root().join(".")).arg(&moved))?;
        for prefix in [dist.root(), &*moved] {
            let build = project.built("clients/cmake");
            renew(&build)?;
            configure(project, prefix, &build, "0.1")?;
            capture(Command::new("cmake").arg("--build").arg(&build))?;
            for program in ["function", "function-static"] {
                succeed(&mut Command::new(build.join(program)))?;
            }
        }
        Ok(())
    });
    tally.check("CMake finds the package in a range of versions", || {
        for range in ["0.1...<0.2", "0.1...0.1.0", "0.0...<2"] {
            let build = project.built("clients/cmake");
            renew(&build)?;
            configure(project, dist.root(), &build, range)?;
        }
        Ok(())
    });
    tally.check("CMake doesn't take the package for another version", || {
        for version in ["0.2", "1.0", "0.1.99", "0.0...<0.1.0", "0.1.1...<2", "1...<2"] {
            let build = project.built("clients/cmake");
            renew(&build)?;
            match configure(project, dist.root(), &build, version) {
                Ok(()) => return Err(format!("it stands for version {version}")),
                Err(reason) if reason.contains("compatible with requested version") => {}
                Err(reason) => return Err(reason),
            }
        }
        Ok(())
    });
}

/// The example with another version to look for.
fn configure(project: &Project, prefix: &Path, build: &Path, version: &str) -> Result<()> {
    let source = build.join("source");
    let unreadable = |error| format!("the example can't be copied: {error}");
    make_folder(&source)?;
    for file in ["CMakeLists.txt", "function.cpp"] {
        let text = crate::project::read(&project.file(&format!("examples/cpp/{file}")))?;
        let text = text.replace("find_package(execmem 0.1 ", &format!("find_package(execmem {version} "));
        std::fs::write(source.join(file), text).map_err(unreadable)?;
    }
    let mut cmake = Command::new("cmake");
    cmake.arg("-S").arg(&source).arg("-B").arg(build);
    capture(cmake.arg(format!("-DCMAKE_PREFIX_PATH={}", prefix.display()))).map(drop)
}

/// An empty folder, whatever was there.
fn renew(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("{} can't be replaced: {error}", folder.display()));
        }
        _ => {}
    }
    make_folder(folder)
}
