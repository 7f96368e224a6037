//! x86-64: instruction caches follow stores by themselves (Intel SDM, volume 3, 13.6 "Self-modifying
//! code"). What another core has fetched already is dropped by `synchronize_cores`.

pub(super) const INSTRUCTION_ALIGNMENT: usize = 1;
/// `int3`, four times.
pub(super) const TRAP: [u8; 4] = [0xcc; 4];

/// No pages ask for any.
pub(super) fn is_landing_pad(_instruction: u32) -> bool {
    true
}

/// See [`super::make_coherent`]. Only the compiler has to keep its stores in front.
pub(super) unsafe fn make_coherent(_written: usize, _executed: usize, _length: usize) {
    core::sync::atomic::compiler_fence(core::sync::atomic::Ordering::SeqCst);
}
