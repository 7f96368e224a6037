// Code in the code heap, code in pages of its own, and a mapped file. Prints 42.
//
// Compiled without exceptions (-fno-exceptions) it does the same: what can fail answers.

#include <execmem.hpp>

#include <cstdio>
#include <vector>

#if defined(__x86_64__)
static const std::vector<std::uint8_t> answer{0xb8, 42, 0, 0, 0, 0xc3, 0x90, 0x90}; // mov eax, 42; ret
#elif defined(__aarch64__)
static const std::vector<std::uint8_t> answer{0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6}; // mov w0, 42; ret
#elif defined(__riscv)
static const std::vector<std::uint8_t> answer{0x13, 0x05, 0xa0, 0x02, 0x67, 0x80, 0x00, 0x00}; // li a0, 42; ret
#else
#error "no machine code is written down for this processor"
#endif

static_assert(!std::is_copy_constructible_v<execmem::Block> && std::is_nothrow_move_constructible_v<execmem::Block>);

static const auto size = static_cast<std::int64_t>(answer.size());

static bool run(const char *own_file) {
    execmem::Block block(size);
    if (!block || !block.write(answer) || !block.publish()) return false;
    execmem::Block owner(size);
    owner = std::move(block); // What it owned is freed; what was moved from is empty.
    int result = owner.function<int()>()();

    auto pages = execmem::Region::read_write(size);
    if (!pages || !pages.write(answer) || !pages.make_executable()) return false;
    if (pages.function<int()>()() != result) return false;

    execmem::Mapping file(own_file);
    if (!file || file.bytes().size != rt_file_size_for_mmap(own_file)) return false;

    std::printf("%d\n", result);
    return !block;
}

// How a failure is told.
static bool refuses(const char *missing_file) {
#if EXECMEM_EXCEPTIONS
    try {
        execmem::Mapping file(missing_file);
    } catch (const execmem::Error &error) {
        return error.code == RT_ERROR_NOT_FOUND;
    }
    return false;
#else
    execmem::Mapping file(missing_file);
    return !file && file.size() == 0 && rt_last_error() == RT_ERROR_NOT_FOUND;
#endif
}

static std::int64_t live_blocks() {
    RtExecMemoryStats figures{};
    figures.size = sizeof figures;
    return rt_exec_memory_stats(&figures) ? figures.code_blocks : -1;
}

int main(int, char **arguments) {
    if (!run(arguments[0]) || !refuses("no such file")) {
        std::fprintf(stderr, "%s\n", rt_error_message(rt_last_error()));
        return 1;
    }
    // All is freed.
    return live_blocks() == 0 && rt_exec_memory_count() == 0 ? 0 : 1;
}
