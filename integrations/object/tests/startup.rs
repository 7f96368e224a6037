//! Constructors and destructors. They run in the order in which they do in programs that GNU ld makes of the same
//! sources.
//!
//! In QEMU's user mode (the musl target) no compiler can be started. The objects that are checked in have constructors
//! and destructors, too.
#![cfg(not(target_env = "musl"))]

mod compile;

use compile::{lines, load};
use execmem_object::Error;
use std::ffi::{CStr, c_char};

/// Functions in every kind of section, each of which adds its digit to a number. To be compiled without optimisation,
/// which changes the order of the sections.
const ORDER: &str = r#"
    static long order, *ended;
    long started(void) { return order; }
    long watch(long *where) { order = 0; ended = where; return 0; }
    #define STEP(n) \
        static void start##n(void) { order = order * 10 + n; } \
        static void end##n(void) { order = order * 10 + n; if (ended) *ended = order; }
    STEP(1) STEP(2) STEP(3) STEP(4) STEP(5) STEP(6) STEP(7) STEP(8)
    #define LIST(name, where) __attribute__((section(where), used, aligned(8))) static void (*name[])(void)
    LIST(c1, ".ctors") = {start1, 0, start2};
    LIST(c2, ".ctors.65433") = {start3, start4};
    LIST(c3, ".init_array.00101") = {start5};
    LIST(c4, ".init_array") = {start6, (void (*)(void))-1, start7};
    LIST(c5, ".init_array.103") = {start8};
    LIST(d1, ".dtors") = {end1, end2};
    LIST(d2, ".dtors.65433") = {end3, end4};
    LIST(d3, ".fini_array.00101") = {end5};
    LIST(d4, ".fini_array") = {end6, end7};
    LIST(d5, ".fini_array.103") = {end8};
"#;

#[test]
fn constructors_and_destructors_of_every_kind_run_in_the_order_of_a_program() {
    let image = load(&lines("order", &["-O0", "-fPIC"], ORDER)).unwrap();
    let (started, watch) = (image.address("started").unwrap(), image.address("watch").unwrap());
    let mut ended = 0_i64;
    // SAFETY: the functions are those above.
    unsafe {
        image.start().unwrap();
        assert_eq!(image.call(started, &[]), Ok(54_382_167));
        image.start().unwrap();
        assert_eq!(image.call(started, &[]), Ok(54_382_167), "once");
        image.call(watch, &[(&raw mut ended) as i64]).unwrap();
    }
    drop(image);
    // SAFETY: the variable is live. Volatile, since the compiler doesn't see that the destructors write it.
    assert_eq!(unsafe { (&raw const ended).read_volatile() }, 76_128_345);
}

#[test]
fn what_was_not_constructed_is_not_destroyed() {
    let image = load(&lines("unconstructed", &["-O2", "-fPIC"], ORDER)).unwrap();
    let watch = image.address("watch").unwrap();
    let mut ended = 0_i64;
    // SAFETY: the function is the one above.
    unsafe { image.call(watch, &[(&raw mut ended) as i64]) }.unwrap();
    drop(image);
    // SAFETY: the variable is live.
    assert_eq!(unsafe { (&raw const ended).read_volatile() }, 0);
}

#[test]
fn constructors_are_called_with_this_programs_arguments_and_environment() {
    let source = "
        static long words; static char **list, **variables;
        __attribute__((constructor)) static void start(int argc, char **argv, char **envp)
        { words = argc; list = argv; variables = envp; }
        long argc(void) { return words; }
        char **argv(void) { return list; }
        char **envp(void) { return variables; }";
    let image = load(&lines("arguments", &["-O2", "-fPIC"], source)).unwrap();
    // SAFETY: the constructor is the one above.
    unsafe { image.start() }.unwrap();
    // SAFETY: the functions are those above, and take nothing.
    let call = |name| unsafe { image.call(image.address(name).unwrap(), &[]) }.unwrap();
    // SAFETY: `list` is one of the lists above, whose end is a NULL at or behind `index`. Before it are C strings.
    let text = |list: i64, index| unsafe {
        let word = *(list as *const *const c_char).add(index);
        (!word.is_null()).then(|| CStr::from_ptr(word).to_str().unwrap().to_string())
    };
    let words: Vec<String> = std::env::args().collect();
    assert_eq!(call("argc"), words.len() as i64);
    for index in 0..=words.len() {
        assert_eq!(text(call("argv"), index), words.get(index).cloned());
    }
    let variables: Vec<_> = std::env::vars().collect();
    assert!(!variables.is_empty());
    for index in 0..=variables.len() {
        let expected = variables.get(index).map(|(name, value)| format!("{name}={value}"));
        assert_eq!(text(call("envp"), index), expected);
    }
}

/// The functions `_init` and `_fini` begin in `crti.o` and end in `crtn.o`. Other objects have pieces of them.
#[test]
fn pieces_of_the_c_runtimes_own_functions_are_refused() {
    for section in [".init", ".fini"] {
        let source =
            format!(r#"__asm__(".section {section},\"ax\"\n nop\n .text"); long f(void) {{ return 1; }}"#);
        let error = load(&lines("piece", &["-O2"], &source)).unwrap_err();
        assert_eq!(error, Error::FunctionPiece(section.into()));
    }
    let source = r#"__asm__(".section .init,\"ax\"\n .text"); long f(void) { return 1; }"#;
    assert!(load(&lines("no-piece", &["-O2"], source)).is_ok(), "an empty one needs nothing");
}

#[test]
fn functions_that_would_be_called_after_the_images_end_are_refused() {
    let names = [
        "on_exit",
        "at_quick_exit",
        "__cxa_at_quick_exit",
        "__cxa_thread_atexit",
        "__cxa_thread_atexit_impl",
        "pthread_atfork",
        "__register_atfork",
    ];
    for name in names {
        let source =
            format!("int {name}(void *); static void end(void) {{}} long f(void) {{ return {name}(end); }}");
        let error = load(&lines("later", &["-O2", "-fPIC", "-w"], &source)).unwrap_err();
        assert_eq!(error, Error::LaterCall(name.into()));
    }
    // The object's own function may have such a name.
    let source = "int on_exit(int x) { return x + 1; } long f(void) { return on_exit(41); }";
    let image = load(&lines("own", &["-O2", "-fPIC", "-w"], source)).unwrap();
    // SAFETY: the function is the one above.
    assert_eq!(unsafe { image.call(image.address("f").unwrap(), &[]) }, Ok(42));
}
