/* Section 2 of the contract: mapped files. */
#define _POSIX_C_SOURCE 200809L

#include "client.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char GREETING[] = "Hello, mmap!";
enum { GREETING_SIZE = sizeof GREETING - 1 };

static const int32_t READ_WRITE = RT_PROT_READ | RT_PROT_WRITE;

static char *memory_at(int64_t address) { return (char *)(uintptr_t)address; }

static RtMapping map(const char *path, int32_t protection, int32_t flags) {
    return rt_mmap_file(path, protection, flags, 0, 0);
}

static RtMapping map_greeting(void) {
    RtMapping mapping = map(file_with("greeting", GREETING, GREETING_SIZE), RT_PROT_READ, RT_MAP_PRIVATE);
    EXPECT(mapping.address > 0 && mapping.size == GREETING_SIZE);
    return mapping;
}

static RtMapping map_nothing(int64_t size) {
    RtMapping mapping =
        rt_mmap_file(NULL, READ_WRITE, RT_MAP_ANONYMOUS | RT_MAP_PRIVATE, 0, size);
    EXPECT(mapping.address > 0 && mapping.size == size);
    return mapping;
}

static bool unmap(RtMapping mapping) { return rt_munmap(mapping.address, mapping.size); }

static bool is_none(RtMapping mapping) { return mapping.address == 0 && mapping.size == 0; }

static void mapping_a_file(void) {
    RtMapping greeting = map_greeting();
    EXPECT(memcmp(memory_at(greeting.address), GREETING, GREETING_SIZE) == 0);
    EXPECT(greeting.address % rt_get_page_size() == 0);
    EXPECT(rt_get_protection(greeting.address) == RT_PROT_READ);
    EXPECT(unmap(greeting));

    /* A part of a file, from a page's start on. */
    int64_t page = rt_get_page_size();
    char pages[3 * 65536] = {0};
    pages[page] = 'x';
    const char *large = file_with("large", pages, (size_t)page + 100);
    RtMapping part = rt_mmap_file(large, RT_PROT_READ, RT_MAP_SHARED, page, 10);
    EXPECT(part.size == 10 && *memory_at(part.address) == 'x');
    EXPECT(unmap(part));
    part = rt_mmap_file(large, RT_PROT_READ, RT_MAP_PRIVATE, page, 0);
    EXPECT(part.size == 100 && unmap(part));
    EXPECT_FAILURE(is_none(rt_mmap_file(large, RT_PROT_READ, RT_MAP_PRIVATE, page, 101)), RT_ERROR_OUT_OF_RANGE);
    EXPECT(is_none(rt_mmap_file(large, RT_PROT_READ, RT_MAP_PRIVATE, 2 * page, 0)));
    EXPECT_FAILURE(is_none(rt_mmap_file(large, RT_PROT_READ, RT_MAP_PRIVATE, 1, 10)), RT_ERROR_INVALID_ARGUMENT);

    /* A path is any byte string; Apple's file systems have UTF-8 names only. */
#ifdef __APPLE__
    const char *odd_name = "\xc3\xbf";
#else
    const char *odd_name = "\xff\xfe";
#endif
    RtMapping odd = map(file_with(odd_name, "?", 1), RT_PROT_READ, RT_MAP_PRIVATE);
    EXPECT(odd.size == 1 && unmap(odd));
}

static void mapping_with_writing(void) {
    const char *path = file_with("written", GREETING, GREETING_SIZE);
    RtMapping private = map(path, READ_WRITE, RT_MAP_PRIVATE);
    memory_at(private.address)[0] = 'J';
    EXPECT(unmap(private) && file_is(path, GREETING, GREETING_SIZE));
    RtMapping shared = map(path, READ_WRITE, RT_MAP_SHARED);
    memory_at(shared.address)[0] = 'J';
    EXPECT(unmap(shared) && file_is(path, "Jello, mmap!", GREETING_SIZE));
}

static void mapping_of_what_can_not_be_mapped(void) {
    const int32_t private = RT_MAP_PRIVATE;
    EXPECT_FAILURE(is_none(map(path_of("no such file"), RT_PROT_READ, private)), RT_ERROR_NOT_FOUND);
    EXPECT_FAILURE(is_none(map(path_of("."), RT_PROT_READ, private)), RT_ERROR_NOT_REGULAR_FILE);
    EXPECT(mkfifo(path_of("fifo"), 0600) == 0);
    EXPECT_FAILURE(is_none(map(path_of("fifo"), RT_PROT_READ, private)), RT_ERROR_NOT_REGULAR_FILE);
    EXPECT_FAILURE(is_none(map(file_with("empty", "", 0), RT_PROT_READ, private)), RT_ERROR_EMPTY_FILE);
    EXPECT_FAILURE(is_none(map(NULL, RT_PROT_READ, private)), RT_ERROR_INVALID_ARGUMENT);

    const char *path = file_with("greeting", GREETING, GREETING_SIZE);
    const int32_t bad_flags[] = {0, RT_MAP_SHARED | private, private | RT_MAP_FIXED, private | 4,
                                 private | RT_MAP_ANONYMOUS};
    for (size_t each = 0; each < sizeof bad_flags / sizeof *bad_flags; each++)
        EXPECT_FAILURE(is_none(map(path, RT_PROT_READ, bad_flags[each])), RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(is_none(map(path, 8, private)), RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(is_none(rt_mmap_file(path, RT_PROT_READ, private, 0, -1)), RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(is_none(map(NULL, RT_PROT_READ, private | RT_MAP_ANONYMOUS)), RT_ERROR_INVALID_ARGUMENT);
    EXPECT(is_none(rt_mmap_file(path, RT_PROT_READ, private, 0, GREETING_SIZE + 1)));
}

static void results_in_one_register(void) {
    /* No NUL ends the path. */
    const char *path = file_with("greeting", GREETING, GREETING_SIZE);
    char longer[512];
    int64_t length = (int64_t)strlen(path);
    memset(longer, 'x', sizeof longer);
    memcpy(longer, path, (size_t)length);
    int64_t address = rt_mmap_path(longer, length, RT_PROT_READ, RT_MAP_PRIVATE, 0, 0);
    EXPECT(address > 0 && memcmp(memory_at(address), GREETING, GREETING_SIZE) == 0);
    EXPECT(rt_mapping_size(address) == GREETING_SIZE && rt_munmap(address, GREETING_SIZE));
    EXPECT_FAILURE(rt_mapping_size(address) == -1, RT_ERROR_NOT_OWNED);
    EXPECT_FAILURE(rt_mmap_path(path, length + 1, RT_PROT_READ, RT_MAP_PRIVATE, 0, 0) == 0, RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(rt_mmap_path(path, -1, RT_PROT_READ, RT_MAP_PRIVATE, 0, 0) == 0, RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(rt_mmap_path(longer, length + 1, RT_PROT_READ, RT_MAP_PRIVATE, 0, 0) == 0, RT_ERROR_NOT_FOUND);

    /* The descriptor stays open, where it was. */
    int file = open(path, O_RDONLY);
    EXPECT(lseek(file, 7, SEEK_SET) == 7);
    address = rt_mmap_fd(file, RT_PROT_READ, RT_MAP_SHARED, 0, 5);
    EXPECT(address > 0 && memcmp(memory_at(address), "Hello", 5) == 0 && rt_mapping_size(address) == 5);
    EXPECT_FAILURE(rt_mmap_fd(file, READ_WRITE, RT_MAP_SHARED, 0, 5) == 0, RT_ERROR_REFUSED);
    EXPECT(lseek(file, 0, SEEK_CUR) == 7 && close(file) == 0 && *memory_at(address) == 'H');
    EXPECT_FAILURE(rt_mmap_fd(file, RT_PROT_READ, RT_MAP_SHARED, 0, 5) == 0, RT_ERROR_INVALID_ARGUMENT);
    EXPECT(rt_munmap(address, 5));
    int ends[2];
    EXPECT(pipe(ends) == 0);
    EXPECT_FAILURE(rt_mmap_fd(ends[0], RT_PROT_READ, RT_MAP_PRIVATE, 0, 0) == 0, RT_ERROR_NOT_REGULAR_FILE);
    EXPECT(close(ends[0]) == 0 && close(ends[1]) == 0);

    address = rt_mmap_fd(-1, READ_WRITE, RT_MAP_PRIVATE | RT_MAP_ANONYMOUS, 0, 100);
    EXPECT(rt_mapping_size(address) == 100 && rt_munmap(address, 100));
}

static void anonymous_mappings(void) {
    RtMapping zeroes = map_nothing(100);
    EXPECT(memory_at(zeroes.address)[0] == 0 && memory_at(zeroes.address)[99] == 0);
    EXPECT(unmap(zeroes));
}

static void unmapping(void) {
    RtMapping greeting = map_greeting();
    EXPECT(!rt_munmap(greeting.address, GREETING_SIZE + 1) && !rt_munmap(greeting.address, 0));
    EXPECT(!rt_munmap(greeting.address + 1, GREETING_SIZE) && !rt_munmap(0, GREETING_SIZE));
    EXPECT(*memory_at(greeting.address) == 'H');
    EXPECT(unmap(greeting));
    EXPECT_FAILURE(!unmap(greeting), RT_ERROR_NOT_OWNED);
}

static void reading_bytes(void) {
    RtMapping greeting = map_greeting();
    EXPECT(value_is(rt_mmap_read_bytes(greeting.address, 7, 5), "mmap!", 5));
    EXPECT(value_is(rt_mmap_read_bytes(greeting.address, 0, 0), "", 0));
    EXPECT(value_is(rt_mmap_read_bytes(greeting.address, 7, 6), "", 0));
    EXPECT(value_is(rt_mmap_read_bytes(greeting.address, -1, 1), "", 0));
    EXPECT(value_is(rt_mmap_read_bytes(greeting.address, 0, INT64_MAX), "", 0));
    EXPECT(unmap(greeting));
    EXPECT(value_is(rt_mmap_read_bytes(greeting.address, 0, 1), "", 0));
}

static void reading_strings(void) {
    RtMapping greeting = map_greeting();
    EXPECT(value_is(rt_mmap_read_string(greeting.address, 0, 5), "Hello", 5));
    EXPECT(value_is(rt_mmap_read_string(greeting.address, 7, 0), "mmap!", 5));
    EXPECT(value_is(rt_mmap_read_string(greeting.address, 7, 100), "mmap!", 5));
    EXPECT(value_is(rt_mmap_read_string(greeting.address, 0, -1), "", 0));
    EXPECT(unmap(greeting));
    RtMapping bytes = map(file_with("bytes", "a\0b\xff" "c", 5), RT_PROT_READ, RT_MAP_PRIVATE);
    EXPECT(value_is(rt_mmap_read_string(bytes.address, 0, 0), "a", 1));
    EXPECT(value_is(rt_mmap_read_string(bytes.address, 0, 3), "a\0b", 3));
    EXPECT(value_is(rt_mmap_read_string(bytes.address, 2, 3), "b\xef\xbf\xbd" "c", 5));
    EXPECT(unmap(bytes));
}

static void reading_into_own_memory(void) {
    RtMapping greeting = map_greeting();
    uint8_t copy[GREETING_SIZE] = "............";
    EXPECT(rt_mmap_read_into(greeting.address, 7, copy, 5) == 5 && memcmp(copy, "mmap!.......", 12) == 0);
    EXPECT(rt_mmap_read_into(greeting.address, 7, copy, 6) == -1 && copy[5] == '.');
    EXPECT(rt_mmap_read_into(greeting.address, 0, NULL, 1) == -1);
    EXPECT(unmap(greeting));
}

static void reading_a_file_that_shrank(void) {
    const char *path = file_with("shrinking", GREETING, GREETING_SIZE);
    RtMapping mapping = map(path, RT_PROT_READ, RT_MAP_SHARED);
    EXPECT(truncate(path, 0) == 0);
    uint8_t copy[1];
    EXPECT(rt_mmap_read_into(mapping.address, 0, copy, 1) == -1);
    EXPECT(value_is(rt_mmap_read_bytes(mapping.address, 0, 5), "", 0));
    EXPECT(value_is(rt_mmap_read_string(mapping.address, 0, 0), "", 0));
    EXPECT(unmap(mapping));
}

static void file_sizes(void) {
    EXPECT(rt_file_size_for_mmap(file_with("greeting", GREETING, GREETING_SIZE)) == GREETING_SIZE);
    EXPECT(rt_file_size_for_mmap(file_with("empty", "", 0)) == 0);
    EXPECT_FAILURE(rt_file_size_for_mmap(path_of("no such file")) == -1, RT_ERROR_NOT_FOUND);
    EXPECT_FAILURE(rt_file_size_for_mmap(path_of(".")) == -1, RT_ERROR_NOT_REGULAR_FILE);
    EXPECT_FAILURE(rt_file_size_for_mmap(NULL) == -1, RT_ERROR_INVALID_ARGUMENT);
}

static void page_size(void) { EXPECT(rt_get_page_size() == sysconf(_SC_PAGESIZE)); }

static void syncing(void) {
    const char *path = file_with("synced", GREETING, GREETING_SIZE);
    RtMapping shared = map(path, READ_WRITE, RT_MAP_SHARED);
    memory_at(shared.address)[0] = 'J';
    EXPECT(rt_msync(shared.address, shared.size, false) && rt_msync(shared.address + 3, 1, true));
    EXPECT(file_is(path, "Jello, mmap!", GREETING_SIZE));
    EXPECT(rt_msync(shared.address, 0, false) && !rt_msync(shared.address, -1, false) && !rt_msync(-1, 1, false));
    EXPECT(unmap(shared));
    EXPECT_FAILURE(!rt_msync(shared.address, 1, false), RT_ERROR_NOT_OWNED);
}

static void locking(void) {
    RtMapping memory = map_nothing(100);
    EXPECT(rt_mlock(memory.address + 1, 10) && rt_munlock(memory.address + 1, 10));
    EXPECT(rt_mlock(memory.address, 0) && !rt_munlock(memory.address, -1));
    EXPECT(unmap(memory));
    EXPECT_FAILURE(!rt_mlock(memory.address, 1), RT_ERROR_NOT_OWNED);
    EXPECT_FAILURE(!rt_munlock(memory.address, 1), RT_ERROR_NOT_OWNED);
}

static void advising(void) {
    RtMapping memory = map_nothing(100);
    for (int32_t advice = RT_ADVICE_NORMAL; advice <= RT_ADVICE_WILLNEED; advice++)
        EXPECT(rt_madvise(memory.address, memory.size, advice));
    *memory_at(memory.address) = 'x';
    EXPECT(rt_madvise(memory.address, memory.size, RT_ADVICE_DONTNEED));
    EXPECT(*memory_at(memory.address) == 0);
    EXPECT(rt_madvise(memory.address, memory.size, RT_ADVICE_DONTFORK));
    EXPECT_FAILURE(!rt_madvise(memory.address, memory.size, 99), RT_ERROR_INVALID_ARGUMENT);
    EXPECT(unmap(memory));
    EXPECT_FAILURE(!rt_madvise(memory.address, 1, RT_ADVICE_NORMAL), RT_ERROR_NOT_OWNED);
}

const Rule mapping_rules[] = {
    {"rt_mmap_file", mapping_a_file},
    {"rt_mmap_file with writing", mapping_with_writing},
    {"rt_mmap_file of what can't be mapped", mapping_of_what_can_not_be_mapped},
    {"rt_mmap_path, rt_mmap_fd, rt_mapping_size", results_in_one_register},
    {"rt_mmap_file without a file", anonymous_mappings},
    {"rt_munmap", unmapping},
    {"rt_mmap_read_bytes", reading_bytes},
    {"rt_mmap_read_string", reading_strings},
    {"rt_mmap_read_into", reading_into_own_memory},
    {"reading a file that shrank", reading_a_file_that_shrank},
    {"rt_file_size_for_mmap", file_sizes},
    {"rt_get_page_size", page_size},
    {"rt_msync", syncing},
    {"rt_mlock, rt_munlock", locking},
    {"rt_madvise", advising},
    {0},
};
