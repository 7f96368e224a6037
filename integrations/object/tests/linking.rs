//! Several objects and archives that refer to each other, and what a program's objects expect of their linker.
//!
//! In QEMU's user mode (the musl target) no compiler can be started: `cargo xtask test objects` runs such objects there.
#![cfg(not(target_env = "musl"))]

mod compile;

use compile::{archive, lines, load};
use execmem_object::{Error, Function, Linker, Object, process_symbol};
use std::ffi::c_long;

type Unary = unsafe extern "C" fn(i64) -> i64;
type Nullary = unsafe extern "C" fn() -> i64;

const FLAGS: &[&str] = &["-O2", "-fPIC"];

fn call(object: &Object, name: &str) -> i64 {
    let function = object.function::<Nullary>(name).unwrap();
    // SAFETY: the tests' functions without arguments return an integer.
    unsafe { function() }
}

#[test]
fn a_function_stays_when_its_object_is_dropped() {
    let source = "static long sum = 40; long add(long x) { return sum += x; }";
    let add: Function<Unary> = load(&lines("stays", FLAGS, source)).unwrap().function("add").unwrap();
    // SAFETY: the function is the one above.
    assert_eq!(unsafe { (add(1), add(1), add.clone()(1)) }, (41, 42, 43));
}

#[test]
fn variables_are_found_with_their_size() {
    let source =
        "long counter = 7; const int constant = 5; int common; void *place(void) { return &common; }";
    let object = load(&lines("variables", &["-O2", "-fPIC", "-fcommon"], source)).unwrap();
    let counter = object.data::<i64>("counter").unwrap();
    let constant = object.data::<i32>("constant").unwrap();
    // SAFETY: they are the variables above.
    assert_eq!(unsafe { (*counter, *constant) }, (7, 5));
    assert_eq!(object.data::<i32>("common").unwrap() as i64, call(&object, "place"));
    let other = Error::OtherSize { name: "counter".into(), size: 8, expected: 4 };
    assert_eq!(object.data::<i32>("counter"), Err(other));
    let error = object.data::<i64>("place").unwrap_err().to_string();
    assert_eq!(error, "there is no variable place; there are: common, constant, counter");
}

#[test]
fn objects_share_functions_variables_and_common_symbols() {
    let first = lines(
        "share-1",
        &["-O2", "-fPIC", "-fcommon"],
        "long odd(long); long common; long shared = 3; __attribute__((weak)) long which(void) { return 1; }
         long even(long n) { return n == 0 ? 1 : odd(n - 1); }
         long sum(void) { return common + shared * 10 + which() * 100; }",
    );
    let second = lines(
        "share-2",
        &["-O2", "-fPIC", "-fcommon"],
        "long even(long); extern long shared; long common; long which(void) { return 2; }
         long odd(long n) { return n == 0 ? 0 : even(n - 1); }
         void set(void) { common = 5; shared = 4; }",
    );
    for order in [[&first, &second], [&second, &first]] {
        let linker = order.iter().fold(Linker::new(), |linker, file| linker.file("file", file));
        let object = linker.link().unwrap();
        let even = object.function::<Unary>("even").unwrap();
        // SAFETY: the functions are those above.
        assert_eq!(unsafe { (even(100), even(101)) }, (1, 0));
        assert_eq!(call(&object, "sum"), 230);
        call(&object, "set");
        assert_eq!(call(&object, "sum"), 245);
    }
    let error = Linker::new().file("a", &first).file("b", &first).link().unwrap_err().to_string();
    assert!(error.starts_with("b: ") && error.ends_with(" is defined twice"), "{error}");
}

#[test]
fn of_archives_only_what_is_reached_is_linked() {
    // In sections of their own, of which one needs what is nowhere.
    let sections = &["-O2", "-fPIC", "-ffunction-sections"];
    lines(
        "reach-1",
        sections,
        "long inner(void); long outer(void) { return inner() + 1; }
         long nowhere(void); long unused(void) { return nowhere(); }",
    );
    lines("reach-2", sections, "long inner(void) { return 41; }");
    lines("reach-3", sections, "long nowhere_either(void); long other(void) { return nowhere_either(); }");
    let library = archive("reach.a", "rcs", &["reach-3", "reach-2", "reach-1"]);
    let program = lines("reach", FLAGS, "long outer(void); long f(void) { return outer(); }");
    let object = Linker::new().file("reach.a", &library).file("reach.o", &program).link().unwrap();
    assert_eq!(call(&object, "f"), 42);
    assert_eq!(object.files(), ["reach.o", "reach.a(reach-1.o)", "reach.a(reach-2.o)"]);
    assert!(object.address("unused").is_err());
    // Also without an object.
    let object = Linker::new().file("reach.a", &library).entry("outer").link().unwrap();
    assert_eq!(call(&object, "outer"), 42);
    let error = Linker::new().file("reach.a", &library).entry("other").link().unwrap_err();
    assert_eq!(error, Error::MissingSymbols(vec!["nowhere_either".into()]));
    let error = Linker::new().file("reach.a", &library).entry("absent").link().unwrap_err();
    assert!(matches!(error, Error::MissingFunction { .. }), "{error}");
}

#[test]
fn entries_leave_out_what_they_do_not_reach() {
    let source = "long nowhere(void); long f(void) { return 42; } static long g(void) { return 43; }
         long h(void) { return nowhere() + g(); }";
    let object = lines("entry", &["-O1", "-fPIC", "-ffunction-sections", "-fno-inline"], source);
    assert_eq!(load(&object).unwrap_err(), Error::MissingSymbols(vec!["nowhere".into()]));
    let linked = Linker::new().file("entry.o", &object).entry("f").entry("g").link().unwrap();
    assert_eq!((call(&linked, "f"), call(&linked, "g")), (42, 43));
}

#[test]
fn archives_without_objects_or_an_index_are_refused() {
    lines("thin-1", FLAGS, "long f(void) { return 1; }");
    for (name, form, expected) in [("thin.a", "rcsT", Error::ThinArchive), ("plain.a", "rcS", Error::NoIndex)]
    {
        let library = archive(name, form, &["thin-1"]);
        let error = Linker::new().file(name, &library).entry("f").link().unwrap_err();
        assert_eq!(error, Error::InFile { file: name.into(), error: Box::new(expected) });
    }
}

#[test]
fn damage_in_a_member_is_told_with_its_name() {
    lines("damaged-1", FLAGS, "long f(void) { return 1; }");
    let mut library = archive("damaged.a", "rcs", &["damaged-1"]);
    let at = library.windows(4).position(|bytes| bytes == b"\x7fELF").unwrap();
    library[at + 4] = 9;
    let error = Linker::new().file("damaged.a", &library).entry("f").link().unwrap_err().to_string();
    assert_eq!(error, "damaged.a(damaged-1.o): not a 64-bit little-endian object");
}

/// As C++'s inline functions, but with symbols that aren't weak.
#[test]
fn of_groups_of_one_name_the_first_is_linked() {
    let group = |name: &str, value: u32| {
        let mov = match std::env::consts::ARCH {
            "x86_64" => format!("mov ${value}, %eax"),
            "aarch64" => format!("mov x0, #{value}"),
            _ => format!("li a0, {value}"),
        };
        let code = format!(
            r#"__asm__(".section .text.g,\"axG\",@progbits,g,comdat\n .globl g\n g: {mov}\n ret\n .text");
            long g(void); long {name}(void) {{ return g(); }}"#
        );
        lines(&format!("group-{name}"), FLAGS, &code)
    };
    let objects = [group("one", 1), group("two", 2)];
    let object = Linker::new().file("1", &objects[0]).file("2", &objects[1]).link().unwrap();
    assert_eq!((call(&object, "one"), call(&object, "two")), (1, 1));
}

/// A small file could be a thousand large ones otherwise.
#[test]
fn members_that_overlap_are_refused() {
    let inner = lines("overlap-1", FLAGS, "long g(void) { return 2; }");
    // An object whose data is a whole member.
    let size = inner.len();
    let header = format!("{:<16}{:<12}{:<6}{:<6}{:<8}{size:<10}`\n", "inner.o/", 0, 0, 0, 644);
    let bytes = [header.as_bytes(), &inner].concat();
    let list: Vec<String> = bytes.iter().map(u8::to_string).collect();
    let source = format!(
        "__attribute__((aligned(2))) const unsigned char data[] = {{{}}}; long f(void) {{ return 1; }} long g(void) {{ return 3; }}",
        list.join(",")
    );
    lines("overlap-2", FLAGS, &source);
    let mut library = archive("overlap.a", "rcs", &["overlap-2"]);
    let place = library.windows(bytes.len()).position(|window| window == bytes).unwrap() as u32;
    assert_eq!(place % 2, 0, "members start there");
    // The index is behind the first header: a count, the places of as many members, and the names.
    let index = 8 + 60;
    let count = u32::from_be_bytes(*library[index..].first_chunk().unwrap()) as usize;
    let mut names = library[index + 4 + 4 * count..].split(|byte| *byte == 0);
    let at = index + 4 + 4 * names.position(|name| name == b"g").unwrap();
    library[at..at + 4].copy_from_slice(&place.to_be_bytes());
    let object = Linker::new().file("overlap.a", &library).entry("g").link().unwrap();
    assert_eq!(call(&object, "g"), 2);
    let error = Linker::new().file("overlap.a", &library).entry("g").entry("f").link().unwrap_err();
    assert!(error.to_string().contains("are used twice"), "{error}");
}

#[test]
fn all_missing_symbols_are_told_at_once_with_what_to_do() {
    let source = "double acosh_of_nothing(double); long zebra(void), apple(void); void *__divti3_(void);
         long f(void) { return zebra() + apple() + (long)acosh_of_nothing(1); }
         extern int __cpu_model; int *g(void) { return &__cpu_model; }
         void __gcov_init(void); void h(void) { __gcov_init(); }";
    let error = load(&lines("missing", FLAGS, source)).unwrap_err();
    let names = ["__cpu_model", "__gcov_init", "acosh_of_nothing", "apple", "zebra"];
    assert_eq!(error, Error::MissingSymbols(names.map(String::from).to_vec()));
    let text = error.to_string();
    assert!(text.contains("__gcov_init (compile without --coverage)"), "{text}");
    assert!(text.contains("__cpu_model (the compiler's own library"), "{text}");
    assert!(text.contains("acosh_of_nothing, apple, zebra (link what defines it"), "{text}");
}

#[test]
fn a_library_can_be_added_to_the_process() {
    execmem_object::add_library("m").unwrap();
    let source = "double tgamma(double); long f(long x) { return (long)tgamma(x); }";
    let f = load(&lines("gamma", FLAGS, source)).unwrap().function::<Unary>("f").unwrap();
    // SAFETY: the function is the one above.
    assert_eq!(unsafe { f(6) }, 120);
    let error = execmem_object::add_library("of-nobody").unwrap_err();
    assert!(error.to_string().starts_with("the library of-nobody can't be loaded: "), "{error}");
}

#[test]
fn what_was_registered_for_the_end_runs_at_the_end() {
    let source = "
        int atexit(void (*)(void));
        static long *ended;
        static void add(long digit) { *ended = *ended * 10 + digit; }
        static void first(void) { add(1); }
        static void late(void) { add(3); }
        static void second(void) { add(2); atexit(late); }
        __attribute__((destructor)) static void end(void) { if (ended) add(4); }
        long f(long *where) { ended = where; return atexit(first) + atexit(second); }";
    let object = load(&lines("atexit", FLAGS, source)).unwrap();
    let other = load(&lines("atexit", FLAGS, source)).unwrap();
    let mut ended: [c_long; 2] = [0; 2];
    for (object, ended) in [&object, &other].into_iter().zip(&mut ended) {
        // SAFETY: the object's destructor is the one above.
        unsafe { object.start() }.unwrap();
        let f = object.function::<unsafe extern "C" fn(*mut c_long) -> i64>("f").unwrap();
        // SAFETY: the function is the one above, and the variable lives until both objects are dropped.
        assert_eq!(unsafe { f(ended) }, 0);
    }
    let ended = &raw const ended;
    // SAFETY: the variables are live. Volatile, since the compiler doesn't see that the destructors write them.
    let read = || unsafe { ended.read_volatile() };
    assert_eq!(read(), [0, 0]);
    drop(other);
    assert_eq!(read(), [0, 2314], "the other one alone");
    drop(object);
    assert_eq!(read(), [2314, 2314]);
}

#[test]
fn an_indirect_function_is_the_one_that_it_chooses_when_the_object_is_started() {
    let source = "
        static long one(long x) { return x + 1; }
        static long two(long x) { return x + 2; }
        static int chosen;
        static void *choose(void) { chosen++; return chosen ? (void *)two : (void *)one; }
        long f(long) __attribute__((ifunc(\"choose\")));
        static long (*volatile stored)(long) = f;
        long g(long x) { return f(x) * 100 + stored(x) * 10 + (stored == f) + chosen * 1000; }";
    let program = "long f(long); long h(long x) { return f(x); } long (*of_f(void))(long) { return f; }";
    let objects = [lines("ifunc-1", FLAGS, source), lines("ifunc-2", &["-O2", "-fPIE"], program)];
    let object = Linker::new().file("1", &objects[0]).file("2", &objects[1]).link().unwrap();
    assert_eq!(object.address("g"), Err(Error::NotStarted));
    // SAFETY: the object's resolver is the one above.
    unsafe { object.start() }.unwrap();
    let functions = ["f", "g", "h"].map(|name| object.function::<Unary>(name).unwrap());
    // SAFETY: the functions are those above.
    let results = functions.map(|function| unsafe { function(4) });
    assert_eq!(results, [6, 1661, 6]);
    assert_eq!(call(&object, "of_f"), object.address("f").unwrap() as i64, "one address");
}

#[test]
fn alignment_above_a_page_is_kept() {
    let source = "
        __attribute__((aligned(65536))) char data[3] = {1};
        __attribute__((aligned(2097152))) char zeroed[5];
        __attribute__((aligned(8192))) const char constant[3] = {2};
        __attribute__((aligned(16384))) long f(void) { return data[0] + zeroed[0] + constant[0]; }";
    let object = load(&lines("aligned", FLAGS, source)).unwrap();
    assert_eq!(object.data::<[u8; 3]>("data").unwrap() as usize % 65536, 0);
    assert_eq!(object.data::<[u8; 5]>("zeroed").unwrap() as usize % (1 << 21), 0);
    assert_eq!(object.data::<[u8; 3]>("constant").unwrap() as usize % 8192, 0);
    assert_eq!(object.address("f").unwrap() % 16384, 0);
    assert_eq!(call(&object, "f"), 3);
}

/// Assemblers write them for numbers that another object gives.
#[test]
#[cfg(target_arch = "x86_64")]
fn relocations_of_a_byte_or_two_are_computed() {
    let user = r#"
        __asm__(".data\n .globl bytes\n bytes: .byte small, small - 1\n .short large\n .long sized@SIZE\n .quad sized@SIZE\n"
                ".text\n .globl jump\n jump: .byte 0xeb\n .byte near - . - 1\n"
                ".section .text.near,\"ax\"\n .globl near\n near: mov $7, %eax\n ret\n .text");
        extern unsigned char bytes[]; extern unsigned char sized[20];
        long f(void) { return bytes[0] + bytes[1] * 1000l + *(unsigned short *)(bytes + 2) * 1000000l; }
        long sizes(void) { return *(int *)(bytes + 4) + *(long *)(bytes + 8); }"#;
    let giver = r#"
        __asm__(".globl small\n small = 200\n .globl large\n large = 60000");
        unsigned char sized[20] = {1};"#;
    let objects = [lines("bytes-1", FLAGS, user), lines("bytes-2", FLAGS, giver)];
    let object = Linker::new().file("1", &objects[0]).file("2", &objects[1]).link().unwrap();
    assert_eq!(call(&object, "f"), 60_000_199_200);
    assert_eq!(call(&object, "sizes"), 40);
    assert_eq!(call(&object, "jump"), 7);
    let too_large = lines(
        "bytes-3",
        FLAGS,
        r#"__asm__(".globl small\n small = 300\n .globl large\n large = 1"); char sized[20];"#,
    );
    let error = Linker::new().file("1", &objects[0]).file("3", &too_large).link().unwrap_err();
    assert!(matches!(&error, Error::Misfit { relocation, .. } if relocation == "R_X86_64_8"), "{error}");
}

#[test]
fn small_objects_without_data_share_pages() {
    let object = lines("small", FLAGS, "long f(long x) { return x + 1; }");
    let objects: Vec<Object> = (0..200).map(|_| load(&object).unwrap()).collect();
    let mut pages: Vec<usize> = objects.iter().map(|object| object.address("f").unwrap() >> 12).collect();
    pages.sort_unstable();
    pages.dedup();
    assert!(objects.iter().all(|object| object.mapped_bytes() == 0));
    let each_has_pages = execmem::runtime().policy() == Ok(execmem::Policy::Toggle);
    assert!(each_has_pages || pages.len() < 50, "{} pages", pages.len());
    for object in &objects {
        let f = object.function::<Unary>("f").unwrap();
        // SAFETY: the function is the one above.
        assert_eq!(unsafe { f(41) }, 42);
    }
}

#[test]
fn the_symbol_of_an_address_is_told() {
    let object =
        load(&lines("named", FLAGS, "long first(void) { return 1; } long second(void) { return 2; }"))
            .unwrap();
    let second = object.address("second").unwrap();
    assert_eq!(object.symbol_at(second + 3), Some(("second", 3)));
    assert_eq!(object.symbol_at(1), None);
    let _ = process_symbol("malloc").unwrap();
}
