/*
 * The contract, seen by a C program that knows the header and nothing else. Each rule is a function;
 * an expectation that does not hold is told in a line, and the last line gives the counts.
 */
#define _POSIX_C_SOURCE 200809L

#include "client.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static bool rule_holds;
static const char *rule_name;
static char folder[256];

void expect(bool holds, const char *condition, const char *file, int line) {
    if (holds) return;
    rule_holds = false;
    printf("%s: not so: %s (%s:%d, last error: %s)\n", rule_name, condition, file, line,
           rt_error_message(rt_last_error()));
}

int64_t code_returning(uint8_t *code, uint8_t value) {
#if defined(__x86_64__)
    /* mov rax, value; ret */
    const uint8_t bytes[] = {0x48, 0xc7, 0xc0, value, 0, 0, 0, 0xc3};
    memcpy(code, bytes, sizeof bytes);
    return sizeof bytes;
#elif defined(__aarch64__)
    /* mov x0, #value; ret */
    const uint32_t words[] = {0xd2800000u | (uint32_t)value << 5, 0xd65f03c0u};
    memcpy(code, words, sizeof words);
    return sizeof words;
#elif defined(__riscv)
    /* li a0, value; ret */
    const uint32_t words[] = {0x00000513u | (uint32_t)value << 20, 0x00008067u};
    memcpy(code, words, sizeof words);
    return sizeof words;
#else
#error "no machine code is written down for this processor"
#endif
}

int64_t code_of_digits(uint8_t *code, int arguments) {
#if defined(__x86_64__)
    /* mov rax, rdi; then for each further argument: lea rax, [rax+rax*4]; lea rax, [REG+rax*2] */
    static const uint8_t add[][4] = {{0x48, 0x8d, 0x04, 0x46},  /* rsi */
                                     {0x48, 0x8d, 0x04, 0x42},  /* rdx */
                                     {0x48, 0x8d, 0x04, 0x41},  /* rcx */
                                     {0x49, 0x8d, 0x04, 0x40},  /* r8 */
                                     {0x49, 0x8d, 0x04, 0x41}}; /* r9 */
    int64_t length = 3;
    memcpy(code, "\x48\x89\xf8", 3);
    for (int argument = 1; argument < arguments; argument++, length += 8) {
        memcpy(code + length, "\x48\x8d\x04\x80", 4);
        memcpy(code + length + 4, add[argument - 1], 4);
    }
    code[length] = 0xc3;
    return length + 1;
#elif defined(__riscv)
    /* li t0, 10; then for each further argument: mul a0, a0, t0; add a0, a0, REG; at last ret */
    uint32_t words[12] = {0x00a00293u};
    int count = 1;
    for (int argument = 1; argument < arguments; argument++) {
        words[count++] = 0x02550533u;
        words[count++] = 0x00050533u | (uint32_t)(10 + argument) << 20;
    }
    words[count++] = 0x00008067u;
    memcpy(code, words, sizeof *words * (size_t)count);
    return 4 * count;
#else
    /* mov x9, #10; then for each further argument: madd x0, x0, x9, REG; at last ret */
    uint32_t words[7] = {0xd2800149u};
    int count = 1;
    for (int argument = 1; argument < arguments; argument++)
        words[count++] = 0x9b090000u | (uint32_t)argument << 10;
    words[count++] = 0xd65f03c0u;
    memcpy(code, words, sizeof *words * (size_t)count);
    return 4 * count;
#endif
}

int64_t executable(const uint8_t *code, int64_t length) {
    int64_t address = rt_alloc_exec_memory(length);
    EXPECT(address > 0);
    EXPECT(rt_write_exec_bytes(address, code, length, 0) == length);
    rt_flush_icache(address, length);
    return address;
}

const char *path_of(const char *name) {
    static char path[sizeof folder + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    return path;
}

const char *file_with(const char *name, const void *content, size_t length) {
    const char *path = path_of(name);
    FILE *file = fopen(path, "wb");
    bool written = file && fwrite(content, 1, length, file) == length;
    EXPECT(written);
    if (file) fclose(file);
    return path;
}

bool file_is(const char *path, const void *content, size_t length) {
    char found[256];
    FILE *file = fopen(path, "rb");
    if (!file) return false;
    size_t count = fread(found, 1, sizeof found, file);
    fclose(file);
    return count == length && memcmp(found, content, length) == 0;
}

bool value_is(RtValue value, const void *content, int64_t length) {
    bool same = rt_value_len(value) == length
                && (length == 0 || memcmp(rt_value_data(value), content, (size_t)length) == 0);
    return rt_value_free(value) && same;
}

static void remove_folder(void) {
    DIR *entries = opendir(folder);
    for (struct dirent *entry; entries && (entry = readdir(entries));)
        if (strcmp(entry->d_name, ".") && strcmp(entry->d_name, "..")) remove(path_of(entry->d_name));
    if (entries) closedir(entries);
    rmdir(folder);
}

int main(void) {
    const char *above = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%s/execmem-client-XXXXXX", above ? above : "/tmp");
    if (!mkdtemp(folder)) {
        perror(folder);
        return EXIT_FAILURE;
    }
    /* The order matters at both ends: the policy is chosen by the first allocation, and once the
     * values are the program's own, the built-in ones are gone. */
    const Rule *lists[] = {first_rules, mapping_rules, executable_rules, further_rules,
                           heap_rules,  calling_rules, own_value_rules};
    int passed = 0, failed = 0;
    for (size_t list = 0; list < sizeof lists / sizeof *lists; list++) {
        for (const Rule *rule = lists[list]; rule->name; rule++) {
            rule_holds = true;
            rule_name = rule->name;
            rule->run();
            rule_holds ? passed++ : failed++;
        }
    }
    remove_folder();
    printf("%d passed, %d failed\n", passed, failed);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
