// asmjit's JitAllocator as plain C functions.

#include <asmjit/core.h>
#include <string.h>

using asmjit::JitAllocator;
using asmjit::JitAllocatorOptions;

extern "C" {

void *asmjit_new(bool fill) {
  JitAllocator::CreateParams params{};
  params.options = JitAllocatorOptions::kUseDualMapping;
  if (fill) params.options |= JitAllocatorOptions::kFillUnusedMemory;
  return new JitAllocator(&params);
}

void asmjit_delete(void *allocator) { delete static_cast<JitAllocator *>(allocator); }

void *asmjit_alloc(void *allocator, size_t size, void **writable) {
  void *code = nullptr;
  if (static_cast<JitAllocator *>(allocator)->alloc(&code, writable, size) != asmjit::kErrorOk) {
    return nullptr;
  }
  return code;
}

// What JitRuntime does with code that has no relocations.
void asmjit_write(void *code, void *writable, const void *source, size_t size) {
  memcpy(writable, source, size);
  asmjit::VirtMem::flushInstructionCache(code, size);
}

int asmjit_release(void *allocator, void *code) {
  return static_cast<JitAllocator *>(allocator)->release(code) == asmjit::kErrorOk;
}

size_t asmjit_query(void *allocator, void *address) {
  void *code, *writable;
  size_t size = 0;
  static_cast<JitAllocator *>(allocator)->query(address, &code, &writable, &size);
  return size;
}

}
