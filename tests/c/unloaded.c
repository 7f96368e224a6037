/*
 * A program that loads the shared library as a plugin, and closes it: what it has of it by then, symbols, memory,
 * threads and forks, goes on, and however often it does so nothing is left over.
 *
 * The library's path is the only argument.
 */
#define _POSIX_C_SOURCE 200809L
#include <execmem.h>

#include <dirent.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPECT(condition) \
    ((condition) ? (void)0 : (printf("not so: %s (line %d)\n", #condition, __LINE__), exit(1)))

/* The library's functions that are remembered. */
static __typeof__(rt_alloc_rw_memory) *alloc_rw_memory;
static __typeof__(rt_free_exec_memory) *free_exec_memory;
static __typeof__(rt_is_executable) *is_executable;
static __typeof__(rt_make_executable) *make_executable;
static __typeof__(rt_last_error) *last_error;

/* ISO C knows no conversion from an object's address to a function's. */
static void find(void *library, const char *name, void *function) {
    void *symbol = dlsym(library, name);
    EXPECT(symbol != NULL);
    memcpy(function, &symbol, sizeof symbol);
}

static void load_and_unload(const char *path) {
    void *library = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (library == NULL) printf("%s\n", dlerror()), exit(1);
    find(library, "rt_alloc_rw_memory", &alloc_rw_memory);
    find(library, "rt_free_exec_memory", &free_exec_memory);
    find(library, "rt_is_executable", &is_executable);
    find(library, "rt_make_executable", &make_executable);
    find(library, "rt_last_error", &last_error);
    /* About what is not the library's it asks the kernel, with a file that it keeps open. */
    EXPECT(is_executable((int64_t)(uintptr_t)load_and_unload));
    EXPECT(dlclose(library) == 0);
}

static int open_files(void) {
    DIR *folder = opendir("/proc/self/fd");
    EXPECT(folder != NULL);
    int count = 0;
    while (readdir(folder) != NULL) count++;
    closedir(folder);
    return count;
}

/* Fails at something, and ends: what the library keeps for a thread goes with it. */
static void *fail(void *unused) {
    EXPECT(!make_executable(1, 1) && last_error() == RT_ERROR_NOT_OWNED);
    return unused;
}

static void go_on(int64_t memory) {
    memcpy((void *)(uintptr_t)memory, "still here", 11);
    EXPECT(is_executable((int64_t)(uintptr_t)go_on) && !is_executable(memory));
    pthread_t thread;
    EXPECT(pthread_create(&thread, NULL, fail, NULL) == 0 && pthread_join(thread, NULL) == 0);
    int64_t more = alloc_rw_memory(100);
    EXPECT(more > 0 && free_exec_memory(more, 100));
}

int main(int count, char **arguments) {
    EXPECT(count == 2);
    load_and_unload(arguments[1]);
    int64_t memory = alloc_rw_memory(100);
    EXPECT(memory > 0);
    int files = open_files();
    for (int round = 0; round < 100; round++) load_and_unload(arguments[1]);
    EXPECT(open_files() == files);
    go_on(memory);
    pid_t child = fork();
    if (child == 0) {
        go_on(memory);
        _exit(0);
    }
    int status = 1;
    EXPECT(child > 0 && waitpid(child, &status, 0) == child && status == 0);
    /* The memory that was allocated before is known. */
    EXPECT(free_exec_memory(memory, 100));
    puts("what was closed goes on");
    return 0;
}
