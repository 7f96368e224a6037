//! The one list of `rt_*` symbols: what each is, says and does. Exports, the symbol table and the header are made from
//! it, so an adapter can't leave one out or declare it differently.

/// Hands the list to another macro: `for_each_symbol!(callback!(arguments))` becomes `callback! { (arguments) runtime
/// declarations… }`, each `/// docs` `fn name(arguments) -> result, else failure => call;`. Arguments and results have
/// their C types; `failure` is what the register holds when the call failed. `call` is what the symbol does, given the
/// [`Runtime`](crate::Runtime) as `runtime`; where there is none it is written out in `calls.rs`.
#[macro_export]
macro_rules! for_each_symbol {
    ($($callback:ident)::+ ! $arguments:tt) => { $($callback)::+! { $arguments runtime
        /// Maps a file, or anonymous memory.
        ///
        /// `path` is any byte string; `prot` `RT_PROT_*` bits, WRITE with EXEC only under policy `rwx`; `flags`
        /// exactly one of `RT_MAP_SHARED`, `RT_MAP_PRIVATE`; `offset` in bytes, page-aligned and inside the
        /// file; `length` in bytes, 0 for all up to the file's end. With `RT_MAP_ANONYMOUS`, `path` is NULL,
        /// `offset` 0 and `length` positive. Gives `{0, 0}` on failure.
        fn rt_mmap_file(path: *const c_char, prot: i32, flags: i32, offset: i64, length: i64) -> RtMapping,
            else RtMapping::NONE
            => runtime.map_file(MapRequest {
                path: if path.is_null() { None } else { Some(text(path)?) },
                protection: Protection::from_number(prot)?,
                flags: MapFlags::from_number(flags)?,
                offset,
                length,
            });
        /// Unmaps the exact pair that `rt_mmap_file` returned.
        fn rt_munmap(address: i64, size: i64) -> bool, else false => runtime.unmap(address, size);
        /// A byte-array value with a copy of `length` bytes at `address + offset`, inside one live region. An
        /// empty array on failure.
        fn rt_mmap_read_bytes(address: i64, offset: i64, length: i64) -> RtValue
            => or_empty(runtime.read_bytes(address, offset, length), runtime, Values::empty_bytes);
        /// A string value with a copy of the text at `address + offset`. `max_length` above 0: exactly that
        /// many bytes, fewer where the region ends, NULs included; 0: up to the first NUL or the region's end.
        /// What isn't UTF-8 becomes U+FFFD. An empty string on failure.
        fn rt_mmap_read_string(address: i64, offset: i64, max_length: i64) -> RtValue
            => or_empty(runtime.read_string(address, offset, max_length), runtime, Values::empty_string);
        /// The size of a regular file in bytes; -1 on failure.
        fn rt_file_size_for_mmap(path: *const c_char) -> i64, else -1 => runtime.file_size(text(path)?).map(|size| size as i64);
        /// Bytes in a page of the running system. Never fails.
        fn rt_get_page_size() -> i64 => runtime.page_size();
        /// Writes changes in the pages that the range touches back to the file, and waits for it unless `is_async`.
        fn rt_msync(address: i64, size: i64, is_async: bool) -> bool, else false
            => runtime.sync(address, size, is_async);
        /// Keeps the pages that the range touches in memory. After a fork the first write to memory with two views
        /// (policy `dual`) replaces its pages, which are not locked then.
        fn rt_mlock(address: i64, size: i64) -> bool, else false => runtime.lock(address, size);
        /// No longer keeps the pages that the range touches in memory.
        fn rt_munlock(address: i64, size: i64) -> bool, else false => runtime.unlock(address, size);
        /// Tells the system how the pages that the range touches will be used: `RT_ADVICE_*`.
        fn rt_madvise(address: i64, size: i64, advice: i32) -> bool, else false
            => runtime.advise(address, size, Advice::from_number(advice)?);

        /// Zeroed memory of `size` bytes that can be written through this library and executed, as the policy
        /// provides it. Its address; 0 on failure.
        fn rt_alloc_exec_memory(size: i64) -> i64, else 0 => runtime.alloc_exec(size);
        /// Zeroed read-write memory of `size` bytes, to be made executable later. Its address; 0 on failure.
        fn rt_alloc_rw_memory(size: i64) -> i64, else 0 => runtime.alloc_rw(size);
        /// Frees memory of either kind: `address` is its base, `size` what was requested, or that rounded up to
        /// pages. If the system can't unmap it, it stays as it was.
        fn rt_free_exec_memory(address: i64, size: i64) -> bool, else false
            => runtime.free_exec(address, size);
        /// Seals memory, as `rt_free_exec_memory` would free it, none of whose pages is writable: the system refuses to
        /// change, replace or unmap it for as long as the process lives. UNSUPPORTED where it can't.
        fn rt_seal(address: i64, size: i64) -> bool, else false
            => runtime.seal(address, size);
        /// Copies the bytes of the byte-array value `code` to `address + offset`, `address` being anywhere in a
        /// live region. All or nothing. The number of bytes; -1 on failure. The one exception: if the system won't
        /// make `toggle` pages executable again, the bytes are written and the pages stay read-write.
        fn rt_write_exec_memory(address: i64, code: RtValue, offset: i64) -> i64, else -1
            => runtime.write_value(address, code, offset);
        /// Makes the pages that the range touches read-execute, with coherent caches: no `rt_flush_icache` is needed.
        fn rt_make_executable(address: i64, size: i64) -> bool, else false
            => runtime.make_executable(address, size);
        /// After it every core executes what was written to the range. The register holds 0, or -1 on a range
        /// that isn't readable pages of one live region.
        fn rt_flush_icache(address: i64, size: i64) -> (), else -1i64 => runtime.flush_icache(address, size);
        /// The address itself; 0 for one that isn't positive.
        fn rt_get_function_pointer(address: i64) -> i64, else 0 => positive(address);
        /// Calls the function at `fn` in the C convention. -1, without any jump, if the address isn't executable, or is
        /// no landing pad where its page asks for one.
        fn rt_call_function_0(r#fn: i64) -> i64, else -1 => runtime.call(r#fn, &[]);
        /// As `rt_call_function_0`, with one argument.
        fn rt_call_function_1(r#fn: i64, a: i64) -> i64, else -1 => runtime.call(r#fn, &[a]);
        /// As `rt_call_function_0`, with two arguments.
        fn rt_call_function_2(r#fn: i64, a: i64, b: i64) -> i64, else -1 => runtime.call(r#fn, &[a, b]);
        /// Whether the page at any address can be executed. A lookup: it takes no lock, allocates nothing and leaves
        /// `rt_last_error` alone, so that a signal handler may call it.
        fn rt_is_executable(address: i64) -> bool => runtime.is_executable(address).unwrap_or(false);
        /// The `RT_PROT_*` bits of the page at any address; -1 if nothing is mapped there, or the system doesn't tell
        /// (it takes a file descriptor to ask). A lookup, as `rt_is_executable` is.
        fn rt_get_protection(address: i64) -> i32
            => runtime.protection_at(address).ok().flatten().map_or(-1, |page| page.bits().into());
        /// Sets the protection of exactly the pages that the range touches. EXEC makes caches coherent; WRITE
        /// with EXEC only under policy `rwx`; BTI with EXEC only, on aarch64. An empty range at an address of a live
        /// region, its end included, does nothing and succeeds: so it is for every function that names pages, and for
        /// `rt_code_publish`.
        fn rt_set_protection(address: i64, size: i64, prot: i32) -> bool, else false
            => runtime.set_protection(address, size, Protection::from_number(prot)?);
        /// Requested bytes of all live memory of `rt_alloc_exec_memory` and `rt_alloc_rw_memory`. Never fails.
        fn rt_exec_memory_total() -> i64 => runtime.requested_bytes();
        /// How many such allocations are live. Never fails.
        fn rt_exec_memory_count() -> i64 => runtime.region_count();
        /// Prints policy, number and bytes of the live allocations, and a line for each in address order, to
        /// stderr or the console. Allocates nothing.
        fn rt_exec_memory_dump_stats() -> () => runtime.dump();

        /// Registers the operations on the runtime's own values. The table is copied. NULL, a size below
        /// `sizeof(RtValueOps)` or a missing operation is an invalid argument.
        fn rt_set_value_ops(ops: *const RtValueOps) -> bool, else false;
        /// Makes a byte-array value of `length` bytes at `data`, with the registered operations or in the
        /// built-in store. The built-in nil, 0x3, on failure.
        fn rt_value_bytes(data: *const u8, length: i64) -> RtValue, else RT_VALUE_NIL;
        /// The bytes of a value of the built-in store, until it is freed; NULL if it is no such value.
        fn rt_value_data(value: RtValue) -> *const u8, else core::ptr::null()
            => runtime.values.data_of(value).map(|(data, _)| data);
        /// The length in bytes of a value of the built-in store; -1 if it is no such value.
        fn rt_value_len(value: RtValue) -> i64, else -1
            => runtime.values.data_of(value).map(|(_, length)| length);
        /// Releases a value of the built-in store; false if it is no such value, or no more.
        fn rt_value_free(value: RtValue) -> bool, else false => runtime.values.free(value);
        /// As `rt_write_exec_memory`, with `length` bytes at `src`.
        fn rt_write_exec_bytes(address: i64, src: *const u8, length: i64, offset: i64) -> i64, else -1
            => runtime.write(address, src, length, offset);
        /// Copies `length` bytes at `address + offset`, inside one live region, to `dst`. The number of bytes;
        /// -1 on failure. A failure in the middle, of a file that is cut off or a region that is freed meanwhile, may
        /// leave the first bytes at `dst`.
        fn rt_mmap_read_into(address: i64, offset: i64, dst: *mut u8, length: i64) -> i64, else -1
            => runtime.read_into(address, offset, dst, length);
        /// As `rt_mmap_file` with an open file, which stays open, with its position. Its address alone; 0 on
        /// failure. With `RT_MAP_ANONYMOUS`, `fd` is -1. The size is what `rt_mapping_size` says.
        fn rt_mmap_fd(fd: i64, prot: i64, flags: i64, offset: i64, length: i64) -> i64, else 0;
        /// As `rt_mmap_file` with a path of `path_length` bytes, none of them NUL, and no NUL behind them. Its
        /// address alone; 0 on failure. With `RT_MAP_ANONYMOUS`, `path` is NULL and `path_length` 0.
        fn rt_mmap_path(path: *const c_char, path_length: i64, prot: i64, flags: i64, offset: i64, length: i64) -> i64,
            else 0;
        /// The exact size in bytes of the mapping that starts at an address, of a file or anonymous; -1 if none
        /// does.
        fn rt_mapping_size(address: i64) -> i64, else -1 => runtime.mapping_size(address);

        /// The version of this interface: 1.
        fn rt_abi_version() -> i32 => 1;
        /// The address of an `rt_*` function by its name; 0 if there is none. It is the library's function, whatever
        /// a program exports by that name, and so need not be the address that the name is linked to.
        fn rt_symbol_lookup(name: *const c_char) -> i64, else 0;
        /// Calls `each` with every `rt_*` name and address. How many there are; 0 if `each` is NULL.
        fn rt_register_symbols(each: RtEachSymbol, ctx: *mut c_void) -> i64, else 0;
        /// Makes the pages that the range touches read-write.
        fn rt_make_writable(address: i64, size: i64) -> bool, else false
            => runtime.make_writable(address, size);
        /// As `rt_call_function_0`, with three arguments.
        fn rt_call_function_3(r#fn: i64, a: i64, b: i64, c: i64) -> i64, else -1
            => runtime.call(r#fn, &[a, b, c]);
        /// As `rt_call_function_0`, with four arguments.
        fn rt_call_function_4(r#fn: i64, a: i64, b: i64, c: i64, d: i64) -> i64, else -1
            => runtime.call(r#fn, &[a, b, c, d]);
        /// As `rt_call_function_0`, with five arguments.
        fn rt_call_function_5(r#fn: i64, a: i64, b: i64, c: i64, d: i64, e: i64) -> i64, else -1
            => runtime.call(r#fn, &[a, b, c, d, e]);
        /// As `rt_call_function_0`, with six arguments.
        fn rt_call_function_6(r#fn: i64, a: i64, b: i64, c: i64, d: i64, e: i64, f: i64) -> i64, else -1
            => runtime.call(r#fn, &[a, b, c, d, e, f]);
        /// Calls `fn` with `count` arguments (at most 6) and stores what it returns in `result`, which may be
        /// NULL. False, with nothing called or stored, if that can't be done.
        fn rt_try_call(r#fn: i64, args: *const i64, count: i64, result: *mut i64) -> bool, else false;
        /// As `rt_alloc_exec_memory`, with every byte within `max_distance` bytes of `target`; 0 if there is no room.
        fn rt_alloc_exec_memory_near(size: i64, target: i64, max_distance: i64) -> i64, else 0
            => runtime.alloc_exec_near(size, target, max_distance);
        /// As `rt_alloc_rw_memory`, so near to a target, for data that code there refers to: it has one view. 0 if there
        /// is no room.
        fn rt_alloc_rw_memory_near(size: i64, target: i64, max_distance: i64) -> i64, else 0
            => runtime.alloc_rw_near(size, target, max_distance);
        /// The policy in force (`RT_POLICY_*`), or the one wished for while nothing was allocated; -1 if
        /// `EXECMEM_POLICY` names none. The names may be written in any case; an empty value is none.
        fn rt_exec_memory_policy() -> i32, else -1 => runtime.policy().map(|policy| policy as i32);
        /// Wishes for a policy, instead of what `EXECMEM_POLICY` says. Refused once another one is in force.
        fn rt_exec_memory_set_policy(policy: i32) -> bool, else false
            => runtime.set_policy(Policy::from_number(policy)?);
        /// Hardens all memory of regions and of the code heap with `wishes`, `RT_HARDEN_*` bits: all of them, or
        /// UNSUPPORTED. Called before the first allocation; from then on another wish is refused.
        fn rt_set_hardening(wishes: i32) -> bool, else false
            => runtime.set_hardening(Hardening::from_number(wishes)?);
        /// Sets the limit for a single allocation in bytes, above 0. Physical memory is the default.
        fn rt_exec_memory_set_limit(bytes: i64) -> bool, else false
            => positive(bytes).map(|bytes| runtime.set_limit(bytes));
        /// Fills in the first `out->size` bytes of the figures, at least the first three fields.
        fn rt_exec_memory_stats(out: *mut RtExecMemoryStats) -> bool, else false;
        /// A block of `size` bytes of the code heap, executable, not yet written, aligned to 64 bytes at least.
        /// Its address; 0 on failure.
        fn rt_code_alloc(size: i64) -> i64, else 0 => runtime.code_heap().alloc(size);
        /// As `rt_code_alloc`, with every byte within `max_distance` bytes of `target`.
        fn rt_code_alloc_near(size: i64, target: i64, max_distance: i64) -> i64, else 0
            => runtime.code_heap().alloc_near(size, target, max_distance);
        /// Copies `length` bytes at `src` to `address + offset`, all inside the live block that holds
        /// `address`, or nothing. The number of bytes; -1 on failure.
        fn rt_code_write(address: i64, src: *const u8, length: i64, offset: i64) -> i64, else -1
            => runtime.code_heap().write(address, src, length, offset);
        /// Where the byte at an address of a live block, and the rest of the block behind it, can be written
        /// directly; 0 unless the heap's memory has two views. A chunk whose view was handed out is copied whenever the
        /// process forks.
        fn rt_code_write_view(address: i64) -> i64, else 0 => runtime.code_heap().write_view(address);
        /// After it any core may execute the bytes, which lie in one live block; also where other code was
        /// executed before.
        fn rt_code_publish(address: i64, size: i64) -> bool, else false
            => runtime.code_heap().publish(address, size);
        /// As `rt_code_publish` for `count` ranges, with one cross-core step at most. All of them, or none.
        fn rt_code_publish_all(addresses: *const i64, sizes: *const i64, count: i64) -> bool, else false;
        /// Replaces one aligned word of eight bytes of a live block, and publishes it: other threads execute
        /// the old word or the new one. False under policy `toggle`, too.
        fn rt_code_patch(address: i64, word: u64) -> bool, else false
            => runtime.code_heap().patch(address, word);
        /// Gives back all but the first `size` bytes of the live block that starts at an address; `size` is at most what
        /// the block has. What was written there is replaced by trap instructions.
        fn rt_code_shrink(address: i64, size: i64) -> bool, else false
            => runtime.code_heap().shrink(address, size);
        /// Frees the live block that starts at an address; any other address is not owned. What was written
        /// there is replaced by trap instructions.
        fn rt_code_free(address: i64) -> bool, else false => runtime.code_heap().free(address);
        /// Finds the live block that holds an address; false if there is none, or `out` is NULL. A lookup, as
        /// `rt_is_executable` is.
        fn rt_code_find(address: i64, out: *mut RtCodeBlock) -> bool;
        /// Names `size` bytes of live code for the debuggers and profilers that `EXECMEM_NAMES` lists; with none, does
        /// nothing. The code's free takes the name back.
        fn rt_code_set_name(address: i64, size: i64, name: *const c_char) -> bool, else false
            => runtime.set_name(address, size, text(name)?);
        /// Gives the process's unwinder records for `size` bytes of live code: `length` bytes in the format of `.eh_frame`,
        /// each about a function in that code, with the word of zeros that ends it. They have to stay until the code's
        /// free, which takes them back.
        fn rt_code_set_unwind(address: i64, size: i64, eh_frame: *const u8, length: i64) -> bool, else false
            => runtime.set_unwind(address, size, eh_frame, length);
        /// Sets the most bytes of code pages that the code heap may have, above 0. What it has already stays.
        fn rt_code_set_limit(bytes: i64) -> bool, else false
            => positive(bytes).map(|bytes| runtime.code_heap().set_limit(bytes));
        /// Makes up to `budget` bytes of code huge, where nearly all bytes are written: for a moment when the program is
        /// idle, since two mebibytes take some milliseconds. 0 makes none. How many are huge now; -1 on failure.
        fn rt_code_promote(budget: i64) -> i64, else -1 => runtime.promote(budget);
        /// `RT_ERROR_*` of this thread's last failed call; `RT_ERROR_NONE` if none has failed. Calls that
        /// succeed leave it alone. Never fails.
        fn rt_last_error() -> i32 => runtime.last_error();
        /// A sentence for an error code; never NULL.
        fn rt_error_message(code: i32) -> *const c_char;
    } };
}
