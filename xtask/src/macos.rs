//! macOS: what its libraries are made of, and their machine code on a modelled Mac (`tests/darwin`).

use std::collections::BTreeSet;
use std::process::Command;

use object::read::archive::ArchiveFile;
use object::read::macho::MachOFile64;
use object::{Endianness, NameOrOrdinal, Object, ObjectSymbol, macho};

use crate::dist::macos::{INSTALL_NAME, OLDEST_SYSTEM, linker, one_object};
use crate::dist::{self, Dist};
use crate::process::capture;
use crate::project::{self, Project};
use crate::result::Result;
use crate::setup;
use crate::symbols;
use crate::tally::Tally;
use crate::targets::{AARCH64_LINUX, MACS};
use crate::toolchain::Toolchain;

/// The list of what the library imports from libSystem.
const STUB: &str = "os-macos/sdk/usr/lib/libSystem.tbd";

/// Both processors: what the libraries are made of, and their machine code run on a modelled Mac.
pub fn test(project: &Project, tally: &mut Tally) -> Result<()> {
    let toolchain = Toolchain::find()?;
    let mut imported = BTreeSet::new();
    for target in MACS {
        println!("{target}:");
        let dist = dist::build(project, &toolchain, target)?;
        let data = symbols::contents(&dist.shared_library())?;
        let file = MachOFile64::parse(&*data).map_err(|error| error.to_string())?;
        tally.check("the static library is one object of the listed symbols", || check_static(&dist));
        tally.check("the shared library exports the listed symbols and no other", || {
            symbols::compare(&names(&exports(&file)?)?)
        });
        tally.check("the shared library says its name, its oldest system and what it needs", || {
            check_commands(&file)
        });
        tally.check("nothing in the static or the shared library can panic", || {
            symbols::check_panics(&dist.static_library())?;
            symbols::check_panics(&dist.shared_library())
        });
        tally.check("what a real Mac is to build and test compiles", || check_workflow(project, target));
        imported.extend(imports(&file)?);
        run(project, &toolchain, target, &dist, tally)?;
    }
    tally.check("every symbol that is listed for linking is imported", || check_stub(project, &imported));
    Ok(())
}

/// What `.github/workflows/macos.yml` asks of cargo, as far as it can be done without a Mac's linker.
fn check_workflow(project: &Project, target: &str) -> Result<()> {
    let tested = ["--package", "execmem", "--package", "execmem-core", "--package", "execmem-os-macos"];
    capture(&mut project.cargo(&["check", "--quiet", "--workspace", "--target", target]))?;
    let mut cargo = project.cargo(&["check", "--quiet", "--all-targets", "--target", target]);
    capture(cargo.args(tested)).map(drop)
}

/// Runs the library, and the conformance suite inside another one.
fn run(project: &Project, toolchain: &Toolchain, target: &str, dist: &Dist, tally: &mut Tally) -> Result<()> {
    let suite = project.built(&format!("{target}/c-library/suite.dylib"));
    let mut linker = linker(project, toolchain, target);
    linker.arg(project.file("tests/darwin/suite/libSystem.tbd")).arg("-o").arg(&suite);
    capture(linker.arg(one_object(project, target, "execmem-tests-darwin-suite", "image")?))?;
    let mut program = modelled_mac(project, toolchain, target)?;
    tally.run(program.arg(dist.shared_library()).arg(suite));
    Ok(())
}

/// The program that models a Mac with this processor: it must run on the same kind, or under QEMU.
fn modelled_mac(project: &Project, toolchain: &Toolchain, target: &str) -> Result<Command> {
    let build = |arguments: &[&str]| {
        let mut cargo =
            project.cargo(&["build", "--quiet", "--release", "--package", "execmem-tests-darwin"]);
        cargo.args(arguments).env("CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER", "rust-lld");
        capture(&mut cargo)
    };
    let processor = target.split('-').next().unwrap_or_default();
    if toolchain.host.starts_with(processor) {
        build(&[])?;
        return Ok(Command::new(project.built("release/darwin")));
    }
    if !target.starts_with("aarch64") {
        return Err(format!("{target} runs on x86-64 machines only"));
    }
    let qemu = setup::qemu_aarch64()?;
    toolchain.require_target(AARCH64_LINUX)?;
    build(&["--target", AARCH64_LINUX])?;
    let mut command = Command::new(qemu);
    command.arg(project.built(&format!("{AARCH64_LINUX}/release/darwin")));
    Ok(command)
}

type File<'data> = MachOFile64<'data, Endianness>;

fn sentence(error: object::Error) -> String {
    error.to_string()
}

/// C names, which have an underscore in front.
fn names(symbols: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let plain = |symbol: &String| symbol.strip_prefix('_').map(str::to_owned);
    let names = symbols.iter().map(|symbol| plain(symbol).ok_or_else(|| format!("{symbol} is no C name")));
    names.collect()
}

fn check_static(dist: &Dist) -> Result<()> {
    let data = symbols::contents(&dist.static_library())?;
    let archive = ArchiveFile::parse(&*data).map_err(sentence)?;
    let mut defined = BTreeSet::new();
    for member in archive.members() {
        let member = member.map_err(sentence)?.data(&*data).map_err(sentence)?;
        let file = File::parse(member).map_err(sentence)?;
        // Also those that are private to a linked image: they take part in somebody else's link.
        let global = file.symbols().filter(|symbol| !symbol.is_undefined());
        for symbol in global.filter(|symbol| symbol.macho_symbol().n_type.is_ext()) {
            defined.insert(symbol.name().map_err(sentence)?.to_owned());
        }
    }
    symbols::compare(&names(&defined)?)
}

fn name_of(name: NameOrOrdinal<&[u8]>) -> Result<String> {
    match name {
        NameOrOrdinal::Name(name) => Ok(String::from_utf8_lossy(name).into_owned()),
        NameOrOrdinal::Ordinal(_) => Err("a symbol without a name".into()),
    }
}

fn exports(file: &File<'_>) -> Result<BTreeSet<String>> {
    let exports = file.exports().map_err(sentence)?;
    exports.map(|export| name_of(export.map_err(sentence)?.name())).collect()
}

fn imports(file: &File<'_>) -> Result<BTreeSet<String>> {
    let imports = file.imports().map_err(sentence)?;
    imports.map(|import| name_of(import.map_err(sentence)?.name())).collect()
}

/// What the loader of a Mac looks at.
fn check_commands(file: &File<'_>) -> Result<()> {
    let endian = file.endian();
    let (mut libraries, mut name, mut system, mut is_signed) = (Vec::new(), None, None, false);
    let mut commands = file.macho_load_commands().map_err(sentence)?;
    while let Some(command) = commands.next().map_err(sentence)? {
        if let Some(dylib) = command.dylib().map_err(sentence)? {
            let text = command.string(endian, dylib.dylib.name).map_err(sentence)?;
            libraries.push(String::from_utf8_lossy(text).into_owned());
        }
        if command.cmd() == macho::LC_ID_DYLIB {
            let id: &macho::DylibCommand<Endianness> = command.data().map_err(sentence)?;
            let text = command.string(endian, id.dylib.name).map_err(sentence)?;
            name = Some(String::from_utf8_lossy(text).into_owned());
        }
        if let Some((version, _)) = command.build_version(endian).map_err(sentence)? {
            let oldest = version.minos.get(endian).0;
            system = Some(format!("{}.{}", oldest >> 16, oldest >> 8 & 0xff));
        }
        is_signed |= command.cmd() == macho::LC_CODE_SIGNATURE;
    }
    if name.as_deref() != Some(INSTALL_NAME) {
        return Err(format!("its name is {name:?}, not {INSTALL_NAME}"));
    }
    if system.as_deref() != Some(OLDEST_SYSTEM) {
        return Err(format!("its oldest system is {system:?}, not {OLDEST_SYSTEM}"));
    }
    if libraries != ["/usr/lib/libSystem.B.dylib"] {
        return Err(format!("it needs {libraries:?}, not libSystem alone"));
    }
    if file.architecture() == object::Architecture::Aarch64 && !is_signed {
        return Err("it has no signature, not even its own: Apple silicon would not load it".into());
    }
    match file.section_by_name("__pth_jit_func") {
        Some(_) => Ok(()),
        None => Err("it has no list of callbacks for the JIT write allow-list".into()),
    }
}

/// The list must not outlive its use: each symbol is imported on one processor at least.
fn check_stub(project: &Project, imported: &BTreeSet<String>) -> Result<()> {
    let text = project::read(&project.file(STUB))?;
    let code = text.lines().filter(|line| !line.starts_with('#'));
    let words = code.flat_map(|line| line.split([' ', ',', '[', ']', '\'']));
    let listed: BTreeSet<&str> = words.filter(|word| word.starts_with('_')).collect();
    let unused: Vec<&str> = listed.into_iter().filter(|symbol| !imported.contains(*symbol)).collect();
    if unused.is_empty() { Ok(()) } else { Err(format!("listed and not imported: {}", unused.join(", "))) }
}
