//! What the calls are aimed at.

use execmem_conformance::memory::{RW, page};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::files;
use execmem_tests_linux::system::{foreign_data, foreign_function};

/// No allocation is larger: one that succeeded might be locked into memory next.
const LIMIT: i64 = 1 << 20;

/// Memory of each kind, as address and size.
pub struct Ground {
    pub objects: Vec<(i64, i64)>,
    /// What isn't the library's, or no longer.
    pub others: Vec<i64>,
}

impl Ground {
    pub fn lay() -> Self {
        restore_limits("rt_exec_memory_set_limit");
        restore_limits("rt_code_set_limit");
        let code = (given(rt_alloc_exec_memory(page() + 100)), page() + 100);
        let data = (given(rt_alloc_rw_memory(3 * page())), 3 * page());
        assert!(rt_set_protection(data.0, page(), RT_PROT_READ));
        let file = files::file(&vec![7; page() as usize + 10]);
        let mapping = map_file(Some(file), RW, RT_MAP_PRIVATE, 0, 0);
        let shared = map_file(Some(file), RT_PROT_READ, RT_MAP_SHARED, 0, 0);
        let anonymous = map_file(None, RW, RT_MAP_PRIVATE | RT_MAP_ANONYMOUS, 0, page());
        std::fs::remove_file(files::path_of(file)).expect("the file is still there");
        let (block, large) = ((given(rt_code_alloc(100)), 100), (given(rt_code_alloc(90_000)), 90_000));
        let (stale, freed) = (given(rt_alloc_exec_memory(100)), given(rt_code_alloc(100)));
        assert!(rt_free_exec_memory(stale, 100) && rt_code_free(freed));
        let view = rt_code_write_view(large.0);
        let here = 0_u64;
        let others = vec![
            stale,
            freed,
            view,
            foreign_data(),
            foreign_function(),
            (&raw const here).expose_provenance() as i64,
        ];
        let mappings = [mapping, shared, anonymous].map(|it| (given(it.address), it.size));
        let objects = [code, data, block, large].into_iter().chain(mappings).collect();
        Self { objects, others }
    }

    /// What a call that fails must not change. Of the largest block, the first pages.
    pub fn watched(&self) -> Vec<(i64, i64)> {
        self.objects.iter().map(|(address, size)| (*address, (*size).min(3 * page()))).collect()
    }
}

fn given(address: i64) -> i64 {
    assert!(address > 0, "error {}", rt_last_error());
    address
}

/// Limits that a call has set would let the next ones take all memory, or none.
pub fn restore_limits(symbol: &str) {
    match symbol {
        "rt_exec_memory_set_limit" => assert!(rt_exec_memory_set_limit(LIMIT)),
        "rt_code_set_limit" => assert!(rt_code_set_limit(1 << 30)),
        _ => {}
    }
}
