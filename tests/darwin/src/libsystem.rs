//! The model's libSystem: what a program's imports are bound to.
//!
//! Both ABIs agree with Linux's as long as no function is variadic, nothing narrow goes on the stack and
//! no thread-local variable is touched: so these are plain C functions.

mod mach_calls;

use crate::errno::{EINVAL, Errno};
use crate::files::{self, Stat};
use crate::mach::TASK;
use crate::violation::violation;
use crate::{caches, jit, kernel, signals, switch};
use mach_calls::*;
use std::cell::Cell;
use std::ffi::{CStr, c_char, c_void};

thread_local! {
    static ERRNO: Cell<i32> = const { Cell::new(0) };
}

/// The port, as the variable that programs read.
static TASK_SELF: u32 = TASK;

macro_rules! symbols {
    ($($name:literal => $function:path,)*) => {
        /// The address of a function by its name in an image.
        pub fn symbol(name: &str) -> Option<usize> {
            match name {
                // Every call is bound before it is made.
                "dyld_stub_binder" => Some(stub_binder as *const () as usize),
                "_mach_task_self_" => Some(&raw const TASK_SELF as usize),
                $($name => Some($function as *const () as usize),)*
                _ => None,
            }
        }
    };
}

symbols! {
    "___error" => error,
    "_abort" => abort,
    "_bzero" => bzero,
    "___bzero" => bzero,
    "_close" => close,
    "_close$NOCANCEL" => close,
    "_dlsym" => dlsym,
    "_fstat" => fstat,
    "_fstat$INODE64" => fstat,
    "_getenv" => libc::getenv,
    "_getpid" => libc::getpid,
    "_mach_port_deallocate" => mach_port_deallocate,
    "_mach_vm_deallocate" => mach_vm_deallocate,
    "_mach_vm_inherit" => mach_vm_inherit,
    "_mach_vm_read_overwrite" => mach_vm_read_overwrite,
    "_mach_vm_region_recurse" => mach_vm_region_recurse,
    "_mach_vm_remap" => mach_vm_remap,
    "_madvise" => madvise,
    "_memcmp" => libc::memcmp,
    "_memcpy" => memmove,
    "_memmove" => memmove,
    "_memset" => memset,
    "_memset_pattern16" => memset_pattern16,
    "_mlock" => mlock,
    "_mmap" => mmap,
    "_mprotect" => mprotect,
    "_msync" => msync,
    "_munlock" => munlock,
    "_munmap" => munmap,
    "_nanosleep" => libc::nanosleep,
    "_open" => open,
    "_pthread_atfork" => libc::pthread_atfork,
    "_pthread_getspecific" => pthread_getspecific,
    "_pthread_jit_write_protect_np" => switch::write_protect,
    "_pthread_key_create" => pthread_key_create,
    "_pthread_key_delete" => pthread_key_delete,
    "_pthread_setspecific" => pthread_setspecific,
    "_pthread_sigmask" => pthread_sigmask,
    "_stat" => stat,
    "_stat$INODE64" => stat,
    "_strlen" => libc::strlen,
    "_sys_icache_invalidate" => caches::invalidate,
    "_sysconf" => sysconf,
    "_task_threads" => task_threads,
    "_thread_get_register_pointer_values" => thread_get_register_pointer_values,
    "_write" => write,
}

/// A result as C functions give it: a value, or -1 with the number in `errno`.
trait Answer {
    const FAILED: Self;
}

macro_rules! failed_is_minus_one {
    ($($type:ty),*) => { $(impl Answer for $type { const FAILED: Self = -1; })* };
}

failed_is_minus_one!(i32, isize);

/// `MAP_FAILED`.
impl Answer for usize {
    const FAILED: Self = usize::MAX;
}

fn answer<T: Answer>(result: Result<T, Errno>) -> T {
    result.unwrap_or_else(|error| {
        ERRNO.set(error.0);
        T::FAILED
    })
}

fn done(result: Result<(), Errno>) -> i32 {
    answer(result.map(|()| 0))
}

extern "C" fn stub_binder() {
    violation("a call that was not bound");
}

extern "C" fn error() -> *mut i32 {
    ERRNO.with(Cell::as_ptr)
}

extern "C" fn abort() {
    violation("abort");
}

unsafe extern "C" fn bzero(target: usize, length: usize) {
    // SAFETY: the program's own memory.
    unsafe { (jit::writable(target) as *mut u8).write_bytes(0, length) };
}

unsafe extern "C" fn memset(target: usize, byte: i32, length: usize) -> usize {
    // SAFETY: the program's own memory.
    unsafe { (jit::writable(target) as *mut u8).write_bytes(byte as u8, length) };
    target
}

unsafe extern "C" fn memset_pattern16(target: usize, pattern: *const u8, length: usize) {
    let target = jit::writable(target) as *mut u8;
    for offset in (0..length).step_by(16) {
        // SAFETY: the program's own memory, and a pattern of 16 bytes.
        unsafe { target.add(offset).copy_from(pattern, 16.min(length - offset)) };
    }
}

/// memcpy too: what overlaps is no concern of the model's.
unsafe extern "C" fn memmove(target: usize, source: *const u8, length: usize) -> usize {
    // SAFETY: the program's own memory.
    unsafe { (jit::writable(target) as *mut u8).copy_from(source, length) };
    target
}

extern "C" fn close(file: i32) -> i32 {
    answer(files::close(file))
}

/// Programs ask for functions that older systems lack, in all loaded libraries (RTLD_DEFAULT, -2).
unsafe extern "C" fn dlsym(library: isize, name: *const c_char) -> usize {
    // SAFETY: the program gave a C string.
    let name = unsafe { CStr::from_ptr(name) };
    match name.to_bytes() {
        _ if library != -2 => violation("dlsym of an unknown library"),
        b"pthread_jit_write_with_callback_np" if !kernel::rules().is_early_system => {
            switch::write_with_callback as *const () as usize
        }
        b"csops" if !kernel::rules().is_strict => csops as *const () as usize,
        _ => 0,
    }
}

/// csops: the flags of this process (CS_OPS_STATUS), CS_VALID and what the hardened runtime adds: CS_HARD,
/// CS_KILL, CS_ENFORCEMENT and CS_RUNTIME.
unsafe extern "C" fn csops(process: i32, operation: u32, answer: *mut u32, size: usize) -> i32 {
    if process != 0 || operation != 0 || size < size_of::<u32>() {
        return done(Err(EINVAL));
    }
    // SAFETY: the program gave room.
    unsafe { answer.write(1 | if kernel::rules().is_hardened() { 0x1_1300 } else { 0 }) };
    0
}

extern "C" fn fstat(file: i32, out: *mut Stat) -> i32 {
    done(files::fstat(file, out))
}

extern "C" fn stat(path: *const c_char, out: *mut Stat) -> i32 {
    done(files::stat(path, out))
}

extern "C" fn open(path: *const c_char, flags: i32) -> i32 {
    answer(files::open(path, flags))
}

extern "C" fn write(file: i32, source: *const u8, length: usize) -> isize {
    answer(files::write(file, source, length))
}

extern "C" fn mmap(
    address: usize,
    length: usize,
    protection: i32,
    flags: i32,
    file: i32,
    offset: i64,
) -> usize {
    answer(kernel::mmap(address, length, protection, flags, file, offset))
}

extern "C" fn munmap(address: usize, length: usize) -> i32 {
    done(kernel::munmap(address, length))
}

extern "C" fn mprotect(address: usize, length: usize, protection: i32) -> i32 {
    done(kernel::mprotect(address, length, protection))
}

extern "C" fn msync(address: usize, length: usize, flags: i32) -> i32 {
    done(kernel::msync(address, length, flags))
}

extern "C" fn mlock(address: usize, length: usize) -> i32 {
    done(kernel::lock(address, length, true))
}

extern "C" fn munlock(address: usize, length: usize) -> i32 {
    done(kernel::lock(address, length, false))
}

extern "C" fn madvise(address: usize, length: usize, advice: i32) -> i32 {
    done(kernel::madvise(address, length, advice))
}

/// `_SC_PAGESIZE` and `_SC_PHYS_PAGES` (`unistd.h`).
extern "C" fn sysconf(name: i32) -> i64 {
    // SAFETY: asks for numbers.
    let memory = || unsafe { libc::sysconf(libc::_SC_PHYS_PAGES) * libc::sysconf(libc::_SC_PAGESIZE) };
    let page_size = kernel::rules().page_size() as i64;
    match name {
        29 => page_size,
        200 => memory() / page_size,
        _ => -1,
    }
}

unsafe extern "C" fn pthread_key_create(
    key: *mut u64,
    destructor: Option<unsafe extern "C" fn(*mut c_void)>,
) -> i32 {
    let mut made = 0;
    // SAFETY: the program gave room for the key, which is wider here.
    unsafe {
        let result = libc::pthread_key_create(&mut made, destructor);
        key.write(made.into());
        result
    }
}

extern "C" fn pthread_key_delete(key: u64) -> i32 {
    // SAFETY: the program's own key.
    unsafe { libc::pthread_key_delete(key as libc::pthread_key_t) }
}

extern "C" fn pthread_getspecific(key: u64) -> *mut c_void {
    // SAFETY: the program's own key.
    unsafe { libc::pthread_getspecific(key as libc::pthread_key_t) }
}

extern "C" fn pthread_setspecific(key: u64, value: *const c_void) -> i32 {
    // SAFETY: the program's own key.
    unsafe { libc::pthread_setspecific(key as libc::pthread_key_t, value) }
}

unsafe extern "C" fn pthread_sigmask(how: i32, set: *const u32, before: *mut u32) -> i32 {
    // SAFETY: each is NULL or the program's own set.
    let (set, before) = unsafe { (set.as_ref(), before.as_mut()) };
    match signals::change_mask(how, set.copied()) {
        Ok(mask) => {
            before.into_iter().for_each(|before| *before = mask);
            0
        }
        Err(error) => error.0,
    }
}
