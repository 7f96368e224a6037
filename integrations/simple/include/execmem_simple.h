/*
 * The names that the loader of the Simple language calls, over execmem: `cargo xtask dist --simple` puts them into the
 * libraries. Every argument and result is a whole register. README.md says what each does.
 */
#ifndef EXECMEM_SIMPLE_H
#define EXECMEM_SIMPLE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

int64_t rt_mmap_raw(int64_t addr, int64_t length, int64_t prot, int64_t flags, int64_t fd, int64_t offset);
int64_t rt_munmap_raw(int64_t addr, int64_t length);
int64_t rt_mprotect(int64_t addr, int64_t length, int64_t prot);
int64_t rt_madvise_raw(int64_t addr, int64_t length, int64_t advice);
int64_t rt_msync_flags(int64_t addr, int64_t length, int64_t flags);
int64_t rt_page_size(void);
int64_t rt_ptr_write_bytes_raw(int64_t addr, int64_t offset, int64_t src, int64_t len);
int64_t rt_call_ptr_0(int64_t addr);
int64_t rt_call_ptr_1(int64_t addr, int64_t a);
int64_t rt_call_ptr_2(int64_t addr, int64_t a, int64_t b);
int64_t rt_call_ptr_3(int64_t addr, int64_t a, int64_t b, int64_t c);
int64_t rt_dyncall_0(int64_t fn);
int64_t rt_dyncall_1(int64_t fn, int64_t a);
int64_t rt_dyncall_2(int64_t fn, int64_t a, int64_t b);
int64_t rt_dyncall_3(int64_t fn, int64_t a, int64_t b, int64_t c);
int64_t rt_dyncall_4(int64_t fn, int64_t a, int64_t b, int64_t c, int64_t d);
int64_t rt_dyncall_5(int64_t fn, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e);
int64_t rt_dyncall_6(int64_t fn, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f);

#ifdef __cplusplus
}
#endif

#endif
