//! `cranelift-jit`'s own module with memory of execmem's.

mod support;

use cranelift_codegen::ir::{InstBuilder, MemFlagsData, types};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{DataDescription, FuncId, Linkage, Module, default_libcall_names};
use execmem::{Protection, runtime};
use execmem_cranelift::Provider;
use support::{Unary, alone, data, declare, define, define_adding, define_calling};

fn module() -> JITModule {
    with_provider(JITBuilder::new(default_libcall_names()).expect("this processor is known"))
}

fn with_provider(mut builder: JITBuilder) -> JITModule {
    builder.memory_provider(Box::new(Provider::new()));
    JITModule::new(builder)
}

fn memory_in_use() -> (i64, i64) {
    (runtime().region_count(), runtime().requested_bytes())
}

fn call(module: &JITModule, id: FuncId, argument: i64) -> i64 {
    let address = module.get_finalized_function(id);
    // SAFETY: all functions here are of this type, and memory stays until the module is freed.
    unsafe { std::mem::transmute::<*const u8, Unary>(address)(argument) }
}

fn protection(address: *const u8) -> Option<Protection> {
    runtime().protection_at(address as i64).expect("a valid address")
}

#[test]
fn code_and_data_are_near_each_other_protected_as_declared_and_freed() {
    let _alone = alone();
    let before = memory_in_use();
    let mut module = module();
    let counter = data(&mut module, "counter", true, &5i64.to_le_bytes());
    let constant = data(&mut module, "constant", false, &30i64.to_le_bytes());
    let user = declare(&mut module, "user", Linkage::Local);
    // counter += argument; result = counter + constant
    let defined = define(&mut module, user, |module, builder, argument| {
        let flags = MemFlagsData::trusted();
        let [counter, constant] = [counter, constant].map(|id| {
            let data = module.declare_data_in_func(id, builder.func);
            builder.ins().symbol_value(types::I64, data)
        });
        let old = builder.ins().load(types::I64, flags, counter, 0);
        let new = builder.ins().iadd(old, argument);
        builder.ins().store(flags, new, counter, 0);
        let constant = builder.ins().load(types::I64, flags, constant, 0);
        builder.ins().iadd(new, constant)
    });
    defined.unwrap();
    module.finalize_definitions().unwrap();
    assert_eq!([call(&module, user, 1), call(&module, user, 1)], [36, 37]);
    let code = module.get_finalized_function(user);
    let [variable, constant] = [counter, constant].map(|id| module.get_finalized_data(id).0);
    assert_eq!(
        [code, variable, constant].map(protection),
        [Protection::RX, Protection::RW, Protection::READ].map(Some)
    );
    assert!([variable, constant].iter().all(|data| data.addr().abs_diff(code.addr()) < 1 << 30));
    assert_ne!(memory_in_use(), before);
    // SAFETY: nobody executes it any more.
    unsafe { module.free_memory() };
    assert_eq!(memory_in_use(), before);
}

#[test]
fn functions_that_come_later_call_earlier_ones_beside_them() {
    let _alone = alone();
    let before = memory_in_use();
    let mut module = module();
    let mut last = declare(&mut module, "0", Linkage::Local);
    define_adding(&mut module, last, 1).unwrap();
    module.finalize_definitions().unwrap();
    for number in 1..50 {
        let next = declare(&mut module, &number.to_string(), Linkage::Local);
        define_calling(&mut module, next, last);
        module.finalize_definitions().unwrap();
        assert_eq!(call(&module, next, 1), number + 2);
        last = next;
    }
    // SAFETY: nobody executes it any more.
    unsafe { module.free_memory() };
    assert_eq!(memory_in_use(), before);
}

#[test]
fn what_is_large_or_aligned_widely_has_its_room() {
    let _alone = alone();
    let mut module = module();
    let large = data(&mut module, "large", true, &[7; 1 << 20]);
    let aligned = module.declare_data("aligned", Linkage::Local, true, false).unwrap();
    let mut description = DataDescription::new();
    description.define(vec![1; 100].into());
    description.set_align(1 << 16);
    module.define_data(aligned, &description).unwrap();
    module.finalize_definitions().unwrap();
    let (address, size) = module.get_finalized_data(large);
    // SAFETY: a live object of so many bytes, which nobody writes now.
    assert!(unsafe { std::slice::from_raw_parts(address, size) }.iter().all(|byte| *byte == 7));
    assert_eq!(module.get_finalized_data(aligned).0.addr() % (1 << 16), 0);
    // SAFETY: nobody uses it any more.
    unsafe { module.free_memory() };
}

#[test]
fn memory_of_a_module_that_is_dropped_stays() {
    let _alone = alone();
    let mut module = module();
    let function = declare(&mut module, "function", Linkage::Local);
    define_adding(&mut module, function, 1).unwrap();
    module.finalize_definitions().unwrap();
    let address = module.get_finalized_function(function);
    drop(module);
    // SAFETY: it is of this type, and pointers of `cranelift-jit` outlive the module.
    assert_eq!(unsafe { std::mem::transmute::<*const u8, Unary>(address)(41) }, 42);
}

/// Where the processor knows landing pads: an indirect call to an instruction that is none is the end of a child.
#[cfg(all(target_arch = "aarch64", target_os = "linux"))]
#[test]
fn pages_of_code_with_landing_pads_are_guarded() {
    use cranelift_codegen::settings::{self, Configurable};
    assert!(std::arch::is_aarch64_feature_detected!("bti"), "the tests run on a processor that has it");
    let _alone = alone();
    for (use_bti, expected) in [("false", 0), ("true", libc::SIGILL)] {
        let mut flags = settings::builder();
        flags.set("use_colocated_libcalls", "false").unwrap();
        let mut isa = cranelift_native::builder().unwrap();
        isa.set("use_bti", use_bti).unwrap();
        let isa = isa.finish(settings::Flags::new(flags)).unwrap();
        let mut module = with_provider(JITBuilder::with_isa(isa, default_libcall_names()));
        let function = declare(&mut module, "function", Linkage::Local);
        // mov w0, 7, which is no landing pad; ret
        let code = [0x5280_00e0u32, 0xd65f_03c0].map(u32::to_le_bytes).concat();
        module.define_function_bytes(function, 4, &code, &[]).unwrap();
        module.finalize_definitions().unwrap();
        // SAFETY: the child calls one function and ends.
        let child = unsafe { libc::fork() };
        if child == 0 {
            let is_called = call(&module, function, 0) == 7;
            // SAFETY: it ends this process.
            unsafe { libc::_exit(if is_called { 0 } else { 1 }) };
        }
        let mut status = -1;
        // SAFETY: the status is writable.
        assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
        let signal = if libc::WIFSIGNALED(status) { libc::WTERMSIG(status) } else { 0 };
        assert_eq!(
            (signal, signal != 0 || libc::WEXITSTATUS(status) == 0),
            (expected, true),
            "use_bti {use_bti}"
        );
        // SAFETY: nobody uses it any more.
        unsafe { module.free_memory() };
    }
}
