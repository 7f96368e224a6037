/* The sample of the example run_object: what ordinary compiled code asks of a loader.
 *
 * `sample-x86_64.o`, `sample-aarch64.o` and `sample-riscv64.o` beside it were made from it with gcc 12:
 *
 *     gcc -c -O2 -g0 sample.c -o sample-x86_64.o
 *     aarch64-linux-gnu-gcc -c -O2 -g0 sample.c -o sample-aarch64.o
 *     riscv64-linux-gnu-gcc -c -O2 -g0 sample.c -o sample-riscv64.o
 */
#include <stdio.h>
#include <string.h>

enum operation { ADD, SUBTRACT, MULTIPLY, FIBONACCI, MIX, SHIFT, OPERATIONS };

/* Read-only once its pointers are relocated. */
static const char *const names[OPERATIONS] = {"add", "subtract", "multiply", "fibonacci", "mix", "shift"};

/* Read-only data. */
static const long weights[OPERATIONS] = {3, -1, 4, 1, -5, 9};

/* Data: read and written. */
static long total = 1000;

/* Zeroed data. */
static char journal[4096];
static size_t written;

/* Recursion that stays one when optimised. */
__attribute__((noinline)) static long fibonacci(long n)
{
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}

__attribute__((noinline)) static void note(const char *name)
{
    size_t length = strlen(name) + 1;
    if (written + length <= sizeof journal) {
        memcpy(journal + written, name, length);
        written += length;
    }
}

/* A dense switch becomes a jump table. */
__attribute__((noinline)) static long apply(enum operation operation, long a, long b)
{
    switch (operation) {
    case ADD:
        note("+");
        return a + b;
    case SUBTRACT:
        return a - b;
    case MULTIPLY:
        note("*");
        return a * b;
    case FIBONACCI:
        return fibonacci(a + 8 * b);
    case MIX:
        note("~");
        return (a ^ b) + 7;
    case SHIFT:
        return a << (b & 7);
    default:
        return -1;
    }
}

/* sample(10) is 2848 in a fresh image; a second call starts from the first one's total. */
long sample(long rounds)
{
    for (long round = 0; round < rounds; round++) {
        enum operation operation = (enum operation)(round % OPERATIONS);
        long result = apply(operation, round, weights[operation]);
        note(names[operation]);
        total += result;
        printf("%2ld  %-9s %5ld  %6ld\n", round, names[operation], result, total);
    }
    return total + (long)written;
}
