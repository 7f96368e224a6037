//! What a compiler made for macOS, linked by `execmem-object` into memory of the macOS library, and called there.

use super::{Machine, Scenario};
use crate::library::Library;
use execmem_object::{Error, Object, process_symbol};
use execmem_object_samples::{RUST_CASES, macos_features, macos_for_this_machine};
use std::sync::OnceLock;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "an object that rustc made for macOS is linked and runs wherever there is code memory",
        applies: |rules| rules.allows_jit(),
        run: runs,
    },
    Scenario {
        name: "where there is none an object is refused, not run",
        applies: |rules| !rules.allows_jit(),
        run: refused,
    },
];

static LIBRARY: OnceLock<Library> = OnceLock::new();

fn install(machine: &Machine) -> Result<(), String> {
    let library = machine.load()?;
    LIBRARY.get_or_init(|| library);
    execmem_tests_darwin_facade::install(|name| {
        LIBRARY.get().and_then(|library| library.address(name).ok()).unwrap_or(0)
    });
    Ok(())
}

fn load(object: &[u8]) -> Result<Object, Error> {
    Object::load_with(object, process_symbol)
}

fn call(image: &Object, name: &str, arguments: &[i64]) -> Result<i64, Error> {
    let function = image.address(name)?;
    // SAFETY: the sources of the objects have such functions.
    unsafe { image.call(function, arguments) }
}

fn runs(machine: &Machine) -> Result<(), String> {
    install(machine)?;
    let image = load(macos_for_this_machine().1).map_err(|error| error.to_string())?;
    check_eq!(call(&image, "sample", &[10]), Ok(2036));
    for (_, object) in macos_features() {
        let image = load(object).map_err(|error| error.to_string())?;
        for (name, arguments, result) in RUST_CASES {
            check_eq!(call(&image, name, arguments), Ok(*result));
        }
        let protections: Vec<_> =
            image.segments().iter().map(|segment| segment.protection.letters()).collect();
        check_eq!(protections, ["r-x", "r--", "rw-"]);
    }
    Ok(())
}

fn refused(machine: &Machine) -> Result<(), String> {
    install(machine)?;
    check_eq!(load(macos_for_this_machine().1).err(), Some(Error::Memory(execmem_core::Error::Refused)));
    Ok(())
}
