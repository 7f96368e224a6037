/*
 * Stubs as the runtime's build makes them for what it doesn't find: weak, so that a real function takes their place. A
 * static library's doesn't do so by itself, since nothing is missing that it would be searched for.
 */
#include <stdint.h>

#ifdef PREFIXED
#define LINKED(name) execmem_##name
#else
#define LINKED(name) name
#endif

#define STUB(name)                                 \
    int64_t name(void);                            \
    __attribute__((weak)) int64_t name(void) { return 0; }

STUB(LINKED(rt_abi_version))
STUB(LINKED(rt_register_symbols))
STUB(LINKED(rt_symbol_lookup))
STUB(rt_mmap_raw)
STUB(rt_munmap_raw)
STUB(rt_mprotect)
STUB(rt_madvise_raw)
STUB(rt_msync_flags)
STUB(rt_page_size)
STUB(rt_ptr_write_bytes_raw)
STUB(rt_call_ptr_0)
STUB(rt_call_ptr_3)
STUB(rt_dyncall_0)
STUB(rt_dyncall_6)
