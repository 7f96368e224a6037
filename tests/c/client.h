/*
 * What the C test program's files share: how an expectation is stated, and a little machine code
 * for the processor that it runs on.
 */
#ifndef CLIENT_H
#define CLIENT_H

#include <execmem.h>

/* States what must be so. A rule of the contract holds if all of its expectations do. */
#define EXPECT(condition) expect((condition), #condition, __FILE__, __LINE__)

/* States that a call gives its failure value, and why it failed. */
#define EXPECT_FAILURE(call_and_sentinel, code) \
    (EXPECT(call_and_sentinel), EXPECT(rt_last_error() == (code)))

void expect(bool holds, const char *condition, const char *file, int line);

typedef struct {
    const char *name;
    void (*run)(void);
} Rule;

/* Each of the lists ends with a rule without a name. */
extern const Rule first_rules[];
extern const Rule mapping_rules[];
extern const Rule executable_rules[];
extern const Rule further_rules[];
extern const Rule heap_rules[];
extern const Rule calling_rules[];
extern const Rule own_value_rules[];

/* Longer than any code below. */
enum { CODE_SIZE = 64 };

/* Code of a function without arguments that returns the value. The result is its length. */
int64_t code_returning(uint8_t *code, uint8_t value);

/* Code of a function that returns its 1 to 6 arguments as the digits of a decimal number, so that
 * each of them has to arrive in its own place. The result is its length. */
int64_t code_of_digits(uint8_t *code, int arguments);

/* Executable memory that holds the code. */
int64_t executable(const uint8_t *code, int64_t length);

/* A new file of this content in the test's own folder. */
const char *file_with(const char *name, const void *content, size_t length);

/* The whole file is this. */
bool file_is(const char *path, const void *content, size_t length);

/* A path in the test's own folder. */
const char *path_of(const char *name);

/* Whether the value is a byte array or string of this content; the value is given back. */
bool value_is(RtValue value, const void *content, int64_t length);

#endif
