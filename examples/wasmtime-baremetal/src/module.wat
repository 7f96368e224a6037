(module
  (import "host" "triple" (func $triple (param i32) (result i32)))
  (memory 1)

  (func $fib (export "fib") (param $n i32) (result i32)
    (if (result i32) (i32.lt_s (local.get $n) (i32.const 2))
      (then (local.get $n))
      (else (i32.add
        (call $fib (i32.sub (local.get $n) (i32.const 1)))
        (call $fib (i32.sub (local.get $n) (i32.const 2)))))))

  (func (export "triple_in_memory") (param $n i32) (result i32)
    (i32.store (i32.const 8) (call $triple (local.get $n)))
    (i32.load (i32.const 8)))

  (func (export "out_of_bounds") (result i32)
    (i32.load (i32.const 0x7fffffff))))
