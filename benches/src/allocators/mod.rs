//! What is compared, behind the same operations.

#[cfg(asmjit)]
pub mod asmjit;
pub mod bare;
pub mod ours;
#[cfg(feature = "peers")]
pub mod peers;

use execmem_benches::{Role, Row, Unit, children, peers, row};

/// Makes functions.
pub trait Allocator {
    /// Whether this library knows its addresses.
    const IS_OURS: bool = false;
    /// A fresh allocator.
    fn new() -> Self;
    /// Memory for code.
    fn alloc(&mut self, size: usize) -> Block;
    /// Writes code to the block, so that it can be called.
    fn write(&mut self, block: Block, code: &[u8]);
    /// Frees the block, if single functions can be freed.
    fn release(&mut self, block: Block) {
        let _ = block;
    }
    /// The size of the block that holds an address, or anything that takes as long.
    fn find(&mut self, address: usize) -> usize {
        address
    }
}

/// Where a block can be executed, and where it can be written.
#[derive(Clone, Copy)]
pub struct Block {
    pub code: usize,
    pub writable: usize,
    pub size: usize,
}

/// Calls what is generic over allocators with the one of a name.
macro_rules! with_allocator {
    ($name:expr, $module:ident::$work:ident($($argument:expr),*)) => {{
        use crate::allocators::*;
        match $name {
            "execmem" => $module::$work::<ours::Ours>($($argument),*),
            #[cfg(asmjit)]
            "asmjit" => $module::$work::<asmjit::Asmjit<false>>($($argument),*),
            #[cfg(asmjit)]
            "asmjit that fills" => $module::$work::<asmjit::Asmjit<true>>($($argument),*),
            #[cfg(feature = "peers")]
            "asmkit" => $module::$work::<peers::Asmkit>($($argument),*),
            #[cfg(feature = "peers")]
            "cranelift-jit" => $module::$work::<peers::Cranelift>($($argument),*),
            #[cfg(feature = "peers")]
            "dynasmrt" => $module::$work::<peers::Dynasm>($($argument),*),
            "mmap and mprotect" => $module::$work::<bare::Mappings>($($argument),*),
            "a pair of mprotect" => $module::$work::<bare::Flip>($($argument),*),
            "limit" => $module::$work::<bare::Bump>($($argument),*),
            other => panic!("there is no {other}"),
        }
    }};
}
pub(crate) use with_allocator;

/// What an allocator is asked for.
#[derive(Clone, Copy)]
pub struct Figure {
    pub name: &'static str,
    pub unit: Unit,
    /// What the limit does, if there is a meaningful one.
    pub limit: Option<&'static str>,
    pub why: &'static str,
}

/// Nanoseconds, with a limit.
pub const fn time(name: &'static str, limit: &'static str, why: &'static str) -> Figure {
    Figure { name, unit: Unit::Nanoseconds, limit: Some(limit), why }
}

/// Lets the allocators of these names take turns in processes of their own, each told `arguments`: a row for each figure.
/// What is done by hand is there without peers, too.
pub fn compare(
    table: &str,
    arguments: &[&str],
    figures: &[Figure],
    names: &[&'static str],
    by_hand: &[&'static str],
    rounds: usize,
) -> Vec<Row> {
    let named = |role, names: Vec<&'static str>| names.into_iter().map(move |name| (role, name));
    let subjects: Vec<(Role, &str)> = [(Role::Ours, "execmem")]
        .into_iter()
        .chain(named(Role::Peer, peers(names)))
        .chain(named(Role::Peer, by_hand.to_vec()))
        .chain([(Role::Limit, "limit")])
        .collect();
    let process = |name| [&arguments[..1], &[name], &arguments[1..]].concat();
    let processes: Vec<Vec<&str>> = subjects.iter().map(|(_, name)| process(*name)).collect();
    let samples = children(rounds, &processes);
    let row_of = |(index, figure): (usize, &Figure)| {
        let cells = subjects.iter().zip(&samples).filter_map(|(&(role, name), samples)| {
            let name = if role == Role::Limit { figure.limit? } else { name };
            Some((role, name, &samples[index][..]))
        });
        row(table, figure.name, figure.unit, &cells.collect::<Vec<_>>()).why(figure.why)
    };
    figures.iter().enumerate().map(row_of).collect()
}
