//! The rules, one file for each matter.

mod calls;
mod code_heap;
mod descriptors;
mod errors;
mod exec_memory;
mod files;
mod icache;
mod listeners;
mod near;
mod policy;
mod protection;
mod ranges;
mod reading;
mod registers;
mod statistics;
mod symbol_table;
mod value_ops;
mod values;
mod writing;

use crate::Rule;

/// Rules of one matter.
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// The rules, in the order in which they are to run.
    pub rules: &'static [Rule],
}

const fn section(title: &'static str, rules: &'static [Rule]) -> Section {
    Section { title, rules }
}

/// All rules, in the order in which a single process has to run them.
pub static SECTIONS: &[Section] = &[
    section("choosing a policy", policy::FIRST_RULES),
    section("executable memory", exec_memory::RULES),
    section("writing", writing::RULES),
    section("calls", calls::RULES),
    section("protection", protection::RULES),
    section("ranges", ranges::RULES),
    section("instruction caches", icache::RULES),
    section("near memory", near::RULES),
    section("the code heap", code_heap::RULES),
    section("debuggers, profilers, unwinders", listeners::RULES),
    section("policy", policy::RULES),
    section("files", files::RULES),
    section("files in one register", descriptors::RULES),
    section("reading", reading::RULES),
    section("registers", registers::RULES),
    section("errors", errors::RULES),
    section("statistics", statistics::RULES),
    section("symbols", symbol_table::RULES),
    section("built-in values", values::RULES),
    section("a runtime's own values", value_ops::RULES),
];

/// How many rules there are. A harness that ran fewer has lost some.
pub const RULE_COUNT: usize = 165;

const _: () = {
    let mut count = 0;
    let mut section = 0;
    while section < SECTIONS.len() {
        count += SECTIONS[section].rules.len();
        section += 1;
    }
    assert!(count == RULE_COUNT, "a rule was added or lost: state the number");
};
