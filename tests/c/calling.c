/*
 * Section 1.1 of the contract: interpreters call every function as one of 64-bit integers. What stands
 * above a narrow argument must not matter, and a narrow result must fill the whole register.
 */
#include "client.h"

#include <string.h>

typedef int64_t (*Words)(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);

/* Bits that belong to nobody. */
static const int64_t GARBAGE = INT64_C(0x5eed5eed) << 32;
static const int64_t BOOL_GARBAGE = INT64_C(0x5eed5eed5eed5e) << 8;

static int64_t call(const char *name, int64_t a, int64_t b, int64_t c, int64_t d, int64_t e) {
    Words function = (Words)(uintptr_t)rt_symbol_lookup(name);
    EXPECT(function != NULL);
    return function ? function(a, b, c, d, e, GARBAGE, GARBAGE) : 0;
}

#define CALL(name, a, b, c) call(name, (int64_t)(a), (int64_t)(b), (int64_t)(c), GARBAGE, GARBAGE)

static int64_t number_of(const void *pointer) { return (int64_t)(uintptr_t)pointer; }

static void mapping_functions(void) {
    const char *path = file_with("words", "words", 5);
    EXPECT(CALL("rt_file_size_for_mmap", number_of(path), 0, 0) == 5);
    EXPECT(CALL("rt_file_size_for_mmap", 0, 0, 0) == -1);
    EXPECT(CALL("rt_get_page_size", GARBAGE, GARBAGE, GARBAGE) == rt_get_page_size());
    int64_t address = call("rt_mmap_file", number_of(path), GARBAGE | RT_PROT_READ, GARBAGE | RT_MAP_SHARED, 0, 0);
    EXPECT(address > 0);
    EXPECT(CALL("rt_mapping_size", address, GARBAGE, GARBAGE) == 5 && CALL("rt_mapping_size", 1, 0, 0) == -1);
    EXPECT(CALL("rt_madvise", address, 5, GARBAGE | RT_ADVICE_NORMAL) == 1);
    EXPECT(CALL("rt_madvise", address, 5, 99) == 0);
    EXPECT(CALL("rt_msync", address, 5, BOOL_GARBAGE) == 1 && CALL("rt_msync", address, 5, BOOL_GARBAGE | 1) == 1);
    EXPECT(CALL("rt_msync", address, 0, 0) == 1 && CALL("rt_msync", address, -1, 0) == 0);
    EXPECT(CALL("rt_mlock", address, 5, GARBAGE) == 1 && CALL("rt_munlock", address, 5, GARBAGE) == 1);
    EXPECT(CALL("rt_mlock", 0, 5, GARBAGE) == 0 && CALL("rt_munlock", 0, 5, GARBAGE) == 0);
    uint8_t copy[5];
    EXPECT(call("rt_mmap_read_into", address, 0, number_of(copy), 5, GARBAGE) == 5 && memcmp(copy, "words", 5) == 0);
    EXPECT(value_is((RtValue)CALL("rt_mmap_read_bytes", address, 0, 5), "words", 5));
    EXPECT(value_is((RtValue)CALL("rt_mmap_read_string", address, 1, 0), "ords", 4));
    EXPECT(CALL("rt_munmap", address, 5, GARBAGE) == 1 && CALL("rt_munmap", address, 5, GARBAGE) == 0);
}

static void memory_functions(void) {
    uint8_t code[CODE_SIZE];
    int64_t length = code_returning(code, 42), memory = CALL("rt_alloc_rw_memory", length, GARBAGE, GARBAGE);
    EXPECT(memory > 0 && CALL("rt_alloc_rw_memory", -1, 0, 0) == 0 && CALL("rt_alloc_exec_memory", 0, 0, 0) == 0);
    EXPECT(call("rt_write_exec_bytes", memory, number_of(code), length, 0, GARBAGE) == length);
    RtValue value = (RtValue)CALL("rt_value_bytes", number_of(code), length, GARBAGE);
    EXPECT(CALL("rt_value_len", value, 0, 0) == length && CALL("rt_value_len", 0x3, 0, 0) == -1);
    EXPECT(CALL("rt_write_exec_memory", memory, value, 0) == length);
    EXPECT(CALL("rt_write_exec_memory", memory, value, -1) == -1);
    EXPECT(CALL("rt_value_free", value, 0, 0) == 1 && CALL("rt_value_free", value, 0, 0) == 0);
    EXPECT(CALL("rt_is_executable", memory, GARBAGE, GARBAGE) == 0);
    EXPECT(CALL("rt_make_executable", memory, length, GARBAGE) == 1 && CALL("rt_make_executable", 0, 1, 0) == 0);
    EXPECT(CALL("rt_is_executable", memory, GARBAGE, GARBAGE) == 1);
    EXPECT(CALL("rt_flush_icache", memory, length, 0) == 0 && CALL("rt_flush_icache", 0, 1, 0) == -1);
    EXPECT(CALL("rt_get_function_pointer", memory, GARBAGE, GARBAGE) == memory);
    EXPECT(CALL("rt_call_function_0", memory, GARBAGE, GARBAGE) == 42 && CALL("rt_call_function_0", 0, 0, 0) == -1);
    EXPECT(call("rt_try_call", memory, 0, 0, number_of(&value), GARBAGE) == 1 && value == 42);
    EXPECT(call("rt_try_call", 0, 0, 0, number_of(&value), GARBAGE) == 0);
    EXPECT(CALL("rt_get_protection", memory, 0, 0) == (RT_PROT_READ | RT_PROT_EXEC));
    EXPECT(CALL("rt_get_protection", 0, 0, 0) == -1);
    EXPECT(CALL("rt_make_writable", memory, length, 0) == 1 && CALL("rt_make_writable", 0, 1, 0) == 0);
    EXPECT(CALL("rt_set_protection", memory, length, GARBAGE | RT_PROT_READ) == 1);
    EXPECT(CALL("rt_set_protection", memory, length, GARBAGE | 8) == 0);
    EXPECT(CALL("rt_exec_memory_count", 0, 0, 0) == rt_exec_memory_count());
    EXPECT(CALL("rt_exec_memory_total", 0, 0, 0) == rt_exec_memory_total());
    EXPECT(CALL("rt_free_exec_memory", memory, length, 0) == 1 && CALL("rt_free_exec_memory", memory, length, 0) == 0);
}

static void calls_of_code(void) {
    uint8_t code[CODE_SIZE];
    int64_t length = code_of_digits(code, 6), digits = executable(code, length);
    Words six = (Words)(uintptr_t)rt_symbol_lookup("rt_call_function_6");
    EXPECT(six && six(digits, 1, 2, 3, 4, 5, 6) == 123456 && six(0, 1, 2, 3, 4, 5, 6) == -1);
    const char *names[] = {"rt_call_function_1", "rt_call_function_2", "rt_call_function_3", "rt_call_function_4"};
    const int64_t results[] = {1, 12, 123, 1234};
    for (int count = 1; count <= 4; count++) {
        int64_t size = code_of_digits(code, count), function = executable(code, size);
        EXPECT(call(names[count - 1], function, 1, 2, 3, 4) == results[count - 1]);
        EXPECT(call(names[count - 1], -1, 1, 2, 3, 4) == -1);
        EXPECT(rt_free_exec_memory(function, size));
    }
    EXPECT(rt_free_exec_memory(digits, length));
}

static void further_functions(void) {
    EXPECT(CALL("rt_abi_version", GARBAGE, GARBAGE, GARBAGE) == 1);
    EXPECT(CALL("rt_symbol_lookup", number_of("rt_munmap"), 0, 0) == rt_symbol_lookup("rt_munmap"));
    EXPECT(CALL("rt_register_symbols", 0, 0, 0) == 0);
    EXPECT(CALL("rt_last_error", GARBAGE, GARBAGE, GARBAGE) == RT_ERROR_INVALID_ARGUMENT);
    EXPECT(CALL("rt_error_message", GARBAGE | RT_ERROR_IO, 0, 0) == number_of(rt_error_message(RT_ERROR_IO)));
    EXPECT(CALL("rt_exec_memory_policy", 0, 0, 0) == rt_exec_memory_policy());
    EXPECT(CALL("rt_exec_memory_set_policy", GARBAGE | rt_exec_memory_policy(), 0, 0) == 1);
    EXPECT(CALL("rt_exec_memory_set_policy", GARBAGE | 99, 0, 0) == 0);
    EXPECT(CALL("rt_exec_memory_set_limit", INT64_C(1) << 32, 0, 0) == 1);
    EXPECT(CALL("rt_exec_memory_set_limit", -1, 0, 0) == 0);
    EXPECT(CALL("rt_alloc_exec_memory_near", 0, 0, 0) == 0);
    EXPECT(CALL("rt_set_value_ops", 0, 0, 0) == 0);
    RtExecMemoryStats statistics = {.size = sizeof statistics};
    EXPECT(CALL("rt_exec_memory_stats", number_of(&statistics), 0, 0) == 1);
    EXPECT(CALL("rt_exec_memory_stats", 0, 0, 0) == 0);
}

const Rule calling_rules[] = {
    {"files through 64-bit words", mapping_functions},
    {"memory through 64-bit words", memory_functions},
    {"calls through 64-bit words", calls_of_code},
    {"the rest through 64-bit words", further_functions},
    {0},
};
