//! The expected words were assembled by GNU as, and read back with objdump.

use super::*;

const AT: u64 = 0x4000_1000;

#[test]
fn branches_reach_their_last_bit_in_both_directions() {
    assert_eq!(branch(0x00b5_0063, AT + 0x5a8, AT), Ok(0x5ab5_0463)); // beq a0, a1, .+0x5a8
    assert_eq!(branch(0x00b5_1063, AT - 0x5a8, AT), Ok(0xa4b5_1ce3)); // bne a0, a1, .-0x5a8
    assert_eq!(branch(0x00b5_0063, AT + 0x1000, AT), Err(Misfit::OutOfRange));
    assert!(branch(0x00b5_0063, AT - 0x1000, AT).is_ok());
    assert_eq!(branch(0x00b5_0063, AT + 1, AT), Err(Misfit::Misaligned));
    assert_eq!(jump(0x0000_00ef, AT + 0x5a56c, AT), Ok(0x56c5_a0ef)); // jal ra, .+0x5a56c
    assert_eq!(jump(0x0000_006f, AT - 0x5a56c, AT), Ok(0xa95a_506f)); // j .-0x5a56c
    assert_eq!(jump(0x0000_006f, AT + 0x10_0000, AT), Err(Misfit::OutOfRange));
    assert!(jump(0x0000_006f, AT - 0x10_0000, AT).is_ok());
}

#[test]
fn compressed_branches_reach_their_last_bit_in_both_directions() {
    assert_eq!(short_branch(0xc101, AT + 0x52, AT), Ok(0xc929)); // c.beqz a0, .+0x52
    assert_eq!(short_branch(0xe181, AT - 0x52, AT), Ok(0xf5dd)); // c.bnez a1, .-0x52
    assert_eq!(short_branch(0xc101, AT + 0x100, AT), Err(Misfit::OutOfRange));
    assert_eq!(short_jump(0xa001, AT + 0x2b6, AT), Ok(0xac5d)); // c.j .+0x2b6
    assert_eq!(short_jump(0xa001, AT - 0x2b6, AT), Ok(0xb3a9)); // c.j .-0x2b6
    assert_eq!(short_jump(0xa001, AT + 0x800, AT), Err(Misfit::OutOfRange));
}

#[test]
fn both_halves_of_a_pair_lead_to_the_value() {
    for distance in [0, 0x7ff, 0x800, 0xfff, 0x1234_5678, -1, -0x800, -0x801, -0x7fff_0000_i64] {
        let upper = high_distance(0x0000_0517, AT.wrapping_add_signed(distance), AT).unwrap();
        let lower = low_i(0x0005_0513, distance as u64);
        let store = low_s(0x00a5_b023, distance as u64);
        let sum = i64::from((upper & 0xffff_f000) as i32) + i64::from(lower as i32 >> 20);
        assert_eq!(sum, distance);
        assert_eq!((store as i32 >> 25) << 5 | (store >> 7 & 31) as i32, lower as i32 >> 20);
        let both = call(0x0000_80e7_0000_0097, AT.wrapping_add_signed(distance), AT).unwrap();
        assert_eq!((both as u32 & 0xffff_f000, both >> 52), (upper & 0xffff_f000, u64::from(lower >> 20)));
    }
    assert_eq!(low_i(0x0005_0513, -4_i64 as u64), 0xffc5_0513); // addi a0, a0, -4
    assert_eq!(low_s(0x00a5_b023, 0x7f8), 0x7ea5_bc23); // sd a0, 0x7f8(a1)
    assert_eq!(low_s(0x00a5_b023, -8_i64 as u64), 0xfea5_bc23); // sd a0, -8(a1)
    assert!(high(0, 0x7fff_f7ff).is_ok());
    assert_eq!(high(0, 0x7fff_f800), Err(Misfit::OutOfRange));
    assert!(high(0, -0x8000_0800).is_ok());
    assert_eq!(high(0, -0x8000_0801), Err(Misfit::OutOfRange));
    assert_eq!(high(0, i64::MAX), Err(Misfit::OutOfRange));
}

#[test]
fn six_bits_of_a_byte_leave_the_other_two() {
    assert_eq!(low6(0x40, 0x12), 0x52);
    assert_eq!(low6(0xc5, 0xff), 0xff);
}

#[test]
fn a_stub_jumps_through_its_got_entry() {
    let words = [0x0000_1e17_u32, 0xff8e_3e03, 0x000e_0067, 0x0000_0013];
    let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(stub(0x5b034, 0x5c02c).unwrap().as_slice(), code);
}

#[test]
fn thread_local_and_dynamic_relocations_are_unknown() {
    let kinds = [
        elf::R_RISCV_TPREL_HI20,
        elf::R_RISCV_TLS_GD_HI20,
        elf::R_RISCV_TLSDESC_CALL,
        elf::R_RISCV_COPY,
        elf::R_RISCV_RELATIVE,
    ];
    assert!(kinds.into_iter().all(|kind| form(kind).is_none()));
}
