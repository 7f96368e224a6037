/*
 * A program with functions of its own by all the library's names but one, as a plugin host or a hostile one may
 * have them. What rt_symbol_lookup gives are the library's all the same, and so is what they call.
 *
 * The program's own functions are in another file, which is generated. They only end the process.
 */
#include <execmem.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(condition) \
    ((condition) ? (void)0 : (printf("not so: %s (line %d)\n", #condition, __LINE__), exit(1)))

/* Whether this is one of the program's own functions. */
bool is_own(int64_t address);

/* The library's function of this name. */
#define LIBRARY(name) ((__typeof__(name) *)(uintptr_t)rt_symbol_lookup(#name))

static void check_name(void *count, const char *name, int64_t address) {
    EXPECT(address != 0 && address == rt_symbol_lookup(name));
    if (is_own(address)) printf("the table has the program's %s\n", name), exit(1);
    ++*(int *)count;
}

static void table(void) {
    int count = 0;
    EXPECT(is_own((int64_t)(uintptr_t)rt_munmap) && !is_own(rt_symbol_lookup("rt_register_symbols")));
    EXPECT(LIBRARY(rt_register_symbols)(check_name, &count) == count && count >= 26);
    EXPECT(LIBRARY(rt_abi_version)() == 1);
}

static void mappings(void) {
    RtMapping mapping = LIBRARY(rt_mmap_file)(NULL, RT_PROT_READ | RT_PROT_WRITE,
                                              RT_MAP_PRIVATE | RT_MAP_ANONYMOUS, 0, 100);
    EXPECT(mapping.address > 0 && mapping.size == 100);
    const uint8_t text[4] = "abc";
    uint8_t copy[4] = {0};
    EXPECT(LIBRARY(rt_write_exec_bytes)(mapping.address, text, 4, 0) == 4);
    EXPECT(LIBRARY(rt_mmap_read_into)(mapping.address, 0, copy, 4) == 4 && !memcmp(copy, text, 4));
    RtValue value = LIBRARY(rt_mmap_read_bytes)(mapping.address, 0, 4);
    EXPECT(LIBRARY(rt_value_len)(value) == 4 && LIBRARY(rt_value_free)(value));
    EXPECT(LIBRARY(rt_munmap)(mapping.address, mapping.size));
    /* No region is left behind, which somebody else's memory could be taken for. */
    EXPECT(LIBRARY(rt_write_exec_bytes)(mapping.address, text, 4, 0) == -1);
    EXPECT(LIBRARY(rt_last_error)() == RT_ERROR_NOT_OWNED);
}

static void code(void) {
#if defined(__x86_64__)
    const uint8_t code[] = {0xb8, 42, 0, 0, 0, 0xc3};
#elif defined(__aarch64__)
    const uint8_t code[] = {0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6};
#elif defined(__riscv)
    const uint8_t code[] = {0x13, 0x05, 0xa0, 0x02, 0x67, 0x80, 0x00, 0x00};
#else
#error "no machine code is written down for this processor"
#endif
    const int64_t size = sizeof code;
    int64_t memory = LIBRARY(rt_alloc_exec_memory)(size), block = LIBRARY(rt_code_alloc)(size);
    EXPECT(memory > 0 && LIBRARY(rt_write_exec_bytes)(memory, code, size, 0) == size);
    LIBRARY(rt_flush_icache)(memory, size);
    EXPECT(LIBRARY(rt_call_function_0)(memory) == 42);
    EXPECT(block > 0 && LIBRARY(rt_code_write)(block, code, size, 0) == size);
    EXPECT(LIBRARY(rt_code_publish)(block, size) && LIBRARY(rt_call_function_0)(block) == 42);
    EXPECT(LIBRARY(rt_code_free)(block) && !LIBRARY(rt_code_free)(block));
    EXPECT(LIBRARY(rt_free_exec_memory)(memory, size) && LIBRARY(rt_exec_memory_count)() == 0);
}

int main(void) {
    table();
    mappings();
    code();
    puts("the library is its own");
    return 0;
}
