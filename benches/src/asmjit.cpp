// asmjit's JitAllocator as plain C functions: of version 1.9, which Debian has, and of 1.21.

#include <asmjit/core.h>
#include <string.h>

#if ASMJIT_LIBRARY_VERSION < 0x010e00
#define OK asmjit::kErrorOk
#define FLUSH asmjit::VirtMem::flushInstructionCache
#else
#define HAS_SPANS
#define OK asmjit::Error::kOk
#define FLUSH asmjit::VirtMem::flush_instruction_cache
#endif

using asmjit::JitAllocator;
using asmjit::JitAllocatorOptions;

extern "C" {

// 0x010900 is 1.9.0.
int asmjit_version() { return ASMJIT_LIBRARY_VERSION; }

void *asmjit_new(bool fill) {
  JitAllocator::CreateParams params{};
  params.options = JitAllocatorOptions::kUseDualMapping;
  if (fill) params.options |= JitAllocatorOptions::kFillUnusedMemory;
  return new JitAllocator(&params);
}

void asmjit_delete(void *allocator) { delete static_cast<JitAllocator *>(allocator); }

void *asmjit_alloc(void *allocator, size_t size, void **writable) {
#ifdef HAS_SPANS
  JitAllocator::Span span;
  if (static_cast<JitAllocator *>(allocator)->alloc(asmjit::Out(span), size) != OK) return nullptr;
  *writable = span.rw();
  return span.rx();
#else
  void *code = nullptr;
  if (static_cast<JitAllocator *>(allocator)->alloc(&code, writable, size) != OK) return nullptr;
  return code;
#endif
}

// What JitRuntime does with code that has no relocations.
void asmjit_write(void *code, void *writable, const void *source, size_t size) {
  memcpy(writable, source, size);
  FLUSH(code, size);
}

int asmjit_release(void *allocator, void *code) {
  return static_cast<JitAllocator *>(allocator)->release(code) == OK;
}

size_t asmjit_query(void *allocator, void *address) {
#ifdef HAS_SPANS
  JitAllocator::Span span;
  const bool found = static_cast<JitAllocator *>(allocator)->query(asmjit::Out(span), address) == OK;
  return found ? span.size() : 0;
#else
  void *code, *writable;
  size_t size = 0;
  static_cast<JitAllocator *>(allocator)->query(address, &code, &writable, &size);
  return size;
#endif
}

}
