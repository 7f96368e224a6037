//! The aarch64 Cache Type Register, decoded, and the cache lines of a range. Pure, so that it is tested
//! on any host with the numbers of real cores.
//!
//! Source: Arm Architecture Reference Manual for A-profile (DDI 0487), D24.2.34 "CTR_EL0".

/// What CTR_EL0 says about cache maintenance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheType {
    /// Bytes in the smallest data cache line.
    pub data_line: usize,
    /// Bytes in the smallest instruction cache line.
    pub instruction_line: usize,
    /// IDC: cleaning data to the point of unification is not needed.
    pub skip_clean: bool,
    /// DIC: invalidating instructions is not needed.
    pub skip_invalidate: bool,
}

impl CacheType {
    /// From the register's value. Line sizes are `4 << n` bytes: DminLine in bits 19:16, IminLine in bits
    /// 3:0, IDC in bit 28, DIC in bit 29.
    pub const fn decode(ctr: u64) -> Self {
        Self {
            data_line: 4 << (ctr >> 16 & 0xf),
            instruction_line: 4 << (ctr & 0xf),
            skip_clean: ctr >> 28 & 1 == 1,
            skip_invalidate: ctr >> 29 & 1 == 1,
        }
    }
}

/// The addresses of the cache lines that `[start, start + length)` touches. `line` is a power of two.
pub fn lines(start: usize, length: usize, line: usize) -> impl Iterator<Item = usize> {
    let end = start + length;
    (start & !(line - 1)..end).step_by(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_of_real_cores_decode() {
        let decoded = |ctr| {
            let cache = CacheType::decode(ctr);
            (cache.data_line, cache.instruction_line, cache.skip_clean, cache.skip_invalidate)
        };
        assert_eq!(decoded(0x8444_c004), (64, 64, false, false), "Cortex-A72");
        assert_eq!(decoded(0x8444_8004), (64, 64, false, false), "Cortex-A53");
        assert_eq!(decoded(0xb444_c004), (64, 64, true, true), "Neoverse V1");
        assert_eq!(decoded(0x8003_8003), (32, 32, false, false), "qemu-user max");
        assert_eq!(decoded(0x8666_8006), (256, 256, false, false), "A64FX");
        assert_eq!(decoded(0x9444_c00a), (64, 4096, true, false), "Neoverse N1 under Linux");
    }

    #[test]
    fn lines_cover_the_range_and_no_more() {
        assert!(lines(64, 64, 64).eq([64]));
        assert!(lines(127, 2, 64).eq([64, 128]));
        assert!(lines(100, 1, 64).eq([64]));
        assert!(lines(64, 129, 64).eq([64, 128, 192]));
        assert!(lines(4100, 4, 4096).eq([4096]));
        assert!(lines(64, 0, 64).eq([]));
    }
}
