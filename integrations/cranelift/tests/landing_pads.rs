//! A process in which no indirect branch lands beside a landing pad.
#![cfg(all(target_arch = "aarch64", target_os = "linux"))]

mod support;

use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::ir::{AbiParam, InstBuilder, JumpTableData, types};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, ModuleReloc, default_libcall_names};
use execmem::{ErrorKind, Hardening, Protection, runtime};
use execmem_cranelift::{HeapModule, Provider};
use support::{Unary, alone, declare, define, define_adding, define_calling};

fn harden() {
    assert!(std::arch::is_aarch64_feature_detected!("bti"), "the tests run on a processor that has it");
    runtime().set_hardening(Hardening::BTI).expect("nothing is allocated yet, or it is on");
}

extern "C" fn triple(number: i64) -> i64 {
    3 * number
}

#[test]
fn functions_have_landing_pads_wherever_branches_are_indirect() {
    let _alone = alone();
    harden();
    let mut module = HeapModule::for_host().unwrap();
    let [adding, calling, choosing, by_pointer] = ["adding", "calling", "choosing", "by_pointer"]
        .map(|name| declare(&mut module, name, Linkage::Local));
    define_adding(&mut module, adding, 2).unwrap();
    define_calling(&mut module, calling, adding);
    define(&mut module, by_pointer, |module, builder, argument| {
        let callee = module.declare_func_in_func(adding, builder.func);
        let pointer = builder.ins().func_addr(types::I64, callee);
        let mut signature = module.make_signature();
        signature.params.push(AbiParam::new(types::I64));
        signature.returns.push(AbiParam::new(types::I64));
        let signature = builder.import_signature(signature);
        let call = builder.ins().call_indirect(signature, pointer, &[argument]);
        builder.inst_results(call)[0]
    })
    .unwrap();
    // A jump table: its branches go into the middle of the function.
    define(&mut module, choosing, |_, builder, argument| {
        let blocks: Vec<_> = (0..4).map(|_| builder.create_block()).collect();
        let end = builder.create_block();
        let result = builder.append_block_param(end, types::I64);
        let calls: Vec<_> = blocks.iter().map(|block| builder.func.dfg.block_call(*block, &[])).collect();
        let table = builder.create_jump_table(JumpTableData::new(calls[0], &calls));
        let index = builder.ins().ireduce(types::I32, argument);
        builder.ins().br_table(index, table);
        for (block, number) in blocks.into_iter().zip(100..) {
            builder.switch_to_block(block);
            builder.seal_block(block);
            let number = builder.ins().iconst(types::I64, number);
            builder.ins().jump(end, &[number.into()]);
        }
        builder.switch_to_block(end);
        builder.seal_block(end);
        result
    })
    .unwrap();
    // A call that goes by a veneer: bti c; stp x29, x30, [sp, #-16]!; bl far; ldp x29, x30, [sp], #16; ret.
    module.symbol("far", triple as *const u8);
    let far = declare(&mut module, "far", Linkage::Import);
    let code = [0xd503_245fu32, 0xa9bf_7bfd, 0x9400_0000, 0xa8c1_7bfd, 0xd65f_03c0].map(u32::to_le_bytes);
    let imported = declare(&mut module, "imported", Linkage::Local);
    let relocs = [ModuleReloc { kind: Reloc::Arm64Call, offset: 8, name: far.into(), addend: 0 }];
    module.define_function_bytes(imported, 4, &code.concat(), &relocs).unwrap();
    // mov x0, 7; ret
    let bare = declare(&mut module, "bare", Linkage::Local);
    let code = [0xd280_00e0u32, 0xd65f_03c0].map(u32::to_le_bytes).concat();
    module.define_function_bytes(bare, 4, &code, &[]).unwrap();
    module.finalize_definitions().unwrap();

    for (id, argument, expected) in [
        (adding, 40, 42),
        (calling, 40, 43),
        (by_pointer, 5, 7),
        (choosing, 0, 100),
        (choosing, 3, 103),
        (choosing, 9, 100),
        (imported, 5, 15),
    ] {
        let function = module.entry(id).unwrap().cast::<Unary>();
        // SAFETY: all functions here are of this type.
        assert_eq!(unsafe { function.call(argument) }, expected);
        let address = module.get_finalized_function(id) as i64;
        let protection = runtime().protection_at(address).unwrap().unwrap();
        assert!(protection.contains(Protection::EXEC | Protection::BTI), "{protection:?}");
    }
    let address = module.get_finalized_function(bare) as i64;
    // SAFETY: it is a function of no arguments.
    assert_eq!(unsafe { runtime().call(address, &[]) }, Err(ErrorKind::NotExecutable));
}

#[test]
fn code_without_landing_pads_is_refused_as_a_whole() {
    let _alone = alone();
    harden();
    let mut flags = settings::builder();
    flags.set("is_pic", "false").unwrap();
    let isa = cranelift_native::builder().unwrap().finish(settings::Flags::new(flags)).unwrap();
    let refused = HeapModule::new(isa).err().expect("it is refused");
    assert!(format!("{refused:?}").contains("use_bti"), "{refused:?}");
}

#[test]
fn cranelift_jits_module_has_no_such_code_finalized() {
    let _alone = alone();
    harden();
    for (use_bti, is_refused) in [("false", true), ("true", false)] {
        let mut isa = cranelift_native::builder().unwrap();
        isa.set("use_bti", use_bti).unwrap();
        let mut flags = settings::builder();
        flags.set("use_colocated_libcalls", "false").unwrap();
        let isa = isa.finish(settings::Flags::new(flags)).unwrap();
        let mut builder = JITBuilder::with_isa(isa, default_libcall_names());
        builder.memory_provider(Box::new(Provider::new()));
        let mut module = JITModule::new(builder);
        let function = declare(&mut module, "function", Linkage::Local);
        // bti c; ret
        let code = [0xd503_245fu32, 0xd65f_03c0].map(u32::to_le_bytes).concat();
        module.define_function_bytes(function, 4, &code, &[]).unwrap();
        let finalized = module.finalize_definitions();
        assert_eq!(finalized.is_err(), is_refused, "{finalized:?}");
        // SAFETY: nobody uses it any more.
        unsafe { module.free_memory() };
    }
}
