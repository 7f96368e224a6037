//! How an address comes into an instruction: arithmetic on bytes that lie in a buffer.

use cranelift_codegen::binemit::Reloc;

/// `ldr x16, 8; br x16` and the address. The ABI leaves x16 to whatever stands between a call and its target.
const VENEER: [u32; 2] = [0x5800_0050, 0xd61f_0200];
/// The bytes of a veneer.
const VENEER_SIZE: usize = 16;

/// How many bytes veneers can take at most behind so many bytes with these relocations.
pub fn room_for_veneers(length: usize, kinds: impl Iterator<Item = Reloc>) -> usize {
    match kinds.filter(|kind| *kind == Reloc::Arm64Call).count() {
        0 => 0,
        calls => length.next_multiple_of(8) - length + calls * VENEER_SIZE,
    }
}

/// Puts the address `target` into the instruction or cell at `offset` of bytes that will be executed at `base`. An
/// aarch64 call that does not reach goes by a veneer, which is appended.
pub fn relocate(
    bytes: &mut Vec<u8>,
    base: usize,
    kind: Reloc,
    offset: usize,
    target: usize,
) -> Result<(), String> {
    let place = base + offset;
    let distance = target.wrapping_sub(place) as i64;
    let too_far = || format!("{kind:?} at {place:#x} does not reach {target:#x}");
    match kind {
        Reloc::Abs8 => put(bytes, offset, (target as u64).to_le_bytes()),
        Reloc::Abs4 => put(bytes, offset, u32::try_from(target).map_err(|_| too_far())?.to_le_bytes()),
        Reloc::X86PCRel4 | Reloc::X86CallPCRel4 => {
            put(bytes, offset, i32::try_from(distance).map_err(|_| too_far())?.to_le_bytes())
        }
        Reloc::Arm64Call => {
            let mut distance = distance;
            if !reaches(distance, 28) {
                let veneer = append_veneer(bytes, target);
                distance = veneer as i64 - offset as i64;
            }
            if !reaches(distance, 28) {
                return Err(too_far());
            }
            change(bytes, offset, |call| call | ((distance >> 2) as u32 & 0x03ff_ffff))
        }
        Reloc::Aarch64AdrPrelPgHi21 => {
            let pages = (target >> 12) as i64 - (place >> 12) as i64;
            if !reaches(pages, 21) {
                return Err(too_far());
            }
            let pages = pages as u32;
            change(bytes, offset, |adrp| adrp | (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5)
        }
        Reloc::Aarch64AddAbsLo12Nc => change(bytes, offset, |add| add | (target as u32 & 0xfff) << 10),
        other => Err(format!("{other:?} is not known")),
    }
}

/// Whether a signed number fits into so many bits.
fn reaches(number: i64, bits: u32) -> bool {
    let most = 1i64 << (bits - 1);
    (-most..most).contains(&number)
}

fn append_veneer(bytes: &mut Vec<u8>, target: usize) -> usize {
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    let start = bytes.len();
    bytes.extend(VENEER.iter().flat_map(|instruction| instruction.to_le_bytes()));
    bytes.extend((target as u64).to_le_bytes());
    start
}

fn put<const N: usize>(bytes: &mut [u8], offset: usize, value: [u8; N]) -> Result<(), String> {
    let outside = || format!("a relocation at {offset:#x} is outside of its {} bytes", bytes.len());
    let end = offset.checked_add(N).filter(|end| *end <= bytes.len()).ok_or_else(outside)?;
    bytes[offset..end].copy_from_slice(&value);
    Ok(())
}

fn change(bytes: &mut [u8], offset: usize, change: impl FnOnce(u32) -> u32) -> Result<(), String> {
    let old = bytes.get(offset..).and_then(|rest| rest.first_chunk()).map(|old| u32::from_le_bytes(*old));
    put(bytes, offset, change(old.unwrap_or_default()).to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BL: u32 = 0x9400_0000;

    fn words(bytes: &[u8]) -> Vec<u32> {
        bytes.chunks(4).map(|word| u32::from_le_bytes(word.try_into().expect("whole words"))).collect()
    }

    fn call(base: usize, target: usize) -> Vec<u32> {
        let mut bytes = [BL, 0xd65f_03c0, 0].map(u32::to_le_bytes).concat();
        relocate(&mut bytes, base, Reloc::Arm64Call, 0, target).expect("a call reaches everything");
        words(&bytes)
    }

    #[test]
    fn a_call_within_128_mib_is_direct_and_any_other_goes_by_a_veneer() {
        let base = 0x4000_0000;
        assert_eq!(call(base, base + 8)[0], BL | 2);
        assert_eq!(call(base, base - 4)[0], BL | 0x03ff_ffff);
        assert_eq!(call(base, base - (1 << 27)).len(), 3);
        assert_eq!(call(base, base + (1 << 27) - 4).len(), 3);
        for target in [base + (1 << 27), base - (1 << 27) - 4, 0x7f12_3456_7898] {
            let words = call(base, target);
            assert_eq!(words[0], BL | 4);
            assert_eq!(words[4..6], VENEER);
            assert_eq!(u64::from(words[6]) | u64::from(words[7]) << 32, target as u64);
            assert_eq!(words.len() * 4, 12 + room_for_veneers(12, [Reloc::Arm64Call].into_iter()));
        }
    }

    #[test]
    fn an_address_is_a_page_and_what_is_behind() {
        let (base, target) = (0x4000_0ffc, 0x4123_4678usize);
        let mut bytes = [0x9000_0001u32, 0x9100_0021].map(u32::to_le_bytes).concat(); // adrp x1, 0; add x1, x1, 0
        relocate(&mut bytes, base, Reloc::Aarch64AdrPrelPgHi21, 0, target).expect("it reaches");
        relocate(&mut bytes, base, Reloc::Aarch64AddAbsLo12Nc, 4, target).expect("it always fits");
        // adrp x1, 0x1234000; add x1, x1, #0x678
        assert_eq!(words(&bytes), [0x9000_91a1, 0x9119_e021]);
        let far = relocate(&mut bytes, base, Reloc::Aarch64AdrPrelPgHi21, 0, target + (1 << 32));
        assert!(far.is_err_and(|reason| reason.contains("does not reach")));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut bytes = vec![0; 8];
        let near = 0x1_0000_0000;
        assert_eq!(relocate(&mut bytes, near, Reloc::X86PCRel4, 4, near - 4), Ok(()));
        assert_eq!(bytes, [0, 0, 0, 0, 0xf8, 0xff, 0xff, 0xff]);
        assert!(relocate(&mut bytes, near, Reloc::X86CallPCRel4, 0, near + (1 << 31)).is_err());
        assert!(relocate(&mut bytes, near, Reloc::Abs4, 0, near).is_err());
        assert!(relocate(&mut bytes, near, Reloc::Abs8, 1, near).is_err(), "outside");
        assert!(relocate(&mut bytes, near, Reloc::Arm64Call, 8, near).is_err(), "outside");
    }
}
