/*
 * execmem for C++17: owners of code memory, of blocks of the code heap and of mapped files. They move and don't copy,
 * and free what they own; docs/contract.md says what the functions beneath do.
 *
 * A failure throws execmem::Error. Where exceptions are off, or EXECMEM_EXCEPTIONS is defined as 0, the owner is empty
 * or the answer false instead, and rt_last_error() says why.
 */
#ifndef EXECMEM_HPP
#define EXECMEM_HPP

#include <execmem.h>

#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string_view>
#include <type_traits>
#include <utility>

#if !defined(EXECMEM_EXCEPTIONS) && defined(__cpp_exceptions)
#define EXECMEM_EXCEPTIONS 1
#elif !defined(EXECMEM_EXCEPTIONS)
#define EXECMEM_EXCEPTIONS 0
#endif

#if EXECMEM_EXCEPTIONS
#include <stdexcept>
#define EXECMEM_ANSWER inline bool
#define EXECMEM_MODE throwing
#else
#define EXECMEM_ANSWER [[nodiscard]] inline bool
#define EXECMEM_MODE answering
#endif

/* Files that are compiled in both ways don't share what differs. */
namespace execmem { inline namespace EXECMEM_MODE {

#if EXECMEM_EXCEPTIONS
/* Why a call failed: RT_ERROR_*, and its sentence. */
struct Error : std::runtime_error {
    explicit Error(std::int32_t number) : std::runtime_error(rt_error_message(number)), code(number) {}
    const std::int32_t code;
};
#endif

/* What a call says, passed on; a failure is thrown, if that is how failures are told. */
EXECMEM_ANSWER check(bool done) {
#if EXECMEM_EXCEPTIONS
    if (!done) throw Error(rt_last_error());
#endif
    return done;
}

/* Bytes of somebody else: a pointer and a length, an array, or what has data() and size(), such as a std::span. */
struct Bytes {
    const std::uint8_t *data;
    std::int64_t size;

    Bytes(const void *start, std::int64_t length) noexcept
        : data(static_cast<const std::uint8_t *>(start)), size(length) {}
    template <class Container>
    Bytes(const Container &all) noexcept
        : Bytes(std::data(all), static_cast<std::int64_t>(std::size(all) * sizeof *std::data(all))) {
        static_assert(std::is_trivially_copyable_v<std::decay_t<decltype(*std::data(all))>>, "plain values only");
    }
};

/* What a call of the library gave, for an owner to take over. */
struct Given { std::int64_t address, size; };

/* What all owners are: an address and a size, which `release` gives back. */
template <bool (*release)(std::int64_t address, std::int64_t size)>
class Owner {
protected:
    std::int64_t address_ = 0, size_ = 0;

public:
    Owner() noexcept = default;
    explicit Owner(Given it) : address_(it.address), size_(check(it.address != 0) ? it.size : 0) {}
    Owner(Owner &&other) noexcept : address_(std::exchange(other.address_, 0)), size_(std::exchange(other.size_, 0)) {}
    Owner &operator=(Owner other) noexcept {
        std::swap(address_, other.address_);
        std::swap(size_, other.size_);
        return *this;
    }
    ~Owner() { if (address_ != 0) release(address_, size_); }

    explicit operator bool() const noexcept { return address_ != 0; }
    std::int64_t address() const noexcept { return address_; }
    std::int64_t size() const noexcept { return size_; }
    void *data() const noexcept { return reinterpret_cast<void *>(static_cast<std::uintptr_t>(address_)); }
    Bytes bytes() const noexcept { return {data(), size_}; }

    /* The published code at an offset as a function of this type, as in function<int(int)>(), while its owner lives. */
    template <class Signature>
    Signature *function(std::int64_t offset = 0) const noexcept {
        static_assert(std::is_function_v<Signature>, "a function's type, as int(int)");
        return reinterpret_cast<Signature *>(static_cast<std::uintptr_t>(address_ + offset));
    }
};

/* Pages for code. */
struct Region : Owner<rt_free_exec_memory> {
    using Owner::Owner;
    static Region executable(std::int64_t size) { return Region(Given{rt_alloc_exec_memory(size), size}); }
    static Region read_write(std::int64_t size) { return Region(Given{rt_alloc_rw_memory(size), size}); }

    EXECMEM_ANSWER write(Bytes b, std::int64_t at = 0) { return check(rt_write_exec_bytes(address(), b.data, b.size, at) >= 0); }
    EXECMEM_ANSWER make_executable() { return check(rt_make_executable(address(), size())); }
    EXECMEM_ANSWER make_writable() { return check(rt_make_writable(address(), size())); }
};

/* A block of the code heap. */
inline bool free_block(std::int64_t address, std::int64_t) { return rt_code_free(address); }

struct Block : Owner<free_block> {
    using Owner::Owner;
    explicit Block(std::int64_t size) : Owner(Given{rt_code_alloc(size), size}) {}
    Block(std::int64_t size, std::int64_t target, std::int64_t max_distance)
        : Owner(Given{rt_code_alloc_near(size, target, max_distance), size}) {}

    EXECMEM_ANSWER write(Bytes b, std::int64_t at = 0) { return check(rt_code_write(address(), b.data, b.size, at) >= 0); }
    EXECMEM_ANSWER publish() { return check(rt_code_publish(address(), size())); }
    EXECMEM_ANSWER shrink(std::int64_t size) {
        const std::int64_t before = std::exchange(size_, size);
        return check(rt_code_shrink(address(), size) || (size_ = before, false));
    }
    EXECMEM_ANSWER patch(std::int64_t offset, std::uint64_t word) { return check(rt_code_patch(address() + offset, word)); }
};

/* A mapped file: of a path, or of an open descriptor, which stays open. */
struct Mapping : Owner<rt_munmap> {
    using Owner::Owner;
    explicit Mapping(std::string_view path, std::int64_t prot = RT_PROT_READ, std::int64_t flags = RT_MAP_PRIVATE,
                     std::int64_t offset = 0, std::int64_t length = 0)
        : Mapping(at(rt_mmap_path(path.data(), std::int64_t(path.size()), prot, flags, offset, length))) {}
    static Mapping of(int descriptor, std::int64_t prot = RT_PROT_READ, std::int64_t flags = RT_MAP_PRIVATE,
                      std::int64_t offset = 0, std::int64_t length = 0) {
        return at(rt_mmap_fd(descriptor, prot, flags, offset, length));
    }

private:
    static Mapping at(std::int64_t address) { return Mapping(Given{address, address ? rt_mapping_size(address) : 0}); }
};

}} // namespace execmem

#endif
