/* Sections 4 and 5 of the contract: values, and what came after the first 26 symbols. */
#include "client.h"

#include <stdlib.h>
#include <string.h>

static void version(void) { EXPECT(rt_abi_version() == 1); }

static void looking_up_symbols(void) {
    int32_t (*abi_version)(void) = (int32_t(*)(void))(uintptr_t)rt_symbol_lookup("rt_abi_version");
    EXPECT(abi_version && abi_version() == 1);
    bool (*unmap)(int64_t, int64_t) = (bool (*)(int64_t, int64_t))(uintptr_t)rt_symbol_lookup("rt_munmap");
    EXPECT_FAILURE(unmap && !unmap(1, 1), RT_ERROR_NOT_OWNED);
    EXPECT_FAILURE(rt_symbol_lookup("rt_unknown") == 0, RT_ERROR_NOT_FOUND);
    EXPECT(rt_symbol_lookup("") == 0 && rt_symbol_lookup("rt_") == 0 && rt_symbol_lookup("memcpy") == 0);
    EXPECT_FAILURE(rt_symbol_lookup(NULL) == 0, RT_ERROR_INVALID_ARGUMENT);
}

static void count_if_known(void *count, const char *name, int64_t address) {
    if (address != 0 && rt_symbol_lookup(name) == address) ++*(int64_t *)count;
}

static void registering_symbols(void) {
    int64_t known = 0, all = rt_register_symbols(count_if_known, &known);
    EXPECT(all >= 26 && known == all);
    EXPECT(rt_register_symbols(NULL, &known) == 0 && known == all);
}

static void calling_with_more_arguments(void) {
    uint8_t code[CODE_SIZE];
    int64_t digits[7] = {0}, sizes[7] = {0};
    for (int count = 3; count <= 6; count++)
        digits[count] = executable(code, sizes[count] = code_of_digits(code, count));
    EXPECT(rt_call_function_3(digits[3], 1, 2, 3) == 123);
    EXPECT(rt_call_function_4(digits[4], 1, 2, 3, 4) == 1234);
    EXPECT(rt_call_function_5(digits[5], 1, 2, 3, 4, 5) == 12345);
    EXPECT(rt_call_function_6(digits[6], 1, 2, 3, 4, 5, 6) == 123456);
    for (int count = 3; count <= 6; count++) EXPECT(rt_free_exec_memory(digits[count], sizes[count]));
    EXPECT_FAILURE(rt_call_function_3(digits[3], 1, 2, 3) == -1, RT_ERROR_NOT_EXECUTABLE);
    EXPECT_FAILURE(rt_call_function_4(0, 1, 2, 3, 4) == -1, RT_ERROR_NOT_EXECUTABLE);
    EXPECT_FAILURE(rt_call_function_5(-1, 1, 2, 3, 4, 5) == -1, RT_ERROR_NOT_EXECUTABLE);
    EXPECT_FAILURE(rt_call_function_6(64, 1, 2, 3, 4, 5, 6) == -1, RT_ERROR_NOT_EXECUTABLE);
}

static void trying_to_call(void) {
    uint8_t code[CODE_SIZE];
    const int64_t arguments[] = {-1, 0, 0, 0, 0, 0, 0};
    int64_t one = executable(code, code_of_digits(code, 1)), result = 7;
    EXPECT(rt_try_call(one, arguments, 1, &result) && result == -1);
    EXPECT(rt_try_call(one, arguments, 6, NULL));
    result = 7;
    EXPECT_FAILURE(!rt_try_call(0, arguments, 1, &result), RT_ERROR_NOT_EXECUTABLE);
    EXPECT_FAILURE(!rt_try_call(one, arguments, 7, &result), RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(!rt_try_call(one, arguments, -1, &result), RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(!rt_try_call(one, NULL, 1, &result), RT_ERROR_INVALID_ARGUMENT);
    EXPECT(result == 7);
    EXPECT(rt_free_exec_memory(one, code_of_digits(code, 1)));
}

static void allocating_near(void) {
    const int64_t size = 10000, reach = INT64_C(1) << 27;
    int64_t target = rt_alloc_exec_memory(1);
    int64_t memory = rt_alloc_exec_memory_near(size, target, reach);
    EXPECT(memory > 0 && memory >= target - reach && memory + size <= target + reach);
    EXPECT(rt_is_executable(memory) && rt_free_exec_memory(memory, size));
    EXPECT(rt_alloc_exec_memory_near(size, target, 1) == 0);
    EXPECT(rt_alloc_exec_memory_near(0, target, reach) == 0);
    EXPECT(rt_alloc_exec_memory_near(size, target, -1) == 0);
    int64_t data = rt_alloc_rw_memory_near(size, target, reach);
    EXPECT(data > 0 && data >= target - reach && data + size <= target + reach);
    memset((void *)(uintptr_t)data, 7, (size_t)size);
    EXPECT(rt_free_exec_memory(data, size));
    EXPECT(rt_free_exec_memory(target, 1));
}

static void statistics(void) {
    RtExecMemoryStats before = {.size = sizeof before}, after = before;
    EXPECT(rt_exec_memory_stats(&before));
    int64_t code = rt_alloc_exec_memory(100), data = rt_alloc_rw_memory(200), page = rt_get_page_size();
    EXPECT(rt_alloc_exec_memory(-1) == 0);
    EXPECT(rt_exec_memory_stats(&after));
    int32_t read_write = RT_PROT_READ | RT_PROT_WRITE, protection = rt_get_protection(code);
    EXPECT(after.regions == before.regions + 2 && after.requested_bytes == before.requested_bytes + 300);
    EXPECT(after.regions_by_protection[read_write] == before.regions_by_protection[read_write] + 1);
    EXPECT(after.bytes_by_protection[protection] == before.bytes_by_protection[protection] + page);
    EXPECT(after.mapped_bytes >= before.mapped_bytes + 2 * page && after.peak_mapped_bytes >= after.mapped_bytes);
    EXPECT(after.failed_calls == before.failed_calls + 1);
    EXPECT(after.policy == rt_exec_memory_policy());
    EXPECT(rt_free_exec_memory(code, 100) && rt_free_exec_memory(data, 200));
    EXPECT_FAILURE(!rt_exec_memory_stats(NULL), RT_ERROR_INVALID_ARGUMENT);
    after.size = 0;
    EXPECT_FAILURE(!rt_exec_memory_stats(&after), RT_ERROR_INVALID_ARGUMENT);
}

/* The program has allocated before: what is on is all that is accepted. */
static void hardening(void) {
    RtExecMemoryStats now = {.size = sizeof now};
    int64_t code = rt_alloc_exec_memory(100);
    EXPECT(rt_exec_memory_stats(&now) && now.hardening == 0 && rt_set_hardening(0));
    EXPECT(!rt_set_hardening(RT_HARDEN_GUARDS));
    EXPECT(rt_last_error() == RT_ERROR_REFUSED || rt_last_error() == RT_ERROR_UNSUPPORTED);
    EXPECT_FAILURE(!rt_set_hardening(~(RT_HARDEN_GUARDS | RT_HARDEN_KEYS)), RT_ERROR_INVALID_ARGUMENT);
    EXPECT(rt_free_exec_memory(code, 100));
}

static void limits(void) {
    EXPECT(rt_exec_memory_set_limit(8192));
    EXPECT_FAILURE(rt_alloc_exec_memory(8193) == 0, RT_ERROR_OVER_LIMIT);
    EXPECT_FAILURE(rt_alloc_rw_memory(8193) == 0, RT_ERROR_OVER_LIMIT);
    int64_t memory = rt_alloc_exec_memory(8192);
    EXPECT(memory > 0 && rt_free_exec_memory(memory, 8192));
    EXPECT_FAILURE(!rt_exec_memory_set_limit(0), RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(!rt_exec_memory_set_limit(-1), RT_ERROR_INVALID_ARGUMENT);
    EXPECT(rt_exec_memory_set_limit(INT64_C(1) << 32));
}

static void errors(void) {
    EXPECT_FAILURE(rt_alloc_exec_memory(0) == 0, RT_ERROR_INVALID_ARGUMENT);
    EXPECT(rt_get_page_size() > 0 && rt_last_error() == RT_ERROR_INVALID_ARGUMENT);
    for (int32_t code = RT_ERROR_NONE; code <= RT_ERROR_BAD_VALUE; code++)
        EXPECT(rt_error_message(code) && *rt_error_message(code));
    EXPECT(strcmp(rt_error_message(RT_ERROR_NOT_OWNED), rt_error_message(RT_ERROR_NO_MEMORY)) != 0);
    EXPECT(rt_error_message(-1) && rt_error_message(INT32_MAX));
}

static void built_in_values(void) {
    const uint8_t bytes[] = {1, 0, 255};
    RtValue value = rt_value_bytes(bytes, 3);
    EXPECT((value & 7) == 7 && rt_value_len(value) == 3 && memcmp(rt_value_data(value), bytes, 3) == 0);
    EXPECT(rt_value_free(value));
    EXPECT_FAILURE(!rt_value_free(value), RT_ERROR_BAD_VALUE);
    EXPECT(rt_value_data(value) == NULL && rt_value_len(value) == -1);
    EXPECT(rt_value_data(0x3) == NULL && rt_value_len(0x3) == -1 && !rt_value_free(0x3));
    EXPECT(rt_value_bytes(bytes, -1) == 0x3 && rt_value_bytes(NULL, 1) == 0x3);
}

/* A language runtime's own values: pointers to this. */
typedef struct {
    char kind;
    int64_t length;
    uint8_t bytes[32];
} Own;

static RtValue own_value(char kind, const uint8_t *data, int64_t length) {
    Own *own = calloc(1, sizeof *own);
    own->kind = kind;
    own->length = length;
    if (length > 0) memcpy(own->bytes, data, (size_t)length);
    return (RtValue)(uintptr_t)own;
}

static RtValue own_bytes(const uint8_t *data, int64_t length) { return own_value('b', data, length); }

static RtValue own_string(const uint8_t *data, int64_t length) { return own_value('s', data, length); }

static bool borrow_own(RtValue value, const uint8_t **data, int64_t *length) {
    Own *own = (Own *)(uintptr_t)value;
    if (!own || own->kind != 'b') return false;
    *data = own->bytes;
    *length = own->length;
    return true;
}

static bool is_own(RtValue value, char kind, const char *text, int64_t length) {
    Own *own = (Own *)(uintptr_t)value;
    bool same = own->kind == kind && own->length == length && memcmp(own->bytes, text, (size_t)length) == 0;
    free(own);
    return same;
}

static void own_values(void) {
    const RtValueOps good = {sizeof good, own_bytes, own_string, borrow_own};
    RtValueOps bad = good;
    bad.size = sizeof bad - 1;
    EXPECT_FAILURE(!rt_set_value_ops(&bad), RT_ERROR_INVALID_ARGUMENT);
    bad = good, bad.make_bytes = NULL;
    EXPECT_FAILURE(!rt_set_value_ops(&bad), RT_ERROR_INVALID_ARGUMENT);
    bad = good, bad.make_string = NULL;
    EXPECT_FAILURE(!rt_set_value_ops(&bad), RT_ERROR_INVALID_ARGUMENT);
    bad = good, bad.borrow_bytes = NULL;
    EXPECT_FAILURE(!rt_set_value_ops(&bad), RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(!rt_set_value_ops(NULL), RT_ERROR_INVALID_ARGUMENT);

    EXPECT(rt_set_value_ops(&good));
    RtMapping file = rt_mmap_file(file_with("own", "abc\0d", 5), RT_PROT_READ, RT_MAP_PRIVATE, 0, 0);
    EXPECT(is_own(rt_mmap_read_bytes(file.address, 0, 5), 'b', "abc\0d", 5));
    EXPECT(is_own(rt_mmap_read_string(file.address, 1, 0), 's', "bc", 2));
    EXPECT(is_own(rt_mmap_read_bytes(file.address, 0, 6), 'b', "", 0));
    EXPECT(is_own(rt_mmap_read_string(file.address, 0, -1), 's', "", 0));
    EXPECT(rt_munmap(file.address, file.size));

    uint8_t code[CODE_SIZE];
    int64_t length = code_returning(code, 42), memory = rt_alloc_exec_memory(length);
    RtValue value = own_bytes(code, length), text = own_string(code, length);
    EXPECT(rt_write_exec_memory(memory, value, 0) == length && rt_make_executable(memory, length));
    EXPECT(rt_call_function_0(memory) == 42);
    EXPECT_FAILURE(rt_write_exec_memory(memory, text, 0) == -1, RT_ERROR_BAD_VALUE);
    EXPECT(rt_free_exec_memory(memory, length));
    free((void *)(uintptr_t)value);
    free((void *)(uintptr_t)text);
}

const Rule further_rules[] = {
    {"rt_abi_version", version},
    {"rt_symbol_lookup", looking_up_symbols},
    {"rt_register_symbols", registering_symbols},
    {"rt_call_function_3 to _6", calling_with_more_arguments},
    {"rt_try_call", trying_to_call},
    {"rt_alloc_exec_memory_near", allocating_near},
    {"rt_exec_memory_stats", statistics},
    {"rt_set_hardening", hardening},
    {"rt_exec_memory_set_limit", limits},
    {"rt_last_error, rt_error_message", errors},
    {"built-in values", built_in_values},
    {0},
};

const Rule own_value_rules[] = {
    {"rt_set_value_ops", own_values},
    {0},
};
