//! The C symbols, as a program sees them that knows the header and nothing else.
//!
//! Functions that take numbers only are declared `safe`: they fail rather than do harm, whatever the numbers
//! (contract, section 1.2), and the suite is there to try them. The rest is wrapped below.

use core::ffi::{CStr, c_char, c_void};
use execmem_core::abi::*;

#[expect(missing_docs, reason = "the header documents each of them")]
unsafe extern "C" {
    fn rt_mmap_file(path: *const c_char, prot: i32, flags: i32, offset: i64, length: i64) -> RtMapping;
    pub safe fn rt_munmap(address: i64, size: i64) -> bool;
    pub safe fn rt_mmap_read_bytes(address: i64, offset: i64, length: i64) -> RtValue;
    pub safe fn rt_mmap_read_string(address: i64, offset: i64, max_length: i64) -> RtValue;
    fn rt_file_size_for_mmap(path: *const c_char) -> i64;
    pub safe fn rt_get_page_size() -> i64;
    pub safe fn rt_msync(address: i64, size: i64, is_async: bool) -> bool;
    pub safe fn rt_mlock(address: i64, size: i64) -> bool;
    pub safe fn rt_munlock(address: i64, size: i64) -> bool;
    pub safe fn rt_madvise(address: i64, size: i64, advice: i32) -> bool;

    pub safe fn rt_alloc_exec_memory(size: i64) -> i64;
    pub safe fn rt_alloc_rw_memory(size: i64) -> i64;
    pub safe fn rt_free_exec_memory(address: i64, size: i64) -> bool;
    pub safe fn rt_seal(address: i64, size: i64) -> bool;
    pub safe fn rt_write_exec_memory(address: i64, code: RtValue, offset: i64) -> i64;
    pub safe fn rt_make_executable(address: i64, size: i64) -> bool;
    pub safe fn rt_flush_icache(address: i64, size: i64);
    pub safe fn rt_get_function_pointer(address: i64) -> i64;
    fn rt_call_function_0(function: i64) -> i64;
    fn rt_call_function_1(function: i64, a: i64) -> i64;
    fn rt_call_function_2(function: i64, a: i64, b: i64) -> i64;
    pub safe fn rt_is_executable(address: i64) -> bool;
    pub safe fn rt_get_protection(address: i64) -> i32;
    pub safe fn rt_set_protection(address: i64, size: i64, prot: i32) -> bool;
    pub safe fn rt_exec_memory_total() -> i64;
    pub safe fn rt_exec_memory_count() -> i64;
    pub safe fn rt_exec_memory_dump_stats();

    fn rt_set_value_ops(ops: *const RtValueOps) -> bool;
    fn rt_value_bytes(data: *const u8, length: i64) -> RtValue;
    pub safe fn rt_value_data(value: RtValue) -> *const u8;
    pub safe fn rt_value_len(value: RtValue) -> i64;
    pub safe fn rt_value_free(value: RtValue) -> bool;
    fn rt_write_exec_bytes(address: i64, src: *const u8, length: i64, offset: i64) -> i64;
    fn rt_mmap_read_into(address: i64, offset: i64, dst: *mut u8, length: i64) -> i64;

    pub safe fn rt_mmap_fd(fd: i64, prot: i64, flags: i64, offset: i64, length: i64) -> i64;
    fn rt_mmap_path(
        path: *const c_char,
        path_length: i64,
        prot: i64,
        flags: i64,
        offset: i64,
        length: i64,
    ) -> i64;
    pub safe fn rt_mapping_size(address: i64) -> i64;

    pub safe fn rt_code_alloc(size: i64) -> i64;
    pub safe fn rt_code_alloc_near(size: i64, target: i64, max_distance: i64) -> i64;
    fn rt_code_write(address: i64, src: *const u8, length: i64, offset: i64) -> i64;
    pub safe fn rt_code_write_view(address: i64) -> i64;
    pub safe fn rt_code_publish(address: i64, size: i64) -> bool;
    fn rt_code_publish_all(addresses: *const i64, sizes: *const i64, count: i64) -> bool;
    pub safe fn rt_code_patch(address: i64, word: u64) -> bool;
    pub safe fn rt_code_shrink(address: i64, size: i64) -> bool;
    pub safe fn rt_code_free(address: i64) -> bool;
    fn rt_code_find(address: i64, out: *mut RtCodeBlock) -> bool;
    fn rt_code_set_name(address: i64, size: i64, name: *const c_char) -> bool;
    fn rt_code_set_unwind(address: i64, size: i64, eh_frame: *const u8, length: i64) -> bool;
    pub safe fn rt_code_set_limit(bytes: i64) -> bool;
    pub safe fn rt_code_promote(budget: i64) -> i64;

    pub safe fn rt_abi_version() -> i32;
    fn rt_symbol_lookup(name: *const c_char) -> i64;
    fn rt_register_symbols(each: RtEachSymbol, ctx: *mut c_void) -> i64;
    pub safe fn rt_make_writable(address: i64, size: i64) -> bool;
    fn rt_call_function_3(function: i64, a: i64, b: i64, c: i64) -> i64;
    fn rt_call_function_4(function: i64, a: i64, b: i64, c: i64, d: i64) -> i64;
    fn rt_call_function_5(function: i64, a: i64, b: i64, c: i64, d: i64, e: i64) -> i64;
    fn rt_call_function_6(function: i64, a: i64, b: i64, c: i64, d: i64, e: i64, f: i64) -> i64;
    fn rt_try_call(function: i64, args: *const i64, count: i64, result: *mut i64) -> bool;
    pub safe fn rt_alloc_exec_memory_near(size: i64, target: i64, max_distance: i64) -> i64;
    pub safe fn rt_alloc_rw_memory_near(size: i64, target: i64, max_distance: i64) -> i64;
    pub safe fn rt_exec_memory_policy() -> i32;
    pub safe fn rt_exec_memory_set_policy(policy: i32) -> bool;
    pub safe fn rt_set_hardening(wishes: i32) -> bool;
    pub safe fn rt_exec_memory_set_limit(bytes: i64) -> bool;
    fn rt_exec_memory_stats(out: *mut RtExecMemoryStats) -> bool;
    pub safe fn rt_last_error() -> i32;
    pub safe fn rt_error_message(code: i32) -> *const c_char;
}

macro_rules! compare_with_the_list {
    (() $runtime:ident $(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $(, else $failure:expr)? $(=> $call:expr)?;
    )*) => {
        // A symbol that is missing above, or declared with other types, doesn't compile.
        $(const _: unsafe extern "C" fn($($type),*) -> $result = $name;)*
    };
}

execmem_core::for_each_symbol!(compare_with_the_list!());

/// What the functions below give where there is no symbol to call: no rule expects it.
const NO_SUCH_SYMBOL: i64 = 0x0bad_ca11;

fn pointer(text: Option<&CStr>) -> *const c_char {
    text.map_or(core::ptr::null(), CStr::as_ptr)
}

/// `rt_mmap_file`; `None` is a NULL path.
pub fn map_file(path: Option<&CStr>, prot: i32, flags: i32, offset: i64, length: i64) -> RtMapping {
    // SAFETY: the path is NULL or a C string.
    unsafe { rt_mmap_file(pointer(path), prot, flags, offset, length) }
}

/// `rt_mmap_path` of the whole file; `None` is a NULL path.
pub fn map_path(path: Option<&[u8]>, prot: i32, flags: i32, length: i64) -> i64 {
    map_path_of_length(path, path.map_or(0, <[u8]>::len) as i64, prot, flags, length)
}

/// The same with a length of the path that may be less than it has, or one that the library must refuse.
pub fn map_path_of_length(path: Option<&[u8]>, path_length: i64, prot: i32, flags: i32, length: i64) -> i64 {
    let start = path.map_or(core::ptr::null(), <[u8]>::as_ptr);
    // SAFETY: the path is NULL, or has at least so many bytes, or rules pass a negative length: nothing is read.
    unsafe { rt_mmap_path(start.cast(), path_length, prot.into(), flags.into(), 0, length) }
}

/// `rt_file_size_for_mmap`; `None` is a NULL path.
pub fn file_size(path: Option<&CStr>) -> i64 {
    // SAFETY: the path is NULL or a C string.
    unsafe { rt_file_size_for_mmap(pointer(path)) }
}

/// `rt_call_function_0` to `_6`, by the number of arguments.
pub fn call(function: i64, arguments: &[i64]) -> i64 {
    // SAFETY: rules call code of `crate::code`, a function of the harness, or what can't be executed.
    unsafe {
        match *arguments {
            [] => rt_call_function_0(function),
            [a] => rt_call_function_1(function, a),
            [a, b] => rt_call_function_2(function, a, b),
            [a, b, c] => rt_call_function_3(function, a, b, c),
            [a, b, c, d] => rt_call_function_4(function, a, b, c, d),
            [a, b, c, d, e] => rt_call_function_5(function, a, b, c, d, e),
            [a, b, c, d, e, f] => rt_call_function_6(function, a, b, c, d, e, f),
            _ => NO_SUCH_SYMBOL,
        }
    }
}

/// `rt_try_call`. The count is apart from the arguments, so that a wrong one can be given.
pub fn try_call(function: i64, arguments: Option<&[i64; 6]>, count: i64, result: Option<&mut i64>) -> bool {
    let arguments = arguments.map_or(core::ptr::null(), |arguments| arguments.as_ptr());
    let result = result.map_or(core::ptr::null_mut(), |result| &raw mut *result);
    // SAFETY: as for `call`; of more than six arguments the library reads none.
    unsafe { rt_try_call(function, arguments, count, result) }
}

/// `rt_set_value_ops`; `None` is NULL.
pub fn set_value_ops(operations: Option<&RtValueOps>) -> bool {
    let operations = operations.map_or(core::ptr::null(), |operations| &raw const *operations);
    // SAFETY: the table is NULL or has the size that it says, or says a smaller one.
    unsafe { rt_set_value_ops(operations) }
}

/// `rt_code_write`.
pub fn write_block(address: i64, bytes: &[u8], offset: i64) -> i64 {
    // SAFETY: the slice is readable.
    unsafe { rt_code_write(address, bytes.as_ptr(), bytes.len() as i64, offset) }
}

/// `rt_code_write` of so many bytes at NULL.
pub fn write_null_to_block(address: i64, length: i64) -> i64 {
    // SAFETY: nothing is read at NULL.
    unsafe { rt_code_write(address, core::ptr::null(), length, 0) }
}

/// `rt_code_publish_all` of as many ranges as there are addresses.
pub fn publish_all(addresses: &[i64], sizes: &[i64]) -> bool {
    let count = addresses.len().min(sizes.len()) as i64;
    // SAFETY: both slices have so many numbers.
    unsafe { rt_code_publish_all(addresses.as_ptr(), sizes.as_ptr(), count) }
}

/// Names code.
pub fn set_name(address: i64, size: i64, name: Option<&CStr>) -> bool {
    let name = name.map_or(core::ptr::null(), CStr::as_ptr);
    // SAFETY: NULL, or a text that is borrowed.
    unsafe { rt_code_set_name(address, size, name) }
}

/// Gives the unwinder records of code.
///
/// # Safety
/// They are true, and stay as they are until the code is freed.
pub unsafe fn set_unwind(address: i64, size: i64, records: &[u32]) -> bool {
    let length = size_of_val(records) as i64;
    // SAFETY: so many bytes are borrowed, and the rest is the caller's promise.
    unsafe { rt_code_set_unwind(address, size, records.as_ptr().cast(), length) }
}

/// `rt_code_find`: the block's start and size.
pub fn find_block(address: i64) -> Option<(i64, i64)> {
    let mut block = RtCodeBlock { address: 0, size: 0 };
    // SAFETY: there is room for a block.
    unsafe { rt_code_find(address, &mut block) }.then_some((block.address, block.size))
}

/// `rt_value_bytes`.
pub fn value_of(bytes: &[u8]) -> RtValue {
    // SAFETY: the slice is readable.
    unsafe { rt_value_bytes(bytes.as_ptr(), bytes.len() as i64) }
}

/// `rt_value_bytes` of NULL.
pub fn value_of_null(length: i64) -> RtValue {
    // SAFETY: NULL with a length is refused.
    unsafe { rt_value_bytes(core::ptr::null(), length) }
}

/// `rt_write_exec_bytes`.
pub fn write_bytes(address: i64, bytes: &[u8], offset: i64) -> i64 {
    // SAFETY: the slice is readable.
    unsafe { rt_write_exec_bytes(address, bytes.as_ptr(), bytes.len() as i64, offset) }
}

/// `rt_write_exec_bytes` with a source and a length that the library must refuse.
pub fn write_bad_bytes(address: i64, source: Option<&[u8]>, length: i64, offset: i64) -> i64 {
    let source = source.map_or(core::ptr::null(), <[u8]>::as_ptr);
    // SAFETY: rules pass NULL, a negative length, or one that reaches past the region: nothing is read.
    unsafe { rt_write_exec_bytes(address, source, length, offset) }
}

/// `rt_mmap_read_into`.
pub fn read_into(address: i64, offset: i64, target: &mut [u8]) -> i64 {
    // SAFETY: the slice is writable.
    unsafe { rt_mmap_read_into(address, offset, target.as_mut_ptr(), target.len() as i64) }
}

/// `rt_mmap_read_into` with a target and a length that the library must refuse.
pub fn read_into_bad_target(address: i64, offset: i64, target: Option<&mut [u8]>, length: i64) -> i64 {
    let target = target.map_or(core::ptr::null_mut(), <[u8]>::as_mut_ptr);
    // SAFETY: rules pass NULL, a negative length, or one that reaches past the region: nothing is stored.
    unsafe { rt_mmap_read_into(address, offset, target, length) }
}

/// `rt_symbol_lookup`; `None` is NULL.
pub fn look_up(name: Option<&CStr>) -> i64 {
    // SAFETY: the name is NULL or a C string.
    unsafe { rt_symbol_lookup(pointer(name)) }
}

/// `rt_register_symbols`.
pub fn register_symbols<Context>(each: RtEachSymbol, context: &mut Context) -> i64 {
    // SAFETY: rules pass a function with the context that it expects, or NULL.
    unsafe { rt_register_symbols(each, (&raw mut *context).cast()) }
}

/// `rt_exec_memory_stats`. The size that the structure says must not be larger than the structure.
pub fn fill_statistics(out: Option<&mut RtExecMemoryStats>) -> bool {
    let out = out.map_or(core::ptr::null_mut(), |out| &raw mut *out);
    // SAFETY: NULL, or a structure with at least the bytes that it says.
    unsafe { rt_exec_memory_stats(out) }
}

/// Calls a symbol as an interpreter does: found by name, every argument and the result a whole register.
pub fn call_by_name(name: &CStr, arguments: [i64; 6]) -> i64 {
    type Interpreted = unsafe extern "C" fn(i64, i64, i64, i64, i64, i64) -> i64;
    let address = look_up(Some(name)) as usize;
    if address == 0 {
        return NO_SUCH_SYMBOL;
    }
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: a C function of integers and pointers takes them in the first registers, and takes no harm
    // from what stands in the others; rules pass what each symbol's arguments allow.
    unsafe {
        let function: Interpreted = core::mem::transmute(core::ptr::with_exposed_provenance::<()>(address));
        function(a, b, c, d, e, f)
    }
}
