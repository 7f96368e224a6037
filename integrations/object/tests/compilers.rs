//! Objects that the machine's own compilers make, in the forms that people ask them for.
//!
//! In QEMU's user mode (the musl target) no compiler can be started. The objects that are checked in serve there.
#![cfg(not(target_env = "musl"))]

mod cases;
mod compile;

use compile::{cc, compile, lines, load};
use execmem_object::{Error, Import, Misfit, Object};
use std::path::{Path, PathBuf};
use std::process::Command;

const SAMPLES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/samples");

fn features(language: &str) -> PathBuf {
    Path::new(SAMPLES).join("features").with_extension(language)
}

#[test]
fn c_objects_of_every_usual_form_run() {
    let forms: &[&[&str]] = &[
        // Here the distribution decides about -fPIE. Most compile with it.
        &["-O0"],
        &["-O1"],
        &["-O2"],
        &["-O3", "-g"],
        &["-Os", "-fcommon"],
        &["-O2", "-fPIE", "-ffunction-sections", "-fdata-sections"],
        &["-O0", "-fPIC"],
        &["-O2", "-fPIC"],
        &["-O2", "-fPIC", "-fno-plt"],
        &["-O2", "-fpic", "-fno-jump-tables"],
        &["-O2", "-fPIC", "-fno-asynchronous-unwind-tables"],
    ];
    let models: &[&[&str]] = match std::env::consts::ARCH {
        "x86_64" => &[
            &["-O2", "-fPIC", "-mcmodel=medium"],
            &["-O2", "-fPIC", "-mcmodel=large"],
            &["-O0", "-fPIC", "-mcmodel=large"],
            &["-O2", "-fno-pie", "-mcmodel=large"],
            &["-O2", "-fPIC", "-fcf-protection=full"],
        ],
        _ => &[
            &["-O2", "-fno-pie"],
            &["-O2", "-fno-pie", "-mcmodel=large"],
            &["-O2", "-fno-pie", "-mcmodel=tiny"],
        ],
    };
    for (number, flags) in forms.iter().chain(models).enumerate() {
        let object = cc(&format!("features-{number}.o"), &features("c"), flags);
        cases::check_c(&format!("cc {}", flags.join(" ")), &object);
    }
}

#[test]
fn rust_objects_of_every_usual_form_run() {
    let forms: &[&[&str]] = &[
        &["-C", "opt-level=1"],
        &["-O"],
        &["-O", "-C", "relocation-model=pic", "-C", "debuginfo=2"],
        &["-C", "opt-level=s", "-C", "relocation-model=pie", "-C", "codegen-units=1"],
        &["-C", "opt-level=2", "-C", "code-model=large", "-C", "relocation-model=static"],
    ];
    for (number, flags) in forms.iter().enumerate() {
        let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or("rustc".into()));
        rustc.args(["--edition", "2024", "--emit", "obj", "-C", "panic=abort"]).args(*flags);
        let object = compile(&format!("features-rust-{number}.o"), rustc.arg(features("rs")));
        cases::check_rust(&format!("rustc {}", flags.join(" ")), &object);
    }
}

#[test]
fn data_of_the_c_library_is_reached_through_the_got() {
    let source = "extern char **environ; long is_set(void) { return environ != 0; }";
    let is_set = |image: Object| {
        let function = image.address("is_set").unwrap();
        // SAFETY: the function is the one above.
        unsafe { image.call(function, &[]) }
    };
    let object = lines("environ", &["-O2", "-fPIC"], source);
    assert_eq!(is_set(load(&object).unwrap()), Ok(1));

    // Without -fPIC the variable must be near. Only the system knows whether it is.
    let object = lines("environ-near", &["-O2", "-fPIE"], source);
    match load(&object) {
        Ok(image) => assert_eq!(is_set(image), Ok(1)),
        Err(error) => assert_eq!(out_of_range(error), "environ"),
    }
    if cfg!(target_arch = "x86_64") {
        // The system gives no memory so low that this is near.
        let far = |_: &str| Some(Import { address: 0x1000, is_code: false });
        assert_eq!(out_of_range(Object::load_with(&object, far).unwrap_err()), "environ");
    }
}

/// The symbol that is out of range.
fn out_of_range(error: Error) -> String {
    match error {
        Error::Misfit { misfit: Misfit::OutOfRange, symbol, .. } => symbol,
        error => panic!("{error}"),
    }
}

/// Linkers would place it low. execmem's memory is where the system puts it: far above 4 GiB.
#[test]
#[cfg(target_arch = "x86_64")]
fn code_for_the_lowest_2_gib_is_out_of_range_not_truncated() {
    let error = load(&cc("low.o", &features("c"), &["-O2", "-fno-pie"])).unwrap_err();
    assert!(matches!(&error, Error::Misfit { relocation, .. } if relocation == "R_X86_64_32"), "{error}");
    assert!(error.to_string().contains("-fPIC"), "{error}");
}

#[test]
fn thread_local_variables_are_refused() {
    let source = "__thread long counter; long count(void) { return ++counter; }";
    let error = load(&lines("thread", &["-O2"], source)).unwrap_err();
    assert!(matches!(error, Error::ThreadLocal(_)), "{error}");
}

#[test]
fn an_empty_object_has_no_function() {
    let image = load(&lines("empty", &[], "")).unwrap();
    assert_eq!(image.address("f").unwrap_err().to_string(), "there is no function f, nor any other");
}

#[test]
fn two_images_of_one_object_have_data_of_their_own() {
    let object = cc("twice.o", &features("c"), &["-O2", "-fPIC"]);
    let images = [load(&object).unwrap(), load(&object).unwrap()];
    let remember = |image: &Object, more| {
        let function = image.address("remember").unwrap();
        // SAFETY: `remember` takes one integer.
        unsafe { image.call(function, &[more]) }.unwrap()
    };
    assert_eq!(remember(&images[0], 1), 41);
    assert_eq!(remember(&images[1], 5), 45);
    assert_eq!(remember(&images[0], 1), 42);
}

/// As in a program that a linker makes, where the address of `puts` is that of its entry in the PLT.
#[test]
#[cfg(target_arch = "x86_64")]
fn a_functions_address_is_the_same_in_an_instruction_in_data_and_in_the_got() {
    let source = r#"
        int puts(const char *);
        static int (*volatile stored)(const char *) = puts;
        long f(void)
        {
            int (*near)(const char *), (*entry)(const char *), (*whole)(const char *);
            __asm__("lea puts(%%rip), %0\n mov puts@GOTPCREL(%%rip), %1\n movabs $puts, %2"
                    : "=r"(near), "=r"(entry), "=r"(whole));
            return near == stored && near == entry && near == whole && near("one address") >= 0;
        }"#;
    let image = load(&lines("address", &["-O2", "-fPIC"], source)).unwrap();
    // SAFETY: the function is the one above.
    assert_eq!(unsafe { image.call(image.address("f").unwrap(), &[]) }, Ok(1));
}

/// An assembler lets a symbol be anywhere. gcc's medium code model has common symbols of its own.
#[test]
#[cfg(target_arch = "x86_64")]
fn symbols_of_unusual_places_are_found() {
    let source = r#"
        __asm__(".globl behind\n behind = f + 1000");
        extern char behind[];
        long big[20000];
        long f(void) { big[19999] += 2; return behind - (char *)f + big[19999] + big[0]; }"#;
    for flags in [&["-O2", "-fPIC"][..], &["-O2", "-fPIC", "-mcmodel=medium", "-fcommon"]] {
        let image = load(&lines("places", flags, source)).unwrap();
        // SAFETY: the function is the one above.
        assert_eq!(unsafe { image.call(image.address("f").unwrap(), &[]) }, Ok(1002), "{flags:?}");
    }
}

#[test]
fn a_relocation_that_asks_for_nothing_does_nothing() {
    let name = if cfg!(target_arch = "x86_64") { "R_X86_64_NONE" } else { "R_AARCH64_NONE" };
    // Such relocations keep what they name from being discarded. It need not exist.
    let source = format!(r#"__asm__(".reloc ., {name}, not_there"); long f(void) {{ return 1; }}"#);
    let image = load(&lines("none", &["-O2"], &source)).unwrap();
    // SAFETY: the function is the one above.
    assert_eq!(unsafe { image.call(image.address("f").unwrap(), &[]) }, Ok(1));
}

#[test]
fn intermediate_code_is_not_called_an_object() {
    let source = "long f(void) { return 1; }";
    let error = load(&lines("lto", &["-O2", "-flto"], source)).unwrap_err();
    assert!(matches!(error, Error::NotAnObject(what) if what.contains("-flto")), "{error}");
    if !is_clang() {
        let image = load(&lines("fat", &["-O2", "-flto", "-ffat-lto-objects"], source)).unwrap();
        assert!(image.address("f").is_ok(), "it has ordinary code too");
    }
}

#[test]
fn an_executable_stack_is_refused() {
    let nested = "
        __attribute__((noinline)) static long call(long (*f)(long)) { return f(1); }
        long f(long x) { long add(long y) { return x + y; } return call(add); }";
    let by_hand =
        r#"__asm__(".section .note.GNU-stack,\"x\",@progbits\n .text"); long f(void) { return 1; }"#;
    // clang has no nested functions: there the note is written by hand alone.
    for source in [nested, by_hand].into_iter().skip(usize::from(is_clang())) {
        let error = load(&lines("stack", &["-O1"], source)).unwrap_err();
        assert_eq!(error, Error::ExecutableStack);
    }
}

fn is_clang() -> bool {
    let output = Command::new("cc").arg("--version").output().unwrap();
    String::from_utf8_lossy(&output.stdout).contains("clang")
}
