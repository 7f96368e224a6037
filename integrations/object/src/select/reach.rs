//! Which sections something refers to, from those on that are wanted.

use super::merge::Whole;
use crate::object_file::Definition;
use crate::unwind::Table;

/// By section: whether it is linked.
pub struct Reached {
    /// By section index.
    pub sections: Vec<bool>,
    /// By symbol index: whether a linked section refers to it. Only symbols that stand for their names count.
    pub symbols: Vec<bool>,
}

/// Follows all references from some sections and symbols on. `tables` are the unwind tables by section: what
/// describes a linked function is linked, too.
pub fn reached(
    whole: &Whole<'_>,
    tables: &[Option<Table>],
    sections: impl Iterator<Item = usize>,
    symbols: impl Iterator<Item = usize>,
) -> Reached {
    let object = &whole.object;
    let mut reached =
        Reached { sections: vec![false; object.sections.len()], symbols: vec![false; object.symbols.len()] };
    let described = describing(whole, tables);
    let mut waiting = Vec::new();
    sections.for_each(|section| reached.enter(section, whole, &mut waiting));
    symbols.for_each(|symbol| reached.refer(symbol, whole, &mut waiting));
    while let Some(section) = waiting.pop() {
        for relocation in &object.sections[section].relocations {
            reached.refer(relocation.symbol, whole, &mut waiting);
        }
        // Sorted by the section that is described.
        let first = described.partition_point(|(function, ..)| *function < section);
        for (_, table, frame) in described[first..].iter().take_while(|(function, ..)| *function == section) {
            let Some(known) = &tables[*table] else { continue };
            for relocation in known.references(*frame) {
                let symbol = object.sections[*table].relocations[relocation].symbol;
                reached.refer(symbol, whole, &mut waiting);
            }
        }
    }
    reached
}

/// All descriptions of functions: the function's section, the table's section, and the number in that table.
fn describing(whole: &Whole<'_>, tables: &[Option<Table>]) -> Vec<(usize, usize, usize)> {
    let mut found = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        for (number, function) in table.iter().flat_map(Table::functions) {
            if let Some(section) = section_of(whole, function) {
                found.push((section, index, number));
            }
        }
    }
    found.sort_unstable();
    found
}

/// The section that a symbol, or the one that stands for it, is in.
pub fn section_of(whole: &Whole<'_>, symbol: usize) -> Option<usize> {
    match whole.object.symbols[whole.canonical(symbol)].definition {
        Definition::InSection { section, .. } => Some(section),
        _ => None,
    }
}

impl Reached {
    fn enter(&mut self, section: usize, whole: &Whole<'_>, waiting: &mut Vec<usize>) {
        if whole.object.sections[section].kind.is_loaded() && !self.sections[section] {
            self.sections[section] = true;
            waiting.push(section);
        }
    }

    fn refer(&mut self, symbol: usize, whole: &Whole<'_>, waiting: &mut Vec<usize>) {
        self.symbols[whole.canonical(symbol)] = true;
        if let Some(section) = section_of(whole, symbol) {
            self.enter(section, whole, waiting);
        }
    }
}
