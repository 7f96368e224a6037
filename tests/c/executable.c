/* Section 3 of the contract: executable memory. */
#define _POSIX_C_SOURCE 200809L

#include "client.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const int32_t READ_WRITE = RT_PROT_READ | RT_PROT_WRITE;
static const int32_t READ_EXEC = RT_PROT_READ | RT_PROT_EXEC;

static uint8_t *memory_at(int64_t address) { return (uint8_t *)(uintptr_t)address; }

/* What pages of code memory allow to their user. */
static int32_t code_protection(void) {
    return rt_exec_memory_policy() == RT_POLICY_RWX ? READ_WRITE | RT_PROT_EXEC : READ_EXEC;
}

static void policy(void) {
    const char *wish = getenv("EXECMEM_POLICY");
    int32_t before = rt_exec_memory_policy();
    EXPECT(before == RT_POLICY_AUTO || wish);
    EXPECT_FAILURE(!rt_exec_memory_set_policy(99), RT_ERROR_INVALID_ARGUMENT);
    EXPECT(rt_exec_memory_policy() == before);
    EXPECT(rt_exec_memory_set_policy(before));

    int64_t memory = rt_alloc_exec_memory(1);
    int32_t chosen = rt_exec_memory_policy();
    EXPECT(memory > 0 && chosen != RT_POLICY_AUTO && (before == RT_POLICY_AUTO || chosen == before));
    EXPECT(!rt_exec_memory_set_policy(chosen == RT_POLICY_DUAL ? RT_POLICY_TOGGLE : RT_POLICY_DUAL));
    EXPECT(rt_exec_memory_policy() == chosen);
    EXPECT(rt_free_exec_memory(memory, 1));
}

static void allocating_executable_memory(void) {
    int64_t memory = rt_alloc_exec_memory(100);
    EXPECT(memory > 0 && memory % rt_get_page_size() == 0);
    EXPECT(rt_get_protection(memory) == code_protection());
    for (int byte = 0; byte < 100; byte++) EXPECT(memory_at(memory)[byte] == 0);
    EXPECT(rt_free_exec_memory(memory, 100));
    EXPECT_FAILURE(rt_alloc_exec_memory(0) == 0, RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(rt_alloc_exec_memory(-1) == 0, RT_ERROR_INVALID_ARGUMENT);
    EXPECT(rt_alloc_exec_memory(INT64_MAX) == 0);
    EXPECT_FAILURE(rt_alloc_exec_memory(INT64_C(1) << 40) == 0, RT_ERROR_OVER_LIMIT);
}

static void allocating_writable_memory(void) {
    int64_t memory = rt_alloc_rw_memory(100);
    EXPECT(memory > 0 && rt_get_protection(memory) == READ_WRITE);
    memory_at(memory)[99] = 1;
    EXPECT(rt_free_exec_memory(memory, 100));
    EXPECT(rt_alloc_rw_memory(0) == 0 && rt_alloc_rw_memory(-1) == 0 && rt_alloc_rw_memory(INT64_MAX) == 0);
    EXPECT_FAILURE(rt_alloc_rw_memory(INT64_C(1) << 40) == 0, RT_ERROR_OVER_LIMIT);
}

static void freeing(void) {
    int64_t memory = rt_alloc_exec_memory(100), page = rt_get_page_size();
    EXPECT_FAILURE(!rt_free_exec_memory(memory, 99), RT_ERROR_WRONG_SIZE);
    EXPECT(!rt_free_exec_memory(memory + 1, 99) && !rt_free_exec_memory(memory, 0));
    EXPECT(rt_is_executable(memory));
    EXPECT(rt_free_exec_memory(memory, page));
    EXPECT_FAILURE(!rt_free_exec_memory(memory, page), RT_ERROR_NOT_OWNED);
    EXPECT(!rt_free_exec_memory(0, 100) && !rt_free_exec_memory(-page, 100));
}

static void writing_values(void) {
    uint8_t code[CODE_SIZE];
    int64_t length = code_returning(code, 42), page = rt_get_page_size();
    int64_t memory = rt_alloc_exec_memory(page);
    RtValue value = rt_value_bytes(code, length), empty = rt_value_bytes(NULL, 0);
    EXPECT(rt_write_exec_memory(memory, value, 0) == length);
    EXPECT(memcmp(memory_at(memory), code, (size_t)length) == 0);
    EXPECT(rt_write_exec_memory(memory, value, page - length) == length);
    EXPECT(rt_write_exec_memory(memory + 64, value, 0) == length);
    EXPECT(rt_write_exec_memory(memory, empty, 0) == 0);
    EXPECT(rt_write_exec_memory(memory, value, page - length + 1) == -1);
    EXPECT(rt_write_exec_memory(memory, value, -1) == -1);
    EXPECT(rt_write_exec_memory(memory, value, INT64_MAX) == -1);
    EXPECT_FAILURE(rt_write_exec_memory(memory, 0x3, 0) == -1, RT_ERROR_BAD_VALUE);
    EXPECT(rt_value_free(value) && rt_value_free(empty));
    EXPECT_FAILURE(rt_write_exec_memory(memory, value, 0) == -1, RT_ERROR_BAD_VALUE);
    EXPECT(rt_free_exec_memory(memory, page));
    EXPECT_FAILURE(rt_write_exec_bytes(memory, code, length, 0) == -1, RT_ERROR_NOT_OWNED);
}

static void writing_bytes(void) {
    uint8_t code[CODE_SIZE];
    int64_t length = code_returning(code, 42);
    int64_t memory = rt_alloc_exec_memory(100);
    EXPECT(rt_write_exec_bytes(memory, code, length, 100 - length) == length);
    EXPECT(rt_write_exec_bytes(memory, code, length, 101 - length) == -1);
    EXPECT(rt_write_exec_bytes(memory, NULL, 1, 0) == -1);
    EXPECT(rt_write_exec_bytes(memory, code, -1, 0) == -1);
    EXPECT(rt_write_exec_bytes(memory, code, 0, 0) == 0);
    EXPECT(rt_free_exec_memory(memory, 100));
}

/* What was sealed stays for as long as the process, so this seals nothing. */
static void sealing(void) {
    int64_t memory = rt_alloc_rw_memory(100);
    EXPECT_FAILURE(!rt_seal(memory, 100), RT_ERROR_WRONG_PROTECTION);
    EXPECT_FAILURE(!rt_seal(memory, 99), RT_ERROR_WRONG_SIZE);
    EXPECT_FAILURE(!rt_seal(memory + 1, 99), RT_ERROR_NOT_OWNED);
    EXPECT(rt_free_exec_memory(memory, 100));
}

static void making_memory_executable(void) {
    uint8_t code[CODE_SIZE];
    int64_t length = code_returning(code, 42);
    int64_t memory = rt_alloc_rw_memory(length);
    memcpy(memory_at(memory), code, (size_t)length);
    EXPECT_FAILURE(rt_call_function_0(memory) == -1, RT_ERROR_NOT_EXECUTABLE);
    EXPECT(rt_make_executable(memory, length) && rt_get_protection(memory) == READ_EXEC);
    EXPECT(rt_call_function_0(memory) == 42);
    EXPECT(rt_make_executable(memory, length));
    EXPECT_FAILURE(rt_write_exec_bytes(memory, code, length, 0) == -1, RT_ERROR_WRONG_PROTECTION);

    EXPECT(rt_make_writable(memory, length) && rt_get_protection(memory) == READ_WRITE);
    EXPECT(!rt_is_executable(memory));
    length = code_returning(code, 43);
    EXPECT(rt_write_exec_bytes(memory, code, length, 0) == length);
    EXPECT(rt_make_executable(memory, length) && rt_call_function_0(memory) == 43);

    EXPECT(rt_free_exec_memory(memory, length));
    EXPECT_FAILURE(!rt_make_executable(memory, length), RT_ERROR_NOT_OWNED);
    EXPECT_FAILURE(!rt_make_writable(memory, length), RT_ERROR_NOT_OWNED);
    EXPECT(!rt_make_executable(0, 1) && !rt_make_executable(memory, 0));
}

static void flushing_after_a_rewrite(void) {
    uint8_t code[CODE_SIZE];
    int64_t memory = rt_alloc_exec_memory(CODE_SIZE);
    for (uint8_t round = 0; round < 100; round++) {
        int64_t length = code_returning(code, round);
        EXPECT(rt_write_exec_bytes(memory, code, length, 0) == length);
        rt_flush_icache(memory, length);
        EXPECT(rt_call_function_0(memory) == round);
    }
    EXPECT(rt_free_exec_memory(memory, CODE_SIZE));
}

static void function_pointers(void) {
    EXPECT(rt_get_function_pointer(0x1000) == 0x1000);
    EXPECT(rt_get_function_pointer(0) == 0 && rt_get_function_pointer(-1) == 0);
}

static void calling(void) {
    uint8_t code[CODE_SIZE];
    int64_t length = code_returning(code, 42);
    int64_t constant = executable(code, length);
    EXPECT(rt_call_function_0(constant) == 42);
    int64_t one = executable(code, code_of_digits(code, 1));
    EXPECT(rt_call_function_1(one, INT64_MIN) == INT64_MIN);
    int64_t two = executable(code, code_of_digits(code, 2));
    EXPECT(rt_call_function_2(two, 4, 2) == 42);

    EXPECT(rt_free_exec_memory(constant, length));
    int64_t not_code[] = {0, -1, INT64_MIN, INT64_MAX, 64, constant, (int64_t)(uintptr_t)&code};
    for (size_t each = 0; each < sizeof not_code / sizeof *not_code; each++) {
        EXPECT_FAILURE(rt_call_function_0(not_code[each]) == -1, RT_ERROR_NOT_EXECUTABLE);
        EXPECT_FAILURE(rt_call_function_1(not_code[each], 1) == -1, RT_ERROR_NOT_EXECUTABLE);
        EXPECT_FAILURE(rt_call_function_2(not_code[each], 1, 2) == -1, RT_ERROR_NOT_EXECUTABLE);
    }
    EXPECT(rt_free_exec_memory(one, code_of_digits(code, 1)));
    EXPECT(rt_free_exec_memory(two, code_of_digits(code, 2)));
}

static void asking_about_addresses(void) {
    int64_t code = rt_alloc_exec_memory(1), data = rt_alloc_rw_memory(1), page = rt_get_page_size();
    EXPECT(rt_is_executable(code) && rt_is_executable(code + page - 1) && !rt_is_executable(data));
    EXPECT(rt_free_exec_memory(code, 1) && rt_free_exec_memory(data, 1));
    EXPECT(!rt_is_executable(code) && rt_get_protection(data) == -1);

    int64_t function = (int64_t)(uintptr_t)&asking_about_addresses, variable = (int64_t)(uintptr_t)&code;
    EXPECT(rt_is_executable(function) && rt_get_protection(function) == READ_EXEC);
    EXPECT(!rt_is_executable(variable) && rt_get_protection(variable) == READ_WRITE);
    EXPECT(!rt_is_executable(0) && !rt_is_executable(-1) && !rt_is_executable(64));
    EXPECT(rt_get_protection(0) == -1 && rt_get_protection(-1) == -1 && rt_get_protection(64) == -1);
}

static void setting_protection(void) {
    int64_t page = rt_get_page_size(), memory = rt_alloc_rw_memory(3 * page);
    EXPECT(rt_set_protection(memory + page + 1, 1, RT_PROT_NONE));
    EXPECT(rt_get_protection(memory) == READ_WRITE && rt_get_protection(memory + page) == RT_PROT_NONE);
    EXPECT(rt_get_protection(memory + 2 * page) == READ_WRITE);
    EXPECT(rt_set_protection(memory, 3 * page, RT_PROT_READ) && rt_get_protection(memory + page) == RT_PROT_READ);
    EXPECT(rt_set_protection(memory, page, READ_EXEC) && rt_is_executable(memory));
    if (rt_exec_memory_policy() == RT_POLICY_RWX)
        EXPECT(rt_set_protection(memory, page, READ_WRITE | RT_PROT_EXEC));
    else
        EXPECT_FAILURE(!rt_set_protection(memory, page, READ_WRITE | RT_PROT_EXEC), RT_ERROR_REFUSED);
    EXPECT_FAILURE(!rt_set_protection(memory, page, 8), RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(!rt_set_protection(memory, 3 * page + 1, RT_PROT_READ), RT_ERROR_NOT_OWNED);
    EXPECT(rt_free_exec_memory(memory, 3 * page));
    EXPECT_FAILURE(!rt_set_protection(memory, page, RT_PROT_READ), RT_ERROR_NOT_OWNED);
}

static void totals(void) {
    int64_t count = rt_exec_memory_count(), total = rt_exec_memory_total();
    int64_t code = rt_alloc_exec_memory(100), data = rt_alloc_rw_memory(5000);
    EXPECT(rt_exec_memory_count() == count + 2 && rt_exec_memory_total() == total + 5100);
    EXPECT(rt_free_exec_memory(code, 100));
    EXPECT(rt_exec_memory_count() == count + 1 && rt_exec_memory_total() == total + 5000);
    EXPECT(rt_free_exec_memory(data, 5000));
    EXPECT(rt_exec_memory_count() == count && rt_exec_memory_total() == total);
}

/* What the dump writes to the standard error stream. */
static void dump_into(char *text, size_t size) {
    int kept = dup(STDERR_FILENO);
    int file = open(path_of("dump"), O_RDWR | O_CREAT | O_TRUNC, 0600);
    dup2(file, STDERR_FILENO);
    rt_exec_memory_dump_stats();
    dup2(kept, STDERR_FILENO);
    ssize_t length = pread(file, text, size - 1, 0);
    text[length < 0 ? 0 : length] = 0;
    close(file);
    close(kept);
}

static void dumping(void) {
    static char text[4096];
    int64_t one = rt_alloc_exec_memory(4321), two = rt_alloc_rw_memory(8765);
    dump_into(text, sizeof text);
    EXPECT(rt_free_exec_memory(one, 4321) && rt_free_exec_memory(two, 8765));
    int lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++) lines++;
    EXPECT(lines == 5 && strstr(text, "13086"));
    char address[2][32];
    snprintf(address[0], sizeof address[0], "%llx", (unsigned long long)one);
    snprintf(address[1], sizeof address[1], "%llx", (unsigned long long)two);
    const char *first = strstr(text, address[one > two]), *second = strstr(text, address[one < two]);
    EXPECT(first && second && first < second);
    EXPECT(strstr(text, "4321") && strstr(text, "8765"));
}

static void *make_and_call(void *failures) {
    uint8_t code[CODE_SIZE];
    for (int round = 0; round < 200; round++) {
        int64_t length = code_returning(code, (uint8_t)round), memory = rt_alloc_exec_memory(length);
        bool good = rt_write_exec_bytes(memory, code, length, 0) == length;
        rt_flush_icache(memory, length);
        good = good && rt_call_function_0(memory) == (uint8_t)round && rt_free_exec_memory(memory, length);
        *(int *)failures += !good;
    }
    return NULL;
}

static void several_threads(void) {
    pthread_t threads[4];
    int failures[4] = {0};
    int64_t count = rt_exec_memory_count();
    for (int each = 0; each < 4; each++)
        EXPECT(pthread_create(&threads[each], NULL, make_and_call, &failures[each]) == 0);
    for (int each = 0; each < 4; each++) {
        EXPECT(pthread_join(threads[each], NULL) == 0);
        EXPECT(failures[each] == 0);
    }
    EXPECT(rt_exec_memory_count() == count);
}

const Rule first_rules[] = {
    {"the policy is chosen by the first allocation", policy},
    {0},
};

const Rule executable_rules[] = {
    {"rt_alloc_exec_memory", allocating_executable_memory},
    {"rt_alloc_rw_memory", allocating_writable_memory},
    {"rt_free_exec_memory", freeing},
    {"rt_seal", sealing},
    {"rt_write_exec_memory", writing_values},
    {"rt_write_exec_bytes", writing_bytes},
    {"rt_make_executable, rt_make_writable", making_memory_executable},
    {"rt_flush_icache", flushing_after_a_rewrite},
    {"rt_get_function_pointer", function_pointers},
    {"rt_call_function_0 to _2", calling},
    {"rt_is_executable, rt_get_protection", asking_about_addresses},
    {"rt_set_protection", setting_protection},
    {"rt_exec_memory_total, rt_exec_memory_count", totals},
    {"rt_exec_memory_dump_stats", dumping},
    {"several threads", several_threads},
    {0},
};
