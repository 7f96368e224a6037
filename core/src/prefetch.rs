//! Hints that memory is about to be used: a core brings in what it lacks while it goes on. They change nothing, wait for
//! nothing, and may name any address. Elsewhere than on x86-64 and aarch64 they do nothing.

/// The cache line at an address is about to be read.
#[inline]
pub(crate) fn for_read(address: usize) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    // SAFETY: a hint takes any address (Intel's manual, volume 2, PREFETCHh).
    unsafe {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(core::ptr::without_provenance(address));
    }
    #[cfg(all(target_arch = "aarch64", not(miri)))]
    // SAFETY: a hint takes any address (Arm's manual, C6, PRFM).
    unsafe {
        core::arch::asm!("prfm pldl1keep, [{}]", in(reg) address, options(nostack, preserves_flags, readonly));
    }
    let _ = address;
}

/// The cache lines of so many bytes at an address are about to be written. An x86-64 that doesn't know the hint
/// takes it for nothing.
#[inline]
pub(crate) fn for_write(address: usize, length: usize) {
    const LINE: usize = 64;
    for line in (0..length).step_by(LINE).map(|offset| address.wrapping_add(offset)) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        // SAFETY: a hint takes any address (Intel's manual, volume 2, PREFETCHW).
        unsafe {
            use core::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
            _mm_prefetch::<_MM_HINT_ET0>(core::ptr::without_provenance(line));
        }
        #[cfg(all(target_arch = "aarch64", not(miri)))]
        // SAFETY: a hint takes any address (Arm's manual, C6, PRFM).
        unsafe {
            core::arch::asm!("prfm pstl1keep, [{}]", in(reg) line, options(nostack, preserves_flags, readonly));
        }
        let _ = line;
    }
}
