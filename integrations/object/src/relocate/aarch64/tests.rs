//! The expected words of common distances were assembled by GNU as; those at the limits, which it leaves to
//! the linker, were read back with objdump.

use super::*;

const AT: u64 = 0x4000_1000;

#[test]
fn branches_reach_128_mib_either_way_and_not_an_instruction_further() {
    assert_eq!(branch26(0x9400_0000, AT + 8, AT), Ok(0x9400_0002)); // bl .+8
    assert_eq!(branch26(0x1400_0000, AT - 4, AT), Ok(0x17ff_ffff)); // b .-4
    assert_eq!(branch26(0x9400_0000, AT + 0x7ff_fffc, AT), Ok(0x95ff_ffff));
    assert_eq!(branch26(0x9400_0000, AT + 0x800_0000, AT), Err(Misfit::OutOfRange));
    assert_eq!(branch26(0x9400_0000, AT - 0x800_0000, AT), Ok(0x9600_0000));
    assert_eq!(branch26(0x9400_0000, AT - 0x800_0004, AT), Err(Misfit::OutOfRange));
    assert_eq!(branch26(0x9400_0000, AT + 2, AT), Err(Misfit::Misaligned));
}

#[test]
fn short_branches_keep_their_condition_and_register() {
    assert_eq!(literal19(0x5400_0001, AT + 8, AT), Ok(0x5400_0041)); // b.ne .+8
    assert_eq!(literal19(0xb400_0003, AT - 4, AT), Ok(0xb4ff_ffe3)); // cbz x3, .-4
    assert_eq!(literal19(0x5400_0000, AT + 0xf_fffc, AT), Ok(0x547f_ffe0));
    assert_eq!(literal19(0x5400_0000, AT + 0x10_0000, AT), Err(Misfit::OutOfRange));
    assert_eq!(branch14(0x3618_0005, AT + 8, AT), Ok(0x3618_0045)); // tbz w5, #3, .+8
    assert_eq!(branch14(0x3618_0005, AT - 0x8000, AT), Ok(0x361c_0005));
    assert_eq!(branch14(0x3618_0005, AT + 0x8000, AT), Err(Misfit::OutOfRange));
}

#[test]
fn literals_and_adr_reach_1_mib() {
    assert_eq!(literal19(0x5800_0007, AT + 16, AT), Ok(0x5800_0087)); // ldr x7, .+16
    assert_eq!(adr(0x1000_0002, AT + 7, AT), Ok(0x7000_0022)); // adr x2, .+7
    assert_eq!(adr(0x1000_0002, AT - 1, AT), Ok(0x70ff_ffe2)); // adr x2, .-1
    assert_eq!(adr(0x1000_0000, AT + 0xf_ffff, AT), Ok(0x707f_ffe0));
    assert_eq!(adr(0x1000_0000, AT + 0x10_0000, AT), Err(Misfit::OutOfRange));
}

#[test]
fn page_pairs_meet_at_the_address() {
    // adrp x0, .+0x12345000 with both ends anywhere in their pages.
    assert_eq!(adrp(0x9000_0000, AT + 0x1234_5000, AT), Ok(0xb009_1a20));
    assert_eq!(adrp(0x9000_0000, AT + 0x1234_5fff, AT + 0xffc), Ok(0xb009_1a20));
    assert_eq!(adrp(0x9000_0000, AT - 1, AT), Ok(0xf0ff_ffe0));
    let far = 0x7f00_0000_0000;
    assert_eq!(adrp(0x9000_0000, far + 0xffff_ffff, far), Ok(0xf07f_ffe0));
    assert_eq!(adrp(0x9000_0000, far + 0x1_0000_0000, far), Err(Misfit::OutOfRange));
    assert_eq!(adrp(0x9000_0000, far - 0x1_0000_0000, far), Ok(0x9080_0000));
    assert_eq!(adrp(0x9000_0000, far - 0x1_0000_0001, far), Err(Misfit::OutOfRange));

    assert_eq!(low12::<0>(0x9100_0021, 0xabc_d123, 0), Ok(0x9104_8c21)); // add x1, x1, #0x123
    assert_eq!(low12::<0>(0x3940_0021, 0xfff, 0), Ok(0x397f_fc21)); // ldrb w1, [x1, #0xfff]
    assert_eq!(low12::<1>(0x7940_0021, 0xffe, 0), Ok(0x795f_fc21)); // ldrh w1, [x1, #0xffe]
    assert_eq!(low12::<2>(0xb940_0021, 0x124, 0), Ok(0xb941_2421)); // ldr w1, [x1, #0x124]
    assert_eq!(low12::<3>(0xf940_0021, 0xff8, 0), Ok(0xf947_fc21)); // ldr x1, [x1, #0xff8]
    assert_eq!(low12::<4>(0x3dc0_0021, 0xff0, 0), Ok(0x3dc3_fc21)); // ldr q1, [x1, #0xff0]
}

#[test]
fn a_load_of_an_address_between_its_units_is_misaligned() {
    assert_eq!(low12::<1>(0x7940_0021, 1, 0), Err(Misfit::Misaligned));
    assert_eq!(low12::<2>(0xb940_0021, 2, 0), Err(Misfit::Misaligned));
    assert_eq!(low12::<3>(0xf940_0021, 4, 0), Err(Misfit::Misaligned));
    assert_eq!(low12::<4>(0x3dc0_0021, 8, 0), Err(Misfit::Misaligned));
}

#[test]
fn wide_moves_take_sixteen_bits_each_and_refuse_the_rest_when_asked() {
    let address = 0x0012_3456_789a_bcde;
    assert_eq!(move_wide::<0, false>(0xd280_0000, address, 0), Ok(0xd297_9bc0)); // movz x0, #0xbcde
    assert_eq!(move_wide::<1, false>(0xf2a0_0000, address, 0), Ok(0xf2af_1340)); // movk x0, #0x789a, lsl 16
    assert_eq!(move_wide::<2, false>(0xf2c0_0000, address, 0), Ok(0xf2c6_8ac0)); // movk x0, #0x3456, lsl 32
    assert_eq!(move_wide::<3, false>(0xf2e0_0000, address, 0), Ok(0xf2e0_0240)); // movk x0, #0x12, lsl 48
    assert_eq!(move_wide::<0, true>(0xd280_0000, 0x1_0000, 0), Err(Misfit::OutOfRange));
    assert_eq!(move_wide::<1, true>(0xd2a0_0000, 0xffff_ffff, 0), Ok(0xd2bf_ffe0));
    assert_eq!(move_wide::<1, true>(0xd2a0_0000, 0x1_0000_0000, 0), Err(Misfit::OutOfRange));
    assert_eq!(move_wide::<2, true>(0xd2c0_0000, 0x1_0000_0000_0000, 0), Err(Misfit::OutOfRange));
}

#[test]
fn signed_moves_turn_into_their_complement() {
    assert_eq!(move_signed::<0>(0xd280_0000, 0xffff), Ok(0xd29f_ffe0)); // movz x0, #0xffff
    assert_eq!(move_signed::<0>(0xd280_0000, -1_i64 as u64), Ok(0x9280_0000)); // movn x0, #0
    assert_eq!(move_signed::<0>(0x9280_0000, 5), Ok(0xd280_00a0)); // movz x0, #5
    assert_eq!(move_signed::<0>(0xd280_0000, -0x1_0000_i64 as u64), Ok(0x929f_ffe0)); // movn x0, #0xffff
    assert_eq!(move_signed::<0>(0xd280_0000, 0x1_0000), Err(Misfit::OutOfRange));
    assert_eq!(move_signed::<0>(0xd280_0000, -0x1_0001_i64 as u64), Err(Misfit::OutOfRange));
    assert_eq!(move_signed::<1>(0xd2a0_0000, 0x1234_5678), Ok(0xd2a2_4680)); // movz x0, #0x1234, lsl 16
}

#[test]
fn an_unchecked_page_wraps() {
    let far = 0x7f00_0000_0000;
    assert_eq!(adrp_low(0x9000_0000, AT + 0x1234_5000, AT), Ok(0xb009_1a20));
    assert_eq!(adrp_low(0x9000_0000, far + 0x1_0000_0000, far), Ok(0x9080_0000));
}

#[test]
fn got_entries_are_found_from_the_page_of_the_table() {
    let table = 0x5000_0a38;
    assert_eq!(page_offset15(0xf940_0000, 0x5000_0a40, table), Ok(0xf945_2000)); // ldr x0, [x0, #0xa40]
    assert_eq!(page_offset15(0xf940_0000, 0x5000_7ff8, table), Ok(0xf97f_fc00));
    assert_eq!(page_offset15(0xf940_0000, 0x5000_8000, table), Err(Misfit::OutOfRange));
    assert_eq!(page_offset15(0xf940_0000, 0x5000_0a41, table), Err(Misfit::Misaligned));
}

#[test]
fn a_stub_jumps_through_its_got_entry() {
    let words = [0xd503_245f_u32, 0xb000_0010, 0xf940_0610, 0xd61f_0200];
    let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    assert_eq!(stub(0x40_1010, 0x40_2008).unwrap().as_slice(), code);
}

#[test]
fn thread_local_and_dynamic_relocations_are_unknown() {
    let kinds = [
        elf::R_AARCH64_TLSLE_ADD_TPREL_HI12,
        elf::R_AARCH64_TLSDESC_CALL,
        elf::R_AARCH64_COPY,
        elf::R_AARCH64_RELATIVE,
    ];
    assert!(kinds.into_iter().all(|kind| form(kind).is_none()));
}
