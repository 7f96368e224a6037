//! Functions and data for each kind of module.

use cranelift_codegen::ir::{AbiParam, InstBuilder, Value, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::{DataDescription, DataId, FuncId, Linkage, Module, ModuleResult};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub type Unary = unsafe extern "C" fn(i64) -> i64;

/// One test at a time: what one has freed another would get.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A function of one number that is only declared.
pub fn declare(module: &mut impl Module, name: &str, linkage: Linkage) -> FuncId {
    let mut signature = module.make_signature();
    signature.params.push(AbiParam::new(types::I64));
    signature.returns.push(AbiParam::new(types::I64));
    module.declare_function(name, linkage, &signature).expect("it is not declared otherwise")
}

/// Defines it: `emit` gives its result.
pub fn define<M: Module>(
    module: &mut M,
    id: FuncId,
    emit: impl FnOnce(&mut M, &mut FunctionBuilder<'_>, Value) -> Value,
) -> ModuleResult<()> {
    let mut context = module.make_context();
    context.func.signature = module.declarations().get_function_decl(id).signature.clone();
    let mut scratch = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut context.func, &mut scratch);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    builder.seal_block(block);
    let argument = builder.block_params(block)[0];
    let result = emit(module, &mut builder, argument);
    builder.ins().return_(&[result]);
    builder.finalize(module.target_config());
    module.define_function(id, &mut context)
}

pub fn define_adding(module: &mut impl Module, id: FuncId, number: i64) -> ModuleResult<()> {
    define(module, id, |_, builder, argument| builder.ins().iadd_imm_s(argument, number))
}

/// Defines one that adds 1 to what another gives.
pub fn define_calling(module: &mut impl Module, id: FuncId, callee: FuncId) {
    let defined = define(module, id, |module, builder, argument| {
        let callee = module.declare_func_in_func(callee, builder.func);
        let call = builder.ins().call(callee, &[argument]);
        let result = builder.inst_results(call)[0];
        builder.ins().iadd_imm_s(result, 1)
    });
    defined.expect("it compiles");
}

pub fn data(module: &mut impl Module, name: &str, writable: bool, bytes: &[u8]) -> DataId {
    let id = module.declare_data(name, Linkage::Local, writable, false).expect("a new name");
    let mut description = DataDescription::new();
    description.define(bytes.into());
    module.define_data(id, &description).expect("there is memory");
    id
}
