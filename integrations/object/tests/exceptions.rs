//! Exceptions and backtraces through loaded code.
//!
//! In QEMU's user mode (the musl target) no compiler can be started.
#![cfg(not(target_env = "musl"))]

mod compile;

use compile::{lines, lines_of_cpp, load};
use execmem_object::{Linker, Object, add_library};
use std::backtrace::Backtrace;
use std::cell::RefCell;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::OnceLock;

type Unary = unsafe extern "C" fn(i64) -> i64;

const FLAGS: &[&str] = &["-O2", "-fPIC"];

const THROWS: &str = "
    #include <stdexcept>
    #include <string>
    #include <vector>
    struct Guard { long &count; ~Guard() { count++; } };
    extern long cleaned; long cleaned;
    template <class T> T twice(T x) { return x + x; }
    __attribute__((noinline)) void thrower(long x) {
        Guard guard{cleaned};
        if (x > 0) throw std::runtime_error(std::string(twice(static_cast<size_t>(x)), 'x'));
        if (x < 0) throw x;
    }";

const CATCHES: &str = "
    #include <stdexcept>
    #include <string>
    #include <cstring>
    void thrower(long); extern long cleaned;
    template <class T> T twice(T x) { return x + x; }
    static std::string name = std::string(\"a static with a constructor and a destructor\");
    extern \"C\" long f(long x) {
        try { thrower(x); }
        catch (const std::exception &error) { return std::strlen(error.what()) * 100 + cleaned; }
        catch (long number) { return number; }
        return twice(name.size());
    }";

fn cpp() -> Object {
    static OBJECTS: OnceLock<[Vec<u8>; 2]> = OnceLock::new();
    add_library("stdc++").unwrap();
    let objects = OBJECTS
        .get_or_init(|| [lines_of_cpp("throws", FLAGS, THROWS), lines_of_cpp("catches", FLAGS, CATCHES)]);
    let object = Linker::new().file("throws.o", &objects[0]).file("catches.o", &objects[1]).link().unwrap();
    // SAFETY: the constructor is that of a string.
    unsafe { object.start() }.unwrap();
    object
}

#[test]
fn exceptions_pass_from_one_object_to_another_and_clean_up() {
    let object = cpp();
    let f = object.function::<Unary>("f").unwrap();
    // SAFETY: the function is the one above.
    assert_eq!(unsafe { [f(0), f(5), f(-3), f(2)] }, [88, 1002, -3, 404]);
}

/// What stays registered is read by every unwinding, also when its memory is gone.
#[test]
fn unwinding_works_when_objects_are_gone() {
    for round in 0..50 {
        let object = cpp();
        let f = object.function::<Unary>("f").unwrap();
        // SAFETY: the function is the one above.
        assert_eq!(unsafe { f(-round - 1) }, -round - 1);
        drop((f, object));
        let caught = catch_unwind(|| resume_unwind(Box::new(round)));
        assert_eq!(caught.unwrap_err().downcast_ref(), Some(&round));
    }
}

unsafe extern "C" {
    /// Of GCC's unwinder: the description of the function that an address is in, or NULL.
    fn _Unwind_Find_FDE(address: *const u8, bases: *mut [usize; 3]) -> *const u8;
}

#[test]
fn the_unwinder_forgets_an_object_that_is_gone() {
    let object = cpp();
    let address = object.address("f").unwrap() + 1;
    let mut bases = [0; 3];
    // SAFETY: it is libgcc's function of that name, which Rust's standard library links, and compares the address alone.
    let mut is_known = || unsafe { !_Unwind_Find_FDE(address as *const u8, &raw mut bases).is_null() };
    assert!(is_known());
    drop(object);
    assert!(!is_known());
}

thread_local! {
    static SEEN: RefCell<String> = const { RefCell::new(String::new()) };
}

extern "C" fn look() -> i64 {
    SEEN.set(Backtrace::force_capture().to_string());
    7
}

#[test]
fn a_backtrace_passes_through_loaded_code() {
    let source = "long look(void); long unrelated(long x) { return x; }
        __attribute__((noinline)) static long inner(long x) { char room[64]; room[x] = 1; return look() + room[x]; }
        long f(long x) { return inner(x) + 1; }";
    let object = lines("backtrace", &["-O1", "-fPIC", "-fomit-frame-pointer"], source);
    let look = execmem_object::Import { address: look as *const () as usize, is_code: true };
    let object = Object::load_with(&object, |name| (name == "look").then_some(look)).unwrap();
    let f = object.function::<Unary>("f").unwrap();
    // SAFETY: the function is the one above.
    assert_eq!(unsafe { f(5) }, 9);
    let seen = SEEN.take();
    assert!(seen.contains("a_backtrace_passes_through_loaded_code"), "{seen}");
}

/// C with -fexceptions runs its clean-ups when something is thrown through it.
#[test]
fn an_exception_of_the_caller_passes_through_c() {
    let source = "
        static long ended; static void end(int *x) { ended += *x; }
        long count(void) { return ended; }
        long g(long (*thrower)(long)) {
            __attribute__((cleanup(end))) int x = 5; return thrower(1); }";
    let object = load(&lines("through", &["-O2", "-fPIC", "-fexceptions"], source)).unwrap();
    let g =
        object.function::<unsafe extern "C-unwind" fn(extern "C-unwind" fn(i64) -> i64) -> i64>("g").unwrap();
    extern "C-unwind" fn thrower(x: i64) -> i64 {
        resume_unwind(Box::new(x))
    }
    // SAFETY: the function is the one above, and lets unwinding pass.
    let caught = catch_unwind(|| unsafe { g(thrower) });
    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&1_i64));
    let count = object.function::<unsafe extern "C" fn() -> i64>("count").unwrap();
    // SAFETY: the function is the one above.
    assert_eq!(unsafe { count() }, 5);
}
