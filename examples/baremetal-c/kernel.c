/*
 * A kernel in C, with page tables of its own: it writes a function, makes it executable, calls it and prints the
 * statistics. It needs gcc for aarch64 and qemu-system-aarch64. After `cargo xtask dist --target aarch64-unknown-none`,
 * in this folder, with DIST=../../target/dist/aarch64-unknown-none:
 *
 *   aarch64-linux-gnu-gcc -O2 -ffreestanding -mstrict-align -nostdlib -static -Wl,-Ttext=0x40080000,--build-id=none \
 *       -I$DIST/include -o kernel kernel.c $DIST/lib/libexecmem.a
 *   qemu-system-aarch64 -M virt -cpu cortex-a72 -m 128M -nic none -nographic -kernel kernel
 */
#include <execmem_baremetal.h>

/* Addresses that nobody uses, from 64 GiB on. */
#define ADDRESSES INT64_C(0x1000000000)
#define PAGE INT64_C(4096)
#define PAGES 16384
#define ADDRESSES_END (ADDRESSES + PAGES * PAGE)
#define GIB (INT64_C(1) << 30)
#define UNUSED __attribute__((unused))

/* Bits of descriptors (Arm ARM, DDI 0487, D8.3). TAKEN is left to software: it is mapped, maybe without access. */
#define VALID UINT64_C(1)
#define TABLE_OR_PAGE (UINT64_C(1) << 1)
#define DEVICE (UINT64_C(1) << 2 | ACCESSED) /* The second type of memory in MAIR; the first is write-back memory. */
#define READ_ONLY (UINT64_C(1) << 7)
#define INNER_SHAREABLE (UINT64_C(3) << 8)
#define ACCESSED (UINT64_C(1) << 10)
#define PXN (UINT64_C(1) << 53)
#define UXN (UINT64_C(1) << 54)
#define TAKEN (UINT64_C(1) << 55)
#define FRAME UINT64_C(0xfffffffff000)

/* Three levels: blocks of 1 GiB for devices and for the kernel, and pages for the library. */
static __attribute__((aligned(4096))) uint64_t root[512], middle[512];
static volatile uint64_t leaves[PAGES] __attribute__((aligned(4096)));

static volatile uint64_t *leaf(int64_t page) { return &leaves[(page - ADDRESSES) / PAGE]; }

static uint64_t bits(int32_t protection) {
    return TABLE_OR_PAGE | INNER_SHAREABLE | ACCESSED | UXN | TAKEN | (protection != 0 ? VALID : 0) |
           (protection & RT_PROT_WRITE ? 0 : READ_ONLY) | (protection & RT_PROT_EXEC ? 0 : PXN);
}

static int32_t protection_of(uint64_t descriptor) {
    int32_t more = (descriptor & READ_ONLY ? 0 : RT_PROT_WRITE) | (descriptor & PXN ? 0 : RT_PROT_EXEC);
    return descriptor & VALID ? RT_PROT_READ | more : RT_PROT_NONE;
}

static int32_t map(void *context UNUSED, int64_t page, int64_t frame, int32_t protection) {
    *leaf(page) = (uint64_t)frame | bits(protection);
    __asm__ volatile("dsb ishst\n isb" ::: "memory"); /* What was invalid is in no TLB. */
    return 0;
}

static int32_t protect(void *context UNUSED, int64_t start, int64_t end, int32_t protection) {
    for (int64_t page = start; page < end; page += PAGE) *leaf(page) = (*leaf(page) & FRAME) | bits(protection);
    __asm__ volatile("dsb ishst" ::: "memory");
    for (int64_t page = start; page < end; page += PAGE) __asm__ volatile("tlbi vaae1is, %0" ::"r"(page / PAGE));
    __asm__ volatile("dsb ish\n isb" ::: "memory");
    return 0;
}

static int32_t unmap(void *context, int64_t start, int64_t end, ExecmemReleased released, void *to) {
    protect(context, start, end, RT_PROT_NONE);
    for (int64_t page = start; page < end; page += PAGE) {
        uint64_t was = *leaf(page);
        *leaf(page) = 0;
        released(to, (int64_t)(was & FRAME));
    }
    return 0;
}

static int64_t frame(void *context UNUSED, int64_t page) {
    if (page < ADDRESSES || page >= ADDRESSES_END || *leaf(page) == 0) return -1;
    return (int64_t)(*leaf(page) & FRAME);
}

static bool next(void *context UNUSED, int64_t from, ExecmemMapping *mapping) {
    if (from < 2 * GIB) {
        bool is_device = from < GIB;
        mapping->start = is_device ? 0 : GIB;
        mapping->end = mapping->start + GIB;
        mapping->protection = RT_PROT_READ | RT_PROT_WRITE | (is_device ? 0 : RT_PROT_EXEC);
        return true;
    }
    int64_t page = from < ADDRESSES ? ADDRESSES : from & -PAGE;
    while (page < ADDRESSES_END && *leaf(page) == 0) page += PAGE;
    if (page >= ADDRESSES_END) return false;
    mapping->start = page;
    mapping->protection = protection_of(*leaf(page));
    do page += PAGE;
    while (page < ADDRESSES_END && *leaf(page) != 0 && protection_of(*leaf(page)) == mapping->protection);
    mapping->end = page;
    return true;
}

static void print(void *context UNUSED, const uint8_t *text, int64_t length) {
    for (int64_t at = 0; at < length; at++) *(volatile uint32_t *)0x9000000 = text[at]; /* A PL011, which QEMU drains. */
}

static const ExecmemSetup setup = {
    .size = sizeof setup,
    .tables = {.map = map, .protect = protect, .unmap = unmap, .frame = frame, .next = next},
    .memory_start = 0x44000000, .memory_end = 0x48000000,
    .addresses_start = ADDRESSES, .addresses_end = ADDRESSES_END,
    .print = print,
};

static void enable_mmu(void) {
    root[0] = VALID | DEVICE | UXN | PXN;
    root[1] = (uint64_t)GIB | VALID | INNER_SHAREABLE | ACCESSED | UXN;
    root[ADDRESSES / GIB] = (uint64_t)middle | TABLE_OR_PAGE | VALID;
    for (int table = 0; table < PAGES / 512; table++)
        middle[table] = (uint64_t)&leaves[512 * table] | TABLE_OR_PAGE | VALID;
    /* 39 bits of address, 40 of physical address, 4 KiB pages, tables in write-back memory, no upper half. */
    uint64_t translation = 25 | 1 << 8 | 1 << 10 | 3 << 12 | 1 << 23 | UINT64_C(2) << 32, control;
    __asm__ volatile("msr mair_el1, %0\n msr tcr_el1, %1\n msr ttbr0_el1, %2\n dsb sy\n tlbi vmalle1\n dsb nsh\n isb"
                     ::"r"(UINT64_C(0x04ff)), "r"(translation), "r"(root) : "memory");
    __asm__ volatile("mrs %0, sctlr_el1" : "=r"(control));
    control |= 1 << 0 | 1 << 2 | 1 << 12; /* Translation, data caches, instruction caches. */
    __asm__ volatile("msr sctlr_el1, %0\n isb" ::"r"(control) : "memory");
}

/* Allocates memory, and runs a function in it. */
static int64_t run(int64_t size) {
    static const uint32_t code[] = {0x8b000000, 0x91000400, 0xd65f03c0}; /* add x0, x0, x0; add x0, x0, #1; ret */
    int64_t memory = rt_alloc_exec_memory(size), length = sizeof code;
    bool is_done = memory != 0 && rt_write_exec_bytes(memory, (const uint8_t *)code, length, 0) == length &&
                   rt_make_executable(memory, length);
    int64_t result = is_done ? rt_call_function_1(memory, 20) : -1;
    return is_done && rt_free_exec_memory(memory, size) && !rt_is_executable(memory) ? result : -1;
}

void kernel(void) {
    enable_mmu();
    int32_t error = execmem_init(&setup);
    bool is_right = error == 0 && rt_is_executable((int64_t)kernel);
    /* More memory than there is, if what is freed did not come back. */
    for (int round = 0; round < 4; round++) is_right = is_right && run(24 << 20) == 41;
    rt_exec_memory_dump_stats();
    const char *problem = rt_error_message(error != 0 ? error : rt_last_error());
    const char *text = is_right ? "the function says 41\n" : problem;
    for (; *text != 0; text++) print(NULL, (const uint8_t *)text, 1);
    register uint64_t system_off __asm__("x0") = 0x84000008; /* PSCI */
    __asm__ volatile("hvc #0" ::"r"(system_off));
}

static uint8_t stack[65536] __attribute__((aligned(4096), used));
__asm__(".global _start\n_start: adrp x0, stack + 65536\n mov sp, x0\n" /* Floating point isn't trapped (CPACR_EL1). */
        "mov x0, #3 << 20\n msr cpacr_el1, x0\n isb\n bl kernel\n 0: wfi\n b 0b");
