//! What the library knows of addresses that are not its own, of threads and of files that shrink.

use super::{Machine, Scenario, code, everywhere};
use crate::library::Pair;
use crate::rules::Mood;
use crate::{host, mach};
use execmem_core::abi::*;
use std::ffi::CString;

pub(super) const ALL: &[Scenario] = &[
    Scenario {
        name: "the page size is the machine's, asked at run time",
        applies: everywhere,
        run: page_size,
    },
    Scenario {
        name: "any address has the protection that the system says",
        applies: everywhere,
        run: foreign,
    },
    Scenario { name: "memory is placed near an address", applies: |rules| rules.allows_jit(), run: near },
    Scenario {
        name: "code written anew makes every thread's core fetch anew, and every port is given back",
        applies: |rules| rules.allows_jit(),
        run: cores,
    },
    Scenario {
        name: "a mapped file that shrinks fails to be read, without a signal",
        applies: everywhere,
        run: shrinking,
    },
    Scenario { name: "a socket is no regular file", applies: everywhere, run: socket },
    Scenario {
        name: "advice to drop private memory makes it read as zero",
        applies: |rules| rules.mood == Mood::Plain,
        run: dropping,
    },
    Scenario {
        name: "MAP_JIT pages whose contents were to be dropped can be written and executed still",
        applies: |rules| rules.allows_jit(),
        run: dropping_jit,
    },
];

fn page_size(machine: &Machine) -> Result<(), String> {
    let library = machine.load()?;
    check_eq!(library.call("rt_get_page_size", &[]), if machine.rules.is_arm { 16384 } else { 4096 });
    Ok(())
}

fn foreign(machine: &Machine) -> Result<(), String> {
    let library = machine.load()?;
    let protection = |address: usize| library.call("rt_get_protection", &[address as i64]);
    let place = host::map_anywhere(4 * 16384, 16384, 3).map_err(|number| number.to_string())?;
    host::unmap(place + 16384..place + 2 * 16384).map_err(|number| number.to_string())?;
    host::protect(place + 2 * 16384..place + 3 * 16384, 5).map_err(|number| number.to_string())?;
    check_eq!(protection(place), 3);
    check_eq!(protection(place + 16384), -1);
    check_eq!(library.call("rt_last_error", &[]), RT_ERROR_NONE.into());
    check_eq!(protection(place + 2 * 16384), 5);
    check_eq!(library.call("rt_is_executable", &[place as i64 + 2 * 16384]), 1);
    check_eq!(protection(library.address("rt_get_protection")?), 5);
    check_eq!(protection(i64::MAX as usize), -1);
    Ok(())
}

fn near(machine: &Machine) -> Result<(), String> {
    let library = machine.load()?;
    let target = library.address("rt_get_protection")? as i64;
    let reach = 1 << 27;
    let address = library.call("rt_alloc_exec_memory_near", &[100, target, reach]);
    check!(address > 0 && address.abs_diff(target) < reach as u64);
    check_eq!(library.write(address, &code(42)), code(42).len() as i64);
    library.call("rt_flush_icache", &[address, 100]);
    check_eq!(library.call("rt_call_function_0", &[address]), 42);
    Ok(())
}

fn cores(machine: &Machine) -> Result<(), String> {
    let library = machine.load()?;
    let address = library.call("rt_alloc_exec_memory", &[100]);
    library.call("rt_flush_icache", &[address, 100]);
    // Nothing can have been fetched from a fresh region.
    check_eq!(mach::interruptions(), 0);
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || stopped.recv().is_ok());
    library.call("rt_flush_icache", &[address, 100]);
    let threads = std::fs::read_dir("/proc/self/task").map_err(|error| error.to_string())?.count();
    check!(threads >= 2);
    check_eq!(mach::interruptions(), threads);
    check_eq!(mach::leaked(), 0);
    drop(stop);
    thread.join().map_err(|_| "the thread panicked".to_owned()).map(drop)
}

fn shrinking(machine: &Machine) -> Result<(), String> {
    let library = machine.load()?;
    let page = machine.rules.page_size();
    let path = std::env::temp_dir().join(format!("execmem-darwin-{}", std::process::id()));
    std::fs::write(&path, vec![7; 2 * page]).map_err(|error| error.to_string())?;
    let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
    let Pair(address, size) =
        library.call_for_pair("rt_mmap_file", [name.as_ptr() as i64, 1, RT_MAP_PRIVATE.into(), 0, 0]);
    let file = std::fs::File::options().write(true).open(&path);
    let shrunk = file.and_then(|file| file.set_len(page as u64)).map_err(|error| error.to_string());
    std::fs::remove_file(&path).map_err(|error| error.to_string())?;
    shrunk?;
    check_eq!(size, 2 * page as i64);
    let mut byte = 0u8;
    let read = |offset: usize, byte: &mut u8| {
        library.call("rt_mmap_read_into", &[address, offset as i64, &raw mut *byte as i64, 1])
    };
    check_eq!(read(page, &mut byte), -1);
    check_eq!(library.call("rt_last_error", &[]), RT_ERROR_IO.into());
    check_eq!((read(page - 1, &mut byte), byte), (1, 7));
    check_eq!(library.call("rt_munmap", &[address, size]), 1);
    Ok(())
}

fn socket(machine: &Machine) -> Result<(), String> {
    let library = machine.load()?;
    let path = std::env::temp_dir().join(format!("execmem-socket-{}", std::process::id()));
    let socket = std::os::unix::net::UnixListener::bind(&path).map_err(|error| error.to_string())?;
    let name = CString::new(path.as_os_str().as_encoded_bytes()).map_err(|error| error.to_string())?;
    let arguments = [name.as_ptr() as i64, 1, RT_MAP_PRIVATE.into(), 0, 0];
    let mapped = library.call_for_pair("rt_mmap_file", arguments);
    let error = library.call("rt_last_error", &[]);
    std::fs::remove_file(&path).map_err(|error| error.to_string())?;
    drop(socket);
    check_eq!((mapped, error), (Pair(0, 0), RT_ERROR_NOT_REGULAR_FILE.into()));
    Ok(())
}

fn dropping(machine: &Machine) -> Result<(), String> {
    let library = machine.load()?;
    let page = machine.rules.page_size() as i64;
    let address = library.call("rt_alloc_rw_memory", &[3 * page]);
    let byte = |page_number: i64| (address + page_number * page) as *mut u8;
    for number in 0..3 {
        // SAFETY: the memory is ours and writable.
        unsafe { byte(number).write_volatile(7) };
    }
    check_eq!(library.call("rt_madvise", &[address + page, 1, RT_ADVICE_DONTNEED.into()]), 1);
    // SAFETY: the memory is ours and readable.
    let bytes = unsafe { [byte(0).read_volatile(), byte(1).read_volatile(), byte(2).read_volatile()] };
    check_eq!(bytes, [7, 0, 7]);
    check_eq!(library.call("rt_free_exec_memory", &[address, 3 * page]), 1);
    Ok(())
}

fn dropping_jit(machine: &Machine) -> Result<(), String> {
    let library = machine.load_with_policy(RT_POLICY_JIT)?;
    let address = library.call("rt_alloc_exec_memory", &[100]);
    check_eq!(library.write(address, &code(42)), code(42).len() as i64);
    check_eq!(library.call("rt_madvise", &[address, 100, RT_ADVICE_DONTNEED.into()]), 1);
    check_eq!(library.write(address, &code(43)), code(43).len() as i64);
    library.call("rt_flush_icache", &[address, 100]);
    check_eq!(library.call("rt_call_function_0", &[address]), 43);
    check_eq!(library.call("rt_free_exec_memory", &[address, 100]), 1);
    Ok(())
}
