//! What code does.

use super::{alone, call, compile, engine};
use wasmtime::{Instance, Linker, Memory, MemoryType, Store, Trap, bail};

#[test]
fn a_module_computes_by_calls_tables_globals_and_memory() {
    let _alone = alone();
    let engine = engine();
    let module = compile(
        &engine,
        r#"(module
          (type $unary (func (param i64) (result i64)))
          (table funcref (elem $double $square))
          (memory 1)
          (global $calls (mut i32) (i32.const 0))
          (data (i32.const 16) "\01\02\03\04")
          (func $double (type $unary) (i64.mul (local.get 0) (i64.const 2)))
          (func $square (type $unary) (i64.mul (local.get 0) (local.get 0)))
          (func $fib (export "fib") (param $n i64) (result i64)
            (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (if (result i64) (i64.lt_s (local.get $n) (i64.const 2))
              (then (local.get $n))
              (else (i64.add
                (call $fib (i64.sub (local.get $n) (i64.const 1)))
                (call $fib (i64.sub (local.get $n) (i64.const 2)))))))
          (func (export "calls") (result i32) (global.get $calls))
          (func (export "apply") (param i32 i64) (result i64)
            (call_indirect (type $unary) (local.get 1) (local.get 0)))
          (func (export "sum") (result i32)
            (memory.copy (i32.const 65532) (i32.const 16) (i32.const 4))
            (i32.load (i32.const 65532)))
          (func (export "root") (param f64) (result f64 f64)
            (f64.sqrt (local.get 0)) (f64.nearest (local.get 0)))
          (func (export "lanes") (param i32) (result i32)
            (i32x4.extract_lane 3 (i32x4.add (i32x4.splat (local.get 0)) (v128.const i32x4 1 2 3 4)))))"#,
    );
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).expect("it imports nothing");
    assert_eq!(call::<i64, i64>(&mut store, &instance, "fib", 20).unwrap(), 6765);
    assert_eq!(call::<(), i32>(&mut store, &instance, "calls", ()).unwrap(), 21891);
    assert_eq!(call::<(i32, i64), i64>(&mut store, &instance, "apply", (0, 21)).unwrap(), 42);
    assert_eq!(call::<(i32, i64), i64>(&mut store, &instance, "apply", (1, 9)).unwrap(), 81);
    assert_eq!(call::<(), i32>(&mut store, &instance, "sum", ()).unwrap(), 0x0403_0201);
    assert_eq!(call::<f64, (f64, f64)>(&mut store, &instance, "root", 2.25).unwrap(), (1.5, 2.0));
    assert_eq!(call::<i32, i32>(&mut store, &instance, "lanes", 38).unwrap(), 42);
}

#[test]
fn imports_are_called_and_their_errors_come_back() {
    let _alone = alone();
    let engine = engine();
    let module = compile(
        &engine,
        r#"(module
          (import "host" "triple" (func $triple (param i32) (result i32)))
          (import "host" "memory" (memory 1))
          (func (export "triple_of_byte") (param i32) (result i32)
            (call $triple (i32.load8_u (local.get 0)))))"#,
    );
    let mut store = Store::new(&engine, ());
    let memory = Memory::new(&mut store, MemoryType::new(1, None)).unwrap();
    memory.write(&mut store, 7, &[14, 0]).unwrap();
    let mut linker = Linker::new(&engine);
    linker.define(&store, "host", "memory", memory).unwrap();
    let triple = |number: i32| {
        if number == 0 {
            bail!("nothing to triple")
        }
        Ok(number * 3)
    };
    linker.func_wrap("host", "triple", triple).unwrap();
    let instance = linker.instantiate(&mut store, &module).unwrap();
    assert_eq!(call::<i32, i32>(&mut store, &instance, "triple_of_byte", 7).unwrap(), 42);
    let error = call::<i32, i32>(&mut store, &instance, "triple_of_byte", 8).unwrap_err();
    assert_eq!(error.root_cause().to_string(), "nothing to triple");
}

#[test]
fn each_trap_is_caught_and_the_instance_goes_on() {
    let _alone = alone();
    let engine = engine();
    let module = compile(
        &engine,
        r#"(module
          (type $nullary (func (result i32)))
          (table 3 funcref)
          (elem (i32.const 0) $wrong)
          (memory 1)
          (func $wrong (param i32))
          (func $deep (export "deep") (result i32) (i32.add (call $deep) (i32.const 1)))
          (func (export "unreachable") (result i32) unreachable)
          (func (export "load") (result i32) (i32.load (i32.const 0x7fffffff)))
          (func (export "store") (result i32) (i32.store (i32.const 65533) (i32.const 1)) (i32.const 0))
          (func (export "divide") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
          (func (export "truncate") (result i32) (i32.trunc_f64_s (f64.const nan)))
          (func (export "indirect") (param i32) (result i32) (call_indirect (type $nullary) (local.get 0)))
          (func (export "fill") (result i32)
            (memory.fill (i32.const 65000) (i32.const 1) (i32.const 1000)) (i32.const 0))
          (func (export "fine") (result i32) (i32.const 42)))"#,
    );
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let mut expect = |trap: Trap, name: &str, arguments: &[i32]| {
        let result: wasmtime::Result<i32> = match *arguments {
            [] => call(&mut store, &instance, name, ()),
            [a] => call(&mut store, &instance, name, a),
            [a, b] => call(&mut store, &instance, name, (a, b)),
            _ => unreachable!("nothing here has more"),
        };
        let error = result.expect_err(name);
        assert_eq!(error.downcast_ref::<Trap>(), Some(&trap), "{name}: {error:?}");
        assert_eq!(call::<(), i32>(&mut store, &instance, "fine", ()).unwrap(), 42, "after {name}");
    };
    for _ in 0..3 {
        expect(Trap::StackOverflow, "deep", &[]);
        expect(Trap::UnreachableCodeReached, "unreachable", &[]);
        expect(Trap::MemoryOutOfBounds, "load", &[]);
        expect(Trap::MemoryOutOfBounds, "store", &[]);
        expect(Trap::MemoryOutOfBounds, "fill", &[]);
        expect(Trap::IntegerDivisionByZero, "divide", &[1, 0]);
        expect(Trap::IntegerOverflow, "divide", &[i32::MIN, -1]);
        expect(Trap::BadConversionToInteger, "truncate", &[]);
        expect(Trap::BadSignature, "indirect", &[0]);
        expect(Trap::IndirectCallToNull, "indirect", &[1]);
        expect(Trap::TableOutOfBounds, "indirect", &[3]);
    }
}

#[test]
fn memory_grows_from_inside_and_from_outside() {
    let _alone = alone();
    let engine = engine();
    let module = compile(
        &engine,
        r#"(module
          (memory (export "memory") 1 100)
          (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
          (func (export "put") (param i32 i32) (i32.store8 (local.get 0) (local.get 1)))
          (func (export "get") (param i32) (result i32) (i32.load8_u (local.get 0))))"#,
    );
    let mut store = Store::new(&engine, ());
    let instance = Instance::new(&mut store, &module, &[]).unwrap();
    let memory = instance.get_memory(&mut store, "memory").unwrap();
    let last = |pages: i32| pages * 65536 - 1;
    for pages in (1..99).step_by(7) {
        call::<(i32, i32), ()>(&mut store, &instance, "put", (last(pages), pages)).unwrap();
        assert!(call::<i32, i32>(&mut store, &instance, "get", last(pages) + 1).is_err());
        assert_eq!(call::<i32, i32>(&mut store, &instance, "grow", 3).unwrap(), pages);
        assert_eq!(memory.grow(&mut store, 4).unwrap(), pages as u64 + 3);
        assert_eq!(call::<i32, i32>(&mut store, &instance, "get", last(pages) + 1).unwrap(), 0);
    }
    assert_eq!(call::<i32, i32>(&mut store, &instance, "grow", 100).unwrap(), -1);
    for pages in (1..99).step_by(7) {
        assert_eq!(call::<i32, i32>(&mut store, &instance, "get", last(pages)).unwrap(), pages);
    }
}
