//! Compiles an expression of integers and calls it.
//!
//! `cargo run --example calc -- "(x+1)*y" 4 5` prints 25. Variables get the numbers in the order in which they appear. There
//! are `+`, `-`, `*` and parentheses; what does not fit into 64 bits wraps.

use cranelift_codegen::ir::{AbiParam, InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};
use cranelift_module::Module;
use execmem_cranelift::HeapModule;
use std::iter::Peekable;
use std::str::Chars;

/// The variables' values are read from memory, so that there may be any number of them.
type Compiled = unsafe extern "C" fn(*const i64) -> i64;

/// Reads an expression and emits instructions for it as it goes.
struct Parser<'a, 'f> {
    text: Peekable<Chars<'a>>,
    builder: &'a mut FunctionBuilder<'f>,
    values: Value,
    variables: Vec<String>,
}

impl Parser<'_, '_> {
    fn next_is(&mut self, wanted: char) -> bool {
        while self.text.next_if(|c| c.is_whitespace()).is_some() {}
        self.text.next_if_eq(&wanted).is_some()
    }

    fn word(&mut self) -> String {
        std::iter::from_fn(|| self.text.next_if(|c| c.is_alphanumeric() || *c == '_')).collect()
    }

    fn sum(&mut self) -> Result<Value, String> {
        let mut left = self.product()?;
        loop {
            if self.next_is('+') {
                let right = self.product()?;
                left = self.builder.ins().iadd(left, right);
            } else if self.next_is('-') {
                let right = self.product()?;
                left = self.builder.ins().isub(left, right);
            } else {
                return Ok(left);
            }
        }
    }

    fn product(&mut self) -> Result<Value, String> {
        let mut left = self.atom()?;
        while self.next_is('*') {
            let right = self.atom()?;
            left = self.builder.ins().imul(left, right);
        }
        Ok(left)
    }

    fn atom(&mut self) -> Result<Value, String> {
        if self.next_is('-') {
            let value = self.atom()?;
            return Ok(self.builder.ins().ineg(value));
        }
        if self.next_is('(') {
            let value = self.sum()?;
            return if self.next_is(')') { Ok(value) } else { Err("a parenthesis is not closed".into()) };
        }
        let word = self.word();
        if let Ok(number) = word.parse::<i64>() {
            return Ok(self.builder.ins().iconst(types::I64, number));
        }
        if !word.starts_with(char::is_alphabetic) {
            return Err(match self.text.peek() {
                Some(c) => format!("{word}{c} is no number, variable or parenthesis"),
                None => "the expression ends too early".into(),
            });
        }
        let known = self.variables.iter().position(|name| *name == word);
        let index = known.unwrap_or_else(|| {
            self.variables.push(word);
            self.variables.len() - 1
        });
        let offset = i32::try_from(index * size_of::<i64>()).map_err(|_| "too many variables")?;
        Ok(self.builder.ins().load(types::I64, MemFlagsData::trusted(), self.values, offset))
    }
}

fn calculate(expression: &str, numbers: &[i64]) -> Result<i64, Box<dyn std::error::Error>> {
    let mut module = HeapModule::for_host()?;
    let mut context = module.make_context();
    context.func.signature.params.push(AbiParam::new(types::I64));
    context.func.signature.returns.push(AbiParam::new(types::I64));

    let mut scratch = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut context.func, &mut scratch);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    builder.seal_block(block);
    let values = builder.block_params(block)[0];
    let mut parser =
        Parser { text: expression.chars().peekable(), builder: &mut builder, values, variables: Vec::new() };
    let result = parser.sum()?;
    let (variables, rest) = (parser.variables, parser.text.collect::<String>());
    if !rest.trim().is_empty() {
        return Err(format!("{rest:?} is not understood").into());
    }
    builder.ins().return_(&[result]);
    builder.finalize(module.target_config());
    if variables.len() != numbers.len() {
        return Err(format!("{} numbers are needed: {}", variables.len(), variables.join(", ")).into());
    }

    let function = module.declare_anonymous_function(&context.func.signature)?;
    module.define_function(function, &mut context)?;
    module.finalize_definitions()?;
    let compiled = module.entry(function).ok_or("the function was just finalized")?.cast::<Compiled>();
    // SAFETY: it was compiled with this signature, and reads as many numbers as it has variables.
    Ok(unsafe { compiled.call(numbers.as_ptr()) })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let expression = arguments.next().ok_or("usage: calc EXPRESSION NUMBER...")?;
    let numbers: Vec<i64> = arguments.map(|number| number.parse()).collect::<Result<_, _>>()?;
    println!("{}", calculate(&expression, &numbers)?);
    Ok(())
}
