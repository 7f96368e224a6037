//! All that can be done beside the things: files, values, questions, calls, and what all threads do to the same memory.

use crate::calls::{Checked, did, given, holds, same, within};
use crate::things::{self, CHILDREN_FROM, World, anchor};
use crate::values;
use execmem_conformance::code::{argument, returning};
use execmem_conformance::memory::EMPTY_STATISTICS;
use execmem_conformance::symbols::*;
use execmem_core::Limits;
use execmem_core::abi::*;
use execmem_os_linux::runtime;
use std::ffi::{CStr, c_char, c_void};

/// Memory that all threads use at the same time. What it holds are functions of numbers from [`FIRST`] on.
pub struct Shared {
    block: i64,
    code: i64,
    data: i64,
    /// Of its own file each owner has the path.
    pub files: Vec<&'static CStr>,
}

/// The number that shared memory holds at first.
const FIRST: u8 = 100;
const SIZE: i64 = 6000;
pub const FILE: [u8; 9000] = [b'x'; 9000];

impl Shared {
    pub fn make(files: Vec<&'static CStr>) -> Checked<Self> {
        // The heap first: so it may be of another kind than the regions under `auto`.
        let shared = Self {
            block: given(did!(rt_code_alloc(SIZE)), &"rt_code_alloc")?,
            code: given(did!(rt_alloc_exec_memory(SIZE)), &"rt_alloc_exec_memory")?,
            data: given(did!(rt_alloc_rw_memory(SIZE)), &"rt_alloc_rw_memory")?,
            files,
        };
        Ok(shared)
    }

    /// Nothing else is done before.
    pub fn begin(&self, world: &World) -> Checked {
        self.write(FIRST, world)
    }

    fn write(&self, number: u8, world: &World) -> Checked {
        let code = returning(number);
        if !things::patch(self.block, &code, world)? {
            same(
                did!(rt_code_write: write_block(self.block, &code, 0)),
                8,
                &"rt_code_write to shared memory",
            )?;
            holds(did!(rt_code_publish(self.block, SIZE)), &"rt_code_publish of shared memory")?;
        }
        same(did!(rt_write_exec_bytes: write_bytes(self.code, &code, 0)), 8, &"a write to shared memory")?;
        did!(rt_flush_icache(self.code, SIZE));
        holds(did!(rt_make_writable(self.data, SIZE)), &"rt_make_writable of shared memory")?;
        if did!(rt_write_exec_bytes: write_bytes(self.data, &code, 0)) != 8 {
            // Another thread has made it executable meanwhile.
            let error = did!(rt_last_error());
            same(error.into(), RT_ERROR_WRONG_PROTECTION.into(), &"why shared memory can't be written")?;
        }
        holds(did!(rt_make_executable(self.data, SIZE)), &"rt_make_executable of shared memory")
    }

    /// What one of many threads does to them.
    pub fn use_with_others(&self, owner: usize, world: &World) -> Checked {
        self.write(FIRST + owner as u8, world)?;
        // Under `toggle` who executes there while another thread writes would fault.
        for function in [self.block, self.code].into_iter().filter(|_| world.policy != RT_POLICY_TOGGLE) {
            let number = did!(rt_call_function_0: call(function, &[]));
            within(number, FIRST.into()..CHILDREN_FROM.into(), &"shared memory is no child's")?;
        }
        let mut code = [0; 8];
        same(did!(rt_mmap_read_into: read_into(self.code, 0, &mut code)), 8, &"shared memory is read")
    }

    /// What a child, which has one thread, finds there and changes.
    pub fn use_alone(&self, number: u8, before: std::ops::Range<u8>, world: &World) -> Checked {
        holds(did!(rt_make_executable(self.data, SIZE)), &"a child makes shared memory executable")?;
        let range = i64::from(before.start)..i64::from(before.end);
        let all = [self.block, self.code, self.data];
        for function in all {
            let found = did!(rt_call_function_0: call(function, &[]));
            within(found, range.clone(), &"a child has a number of its parent's in shared memory")?;
        }
        self.write(number, world)?;
        for function in all {
            let found = did!(rt_call_function_0: call(function, &[]));
            same(found, number.into(), &"a child has its own number in shared memory")?;
        }
        Ok(())
    }

    pub fn free(&self) -> Checked {
        holds(did!(rt_code_free(self.block)), &"the shared block is freed")?;
        holds(did!(rt_free_exec_memory(self.code, SIZE)), &"the shared code is freed")?;
        holds(did!(rt_free_exec_memory(self.data, SIZE)), &"the shared data is freed")
    }
}

/// Every operation that needs nothing of others.
pub fn all(path: &CStr, world: &World, is_thorough: bool) -> Checked {
    files(path, is_thorough)?;
    anonymous()?;
    calls()?;
    heap_of_its_own()?;
    questions(world)
}

fn files(path: &CStr, is_thorough: bool) -> Checked {
    let size = FILE.len() as i64;
    same(did!(rt_file_size_for_mmap: file_size(Some(path))), size, &"rt_file_size_for_mmap")?;
    for flags in [RT_MAP_PRIVATE, RT_MAP_SHARED] {
        let access = RT_PROT_READ | RT_PROT_WRITE;
        let mapping = did!(rt_mmap_file: map_file(Some(path), access, flags, 0, 0));
        let address = given(mapping.address, &"rt_mmap_file")?;
        same(mapping.size, size, &"the size of a mapping")?;
        // Whoever else has the file writes the same.
        same(did!(rt_write_exec_bytes: write_bytes(address, &FILE[..100], 4050)), 100, &"a write to a file")?;
        values::expect(did!(rt_mmap_read_bytes(address, 4000, 200)), &FILE[..200])?;
        values::expect(did!(rt_mmap_read_string(address, 0, 0)), &FILE)?;
        holds(did!(rt_msync(address, size, !is_thorough)), &"rt_msync")?;
        holds(did!(rt_mlock(address, 1)), &"rt_mlock")?;
        holds(did!(rt_munlock(address, size)), &"rt_munlock")?;
        holds(did!(rt_madvise(address, size, RT_ADVICE_WILLNEED)), &"rt_madvise WILLNEED")?;
        holds(did!(rt_munmap(address, size)), &"rt_munmap")?;
    }
    let name = path.to_bytes();
    let address = did!(rt_mmap_path: map_path(Some(name), RT_PROT_READ, RT_MAP_PRIVATE, 0));
    given(address, &"rt_mmap_path")?;
    same(did!(rt_mapping_size(address)), size, &"rt_mapping_size")?;
    holds(did!(rt_munmap(address, size)), &"rt_munmap of a path's")?;
    let open = execmem_tests_linux::files::open(path, RT_PROT_READ, 0);
    let address = did!(rt_mmap_fd(open, RT_PROT_READ.into(), RT_MAP_PRIVATE.into(), 0, 0));
    same(execmem_tests_linux::files::close(open), 0, &"a descriptor stays open")?;
    given(address, &"rt_mmap_fd")?;
    holds(did!(rt_munmap(address, size)), &"rt_munmap of a descriptor's")?;
    Ok(())
}

fn anonymous() -> Checked {
    let (access, flags) = (RT_PROT_READ | RT_PROT_WRITE, RT_MAP_PRIVATE | RT_MAP_ANONYMOUS);
    let RtMapping { address, size } = did!(rt_mmap_file: map_file(None, access, flags, 0, SIZE));
    given(address, &"anonymous memory")?;
    same(did!(rt_write_exec_bytes: write_bytes(address, &FILE[..10], 5990)), 10, &"a write to it")?;
    holds(did!(rt_madvise(address, size, RT_ADVICE_DONTNEED)), &"rt_madvise DONTNEED")?;
    let mut bytes = [1; 10];
    same(did!(rt_mmap_read_into: read_into(address, 5990, &mut bytes)), 10, &"it is read")?;
    holds(bytes == [0; 10], &"it is zero again")?;
    holds(did!(rt_munmap(address, size)), &"it is unmapped")
}

fn calls() -> Checked {
    const ARGUMENTS: [i64; 6] = [1 << 40, 2 << 40, 3 << 40, 4 << 40, 5 << 40, 6 << 40];
    let size = argument(0).len() as i64;
    let function = given(did!(rt_code_alloc(6 * size + 500)), &"a block for functions, and more")?;
    let code: Vec<u8> = (0..6).flat_map(|index| argument(index).to_vec()).collect();
    same(did!(rt_code_write: write_block(function, &code, 0)), 6 * size, &"functions are written")?;
    holds(did!(rt_code_shrink(function, 6 * size)), &"the rest is given back")?;
    holds(did!(rt_code_publish(function, 6 * size)), &"functions are published")?;
    let last = |count: usize| did!(rt_get_function_pointer(function + (count as i64 - 1) * size));
    let results = [
        did!(rt_call_function_1: call(last(1), &ARGUMENTS[..1])),
        did!(rt_call_function_2: call(last(2), &ARGUMENTS[..2])),
        did!(rt_call_function_3: call(last(3), &ARGUMENTS[..3])),
        did!(rt_call_function_4: call(last(4), &ARGUMENTS[..4])),
        did!(rt_call_function_5: call(last(5), &ARGUMENTS[..5])),
        did!(rt_call_function_6: call(last(6), &ARGUMENTS)),
    ];
    holds(results == ARGUMENTS, &"each function returns its last argument")?;
    let mut result = 0;
    holds(did!(rt_try_call: try_call(last(6), Some(&ARGUMENTS), 6, Some(&mut result))), &"rt_try_call")?;
    same(result, ARGUMENTS[5], &"rt_try_call's result")?;
    holds(did!(rt_code_shrink(function, 6 * size)), &"a block keeps all that it has")?;
    holds(did!(rt_code_free(function)), &"the functions are freed")?;
    holds(!did!(rt_code_free(function + 1)), &"an inner address is not freed")
}

/// Heaps come and go as well.
fn heap_of_its_own() -> Checked {
    let limits = Limits { bytes: 1 << 20, chunk_bytes: 64 << 10, ..Limits::DEFAULT };
    let heap = runtime().new_code_heap(limits);
    holds(heap.is_ok(), &"a heap of its own")?;
    let Ok(heap) = heap else { return Ok(()) };
    for number in 0..3 {
        let code = returning(number);
        let block = given(heap.alloc(3000).map_or(0, |block| block as i64), &"a block there")?;
        // SAFETY: the code is readable.
        holds(unsafe { heap.write(block, code.as_ptr(), 8, 0) } == Ok(8), &"it is written")?;
        holds(heap.publish(block, 8).is_ok(), &"it is published")?;
        same(did!(rt_call_function_0: call(block, &[])), number.into(), &"it runs")?;
    }
    Ok(())
}

fn questions(world: &World) -> Checked {
    same(did!(rt_abi_version()).into(), 1, &"rt_abi_version")?;
    holds(did!(rt_get_page_size()) >= 4096, &"rt_get_page_size")?;
    holds(did!(rt_symbol_lookup: look_up(Some(c"rt_code_alloc"))) > 0, &"rt_symbol_lookup")?;
    let mut symbols = 0i64;
    let count = did!(rt_register_symbols: register_symbols(Some(count_symbol), &mut symbols));
    same(count, symbols, &"rt_register_symbols")?;
    holds(!did!(rt_munmap(0, 1)), &"nothing is unmapped at 0")?;
    let error = did!(rt_last_error());
    same(error.into(), RT_ERROR_INVALID_ARGUMENT.into(), &"rt_last_error")?;
    holds(!did!(rt_error_message(error)).is_null(), &"rt_error_message")?;
    holds(did!(rt_is_executable(anchor())), &"the program itself can be executed")?;
    holds(did!(rt_get_protection(anchor())) & RT_PROT_EXEC != 0, &"the program's protection")?;
    same(did!(rt_exec_memory_policy()).into(), world.policy.into(), &"rt_exec_memory_policy")?;
    holds(did!(rt_exec_memory_set_policy(world.policy)), &"rt_exec_memory_set_policy")?;
    holds(did!(rt_set_hardening(0)), &"rt_set_hardening")?;
    holds(did!(rt_exec_memory_set_limit(1 << 30)), &"rt_exec_memory_set_limit")?;
    holds(did!(rt_code_set_limit(1 << 40)), &"rt_code_set_limit")?;
    let huge = did!(rt_code_promote(4 << 20));
    holds(huge >= 0 || rt_last_error() != RT_ERROR_INVALID_ARGUMENT, &"rt_code_promote")?;
    holds(
        !did!(rt_code_set_name: set_name(anchor(), 1, Some(c"name"))),
        &"the program's own can't be named",
    )?;
    holds(!did!(rt_seal(anchor(), 1)), &"the program's own can't be sealed")?;
    holds(did!(rt_alloc_rw_memory_near(1, 0, 1)) == 0, &"nothing is near 0")?;
    // SAFETY: refused, since the code is not the library's.
    let is_taken = did!(rt_code_set_unwind: unsafe { set_unwind(anchor(), 1, &[0]) });
    holds(!is_taken, &"the program's own gets no records")?;
    let mut figures = EMPTY_STATISTICS;
    holds(did!(rt_exec_memory_stats: fill_statistics(Some(&mut figures))), &"rt_exec_memory_stats")?;
    holds(figures.regions >= 2 && figures.code_blocks >= 1, &"what all threads share is counted")?;
    holds(did!(rt_exec_memory_count()) >= 2, &"rt_exec_memory_count")?;
    holds(did!(rt_exec_memory_total()) >= 2 * SIZE, &"rt_exec_memory_total")?;
    did!(rt_exec_memory_dump_stats());
    Ok(())
}

unsafe extern "C" fn count_symbol(count: *mut c_void, _: *const c_char, _: i64) {
    // SAFETY: `questions` passes a number.
    unsafe { *count.cast::<i64>() += 1 };
}
