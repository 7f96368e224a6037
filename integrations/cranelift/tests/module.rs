//! What is compiled, linked and published does what it says, and nothing is left of what is freed.

mod support;

use cranelift_codegen::binemit::Reloc;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, types};
use cranelift_module::{DataDescription, FuncId, Linkage, Module, ModuleError, ModuleReloc};
use execmem::{Protection, runtime};
use execmem_cranelift::HeapModule;
use support::{Unary, alone, data, declare, define, define_adding, define_calling};

fn module() -> HeapModule {
    HeapModule::for_host().expect("this processor is known")
}

fn call(module: &HeapModule, id: FuncId, argument: i64) -> i64 {
    let function = module.entry(id).expect("it is finalized").cast::<Unary>();
    // SAFETY: all functions here are of this type.
    unsafe { function.call(argument) }
}

#[test]
fn functions_call_each_other_whichever_was_defined_first() {
    let _alone = alone();
    let mut module = module();
    let ids = ["a", "b", "c"].map(|name| declare(&mut module, name, Linkage::Local));
    let [first, adding, last] = ids;
    define_calling(&mut module, first, adding);
    define_adding(&mut module, adding, 40).unwrap();
    define_calling(&mut module, last, first);
    assert!(module.entry(first).is_none(), "code that is not published can't be had");
    module.finalize_definitions().unwrap();
    assert_eq!(ids.map(|id| call(&module, id, 2)), [43, 42, 44]);
    for id in ids {
        let block = runtime().find_block(module.get_finalized_function(id) as i64).expect("a live block");
        assert_eq!(runtime().is_executable(block.address as i64), Ok(true));
    }
}

#[test]
fn data_is_where_code_and_data_refer_to_and_protected_as_declared() {
    let _alone = alone();
    let mut module = module();
    let user = declare(&mut module, "user", Linkage::Local);
    let counter = data(&mut module, "counter", true, &5i64.to_le_bytes());
    let constant = data(&mut module, "constant", false, &30i64.to_le_bytes());
    let empty = data(&mut module, "empty", false, &[]);
    let pointer = module.declare_data("pointer", Linkage::Local, false, false).unwrap();
    let mut description = DataDescription::new();
    description.define_zeroinit(16);
    description.set_align(32);
    let (to_data, to_code) = (
        module.declare_data_in_data(constant, &mut description),
        module.declare_func_in_data(user, &mut description),
    );
    description.write_data_addr(0, to_data, 0);
    description.write_function_addr(8, to_code);
    module.define_data(pointer, &description).unwrap();
    // counter += argument; result = counter + *pointer[0]
    let defined = define(&mut module, user, |module, builder, argument| {
        let flags = MemFlagsData::trusted();
        let [counter, pointer] = [counter, pointer].map(|id| {
            let data = module.declare_data_in_func(id, builder.func);
            builder.ins().symbol_value(types::I64, data)
        });
        let old = builder.ins().load(types::I64, flags, counter, 0);
        let new = builder.ins().iadd(old, argument);
        builder.ins().store(flags, new, counter, 0);
        let constant = builder.ins().load(types::I64, flags, pointer, 0);
        let constant = builder.ins().load(types::I64, flags, constant, 0);
        builder.ins().iadd(new, constant)
    });
    defined.unwrap();
    module.finalize_definitions().unwrap();
    assert_eq!([call(&module, user, 1), call(&module, user, 1)], [36, 37]);
    let at = |id| module.get_finalized_data(id).0 as i64;
    let protection = |id| runtime().protection_at(at(id)).unwrap();
    assert_eq!(protection(counter), Some(Protection::RW));
    for id in [constant, empty, pointer] {
        assert_eq!(protection(id), Some(Protection::READ));
    }
    assert_eq!(at(pointer) % 32, 0);
    // SAFETY: a live object of two pointers.
    let pointers = unsafe { (at(pointer) as *const [usize; 2]).read() };
    assert_eq!(pointers, [at(constant) as usize, module.get_finalized_function(user) as usize]);

    // What comes later does not lie on pages that are sealed.
    let later = data(&mut module, "later", false, &1i64.to_le_bytes());
    module.finalize_definitions().unwrap();
    // SAFETY: a live object of eight bytes.
    assert_eq!(unsafe { (module.get_finalized_data(later).0 as *const i64).read_unaligned() }, 1);
}

extern "C" fn triple(number: i64) -> i64 {
    number * 3
}

#[test]
fn imports_come_from_the_program_and_a_missing_one_can_be_given() {
    let _alone = alone();
    let mut module = module();
    let [user, other] = ["user", "other"].map(|name| declare(&mut module, name, Linkage::Local));
    let imported = declare(&mut module, "no_such_function", Linkage::Import);
    define_calling(&mut module, user, imported);
    define_adding(&mut module, other, 1).unwrap();
    let error = module.finalize_definitions().unwrap_err();
    assert!(error.to_string().contains("no_such_function"), "{error}");
    assert!(module.entry(other).is_none(), "all, or none");
    module.symbol("no_such_function", triple as *const u8);
    module.finalize_definitions().unwrap();
    assert_eq!((call(&module, user, 5), call(&module, other, 5)), (16, 6));

    let absolute = declare(&mut module, "labs", Linkage::Import);
    let by_lookup = declare(&mut module, "found", Linkage::Import);
    module.symbol_lookup(|name| (name == "found" || name == "labs").then_some(triple as *const u8));
    let callers = [absolute, by_lookup].map(|callee| {
        let id = module
            .declare_anonymous_function(&module.declarations().get_function_decl(callee).signature.clone());
        let id = id.unwrap();
        define_calling(&mut module, id, callee);
        id
    });
    module.finalize_definitions().unwrap();
    assert_eq!(callers.map(|id| call(&module, id, -2)), [-5, -5]);
}

/// Defines a function by its instructions, with a call at `offset`.
fn define_bytes(
    module: &mut HeapModule,
    code: &[u8],
    kind: Reloc,
    offset: u32,
    addend: i64,
    callee: FuncId,
) -> FuncId {
    let id = declare(module, "by_bytes", Linkage::Local);
    let relocs = [ModuleReloc { kind, offset, name: callee.into(), addend }];
    module.define_function_bytes(id, 4, code, &relocs).expect("there is memory");
    id
}

#[cfg(target_arch = "aarch64")]
#[test]
fn a_call_that_does_not_reach_goes_by_a_veneer() {
    let _alone = alone();
    let mut module = module();
    let imported = declare(&mut module, "far", Linkage::Import);
    module.symbol("far", triple as *const u8);
    // stp x29, x30, [sp, #-16]!; bl far; ldp x29, x30, [sp], #16; ret
    let code = [0xa9bf_7bfdu32, 0x9400_0000, 0xa8c1_7bfd, 0xd65f_03c0].map(u32::to_le_bytes).concat();
    let id = define_bytes(&mut module, &code, Reloc::Arm64Call, 4, 0, imported);
    module.finalize_definitions().unwrap();
    let distance = (triple as *const () as usize).abs_diff(module.get_finalized_function(id) as usize);
    assert!(distance > 1 << 28, "the program is far from its code heap");
    assert_eq!(call(&module, id, 5), 15);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn a_call_that_does_not_reach_is_an_error() {
    let _alone = alone();
    let mut module = module();
    let imported = declare(&mut module, "far", Linkage::Import);
    let id = define_bytes(&mut module, &[0xe8, 0, 0, 0, 0, 0xc3], Reloc::X86CallPCRel4, 1, -4, imported);
    module.symbol("far", std::ptr::without_provenance(4096));
    let error = module.finalize_definitions().unwrap_err();
    assert!(error.to_string().contains("does not reach 0xffc"), "{error}");
    assert!(module.entry(id).is_none());
}

#[test]
fn long_copies_go_to_the_c_library() {
    let _alone = alone();
    let mut module = module();
    let user = declare(&mut module, "user", Linkage::Local);
    let target = data(&mut module, "target", true, &[0; 4096]);
    let defined = define(&mut module, user, |module, builder, argument| {
        let data = module.declare_data_in_func(target, builder.func);
        let address = builder.ins().symbol_value(types::I64, data);
        let byte = builder.ins().ireduce(types::I8, argument);
        let size = builder.ins().iconst(types::I64, 4096);
        builder.call_memset(module.target_config(), address, byte, size);
        argument
    });
    defined.unwrap();
    module.finalize_definitions().unwrap();
    call(&module, user, 7);
    let (address, size) = module.get_finalized_data(target);
    // SAFETY: a live object of so many bytes, which nobody writes now.
    assert!(unsafe { std::slice::from_raw_parts(address, size) }.iter().all(|byte| *byte == 7));
}

#[test]
fn a_function_is_freed_alone_and_its_name_defined_anew() {
    let _alone = alone();
    let mut module = module();
    let [first, second] = ["first", "second"].map(|name| declare(&mut module, name, Linkage::Local));
    define_adding(&mut module, first, 1).unwrap();
    define_adding(&mut module, second, 2).unwrap();
    module.finalize_definitions().unwrap();
    let twice = define_adding(&mut module, first, 1);
    assert!(matches!(twice, Err(ModuleError::DuplicateDefinition(name)) if name == "first"));
    let address = module.get_finalized_function(first) as i64;
    // SAFETY: nobody calls it.
    assert!(unsafe { module.free_function(first) });
    assert_eq!(runtime().find_block(address), None);
    assert_eq!(call(&module, second, 1), 3);
    // SAFETY: it is not there.
    assert!(!unsafe { module.free_function(first) });
    define_adding(&mut module, first, 10).unwrap();
    module.finalize_definitions().unwrap();
    assert_eq!((call(&module, first, 1), call(&module, second, 1)), (11, 3));

    let address = module.get_finalized_function(second) as i64;
    let object = data(&mut module, "object", false, b"abc");
    module.finalize_definitions().unwrap();
    let object = module.get_finalized_data(object).0 as i64;
    drop(module);
    assert_eq!(runtime().find_block(address), None);
    assert_ne!(runtime().protection_at(object), Ok(Some(Protection::READ)));
}
