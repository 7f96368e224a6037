//! A whole JIT: Cranelift compiles functions into our module and into its own.

use cranelift_codegen::Context;
use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, types};
use cranelift_codegen::isa::TargetFrontendConfig;
use cranelift_codegen::settings::{self, Configurable};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, Module, default_libcall_names};
use execmem_benches::{Role, Unit, children, memory, now, rounds, row};
use execmem_cranelift::HeapModule;
use std::hint::black_box;

const TABLE: &str = "A JIT: 5,000 functions compiled by Cranelift";
const COUNT: usize = 5_000;
/// How many are added one by one to those.
const SINGLE: usize = 500;

const LINKED: &str = "each function is a block that can be freed alone: bytes are kept until all are linked, and written then; \
     cranelift-jit compiles into pages that it makes executable all at once, and never frees one";
/// What is measured, and why it loses.
const FIGURES: [(&str, Unit, &str); 6] = [
    ("compile, link, publish and call 5,000 functions, each", Unit::Nanoseconds, LINKED),
    ("link, publish and call 5,000 functions that are compiled, each", Unit::Nanoseconds, LINKED),
    ("link, publish and call one by one, as a JIT does", Unit::Nanoseconds, ""),
    ("memory of a function of the module, tables included", Unit::Bytes, LINKED),
    ("free half of a module's functions, each", Unit::Nanoseconds, ""),
    ("link, publish and call as many again, each", Unit::Nanoseconds, ""),
];

pub fn run() {
    let names = [(Role::Ours, "execmem-cranelift"), (Role::Peer, "cranelift-jit")];
    let processes: Vec<_> = names.iter().map(|(_, name)| vec!["jit", name]).collect();
    let samples = children(rounds(7, 1), &processes);
    for (index, (name, unit, why)) in FIGURES.into_iter().enumerate() {
        let cells =
            names.iter().zip(&samples).map(|(&(role, name), samples)| (role, name, &samples[index][..]));
        row(TABLE, name, unit, &cells.collect::<Vec<_>>()).why(why).print();
    }
}

/// A module that makes its functions callable.
trait Jit: Module {
    fn finalize(&mut self);
    fn address(&self, id: FuncId) -> usize;
    /// Whether a single function could be freed.
    fn free(&mut self, id: FuncId) -> bool;
}

impl Jit for HeapModule {
    fn finalize(&mut self) {
        self.finalize_definitions().expect("all is defined");
    }

    fn address(&self, id: FuncId) -> usize {
        self.get_finalized_function(id) as usize
    }

    fn free(&mut self, id: FuncId) -> bool {
        // SAFETY: nobody runs it; those that would call it are not called again.
        unsafe { self.free_function(id) }
    }
}

impl Jit for JITModule {
    fn finalize(&mut self) {
        self.finalize_definitions().expect("all is defined");
    }

    fn address(&self, id: FuncId) -> usize {
        self.get_finalized_function(id) as usize
    }

    fn free(&mut self, _: FuncId) -> bool {
        false
    }
}

pub fn child(words: &[&str]) -> Vec<f64> {
    match *words {
        ["execmem-cranelift"] => measure(HeapModule::for_host().expect("this processor is known")),
        ["cranelift-jit"] => {
            let mut flags = settings::builder();
            flags.set("use_colocated_libcalls", "false").expect("a flag");
            flags.set("is_pic", "false").expect("a flag");
            let isa = cranelift_native::builder().expect("this processor is known");
            let isa = isa.finish(settings::Flags::new(flags)).expect("the flags go together");
            measure(JITModule::new(JITBuilder::with_isa(isa, default_libcall_names())))
        }
        _ => panic!("there is no {words:?}"),
    }
}

fn measure(mut module: impl Jit) -> Vec<f64> {
    let mut compiler = Compiler::new(&module);
    compiler.define(&mut module, 0);
    module.finalize();
    let start = now();
    let ids: Vec<FuncId> = (0..COUNT).map(|number| compiler.define(&mut module, number)).collect();
    publish(&mut module, &ids);
    let compiled = (now() - start) / COUNT as f64;

    // The code of one of them, again and again.
    let code = compiler.code(&module);
    let copy = |module: &mut _| define_bytes(module, &compiler.signature, &code);
    let before = memory();
    let start = now();
    let mut ids: Vec<FuncId> = (0..COUNT).map(|_| copy(&mut module)).collect();
    publish(&mut module, &ids);
    let linked = (now() - start) / COUNT as f64;
    let bytes = (memory() - before) / COUNT as f64;

    let start = now();
    for _ in 0..SINGLE {
        let id = copy(&mut module);
        publish(&mut module, &[id]);
    }
    let one_by_one = (now() - start) / SINGLE as f64;

    let start = now();
    let half = ids.split_off(COUNT / 2);
    let is_freed = half.iter().all(|id| module.free(*id));
    let freed = (now() - start) / half.len() as f64;
    if !is_freed {
        return vec![compiled, linked, one_by_one, bytes, f64::NAN, f64::NAN];
    }
    let start = now();
    let again: Vec<FuncId> = half.iter().map(|_| copy(&mut module)).collect();
    publish(&mut module, &again);
    let again = (now() - start) / half.len() as f64;
    vec![compiled, linked, one_by_one, bytes, freed, again]
}

/// Finalizes them, and calls each.
fn publish(module: &mut impl Jit, ids: &[FuncId]) {
    module.finalize();
    for id in ids {
        // SAFETY: the function is of this type.
        let function: extern "C" fn(i64) -> i64 = unsafe { std::mem::transmute(module.address(*id)) };
        black_box(function(1));
    }
}

fn define_bytes(module: &mut impl Module, signature: &Signature, code: &[u8]) -> FuncId {
    let id = module.declare_anonymous_function(signature).expect("a name");
    module.define_function_bytes(id, 16, code, &[]).expect("room");
    id
}

struct Compiler {
    signature: Signature,
    context: Context,
    builder: FunctionBuilderContext,
}

impl Compiler {
    fn new(module: &impl Module) -> Self {
        let mut signature = module.make_signature();
        signature.params.push(AbiParam::new(types::I64));
        signature.returns.push(AbiParam::new(types::I64));
        Self { signature, context: module.make_context(), builder: FunctionBuilderContext::new() }
    }

    /// Forty additions and multiplications.
    fn build(&mut self, config: TargetFrontendConfig, number: usize) {
        self.context.clear();
        self.context.func.signature = self.signature.clone();
        let mut builder = FunctionBuilder::new(&mut self.context.func, &mut self.builder);
        let block = builder.create_block();
        builder.append_block_params_for_function_params(block);
        builder.switch_to_block(block);
        builder.seal_all_blocks();
        let mut value = builder.block_params(block)[0];
        for step in 0..20 {
            let factor = builder.ins().iconst(types::I64, (number + step) as i64);
            let product = builder.ins().imul(value, factor);
            value = builder.ins().iadd(product, factor);
        }
        builder.ins().return_(&[value]);
        builder.finalize(config);
    }

    fn define(&mut self, module: &mut impl Module, number: usize) -> FuncId {
        self.build(module.target_config(), number);
        let id = module.declare_anonymous_function(&self.signature).expect("a name");
        module.define_function(id, &mut self.context).expect("it compiles");
        id
    }

    /// The bytes of such a function.
    fn code(&mut self, module: &impl Module) -> Vec<u8> {
        self.build(module.target_config(), 0);
        let mut plane = ControlPlane::default();
        let compiled = self.context.compile(module.isa(), &mut plane).expect("it compiles");
        compiled.buffer.data().to_vec()
    }
}
