/* What compiled C asks of a loader, a function for each thing. The expected results are in src/lib.rs.
 * build.sh makes the objects that are checked in; the tests compile it with the host's cc as well. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOINLINE __attribute__((noinline))

/* Up to six arguments, in their order. */
long six(long a, long b, long c, long d, long e, long f)
{
    return a + 10 * b + 100 * c + 1000 * d + 10000 * e + 100000 * f;
}

/* Data that was not zero, and a constructor that runs before all else. */
static long constructed = 5;
__attribute__((constructor)) static void construct(void) { constructed *= 3; }
__attribute__((constructor(101))) static void construct_first(void) { constructed += 1; }
long was_constructed(void) { return constructed; }

/* What constructors are called with: the program's arguments and its environment. */
static int count;
static char **arguments, **variables;
__attribute__((constructor)) static void start(int argc, char **argv, char **envp)
{
    count = argc, arguments = argv, variables = envp;
}
long started(void)
{
    for (int i = 0; i < count; i++)
        if (!arguments[i])
            return 0;
    char name[256] = "", *value = *variables ? strchr(*variables, '=') : 0;
    if (value && value - *variables < (long)sizeof name)
        memcpy(name, *variables, (size_t)(value - *variables));
    return count > 0 && !arguments[count] && (!*name || getenv(name) == value + 1);
}

/* A destructor that runs after all else. */
static long *watched;
long watch(long *where) { watched = where; return 0; }
__attribute__((destructor)) static void destroy(void) { if (watched) *watched = 77; }

/* Data that is shared with other functions, and changes. */
long remembered = 40;
long remember(long more) { return remembered += more; }

/* Zeroed data, static and common, and how it is aligned. */
static unsigned char zeroed[5000];
__attribute__((common)) long common_table[64];
__attribute__((common, aligned(256))) char common_aligned[3];
long zeros(void)
{
    long sum = 0;
    for (size_t i = 0; i < sizeof zeroed; i++)
        sum += zeroed[i];
    for (int i = 0; i < 64; i++)
        sum += common_table[i];
    return sum;
}
NOINLINE static void fill(void)
{
    memset(zeroed, 1, sizeof zeroed);
    for (int i = 0; i < 64; i++)
        common_table[i] = i;
}
long fill_zeros(void)
{
    /* Volatile: the compiler would answer without looking. */
    char *volatile aligned = common_aligned;
    fill();
    return zeros() + (long)((uintptr_t)aligned % 256);
}

/* A weak symbol that nobody defines. */
__attribute__((weak)) extern long absent(void);
long weak(void) { return absent ? absent() : 1; }

/* A pointer table: read-only once it is relocated. */
static const char *const words[] = {"one", "three", "fourteen", "", "ninety-two"};
long letters(void)
{
    long sum = 0;
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        sum = sum * 16 + (long)strlen(words[i]);
    return sum;
}

/* Addresses of functions: an own one as a callback, an imported one in a variable. */
static int by_last_digit(const void *a, const void *b) { return *(const int *)a % 10 - *(const int *)b % 10; }
static int (*volatile compare)(const char *, const char *) = strcmp;
long sorted(void)
{
    int numbers[] = {19, 22, 35, 41, 78};
    qsort(numbers, 5, sizeof *numbers, by_last_digit);
    int (*volatile length)(const char *, const char *) = strcmp;
    long same = compare("x", "x") == 0 && length("a", "b") < 0;
    return same * 1000000 + numbers[0] * 10000 + numbers[2] * 100 + numbers[4];
}

/* A function has one address, whether an instruction or a variable has it. */
long one_address(void)
{
    int (*volatile direct)(const char *, const char *) = strcmp;
    return direct == compare;
}

/* A switch that becomes a jump table. */
NOINLINE long choose(long which)
{
    switch (which) {
    case 0: return zeroed[0] + 3;
    case 1: return remember(0) * 0 + 141;
    case 2: return labs(-592);
    case 3: return 653;
    case 4: return 589 + (long)(words[3][0]);
    case 5: return 793;
    case 6: return atoi("238");
    default: return -1;
    }
}
long switched(void)
{
    long sum = 0;
    memset(zeroed, 0, 1);
    for (long i = -1; i < 8; i++)
        sum = sum * 3 + choose(i);
    return sum;
}

/* Addresses of labels. */
long labels(long program)
{
    static const void *const steps[] = {&&add, &&twice, &&stop};
    long value = 1;
    goto *steps[program % 3];
add:
    value += 5;
    program /= 3;
    goto *steps[program % 3];
twice:
    value *= 2;
    program /= 3;
    goto *steps[program % 3];
stop:
    return value;
}

/* Loads and stores of every width, straight from the address of a variable. */
static volatile uint8_t wide8 = 0x11;
static volatile uint16_t wide16 = 0x2222;
static volatile uint32_t wide32 = 0x33333333;
static volatile uint64_t wide64 = 0x4444444444444444;
typedef uint64_t pair __attribute__((vector_size(16)));
static volatile pair wide128 = {0x5555, 0x6666};
long widths(void)
{
    wide8 += 1, wide16 += 1, wide32 += 1, wide64 += 1;
    pair both = wide128;
    both += both;
    wide128 = both;
    return (long)(wide8 ^ wide16 ^ wide32 ^ wide64 ^ wide128[0] ^ wide128[1]);
}

/* A function with a variable number of arguments. */
long formatted(long number)
{
    char text[64];
    int length = snprintf(text, sizeof text, "<%ld|%s|%d>", number, "text", 42);
    return length * 1000 + text[length - 2];
}

/* Recursion, in which no function is the last to be called. */
NOINLINE long ackermann(long m, long n)
{
    if (m == 0)
        return n + 1;
    return n == 0 ? ackermann(m - 1, 1) : ackermann(m - 1, ackermann(m, n - 1));
}

/* The memory library's own functions. */
extern int64_t rt_get_page_size(void);
extern int64_t rt_is_executable(int64_t address);
extern int32_t rt_get_protection(int64_t address);
long own_protection(void)
{
    return rt_get_page_size() >= 4096 ? rt_get_protection((int64_t)(uintptr_t)ackermann) * 100
        + rt_get_protection((int64_t)(uintptr_t)words) * 10 + rt_get_protection((int64_t)(uintptr_t)zeroed) : -1;
}
