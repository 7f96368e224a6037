/* The stand-in runtime: values, its own functions, the interpreter's table. */
#include "runtime.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What is on the heap begins with this. */
typedef struct {
    uint64_t kind;
    int64_t length;
    uint8_t bytes[];
} Object;

enum { KIND_BYTES = 0x5eed01, KIND_STRING = 0x5eed02 };

static int64_t live = 0;
int own_calls = 0;

static Value make(uint64_t kind, const uint8_t *data, int64_t length) {
    Object *object = malloc(sizeof(Object) + (size_t)length);
    if (object == NULL) return NIL;
    *object = (Object){.kind = kind, .length = length};
    if (length > 0) memcpy(object->bytes, data, (size_t)length);
    live++;
    return (Value)(uintptr_t)object | TAG_HEAP;
}

Value byte_array(const uint8_t *data, int64_t length) { return make(KIND_BYTES, data, length); }

Value string(const uint8_t *text, int64_t length) { return make(KIND_STRING, text, length); }

static Object *object_of(Value value) {
    return tag(value) == TAG_HEAP ? (Object *)(uintptr_t)(value & ~(Value)7) : NULL;
}

const uint8_t *bytes_of(Value value, int64_t *length) {
    Object *object = object_of(value);
    if (object == NULL || (object->kind != KIND_BYTES && object->kind != KIND_STRING)) return NULL;
    *length = object->length;
    return object->bytes;
}

int64_t live_values(void) { return live; }

static bool borrow(RtValue value, const uint8_t **data, int64_t *length) {
    Object *object = object_of(value);
    if (object == NULL || object->kind != KIND_BYTES) return false;
    *data = object->bytes;
    *length = object->length;
    return true;
}

int64_t rt_mlock(int64_t addr, int64_t length) { return own_calls++, addr > 0 && length > 0 ? 0 : -1; }
int64_t rt_munlock(int64_t addr, int64_t length) { return own_calls++, addr > 0 && length > 0 ? 0 : -1; }
bool rt_msync(int64_t addr, int64_t length) { return own_calls++, addr > 0 && length > 0; }
bool rt_madvise(int64_t addr, int64_t length, int64_t advice) { return own_calls++, addr > 0 && length > 0 && advice < 5; }
bool rt_munmap(int64_t addr, int64_t length) { return own_calls++, addr > 0 && length > 0; }

Value rt_error_message(Value error) {
    own_calls++;
    const char *text = tag(error) == TAG_INTEGER ? "an error" : "no error";
    return string((const uint8_t *)text, (int64_t)strlen(text));
}

void rt_value_free(Value value) {
    own_calls++;
    if (object_of(value) != NULL) free(object_of(value)), live--;
}

typedef int64_t (*Words)(int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);

static struct {
    const char *name;
    Words function;
} table[256];
static size_t functions = 0;

static void enter(void *context, const char *name, int64_t address) {
    (void)context;
    table[functions].name = name;
    table[functions++].function = (Words)(uintptr_t)address;
}

bool fill_table(void) {
    /* A stub that a linker took instead gives another number. */
    return LINKED(rt_abi_version)() == 1 && LINKED(rt_register_symbols)(enter, NULL) == (int64_t)functions &&
           functions > 0;
}

bool register_values(void) {
    static const RtValueOps operations = {sizeof operations, byte_array, string, borrow};
    return CALL("rt_set_value_ops", (int64_t)(uintptr_t)&operations) == 1;
}

int64_t call(const char *name, const int64_t a[6]) {
    for (size_t each = 0; each < functions; each++)
        if (strcmp(table[each].name, name) == 0) return table[each].function(a[0], a[1], a[2], a[3], a[4], a[5]);
    printf("the table lacks %s\n", name);
    exit(1);
}
