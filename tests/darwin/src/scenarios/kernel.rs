//! The model keeps its own rules: without this, nothing that runs against it would mean much.

use super::{Machine, Scenario, code, everywhere, is_killed_for, nameless_file};
use crate::errno::{EACCES, EINVAL, ENOMEM, EPERM};
use crate::rules::Mood;
use crate::{files, kernel, mach, switch};
use std::ffi::c_void;
use std::os::fd::AsRawFd;

const READ: i32 = 1;
const RW: i32 = 3;
const RX: i32 = 5;
const RWX: i32 = 7;
const SHARED: i32 = 1;
const PRIVATE: i32 = 2;
const FIXED: i32 = 0x10;
const JIT: i32 = 0x800;
const ANON: i32 = 0x1000;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "W and X together need MAP_JIT, except on Intel",
        applies: everywhere,
        run: writable_code,
    },
    Scenario {
        name: "the hardened runtime lets nobody execute plain pages: refused at once, or killed",
        applies: everywhere,
        run: becoming_code,
    },
    Scenario {
        name: "MAP_JIT takes no address, no sharing and no file",
        applies: everywhere,
        run: jit_arguments,
    },
    Scenario { name: "MAP_JIT needs its entitlement", applies: everywhere, run: jit_entitlement },
    Scenario {
        name: "mprotect of MAP_JIT pages is refused",
        applies: |rules| rules.allows_jit(),
        run: jit_protection,
    },
    Scenario {
        name: "MAP_JIT pages are writable or executable, never both",
        applies: |rules| rules.allows_jit() && rules.has_write_switch(),
        run: jit_switch,
    },
    Scenario {
        name: "the switch of one thread says nothing to another",
        applies: |rules| rules.allows_jit() && rules.has_write_switch(),
        run: switch_of_a_thread,
    },
    Scenario {
        name: "an argument behind the dots of a variadic function is a mistake",
        applies: everywhere,
        run: variadic,
    },
    Scenario {
        name: "the write allow-list kills other ways to write",
        applies: |rules| rules.has_allow_list(),
        run: allow_list,
    },
    Scenario { name: "addresses and offsets are multiples of a page", applies: everywhere, run: alignment },
    Scenario { name: "a hole is answered with the next region", applies: everywhere, run: holes },
];

fn map(protection: i32, flags: i32) -> Result<usize, crate::errno::Errno> {
    kernel::mmap(0, 100, protection, flags, -1, 0)
}

fn writable_code(machine: &Machine) -> Result<(), String> {
    kernel::start(machine.rules);
    let is_allowed = !machine.rules.is_arm && machine.rules.mood == Mood::Plain;
    check_eq!(map(RWX, PRIVATE | ANON).err(), (!is_allowed).then_some(EACCES));
    let page = map(RW, PRIVATE | ANON).map_err(|error| format!("{error:?}"))?;
    check_eq!(kernel::mprotect(page, 1, RWX).err(), (!is_allowed).then_some(EACCES));
    // A refusal changes nothing.
    // SAFETY: the page is mapped and writable.
    unsafe { (page as *mut u8).write_volatile(1) };
    Ok(())
}

fn becoming_code(machine: &Machine) -> Result<(), String> {
    kernel::start(machine.rules);
    let is_hardened = machine.rules.mood != Mood::Plain;
    let refusal = (is_hardened && machine.rules.is_strict).then_some(EACCES);
    for flags in [PRIVATE | ANON, SHARED | ANON] {
        let page = map(RW, flags).map_err(|error| format!("{error:?}"))?;
        // SAFETY: the page is writable.
        unsafe { store(page as *mut c_void) };
        check_eq!(kernel::mprotect(page, 1, RX).err(), refusal);
        check_eq!(map(RX, flags).err(), refusal);
        if !is_hardened {
            check_eq!(execute(page), 42);
        } else if !machine.rules.is_strict {
            is_killed_for("code that nobody has signed was executed", || {
                execute(page);
            })?;
        }
    }
    Ok(())
}

fn jit_arguments(machine: &Machine) -> Result<(), String> {
    kernel::start(machine.rules);
    let file = nameless_file(&[0; 100]);
    let place = map(RW, PRIVATE | ANON).map_err(|error| format!("{error:?}"))?;
    check_eq!(kernel::mmap(place, 100, RWX, PRIVATE | ANON | JIT | FIXED, -1, 0), Err(EINVAL));
    check_eq!(map(RWX, SHARED | ANON | JIT), Err(EINVAL));
    check_eq!(kernel::mmap(0, 100, RWX, PRIVATE | JIT, file.as_raw_fd(), 0), Err(EINVAL));
    Ok(())
}

fn jit_entitlement(machine: &Machine) -> Result<(), String> {
    kernel::start(machine.rules);
    let refusal = if machine.rules.is_strict { EPERM } else { EINVAL };
    let refusal = (machine.rules.mood == Mood::Hardened).then_some(refusal);
    check_eq!(map(RWX, PRIVATE | ANON | JIT).err(), refusal);
    Ok(())
}

fn jit_protection(machine: &Machine) -> Result<(), String> {
    kernel::start(machine.rules);
    let page = map(RWX, PRIVATE | ANON | JIT).map_err(|error| format!("{error:?}"))?;
    for protection in [READ, RW, RX, RWX] {
        check_eq!(kernel::mprotect(page, 1, protection), Err(EACCES));
    }
    Ok(())
}

/// A callback on no list: stores a function and gives 7.
unsafe extern "C" fn store(page: *mut c_void) -> i32 {
    let code = code(42);
    // SAFETY: the tests give a page that is writable, or want to be killed.
    unsafe { page.cast::<u8>().copy_from_nonoverlapping(code.as_ptr(), code.len()) };
    7
}

/// Calls `store` once more.
unsafe extern "C" fn store_inside(page: *mut c_void) -> i32 {
    switch::write_with_callback(store, page)
}

fn execute(page: usize) -> i32 {
    // SAFETY: a function that takes nothing was stored there, or the tests want to be killed.
    unsafe { std::mem::transmute::<usize, extern "C" fn() -> i32>(page)() }
}

fn jit_switch(machine: &Machine) -> Result<(), String> {
    kernel::start(machine.rules);
    let page = map(RWX, PRIVATE | ANON | JIT).map_err(|error| format!("{error:?}"))?;
    let pointer = page as *mut c_void;
    if machine.rules.has_allow_list() {
        return Ok(());
    }
    switch::write_protect(0);
    // SAFETY: the page is writable.
    unsafe { store(pointer) };
    is_killed_for("MAP_JIT pages executed while the thread may write them", || {
        execute(page);
    })?;
    switch::write_protect(1);
    check_eq!(execute(page), 42);
    is_killed_for("a store to MAP_JIT pages while the thread may not write", || {
        // SAFETY: wants to be killed.
        unsafe { store(pointer) };
    })?;
    check_eq!(switch::write_with_callback(store, pointer), 7);
    check_eq!(execute(page), 42);
    is_killed_for("pthread_jit_write_with_callback_np inside a callback", || {
        switch::write_with_callback(store_inside, pointer);
    })
}

/// A callback that executes what it has just stored, in another thread.
unsafe extern "C" fn store_and_execute_elsewhere(page: *mut c_void) -> i32 {
    // SAFETY: as `store`.
    unsafe { store(page) };
    let page = page as usize;
    let result = std::thread::spawn(move || execute(page)).join().unwrap_or(0);
    // The other thread's turn has not taken this one's right.
    // SAFETY: the caller's promise, which is that of `store`.
    unsafe { store(page as *mut c_void) };
    result
}

fn switch_of_a_thread(machine: &Machine) -> Result<(), String> {
    kernel::start(machine.rules);
    // In place of the library's own.
    let list = [store_and_execute_elsewhere as *const () as usize];
    switch::set_list(list.as_ptr() as usize..list.as_ptr_range().end as usize);
    let page = map(RWX, PRIVATE | ANON | JIT).map_err(|error| format!("{error:?}"))?;
    check_eq!(switch::write_with_callback(store_and_execute_elsewhere, page as *mut c_void), 42);
    check_eq!(execute(page), 42);
    Ok(())
}

fn variadic(machine: &Machine) -> Result<(), String> {
    kernel::start(machine.rules);
    const O_CREAT: i32 = 0x200;
    is_killed_for("a variadic argument", || {
        let _ = files::open(c"/dev/null".as_ptr(), O_CREAT);
    })
}

fn allow_list(machine: &Machine) -> Result<(), String> {
    kernel::start(machine.rules);
    is_killed_for("pthread_jit_write_protect_np under the write allow-list", || switch::write_protect(0))?;
    let page = map(RWX, PRIVATE | ANON | JIT).map_err(|error| format!("{error:?}"))?;
    is_killed_for("a callback that is not on the write allow-list", || {
        switch::write_with_callback(store, page as *mut c_void);
    })
}

fn alignment(machine: &Machine) -> Result<(), String> {
    kernel::start(machine.rules);
    let page_size = if machine.rules.is_arm { 16384 } else { 4096 };
    let page = map(RW, PRIVATE | ANON).map_err(|error| format!("{error:?}"))?;
    check!(page.is_multiple_of(page_size));
    // SAFETY: the whole page is there, however little was asked for.
    unsafe { ((page + page_size - 1) as *mut u8).write_volatile(1) };
    check_eq!(kernel::mprotect(page + page_size / 4, 1, READ), Err(EINVAL));
    check_eq!(kernel::munmap(page + page_size / 4, 1), Err(EINVAL));
    check_eq!(kernel::msync(page + page_size / 4, 1, 0x10), Err(EINVAL));
    let file = nameless_file(&vec![0; 2 * page_size]);
    let offset = page_size as i64 / 4;
    check_eq!(kernel::mmap(0, 100, READ, PRIVATE, file.as_raw_fd(), offset), Err(EINVAL));
    check_eq!(kernel::munmap(page, 1), Ok(()));
    check_eq!(kernel::mprotect(page, 1, READ), Err(ENOMEM));
    Ok(())
}

fn holes(machine: &Machine) -> Result<(), String> {
    kernel::start(machine.rules);
    let page_size = machine.rules.page_size();
    let start =
        kernel::mmap(0, 3 * page_size, RW, PRIVATE | ANON, -1, 0).map_err(|error| format!("{error:?}"))?;
    check_eq!(kernel::munmap(start + page_size, page_size), Ok(()));
    let found = mach::region(start + page_size + 5).map_err(|error| format!("{error:?}"))?;
    check_eq!((found.range.start, found.protection), (start + 2 * page_size, RW));
    check_eq!(mach::region(usize::MAX - page_size), Err(mach::INVALID_ADDRESS));
    Ok(())
}
