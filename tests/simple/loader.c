/*
 * What the Simple language's loader does, in its order, through the interpreter's table. The last line gives the counts;
 * a program without execmem, or with stubs in its place, ends with 2.
 */
#define _POSIX_C_SOURCE 200809L

#include "runtime.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int failures = 0;

#define EXPECT(condition) \
    ((condition) ? (void)0 : (failures++, (void)printf("not so: %s (line %d)\n", #condition, __LINE__)))
#define EXPECT_ERROR(condition, code) (EXPECT(condition), EXPECT(CALL("rt_last_error", 0) == (code)))

/* A function that returns its cell: eight bytes at CELL, the first of them at a multiple of eight. */
enum { CELL = 16, CODE_SIZE = 24 };
#if defined(__x86_64__)
static const uint8_t code[CODE_SIZE] = {0x48, 0x8b, 0x05, 9, 0, 0, 0, 0xc3}; /* mov rax, [rip + 9]; ret */
static const uint8_t slot[8] = {0xb8, 0, 0, 0, 0, 0xc3, 0x90, 0x90};         /* mov eax, n; ret */
static void set_slot(uint8_t *bytes, uint8_t value) { bytes[1] = value; }
#elif defined(__aarch64__)
static const uint8_t code[CODE_SIZE] = {0x80, 0, 0, 0x58, 0xc0, 0x03, 0x5f, 0xd6}; /* ldr x0, #16; ret */
static const uint8_t slot[8] = {0, 0, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6};         /* mov w0, n; ret */
static void set_slot(uint8_t *bytes, uint8_t value) { bytes[0] = (uint8_t)(value << 5), bytes[1] = value >> 3; }
#elif defined(__riscv)
static const uint8_t code[CODE_SIZE] = {0x17, 0x05, 0, 0, 0x03, 0x35, 0x05, 0x01, 0x67, 0x80, 0, 0};
static const uint8_t slot[8] = {0x13, 0x05, 0, 0, 0x67, 0x80, 0, 0}; /* li a0, n; ret */
static void set_slot(uint8_t *bytes, uint8_t value) { bytes[2] = (uint8_t)(value << 4), bytes[3] = value >> 4; }
#else
#error "no machine code is written down for this processor"
#endif

static int64_t word_of(const void *pointer) { return (int64_t)(uintptr_t)pointer; }

static int64_t count(void) { return CALL("rt_exec_memory_count", 0); }
static int64_t total(void) { return CALL("rt_exec_memory_total", 0); }

static bool write_cell(int64_t base, int64_t value) {
    return CALL("rt_write_exec_bytes", base, word_of(&value), sizeof value, CELL) == sizeof value;
}

/* Memory with the code, still to be written. */
static int64_t unsealed(void) {
    int64_t base = CALL("rt_alloc_rw_memory", CODE_SIZE);
    EXPECT(base > 0);
    Value bytes = byte_array(code, CODE_SIZE);
    EXPECT(CALL("rt_write_exec_memory", base, (int64_t)bytes, 0) == CODE_SIZE);
    rt_value_free(bytes);
    return base;
}

static void seal(int64_t base, int64_t size) {
    EXPECT(CALL("rt_make_executable", base, size) == 1);
    EXPECT(CALL("rt_flush_icache", base, size) == 0);
}

static void unload(int64_t base, int64_t size) { EXPECT(CALL("rt_free_exec_memory", base, size) == 1); }

/* No word of the built-in store is taken for a value of the runtime's. */
static void values_before_registration(void) {
    int64_t base = CALL("rt_alloc_rw_memory", 8);
    for (int each = 0; each < 100; each++) {
        const Value made[] = {
            (Value)CALL("rt_mmap_read_bytes", base, 0, 8),
            (Value)CALL("rt_mmap_read_string", base, 0, 0),
            (Value)CALL("rt_mmap_read_bytes", base, 0, 9), /* an empty one: it fails */
            (Value)CALL("rt_value_bytes", base, 8),
        };
        for (size_t which = 0; which < sizeof made / sizeof *made; which++) {
            EXPECT(tag(made[which]) > TAG_SPECIAL);
            EXPECT(each % 2 == 0 || CALL("rt_value_free", (int64_t)made[which]) == 1);
        }
    }
    Value ours = byte_array(slot, sizeof slot);
    EXPECT_ERROR(CALL("rt_write_exec_memory", base, (int64_t)ours, 0) == -1, RT_ERROR_BAD_VALUE);
    EXPECT((Value)CALL("rt_value_bytes", 0, 1) == NIL);
    rt_value_free(ours);
    unload(base, 8);
}

static void own_values(void) {
    int64_t base = CALL("rt_alloc_rw_memory", 8), length = 0;
    EXPECT(CALL("rt_write_exec_bytes", base, word_of("abc"), 4, 0) == 4);
    Value bytes = (Value)CALL("rt_mmap_read_bytes", base, 1, 3), text = (Value)CALL("rt_mmap_read_string", base, 0, 0);
    EXPECT(tag(bytes) == TAG_HEAP && memcmp(bytes_of(bytes, &length), "bc", 3) == 0 && length == 3);
    EXPECT(tag(text) == TAG_HEAP && memcmp(bytes_of(text, &length), "abc", 3) == 0 && length == 3);
    /* A string is no byte array; neither is what isn't on the heap. */
    const Value others[] = {text, NIL, TRUE_VALUE, FALSE_VALUE, 42 << 3, 0x4045000000000002};
    for (size_t which = 0; which < sizeof others / sizeof *others; which++)
        EXPECT_ERROR(CALL("rt_write_exec_memory", base, (int64_t)others[which], 0) == -1, RT_ERROR_BAD_VALUE);
    rt_value_free(bytes), rt_value_free(text);
    unload(base, 8);
}

static void write_seal_flush_call(void) {
    int64_t base = unsealed();
    EXPECT(write_cell(base, 42));
    seal(base, CODE_SIZE);
    EXPECT(CALL("rt_call_function_0", base) == 42 && CALL("rt_is_executable", base) == 1);
    unload(base, CODE_SIZE);
    EXPECT_ERROR(CALL("rt_call_function_0", base) == -1, RT_ERROR_NOT_EXECUTABLE);
}

/* One mapping for a segment, not one for a symbol. */
static void slots_in_a_segment(void) {
    int64_t base = CALL("rt_alloc_rw_memory", 3 * sizeof slot), before = count();
    for (int64_t each = 0; each < 3; each++) {
        uint8_t bytes[sizeof slot];
        memcpy(bytes, slot, sizeof slot);
        set_slot(bytes, (uint8_t)(11 * (each + 1)));
        int64_t offset = each * (int64_t)sizeof slot;
        EXPECT(CALL("rt_write_exec_bytes", base, word_of(bytes), sizeof slot, offset) == sizeof slot);
    }
    seal(base, 3 * sizeof slot);
    for (int64_t each = 0; each < 3; each++)
        EXPECT(CALL("rt_call_function_0", base + each * (int64_t)sizeof slot) == 11 * (each + 1));
    EXPECT(count() == before);
    unload(base, 3 * sizeof slot);
}

static void relocate_then_seal_once(void) {
    int64_t base = unsealed();
    EXPECT(write_cell(base, 1) && write_cell(base, word_of(code)));
    seal(base, CODE_SIZE);
    EXPECT(CALL("rt_call_function_0", base) == word_of(code));
    /* Sealed is sealed, until it is opened again. */
    EXPECT_ERROR(!write_cell(base, 2), RT_ERROR_WRONG_PROTECTION);
    EXPECT(CALL("rt_make_writable", base, CODE_SIZE) == 1 && write_cell(base, 3));
    seal(base, CODE_SIZE);
    EXPECT(CALL("rt_call_function_0", base) == 3);
    unload(base, CODE_SIZE);
}

static void patch_a_cell(void) {
    int64_t block = CALL("rt_code_alloc", CODE_SIZE), first = 5;
    EXPECT(CALL("rt_code_write", block, word_of(code), CODE_SIZE, 0) == CODE_SIZE);
    EXPECT(CALL("rt_code_write", block, word_of(&first), sizeof first, CELL) == sizeof first);
    EXPECT(CALL("rt_code_publish", block, CODE_SIZE) == 1 && CALL("rt_call_function_0", block) == 5);
    /* Under `toggle` nothing can be patched while it may be executed. */
    bool can = CALL("rt_exec_memory_policy", 0) != RT_POLICY_TOGGLE;
    EXPECT(CALL("rt_code_patch", block + CELL, 6) == can);
    EXPECT(CALL("rt_call_function_0", block) == (can ? 6 : 5));
    EXPECT_ERROR(CALL("rt_code_patch", block + CELL + 1, 7) == 0, RT_ERROR_INVALID_ARGUMENT);
    EXPECT(CALL("rt_code_free", block) == 1);
}

/* The old version's memory is given back before there is a new one, so that there are never two. */
static void replace(void) {
    int64_t before = count(), bytes = total(), base = 0;
    for (int64_t version = 1; version <= 20; version++) {
        if (base != 0) unload(base, CODE_SIZE);
        EXPECT(count() == before);
        base = unsealed();
        EXPECT(write_cell(base, version));
        seal(base, CODE_SIZE);
        EXPECT(CALL("rt_call_function_0", base) == version);
        EXPECT(count() == before + 1 && total() == bytes + CODE_SIZE);
    }
    unload(base, CODE_SIZE);
    EXPECT_ERROR(CALL("rt_free_exec_memory", base, CODE_SIZE) == 0, RT_ERROR_NOT_OWNED);
}

/* A module's last 128 bytes say what is where in it. */
typedef struct {
    char magic[8];
    int64_t code_offset, code_size, name_offset;
    uint8_t rest[96];
} Trailer;

_Static_assert(sizeof(Trailer) == 128, "a trailer has 128 bytes");

static char path[64];

static int64_t write_module(void) {
    uint8_t module[5000] = {0};
    const Trailer trailer = {.magic = "SMF\1", .code_offset = 4100, .code_size = CODE_SIZE, .name_offset = 10};
    memcpy(module + trailer.name_offset, "answer", 6);
    memcpy(module + trailer.code_offset, code, CODE_SIZE);
    module[trailer.code_offset + CELL] = 77;
    memcpy(module + sizeof module - sizeof trailer, &trailer, sizeof trailer);
    strcpy(path, "/tmp/execmem-simple-XXXXXX");
    int file = mkstemp(path);
    EXPECT(file >= 0 && write(file, module, sizeof module) == (ssize_t)sizeof module && close(file) == 0);
    return sizeof module;
}

static void load_module(int64_t mapping, int64_t file_size) {
    int64_t size = CALL("rt_mapping_size", mapping), length = 0;
    EXPECT(size == file_size);
    Value read = (Value)CALL("rt_mmap_read_bytes", mapping, size - (int64_t)sizeof(Trailer), sizeof(Trailer));
    Trailer trailer;
    EXPECT(bytes_of(read, &length) != NULL && length == sizeof trailer);
    memcpy(&trailer, bytes_of(read, &length), sizeof trailer);
    rt_value_free(read);
    EXPECT(memcmp(trailer.magic, "SMF\1", 4) == 0);
    Value name = (Value)CALL("rt_mmap_read_string", mapping, trailer.name_offset, 0);
    EXPECT(bytes_of(name, &length) != NULL && length == 6 && memcmp(bytes_of(name, &length), "answer", 6) == 0);
    rt_value_free(name);

    int64_t base = CALL("rt_alloc_rw_memory", trailer.code_size);
    Value bytes = (Value)CALL("rt_mmap_read_bytes", mapping, trailer.code_offset, trailer.code_size);
    EXPECT(CALL("rt_write_exec_memory", base, (int64_t)bytes, 0) == CODE_SIZE);
    rt_value_free(bytes);
    seal(base, trailer.code_size);
    EXPECT(CALL("rt_munmap", mapping, size) == 1);
    EXPECT(CALL("rt_call_function_0", base) == 77);
    unload(base, trailer.code_size);
}

static void modules(void) {
    int64_t size = write_module();
    load_module(CALL("rt_mmap_path", word_of(path), (int64_t)strlen(path), RT_PROT_READ, RT_MAP_PRIVATE, 0), size);
    int file = open(path, O_RDONLY);
    load_module(CALL("rt_mmap_fd", file, RT_PROT_READ, RT_MAP_PRIVATE, 0, 0), size);

    /* By the names that the loader calls today. Its windows are whole pages. */
    int64_t page = rt_page_size(), whole = (size + page - 1) / page * page;
    int64_t mapping = rt_mmap_raw(0, whole, RT_PROT_READ, RT_MAP_PRIVATE, file, 0);
    EXPECT(mapping > 0 && CALL("rt_mapping_size", mapping) == size && rt_munmap_raw(mapping, whole) == 0);
    EXPECT_ERROR(rt_mmap_raw(0, whole + 1, RT_PROT_READ, RT_MAP_PRIVATE, file, 0) == -1, RT_ERROR_OUT_OF_RANGE);
    EXPECT(lseek(file, 0, SEEK_CUR) == 0 && close(file) == 0 && unlink(path) == 0);
    EXPECT_ERROR(rt_mmap_raw(0, 1, RT_PROT_READ, RT_MAP_PRIVATE, file, 0) == -1, RT_ERROR_INVALID_ARGUMENT);
}

static int64_t sum_of_six(int64_t a, int64_t b, int64_t c, int64_t d, int64_t e, int64_t f) {
    return a + 10 * b + 100 * c + 1000 * d + 10000 * e + 100000 * f;
}
static int64_t three(int64_t a, int64_t b, int64_t c) { return a + 10 * b + 100 * c; }

static void names_of_today(void) {
    const int64_t anonymous = RT_MAP_PRIVATE | RT_MAP_ANONYMOUS, read_write = RT_PROT_READ | RT_PROT_WRITE;
    int64_t page = rt_page_size(), base = rt_mmap_raw(0, CODE_SIZE, read_write, anonymous, -1, 0), cell = 9;
    EXPECT(page == CALL("rt_get_page_size", 0) && base > 0);
    EXPECT(rt_ptr_write_bytes_raw(base, 0, word_of(code), CODE_SIZE) == CODE_SIZE);
    EXPECT(rt_ptr_write_bytes_raw(base, CELL, word_of(&cell), 8) == 8);
    EXPECT(rt_ptr_write_bytes_raw(base, CELL + 1, word_of(&cell), 8) == 0 && rt_ptr_write_bytes_raw(base, 0, 0, 1) == 0);
    EXPECT_ERROR(rt_ptr_write_bytes_raw(word_of(&cell), 0, word_of(code), 1) == 0, RT_ERROR_NOT_OWNED);
    EXPECT_ERROR(rt_call_ptr_0(base) == -1, RT_ERROR_NOT_EXECUTABLE);
    EXPECT(rt_mprotect(base, CODE_SIZE, RT_PROT_READ | RT_PROT_EXEC) == 0 && rt_call_ptr_0(base) == 9);
    EXPECT(rt_mprotect(base, CODE_SIZE, 8) == -1 && rt_mprotect(base + page, 1, RT_PROT_READ) == -1);
    EXPECT(rt_madvise_raw(base, CODE_SIZE, RT_ADVICE_WILLNEED) == 0 && rt_madvise_raw(base, CODE_SIZE, 99) == -1);
    EXPECT(rt_msync_flags(base, CODE_SIZE, 4) == 0 && rt_msync_flags(base, CODE_SIZE, 1 | 2) == 0);
    EXPECT(rt_msync_flags(base, CODE_SIZE, 0) == -1 && rt_msync_flags(base, CODE_SIZE, 1 | 4) == -1);
    EXPECT_ERROR(rt_munmap_raw(base, page + 1) == -1, RT_ERROR_WRONG_SIZE);
    EXPECT_ERROR(rt_munmap_raw(base + 1, CODE_SIZE) == -1, RT_ERROR_NOT_OWNED);
    EXPECT(rt_munmap_raw(base, page) == 0 && rt_munmap_raw(base, page) == -1);
    EXPECT(rt_mmap_raw(0, 0, read_write, anonymous, -1, 0) == -1);
    EXPECT(rt_mmap_raw(0, 8, read_write, anonymous | RT_MAP_FIXED, -1, 0) == -1);

    EXPECT(rt_call_ptr_3((int64_t)(uintptr_t)three, 1, 2, 3) == 321);
    EXPECT(rt_dyncall_6((int64_t)(uintptr_t)sum_of_six, 1, 2, 3, 4, 5, 6) == 654321);
    EXPECT(rt_dyncall_0(0) == -1 && rt_dyncall_0(-1) == -1 && rt_dyncall_6(INT64_MIN, 1, 2, 3, 4, 5, 6) == -1);
}

/* What failed is told until something else fails, whatever the interpreter calls between. */
static void errors_between_calls(void) {
    EXPECT_ERROR(CALL("rt_make_executable", 1, 1) == 0, RT_ERROR_NOT_OWNED);
    int64_t base = CALL("rt_alloc_rw_memory", 1);
    EXPECT(base > 0 && CALL("rt_get_page_size", 0) > 0 && CALL("rt_is_executable", 1) == 0);
    unload(base, 1);
    EXPECT(CALL("rt_last_error", 0) == RT_ERROR_NOT_OWNED);
    const char *sentence = (const char *)(uintptr_t)CALL("rt_error_message", CALL("rt_last_error", 0));
    EXPECT(strlen(sentence) > 10);
}

/* The seven names are the runtime's to its linker, and execmem's in the table. */
static void own_functions(void) {
    own_calls = 0;
    EXPECT(rt_mlock(1, 1) == 0 && rt_munlock(1, 1) == 0 && rt_msync(1, 1) && rt_madvise(1, 1, 4));
    Value message = rt_error_message(1 << 3);
    EXPECT(tag(message) == TAG_HEAP && rt_munmap(1, 1));
    rt_value_free(message);
    EXPECT(own_calls == 7);
    int64_t base = CALL("rt_mmap_fd", -1, RT_PROT_READ | RT_PROT_WRITE, RT_MAP_PRIVATE | RT_MAP_ANONYMOUS, 0, 8);
    EXPECT(CALL("rt_mlock", base, 8) == 1 && CALL("rt_munlock", base, 8) == 1 && CALL("rt_msync", base, 8, 0) == 1);
    EXPECT(CALL("rt_madvise", base, 8, 0) == 1 && CALL("rt_munmap", base, 8) == 1 && own_calls == 7);
}

int main(void) {
    if (!fill_table()) {
        puts("this program has no execmem that it knows");
        return 2;
    }
    int64_t before = count(), bytes = total();
    void (*const steps[])(void) = {
        values_before_registration, own_values,   write_seal_flush_call, slots_in_a_segment,   relocate_then_seal_once,
        patch_a_cell,               replace,      modules,               names_of_today,       errors_between_calls,
        own_functions,
    };
    int passed = 0, failed = 0;
    for (size_t each = 0; each < sizeof steps / sizeof *steps; each++) {
        if (each == 1) EXPECT(register_values());
        int earlier = failures;
        steps[each]();
        /* Whatever was loaded is unloaded. */
        EXPECT(count() == before && total() == bytes && live_values() == 0);
        failures == earlier ? passed++ : failed++;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
