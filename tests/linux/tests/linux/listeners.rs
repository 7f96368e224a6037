//! What debuggers, profilers and unwinders are told: the files as `perf` reads them, and what the process's own
//! unwinder finds. A real debugger and a real profiler are tested with the C libraries.

use crate::service::rewrite;
use crate::{Needs, Test};
use execmem_conformance::code::{returning, unwind_records};
use execmem_conformance::memory::page;
use execmem_conformance::symbols::*;
use execmem_core::Limits;
use execmem_core::abi::*;
use execmem_os_linux::runtime;
use execmem_tests_linux::children::{Outcome, Status, wait};
use execmem_tests_linux::confinement::{self, Condition, Refusal};
use std::ffi::{CStr, c_void};
use std::fs;
use std::path::PathBuf;

pub const TESTS: &[Test] = &[
    Test {
        name: "listeners: a perf map has a line for each name, and a child's begins with what it inherited",
        needs: Needs::Nothing,
        run: perf_map,
    },
    Test {
        name: "listeners: a dump for perf has each name with its code, its place and its time",
        needs: Needs::Nothing,
        run: dump,
    },
    Test {
        name: "listeners: with nobody listening no file is written; a listener that nobody knows is unsupported",
        needs: Needs::Nothing,
        run: others,
    },
    Test {
        name: "listeners: a link in place of a file is not followed, and code that can't be read is an error",
        needs: Needs::Nothing,
        run: files_that_cannot_be,
    },
    Test {
        name: "listeners: an unwinder knows code as long as it lives, however it ends",
        needs: Needs::Loader,
        run: unwinding,
    },
    Test {
        name: "listeners: code whose free fails keeps its records and its name",
        needs: Needs::Loader,
        run: failing_free,
    },
];

/// A file of this process, which is no longer there when this is dropped.
struct Told(PathBuf);

impl Told {
    fn map() -> Self {
        Self(format!("/tmp/perf-{}.map", std::process::id()).into())
    }

    fn dump() -> Self {
        Self(format!("/tmp/jit-{}.dump", std::process::id()).into())
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(&self.0).unwrap_or_default()
    }

    fn text(&self) -> String {
        String::from_utf8(self.bytes()).expect("names are text here")
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

fn listen(who: &str) {
    // SAFETY: the child has one thread.
    unsafe { std::env::set_var("EXECMEM_NAMES", who) };
}

fn function(value: u8) -> i64 {
    let block = rt_code_alloc(64);
    assert!(block > 0, "error {}", rt_last_error());
    rewrite(block, value);
    block
}

fn named(address: i64, size: i64, name: &CStr) {
    assert!(set_name(address, size, Some(name)), "error {}", rt_last_error());
}

fn perf_map() -> Outcome {
    listen("perf");
    let told = Told::map();
    let (first, second) = (function(1), function(2));
    named(first, 64, c"first");
    named(second, 8, c"a name\nwith a line's end");
    let lines = [format!("{first:x} 40 first\n"), format!("{second:x} 8 a name?with a line's end\n")];
    assert_eq!(told.text(), lines.concat());
    let parent = told.text();
    // SAFETY: the process has one thread.
    let child = unsafe { libc::fork() };
    if child == 0 {
        let told = Told::map();
        assert_eq!(told.text(), "");
        assert!(rt_code_free(first));
        named(second, 16, c"anew");
        let inherited = lines[1].clone();
        assert_eq!(told.text(), format!("{inherited}{second:x} 10 anew\n"));
        drop(told);
        // SAFETY: ends the child.
        unsafe { libc::_exit(0) };
    }
    assert_eq!(wait(child), Status::Exit(0));
    assert_eq!(told.text(), parent);
    // At an address that was named before.
    assert!(rt_code_free(first));
    let again = function(3);
    named(again, 64, c"again");
    assert_eq!(told.text(), format!("{parent}{again:x} 40 again\n"));
    Outcome::Passed
}

/// The number of so many bytes at an offset.
fn number(bytes: &[u8], at: usize, length: usize) -> u64 {
    bytes[at..at + length].iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn dump() -> Outcome {
    listen("jitdump");
    let (told, none) = (Told::dump(), Told::map());
    let blocks = [(function(1), c"one"), (function(2), c"another")];
    for (block, name) in blocks {
        named(block, 16, name);
    }
    let bytes = told.bytes();
    assert_eq!((number(&bytes, 0, 4), number(&bytes, 4, 4)), (0x4a69_5444, 1));
    assert_eq!(number(&bytes, 20, 4), u64::from(std::process::id()));
    let maps = fs::read_to_string("/proc/self/maps").expect("the kernel tells the mappings");
    let path = told.0.to_str().expect("text");
    // In qemu's user mode it is the program's own idea of its mappings.
    assert!(maps.lines().any(|line| line.contains(" r-xp ") && line.ends_with(path)), "{maps}");
    let (mut at, mut time, mut index) = (number(&bytes, 8, 4) as usize, 0, None);
    for (block, name) in blocks {
        let length = number(&bytes, at + 4, 4) as usize;
        assert_eq!(number(&bytes, at, 4), 0);
        assert!(number(&bytes, at + 8, 8) >= time && time < u64::MAX);
        time = number(&bytes, at + 8, 8);
        assert_eq!(number(&bytes, at + 16, 4), u64::from(std::process::id()));
        let place = [24, 32, 40].map(|offset| number(&bytes, at + offset, 8) as i64);
        assert_eq!(place, [block, block, 16]);
        assert_ne!(index.replace(number(&bytes, at + 48, 8)), Some(number(&bytes, at + 48, 8)));
        let (text, code) = bytes[at + 56..at + length].split_at(name.to_bytes_with_nul().len());
        assert_eq!(text, name.to_bytes_with_nul());
        let written = returning(if block == blocks[0].0 { 1 } else { 2 });
        assert_eq!((code.len(), &code[..written.len()]), (16, &*written));
        at += length;
    }
    assert_eq!(at, bytes.len());
    assert!(time > 0 && !none.0.exists());
    Outcome::Passed
}

fn others() -> Outcome {
    let block = function(1);
    let told = [Told::map(), Told::dump()];
    for (who, is_known) in [("", true), ("gdb", true), ("perf,valgrind", false), ("PERF", false)] {
        let run = || {
            listen(who);
            assert_eq!(set_name(block, 64, Some(c"name")), is_known);
            assert!(is_known || rt_last_error() == RT_ERROR_UNSUPPORTED);
            assert!([Told::map(), Told::dump()].iter().all(|told| !told.0.exists()));
            assert!(rt_code_free(block));
            Outcome::Passed
        };
        assert_eq!(execmem_tests_linux::children::run(run), Outcome::Passed, "{who:?}");
    }
    assert!(told.iter().all(|told| !told.0.exists()));
    Outcome::Passed
}

fn files_that_cannot_be() -> Outcome {
    listen("perf,jitdump");
    let (map, dump) = (Told::map(), Told::dump());
    let victim = execmem_tests_linux::files::path_of(execmem_tests_linux::files::file(b"theirs"));
    std::os::unix::fs::symlink(victim, &map.0).expect("a link");
    let region = rt_alloc_exec_memory(page());
    assert!(!set_name(region, 16, Some(c"name")));
    assert_eq!(fs::read(victim).expect("the file is there"), b"theirs");
    fs::remove_file(&map.0).expect("the link");
    assert!(rt_set_protection(region, page(), RT_PROT_NONE));
    let is_named = set_name(region, 16, Some(c"name"));
    assert!(!is_named && rt_last_error() == RT_ERROR_IO, "error {}", rt_last_error());
    assert!(rt_set_protection(region, page(), RT_PROT_READ | RT_PROT_EXEC));
    named(region, 16, c"name");
    assert!(dump.bytes().len() > 40 + 56 + 16);
    assert!(rt_free_exec_memory(region, page()));
    Outcome::Passed
}

/// What libgcc's `_Unwind_Find_FDE` says of an address; `None`: the process has another unwinder, or none.
fn find_records(address: i64) -> Option<bool> {
    // SAFETY: in libgcc the function takes an address and room for three (unwind-dw2-fde.h).
    unsafe {
        let find = libc::dlsym(libc::RTLD_DEFAULT, c"_Unwind_Find_FDE".as_ptr());
        if find.is_null() {
            return None;
        }
        let find: unsafe extern "C" fn(*const c_void, *mut [usize; 3]) -> *const c_void =
            std::mem::transmute(find);
        Some(!find(std::ptr::with_exposed_provenance(address as usize), &mut [0; 3]).is_null())
    }
}

/// Gives the unwinder records of 64 bytes, which stay for ever. Whether there is an unwinder.
fn described(address: i64) -> bool {
    let records = Box::leak(Box::new(unwind_records(address, 64)));
    // SAFETY: they are true, and stay.
    let is_done = unsafe { set_unwind(address, 64, records) };
    assert!(is_done || rt_last_error() == RT_ERROR_UNSUPPORTED, "error {}", rt_last_error());
    if is_done {
        assert_ne!(find_records(address), Some(false));
    }
    is_done
}

/// A static program has an unwinder that nobody can look up.
fn without_unwinder() -> Outcome {
    match cfg!(target_feature = "crt-static") {
        true => Outcome::NotApplicable("the process's unwinder can't be looked up".to_owned()),
        false => Outcome::Failed("there is no unwinder".to_owned()),
    }
}

fn unwinding() -> Outcome {
    let block = function(1);
    if !described(block) {
        return without_unwinder();
    }
    // Again, and in part: what overlaps goes.
    assert!(described(block) && described(block));
    assert!(rt_code_free(block));
    assert_eq!(find_records(block + 1), Some(false), "a freed block");

    let (kept, cut) = (rt_code_alloc(2048), 1024);
    assert!(described(kept) && described(kept + cut) && rt_code_shrink(kept, 100));
    assert_eq!((find_records(kept + 1), find_records(kept + cut + 1)), (Some(true), Some(false)), "shrunk");
    assert!(rt_code_free(kept));
    assert_eq!(find_records(kept + 1), Some(false), "a freed block that was shrunk");

    let region = rt_alloc_exec_memory(page());
    let mapping = map_file(None, RT_PROT_READ, RT_MAP_PRIVATE | RT_MAP_ANONYMOUS, 0, page());
    assert!(described(region + 64) && described(mapping.address));
    assert!(rt_free_exec_memory(region, page()) && rt_munmap(mapping.address, mapping.size));
    assert_eq!((find_records(region + 65), find_records(mapping.address)), (Some(false), Some(false)));

    let heap = runtime().new_code_heap(Limits::DEFAULT).expect("a heap");
    let blocks = [64, 1 << 20].map(|size| heap.alloc(size).expect("a block") as i64);
    assert!(blocks.into_iter().all(described));
    drop(heap);
    assert!(blocks.into_iter().all(|block| find_records(block) == Some(false)), "a heap that was dropped");
    Outcome::Passed
}

fn failing_free() -> Outcome {
    listen("perf");
    let told = Told::map();
    let region = rt_alloc_exec_memory(page());
    named(region, 64, c"stays");
    let has_unwinder = described(region);
    let no_unmapping = Refusal { call: libc::SYS_munmap, condition: Condition::Any, error: libc::ENOMEM };
    confinement::refuse(&[no_unmapping]).expect("a filter");
    assert!(!rt_free_exec_memory(region, page()) && rt_last_error() == RT_ERROR_NO_MEMORY);
    assert!(!has_unwinder || find_records(region) == Some(true));
    let block = function(1);
    for size in [i64::MIN, -64, 1 - block, 0, 65, i64::MAX] {
        assert!(!rt_code_shrink(block, size), "{size}");
    }
    // What is known is what a child's file begins with.
    let run = || {
        let told = Told::map();
        named(region + 128, 1, c"more");
        assert_eq!(told.text(), format!("{region:x} 40 stays\n{:x} 1 more\n", region + 128));
        Outcome::Passed
    };
    assert_eq!(execmem_tests_linux::children::run(run), Outcome::Passed);
    drop(told);
    if has_unwinder { Outcome::Passed } else { without_unwinder() }
}
