//! Several objects as one: their sections one behind the other, and one symbol for each global name.

use crate::architecture::Architecture;
use crate::error::Error;
use crate::object_file::{Definition, ObjectFile, SectionKind, Symbol};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

/// The objects that were added so far.
pub struct Whole<'data> {
    /// Their sections and symbols. Relocations refer to symbols of their own object: [`Whole::canonical`] tells which
    /// symbol stands for those of its name.
    pub object: ObjectFile<'data>,
    names: BTreeMap<Cow<'data, str>, usize>,
    canonical: Vec<usize>,
    groups: BTreeSet<Cow<'data, str>>,
}

impl<'data> Whole<'data> {
    /// Without any object.
    pub fn new(architecture: Architecture) -> Self {
        Self {
            object: ObjectFile::empty(architecture),
            names: BTreeMap::new(),
            canonical: Vec::new(),
            groups: BTreeSet::new(),
        }
    }

    /// Adds an object, and gives the index of its first section.
    pub fn add(&mut self, mut file: ObjectFile<'data>) -> Result<usize, Error> {
        if file.architecture != self.object.architecture {
            return Err(Error::MixedArchitectures(self.object.architecture, file.architecture));
        }
        self.drop_second_groups(&mut file);
        let (sections, symbols) = (self.object.sections.len(), self.object.symbols.len());
        for mut section in file.sections {
            for relocation in &mut section.relocations {
                relocation.symbol += symbols;
            }
            self.object.sections.push(section);
        }
        for mut symbol in file.symbols {
            if let Definition::InSection { section, .. } = &mut symbol.definition {
                *section += sections;
            }
            self.add_symbol(symbol)?;
        }
        Ok(sections)
    }

    /// A group whose name another object has had already is not linked: references go to the other one's symbols.
    fn drop_second_groups(&mut self, file: &mut ObjectFile<'data>) {
        let is_second =
            |group: &Option<Cow<'data, str>>| group.as_ref().is_some_and(|name| self.groups.contains(name));
        for section in file.sections.iter_mut().filter(|section| is_second(&section.group)) {
            section.kind = SectionKind::Ignored;
            section.relocations.clear();
        }
        for symbol in file.symbols.iter_mut().filter(|symbol| symbol.is_global) {
            if let Definition::InSection { section, .. } = symbol.definition
                && is_second(&file.sections[section].group)
            {
                symbol.definition = Definition::Undefined { weak: false };
            }
        }
        self.groups.extend(file.sections.iter().filter_map(|section| section.group.clone()));
    }

    fn add_symbol(&mut self, symbol: Symbol<'data>) -> Result<(), Error> {
        let index = self.object.symbols.len();
        let first = match symbol.is_global {
            true => *self.names.entry(symbol.name.clone()).or_insert(index),
            false => index,
        };
        self.canonical.push(first);
        if first != index {
            let known = &mut self.object.symbols[first];
            match choose(known, &symbol) {
                Choice::First => {}
                Choice::Second => *known = copy(&symbol),
                Choice::Common(definition) => known.definition = definition,
                Choice::Neither => return Err(Error::DuplicateSymbol(symbol.name.into())),
            }
        }
        self.object.symbols.push(symbol);
        Ok(())
    }

    /// The symbol that stands for one of the objects'.
    pub fn canonical(&self, symbol: usize) -> usize {
        self.canonical[symbol]
    }

    /// The global symbol of a name.
    pub fn global(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// The objects as one, in which all relocations refer to the symbols that are meant.
    pub fn finish(mut self) -> ObjectFile<'data> {
        for section in &mut self.object.sections {
            for relocation in &mut section.relocations {
                relocation.symbol = self.canonical[relocation.symbol];
            }
        }
        // The others would be found by their names otherwise.
        for (index, _) in self.canonical.iter().enumerate().filter(|(index, first)| index != *first) {
            self.object.symbols[index].definition = Definition::Undefined { weak: true };
        }
        self.object
    }
}

enum Choice {
    First,
    Second,
    Common(Definition),
    Neither,
}

/// Which of two symbols of one name is meant.
fn choose(first: &Symbol<'_>, second: &Symbol<'_>) -> Choice {
    use Definition::{Common, Undefined};
    match (first.definition, second.definition) {
        // Whoever needs it decides for all.
        (Undefined { weak: true }, Undefined { weak: false }) => Choice::Second,
        (_, Undefined { .. }) => Choice::First,
        (Undefined { .. }, _) => Choice::Second,
        (Common { size, alignment }, Common { size: other_size, alignment: other_alignment }) => {
            Choice::Common(Common { size: size.max(other_size), alignment: alignment.max(other_alignment) })
        }
        (Common { .. }, _) if second.is_weak => Choice::First,
        (Common { .. }, _) => Choice::Second,
        (_, Common { .. }) if first.is_weak => Choice::Second,
        (_, Common { .. }) => Choice::First,
        _ if second.is_weak => Choice::First,
        _ if first.is_weak => Choice::Second,
        (first, second) if first == second => Choice::First,
        _ => Choice::Neither,
    }
}

fn copy<'data>(symbol: &Symbol<'data>) -> Symbol<'data> {
    Symbol { name: symbol.name.clone(), ..*symbol }
}
