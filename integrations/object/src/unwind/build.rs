//! One table of all functions that are linked.

use super::table::{Frame, Table};
use crate::object_file::{Definition, ObjectFile, Relocation, Section, SectionKind};
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Adds a section with the descriptions of the functions in linked sections, and gives its index; `None` if there are
/// none. `tables` are those of the object, by section.
pub fn build(object: &mut ObjectFile<'_>, tables: &[Option<Table>], is_linked: &[bool]) -> Option<usize> {
    let mut new = Section::new(".eh_frame".into(), SectionKind::ReadOnly, Cow::Borrowed(&[]), 8);
    let mut data = Vec::new();
    for (index, table) in tables.iter().enumerate() {
        let Some(table) = table else { continue };
        let section = &object.sections[index];
        let mut commons = BTreeMap::new();
        let mut append = |bytes: &std::ops::Range<usize>, relocations: &std::ops::Range<usize>| {
            let start = data.len();
            data.extend(&section.data[bytes.clone()]);
            let moved = |one: &Relocation| {
                let offset = one.offset - bytes.start as u64 + start as u64;
                Relocation { offset, ..*one }
            };
            new.relocations.extend(section.relocations[relocations.clone()].iter().map(moved));
            (start, data.len())
        };
        let mut links = Vec::new();
        for frame in &table.frames {
            let Some(common) = table.common.get(&frame.common) else { continue };
            if !describes_linked(object, section, frame, is_linked) {
                continue;
            }
            let common =
                *commons.entry(frame.common).or_insert_with(|| append(&common.bytes, &common.relocations).0);
            let (start, _) = append(&frame.bytes, &frame.relocations);
            links.push((start, common));
        }
        for (start, common) in links {
            // The way back to what it has in common, from the word that says so.
            let back = (start + 4 - common) as u32;
            data[start + 4..][..4].copy_from_slice(&back.to_le_bytes());
        }
    }
    if data.is_empty() {
        return None;
    }
    // The end of all.
    data.extend([0; 4]);
    new.size = data.len() as u64;
    new.data = Cow::Owned(data);
    object.sections.push(new);
    Some(object.sections.len() - 1)
}

/// Whether a description's function is in a linked section. The section's relocations refer to the symbols that are
/// meant.
fn describes_linked(object: &ObjectFile<'_>, table: &Section<'_>, frame: &Frame, is_linked: &[bool]) -> bool {
    let place = frame.place();
    let function = table.relocations[frame.relocations.clone()].iter().find(|one| one.offset == place);
    match function.map(|one| object.symbols[one.symbol].definition) {
        Some(Definition::InSection { section, .. }) => is_linked[section],
        _ => false,
    }
}
