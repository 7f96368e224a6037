/*
 * A program whose machine code has a name and records of unwinding: what a debugger, a profiler and the C++ runtime
 * make of it. Its argument says what it does:
 *
 *   called   `named` is called when the code has its name; the code calls `reached`; it is freed, and `gone` is called
 *   thrown   an exception passes through the code, also through code at an address that other code had before;
 *            without records it would end the process
 *   spun     the code takes a second of processor time
 */
#include <execmem.h>

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

#define EXPECT(condition) \
    ((condition) ? (void)0 : (std::printf("not so: %s (line %d)\n", #condition, __LINE__), std::exit(1)))

namespace {

using Callback = void (*)();
using Function = void (*)(Callback);

/* Calls its argument, in a frame of its own. */
#if defined(__x86_64__)
/* push rbp; mov rbp, rsp; call rdi; pop rbp; ret */
const uint8_t CALLING[] = {0x55, 0x48, 0x89, 0xe5, 0xff, 0xd7, 0x5d, 0xc3};
/* Of all: the frame is at rsp + 8, the return address right below. */
const uint8_t AT_FIRST[] = {1, 0, 1, 0x78, 16, 0x0c, 7, 8, 0x90, 1, 0, 0};
/* One byte on, it is at 16 and rbp is saved; three on, it is counted from rbp. */
const uint8_t LATER[] = {0x41, 0x0e, 16, 0x86, 2, 0x43, 0x0d, 6};
#elif defined(__aarch64__)
/* stp x29, x30, [sp, -16]!; mov x29, sp; blr x0; ldp x29, x30, [sp], 16; ret */
const uint8_t CALLING[] = {0xfd, 0x7b, 0xbf, 0xa9, 0xfd, 0x03, 0x00, 0x91, 0x00, 0x00,
                           0x3f, 0xd6, 0xfd, 0x7b, 0xc1, 0xa8, 0xc0, 0x03, 0x5f, 0xd6};
const uint8_t AT_FIRST[] = {1, 0, 1, 0x78, 30, 0x0c, 31, 0, 0, 0, 0, 0};
const uint8_t LATER[] = {0x44, 0x0e, 16, 0x9d, 2, 0x9e, 1, 0};
#endif

enum { RECORDS_AT = 64, SIZE = 256 };

struct Records {
    uint32_t common_length = sizeof AT_FIRST + 4, common = 0;
    uint8_t at_first[sizeof AT_FIRST];
    uint32_t length = 4 + 8 + 8 + sizeof LATER, back = 8 + sizeof AT_FIRST + 4;
    uint8_t start[8], size[8], later[sizeof LATER];
    uint32_t end = 0;
};

/* A block with the code, and its records behind it. */
int64_t function() {
    int64_t block = rt_code_alloc(SIZE), size = sizeof CALLING;
    EXPECT(block > 0 && rt_code_write(block, CALLING, size, 0) == size);
    Records records;
    std::memcpy(records.at_first, AT_FIRST, sizeof AT_FIRST);
    std::memcpy(records.start, &block, 8);
    std::memcpy(records.size, &size, 8);
    std::memcpy(records.later, LATER, sizeof LATER);
    const int64_t length = sizeof records;
    EXPECT(rt_code_write(block, reinterpret_cast<const uint8_t *>(&records), length, RECORDS_AT) == length);
    EXPECT(rt_code_publish(block, SIZE));
    return block;
}

bool unwindable(int64_t block) {
    const auto records = reinterpret_cast<const uint8_t *>(block + RECORDS_AT);
    return rt_code_set_unwind(block, SIZE, records, sizeof(Records));
}

Function callable(int64_t block) {
    return reinterpret_cast<Function>(block);
}

void throw_seven() {
    throw 7;
}

int caught(int64_t block) {
    try {
        callable(block)(throw_seven);
    } catch (int thrown) {
        return thrown;
    }
    return 0;
}

/* How a child ends in which an exception meets the code. */
int ends(int64_t block) {
    const pid_t child = fork();
    if (child == 0) {
        std::freopen("/dev/null", "w", stderr);
        _exit(caught(block));
    }
    int status = 0;
    EXPECT(waitpid(child, &status, 0) == child);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

void thrown() {
    for (int round = 0; round < 3; round++) {
        const int64_t block = function();
        EXPECT(ends(block) == -SIGABRT);
        EXPECT(unwindable(block) && caught(block) == 7 && ends(block) == 7);
        EXPECT(unwindable(block) && caught(block) == 7);
        EXPECT(rt_code_free(block));
    }
}

/* Takes the processor's time itself: a loop of 2^30 rounds. */
void spun() {
#if defined(__x86_64__)
    /* mov ecx, 0x40000000; dec ecx; jnz -4; ret */
    const uint8_t loop[] = {0xb9, 0, 0, 0, 0x40, 0xff, 0xc9, 0x75, 0xfc, 0xc3};
#elif defined(__aarch64__)
    /* mov w1, 0x40000000; subs w1, w1, 1; b.ne -4; ret */
    const uint8_t loop[] = {0x01, 0x00, 0xa8, 0x52, 0x21, 0x04, 0x00, 0x71,
                            0xe1, 0xff, 0xff, 0x54, 0xc0, 0x03, 0x5f, 0xd6};
#endif
    const int64_t size = sizeof loop, block = rt_code_alloc(size);
    EXPECT(block > 0 && rt_code_write(block, loop, size, 0) == size && rt_code_publish(block, size));
    EXPECT(rt_code_set_name(block, size, "jitted_loop"));
    callable(block)(nullptr);
    EXPECT(rt_code_free(block));
}

}  // namespace

/* Where a debugger stops. */
extern "C" {
int64_t block;
void named(void);
void reached(void);
void gone(void);
void __attribute__((noinline)) named(void) { std::puts("named"); }
void __attribute__((noinline)) reached(void) { std::puts("reached"); }
void __attribute__((noinline)) gone(void) { std::puts("gone"); }
}

int main(int argc, char **argv) {
    const char *what = argc == 2 ? argv[1] : "";
    if (std::strcmp(what, "called") == 0) {
        /* One that goes before, in the middle and behind: each link of the debugger's list. */
        const int64_t others[] = {function(), function(), function()};
        EXPECT(rt_code_set_name(others[0], SIZE, "jitted_first"));
        EXPECT(rt_code_set_name(others[1], SIZE, "jitted_second"));
        block = function();
        EXPECT(rt_code_set_name(block, sizeof CALLING, "jitted_function"));
        EXPECT(rt_code_set_name(others[2], SIZE, "jitted_third"));
        EXPECT(rt_code_free(others[1]) && rt_code_free(others[2]) && rt_code_free(others[0]));
        named();
        callable(block)(reached);
        EXPECT(rt_code_free(block));
        gone();
    } else if (std::strcmp(what, "thrown") == 0) {
        thrown();
    } else if (std::strcmp(what, "spun") == 0) {
        std::printf("%d\n", getpid());
        spun();
    } else {
        return 2;
    }
    return 0;
}
