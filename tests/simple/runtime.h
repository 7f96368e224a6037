/*
 * A runtime that stands in for the Simple language's: its values, and how its interpreter calls functions.
 *
 * A value is a word of 64 bits with a tag in the lowest three: an integer, a pointer to something on the heap, a float
 * without its last bits, or something special.
 */
#ifndef RUNTIME_H
#define RUNTIME_H

#include <execmem.h>
#include <execmem_simple.h>

#include <stddef.h>

/* The library's function of this name, as the linker knows it. All others are found through the table. */
#ifdef PREFIXED
#define LINKED(name) execmem_##name
#else
#define LINKED(name) name
#endif

typedef uint64_t Value;

enum { TAG_INTEGER = 0, TAG_HEAP = 1, TAG_FLOAT = 2, TAG_SPECIAL = 3 };

static const Value NIL = 0x3, TRUE_VALUE = 0xb, FALSE_VALUE = 0x13;

static inline unsigned tag(Value value) { return value & 7; }

/* Byte-packed: no byte is boxed. */
Value byte_array(const uint8_t *data, int64_t length);
Value string(const uint8_t *text, int64_t length);
/* The bytes of an array or a string; NULL if it is neither. */
const uint8_t *bytes_of(Value value, int64_t *length);
/* How many values are on the heap. */
int64_t live_values(void);

/* The runtime's own functions by names that execmem has, too: other arguments, other results, other meanings. */
int64_t rt_mlock(int64_t addr, int64_t length);
int64_t rt_munlock(int64_t addr, int64_t length);
bool rt_msync(int64_t addr, int64_t length);
bool rt_madvise(int64_t addr, int64_t length, int64_t advice);
bool rt_munmap(int64_t addr, int64_t length);
Value rt_error_message(Value error);
void rt_value_free(Value value);
/* How often any of these was called. */
extern int own_calls;

/* Fills the interpreter's table, without which nothing can be called. False: no execmem that it knows. */
bool fill_table(void);
/* Makes execmem use the runtime's values. */
bool register_values(void);

/* Calls a function of the table as the interpreter does: every argument and the result a whole register. */
int64_t call(const char *name, const int64_t arguments[6]);
#define CALL(...) call_(__VA_ARGS__, 0)
#define call_(name, ...) call(name, (const int64_t[6]){__VA_ARGS__})

#endif
