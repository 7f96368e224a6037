//! How long code lives, and where.

use super::{alone, call, compile, engine};
use execmem::{Protection, runtime};
use std::thread;
use wasmtime::{Engine, Instance, Module, Store};

/// A module whose function gives that number, among others that make the code longer.
fn numbered(engine: &Engine, number: usize) -> Module {
    let others =
        |index: usize| format!("(func (param i64) (result i64) (i64.mul (local.get 0) (i64.const {index})))");
    let others: String = (0..number % 40).map(others).collect();
    compile(
        engine,
        &format!(r#"(module {others} (func (export "number") (result i32) (i32.const {number})))"#),
    )
}

fn number_of(engine: &Engine, module: &Module) -> usize {
    let mut store = Store::new(engine, ());
    let instance = Instance::new(&mut store, module, &[]).expect("it imports nothing");
    call::<(), i32>(&mut store, &instance, "number", ()).expect("it doesn't trap") as usize
}

fn memory_in_use() -> (i64, i64) {
    (runtime().region_count(), runtime().requested_bytes())
}

#[test]
fn code_can_be_executed_and_not_written_and_the_rest_only_read() {
    let _alone = alone();
    let engine = engine();
    let module = numbered(&engine, 39);
    let (text, image) = (module.text().as_ptr_range(), module.image_range());
    let pages = (image.start.addr()..image.end.addr()).step_by(runtime().page_size());
    let (mut code, mut others) = (0, 0);
    for page in pages {
        let is_code = (text.start.addr()..text.end.addr()).contains(&page);
        let expected = if is_code { Protection::RX } else { Protection::READ };
        assert_eq!(runtime().protection_at(page as i64), Ok(Some(expected)), "code: {is_code}");
        *if is_code { &mut code } else { &mut others } += 1;
    }
    assert!(code >= 1 && others >= 1, "{code} pages of code, {others} others");
}

#[test]
fn the_last_user_of_a_module_keeps_its_code() {
    let _alone = alone();
    let before = memory_in_use();
    let mut store = {
        let engine = engine();
        let mut store = Store::new(&engine, None);
        let module = numbered(&engine, 7);
        let copy = module.clone();
        drop(module);
        assert_eq!(runtime().region_count(), before.0 + 1);
        let instance = Instance::new(&mut store, &copy, &[]).unwrap();
        let function = instance.get_typed_func::<(), i32>(&mut store, "number").unwrap();
        *store.data_mut() = Some(function);
        store
    };
    assert_eq!(runtime().region_count(), before.0 + 1, "the instance is left");
    let function = store.data().clone().unwrap();
    assert_eq!(function.call(&mut store, ()).unwrap(), 7);
    drop(store);
    assert_eq!(memory_in_use(), before);
}

#[test]
fn modules_come_and_go_in_any_order_and_leave_nothing() {
    let _alone = alone();
    let before = memory_in_use();
    let engine = engine();
    // Compiling is what takes the time: these are loaded often.
    let artifacts: Vec<_> = (0..16).map(|number| numbered(&engine, number).serialize().unwrap()).collect();
    assert_eq!(memory_in_use(), before);
    let mut live: Vec<(usize, Module)> = Vec::new();
    for step in 0..1000_usize {
        let number = step * 7 % artifacts.len();
        // SAFETY: the engine has serialized it.
        let module = unsafe { execmem_wasmtime::deserialize(&engine, &artifacts[number]) }.unwrap();
        live.push((number, module));
        if live.len() > 60 {
            let (number, module) = live.swap_remove(step * 31 % live.len());
            assert_eq!(number_of(&engine, &module), number);
        }
        assert_eq!(runtime().region_count(), before.0 + live.len() as i64);
    }
    for (number, module) in live.drain(..) {
        assert_eq!(number_of(&engine, &module), number);
    }
    assert_eq!(memory_in_use(), before);
}

#[test]
fn threads_load_and_drop_modules_beside_others_that_run() {
    let _alone = alone();
    let before = memory_in_use();
    let engine = engine();
    let shared = numbered(&engine, 1000);
    let artifact = numbered(&engine, 5).serialize().unwrap();
    thread::scope(|scope| {
        for thread in 0..4 {
            let (engine, shared, artifact) = (&engine, shared.clone(), &artifact);
            scope.spawn(move || {
                for round in 0..40 {
                    if round % 10 == 0 {
                        let number = 100 * thread + round;
                        assert_eq!(number_of(engine, &numbered(engine, number)), number);
                    }
                    // SAFETY: the engine has serialized it.
                    let module = unsafe { execmem_wasmtime::deserialize(engine, artifact) }.unwrap();
                    assert_eq!(number_of(engine, &module), 5);
                    assert_eq!(number_of(engine, &shared), 1000);
                }
            });
        }
    });
    drop(shared);
    assert_eq!(memory_in_use(), before);
}
