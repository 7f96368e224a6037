/* Section 5.1 of the contract: the code heap. */
#include "client.h"

#include <string.h>

enum { COUNT = 200 };

/* A block with a function that returns the value, published. */
static int64_t function(uint8_t value) {
    uint8_t code[CODE_SIZE];
    int64_t length = code_returning(code, value), block = rt_code_alloc(length);
    EXPECT(block > 0 && rt_code_write(block, code, length, 0) == length && rt_code_publish(block, length));
    return block;
}

static void many_functions(void) {
    int64_t blocks[COUNT];
    for (int i = 0; i < COUNT; i++) blocks[i] = function((uint8_t)i);
    for (int i = 0; i < COUNT; i++) {
        EXPECT(blocks[i] % 64 == 0 && rt_is_executable(blocks[i]) && rt_call_function_0(blocks[i]) == i);
        for (int other = 0; other < i; other++) EXPECT(blocks[other] != blocks[i]);
    }
    for (int i = 0; i < COUNT; i++) EXPECT(rt_code_free(blocks[i]));
    EXPECT_FAILURE(!rt_code_free(blocks[0]), RT_ERROR_NOT_OWNED);
}

static void functions_that_come_and_go(void) {
    for (int i = 0; i < COUNT; i++) {
        int64_t block = function((uint8_t)i);
        EXPECT(rt_call_function_0(block) == i && rt_code_free(block));
    }
}

static void finding(void) {
    int64_t block = rt_code_alloc(300);
    RtCodeBlock found = {0, 0};
    EXPECT(rt_code_find(block, &found) && found.address == block && found.size == 300);
    EXPECT(rt_code_find(block + 299, &found) && found.address == block && found.size == 300);
    EXPECT(!rt_code_find(block + 300, &found) && !rt_code_find(0, &found) && !rt_code_find(-1, &found));
    EXPECT(!rt_code_find((int64_t)(uintptr_t)&found, &found));
    EXPECT_FAILURE(!rt_code_free(block + 32), RT_ERROR_NOT_OWNED);
    EXPECT(rt_code_free(block) && !rt_code_find(block, &found));
}

static void shrinking(void) {
    uint8_t code[CODE_SIZE];
    int64_t length = code_returning(code, 8), block = rt_code_alloc(4096);
    RtCodeBlock found = {0, 0};
    EXPECT(rt_code_write(block, code, length, 0) == length && rt_code_publish(block, length));
    EXPECT_FAILURE(!rt_code_shrink(block, 4097), RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(!rt_code_shrink(block + 32, 1), RT_ERROR_NOT_OWNED);
    EXPECT_FAILURE(!rt_code_shrink(block, 0), RT_ERROR_INVALID_ARGUMENT);
    EXPECT(rt_code_shrink(block, length) && rt_code_find(block, &found) && found.size == length);
    EXPECT(rt_call_function_0(block) == 8 && rt_code_free(block));
    EXPECT_FAILURE(!rt_code_shrink(block, 1), RT_ERROR_NOT_OWNED);
}

static void writing(void) {
    uint8_t code[CODE_SIZE];
    int64_t length = code_returning(code, 7), block = rt_code_alloc(100);
    EXPECT(rt_code_write(block, code, length, 100 - length) == length);
    EXPECT_FAILURE(rt_code_write(block, code, length, 101 - length) == -1, RT_ERROR_NOT_OWNED);
    EXPECT_FAILURE(rt_code_write(block, code, length, -1) == -1, RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(rt_code_write(block, NULL, length, 0) == -1, RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(rt_code_write(0, code, length, 0) == -1, RT_ERROR_INVALID_ARGUMENT);
    EXPECT(rt_code_write(block, code, 0, 100) == 0);
    int64_t view = rt_code_write_view(block);
    if (view) {
        memcpy((void *)(uintptr_t)view, code, (size_t)length);
        EXPECT(rt_code_publish(block, length) && rt_call_function_0(block) == 7);
    } else {
        EXPECT(rt_last_error() == RT_ERROR_UNSUPPORTED);
    }
    EXPECT(rt_code_free(block));
    EXPECT_FAILURE(rt_code_write(block, code, length, 0) == -1, RT_ERROR_NOT_OWNED);
    EXPECT_FAILURE(rt_code_write_view(block) == 0, RT_ERROR_NOT_OWNED);
}

static void batches(void) {
    uint8_t code[CODE_SIZE];
    int64_t blocks[3], sizes[3];
    for (int i = 0; i < 3; i++) {
        sizes[i] = code_returning(code, (uint8_t)(i + 1));
        blocks[i] = rt_code_alloc(sizes[i]);
        EXPECT(rt_code_write(blocks[i], code, sizes[i], 0) == sizes[i]);
    }
    EXPECT(rt_code_publish_all(blocks, sizes, 3) && rt_code_publish_all(blocks, sizes, 0));
    for (int i = 0; i < 3; i++) EXPECT(rt_call_function_0(blocks[i]) == i + 1);
    sizes[1]++;
    EXPECT_FAILURE(!rt_code_publish_all(blocks, sizes, 3), RT_ERROR_NOT_OWNED);
    EXPECT_FAILURE(!rt_code_publish_all(NULL, sizes, 1), RT_ERROR_INVALID_ARGUMENT);
    EXPECT(rt_code_publish(blocks[0], 0) && rt_code_publish(blocks[0] + sizes[0], 0));
    EXPECT_FAILURE(!rt_code_publish(blocks[0], -1), RT_ERROR_INVALID_ARGUMENT);
    for (int i = 0; i < 3; i++) EXPECT(rt_code_free(blocks[i]));
}

static void patching(void) {
    uint8_t code[CODE_SIZE] = {0};
    int64_t block = rt_code_alloc(16);
    code_returning(code, 1);
    EXPECT(rt_code_write(block, code, 16, 0) == 16 && rt_code_publish(block, 16));
    EXPECT(rt_call_function_0(block) == 1);
    uint64_t word;
    code_returning(code, 2);
    memcpy(&word, code, sizeof word);
    bool is_toggle = rt_exec_memory_policy() == RT_POLICY_TOGGLE;
    if (is_toggle) EXPECT_FAILURE(!rt_code_patch(block, word), RT_ERROR_UNSUPPORTED);
    else EXPECT(rt_code_patch(block, word));
    EXPECT(rt_call_function_0(block) == (is_toggle ? 1 : 2));
    EXPECT_FAILURE(!rt_code_patch(block + 1, word), RT_ERROR_INVALID_ARGUMENT);
    EXPECT(!rt_code_patch(block + 16, word));
    EXPECT(rt_code_free(block));
}

static void promotion(void) {
    int64_t block = function(4), before = rt_code_promote(0);
    RtExecMemoryStats stats = {.size = sizeof stats};
    if (before < 0) EXPECT_FAILURE(rt_code_promote(INT64_MAX) == -1, RT_ERROR_UNSUPPORTED);
    else EXPECT(rt_code_promote(0) == before && rt_exec_memory_stats(&stats) && stats.huge_code_bytes == before);
    EXPECT_FAILURE(rt_code_promote(-1) == -1, RT_ERROR_INVALID_ARGUMENT);
    EXPECT(rt_call_function_0(block) == 4 && rt_code_free(block));
}

static void refusals(void) {
    EXPECT_FAILURE(rt_code_alloc(0) == 0, RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(rt_code_alloc(-5) == 0, RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(rt_code_alloc(INT64_MAX) == 0, RT_ERROR_OVER_LIMIT);
    EXPECT_FAILURE(rt_code_alloc_near(64, 0, 1 << 20) == 0, RT_ERROR_INVALID_ARGUMENT);
    EXPECT_FAILURE(!rt_code_set_limit(0), RT_ERROR_INVALID_ARGUMENT);
    int64_t block = function(3), near = rt_code_alloc_near(64, block, INT64_C(64) << 20);
    EXPECT(near > 0 && near - block < (INT64_C(64) << 20) && block - near < (INT64_C(64) << 20));
    /* The heap's pages are no region's: nothing else changes them. */
    EXPECT_FAILURE(!rt_set_protection(block, 64, RT_PROT_READ), RT_ERROR_NOT_OWNED);
    EXPECT_FAILURE(!rt_free_exec_memory(block, 64), RT_ERROR_NOT_OWNED);
    EXPECT(rt_call_function_0(block) == 3);
    RtExecMemoryStats stats = {.size = sizeof stats};
    EXPECT(rt_exec_memory_stats(&stats) && stats.code_blocks == 2 && stats.code_bytes > 64);
    EXPECT(rt_code_free(block) && rt_code_free(near));
    EXPECT(rt_exec_memory_stats(&stats) && stats.code_blocks == 0 && stats.code_bytes == 0);
}

const Rule heap_rules[] = {
    {"many functions share the heap, each with its own code", many_functions},
    {"functions come and go at the same addresses", functions_that_come_and_go},
    {"every address of a block leads to it", finding},
    {"a block gives back what its code does not need", shrinking},
    {"a write fits into its block, or nothing is written", writing},
    {"a batch is published whole, or not at all", batches},
    {"a patched word of code is what runs", patching},
    {"code becomes huge where the system can do that, as the figures say", promotion},
    {"what can't be is refused, and nothing else touches the heap", refusals},
    {0},
};
