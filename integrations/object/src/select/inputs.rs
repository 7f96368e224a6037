//! From objects and archives to one object that has what is linked.

use super::archive::Archive;
use super::merge::Whole;
use super::reach::{Reached, reached, section_of};
use super::support;
use crate::error::Error;
use crate::object_file::{Definition, ObjectFile, SectionKind};
use crate::parse::parse;
use crate::unwind::{self, Table};
use std::collections::BTreeSet;

/// A file to link.
pub struct Input<'data> {
    /// What errors call it.
    pub name: String,
    /// Its bytes: an object or an archive.
    pub bytes: &'data [u8],
}

/// What is linked.
pub struct Selected<'data> {
    /// All objects as one. What isn't linked of them is not loaded.
    pub object: ObjectFile<'data>,
    /// The section of its unwind tables.
    pub frames: Option<usize>,
    /// The objects, and the members of archives, of which something is linked.
    pub files: Vec<String>,
    /// The first file of which code without landing pads is linked; `None` if all that is linked has them.
    pub without_pads: Option<String>,
}

/// Chooses what is linked of the files. With `entries`, that is what these functions and variables reach.
pub fn select<'data>(inputs: &[Input<'data>], entries: &[String]) -> Result<Selected<'data>, Error> {
    let mut selection = Selection::default();
    for input in inputs {
        let within = |error| Error::InFile { file: input.name.clone(), error: Box::new(error) };
        if Archive::is_archive(input.bytes) {
            let archive = Archive::new(input.bytes).map_err(within)?;
            selection.archives.push((input.name.clone(), archive));
        } else {
            selection.add(input.name.clone(), parse(input.bytes).map_err(within)?, true).map_err(within)?;
        }
    }
    selection.add_missing(entries)?;
    selection.finish(entries)
}

#[derive(Default)]
struct Selection<'data> {
    /// The objects so far; `None` before the first one, which says the architecture.
    whole: Option<Whole<'data>>,
    tables: Vec<Option<Table>>,
    archives: Vec<(String, Archive<'data>)>,
    /// The members that were added.
    added: BTreeSet<(usize, u64)>,
    /// By object: its name, its first section, and whether all of it is linked.
    files: Vec<(String, usize, bool)>,
    has_support: bool,
}

impl<'data> Selection<'data> {
    fn add(&mut self, name: String, file: ObjectFile<'data>, is_whole: bool) -> Result<(), Error> {
        let whole = self.whole.get_or_insert_with(|| Whole::new(file.architecture));
        let first = whole.add(file)?;
        self.files.push((name, first, is_whole));
        for section in &mut whole.object.sections[first..] {
            let is_table = section.kind == SectionKind::Unwind;
            self.tables.push(if is_table { Some(Table::new(section)?) } else { None });
        }
        Ok(())
    }

    /// Adds members of archives until nothing is missing that one of them has.
    fn add_missing(&mut self, entries: &[String]) -> Result<(), Error> {
        loop {
            let mut names: Vec<String> = Vec::new();
            if let Some(whole) = &self.whole {
                let reached = self.reached(whole, entries);
                let symbols = whole.object.symbols.iter().zip(&reached.symbols);
                let missing = symbols.filter(|(symbol, is_reached)| {
                    **is_reached && symbol.definition == Definition::Undefined { weak: false }
                });
                names.extend(missing.map(|(symbol, _)| symbol.name.to_string()));
            }
            names.extend(entries.iter().filter(|name| self.find(name).is_none()).cloned());
            let mut is_done = true;
            for name in names {
                is_done &= !self.add_definition(&name)?;
            }
            if is_done {
                return Ok(());
            }
        }
    }

    /// Adds what defines a name, and tells whether there is anything new that does.
    fn add_definition(&mut self, name: &str) -> Result<bool, Error> {
        // What was added for another name defines it, too.
        if self.is_defined(name) {
            return Ok(false);
        }
        let places = self.archives.iter().enumerate();
        let place = places.filter_map(|(number, (_, archive))| Some((number, archive.place(name)?))).next();
        if let Some((number, place)) = place {
            if !self.added.insert((number, place.0)) {
                return Ok(false);
            }
            let (archive_name, archive) = &mut self.archives[number];
            let within = |error| Error::InFile { file: archive_name.clone(), error: Box::new(error) };
            let member = archive.member(place).map_err(within)?;
            let full_name = format!("{archive_name}({})", member.name);
            let within = |error| Error::InFile { file: full_name.clone(), error: Box::new(error) };
            let file = parse(member.bytes).map_err(within)?;
            return self.add(full_name.clone(), file, false).map(|()| true).map_err(within);
        }
        let architecture = self.whole.as_ref().map(|whole| whole.object.architecture);
        match architecture {
            Some(architecture) if support::NAMES.contains(&name) && !self.has_support => {
                self.has_support = true;
                self.add("(support)".into(), support::support(architecture), false).map(|()| true)
            }
            _ => Ok(false),
        }
    }

    fn is_defined(&self, name: &str) -> bool {
        let symbol = self.whole.as_ref().and_then(|whole| Some(&whole.object.symbols[whole.global(name)?]));
        symbol.is_some_and(|symbol| !matches!(symbol.definition, Definition::Undefined { .. }))
    }

    /// The symbol of an entry: a global one, or a static one of an object.
    fn find(&self, name: &str) -> Option<usize> {
        let whole = self.whole.as_ref()?;
        let global = whole.global(name).filter(|_| self.is_defined(name));
        let is_meant = |symbol: &usize| {
            whole.object.symbols[*symbol].name == name && section_of(whole, *symbol).is_some()
        };
        global.or_else(|| (0..whole.object.symbols.len()).find(is_meant))
    }

    fn reached(&self, whole: &Whole<'data>, entries: &[String]) -> Reached {
        let sections = whole.object.sections.iter().enumerate();
        let mut files = self.files.iter().peekable();
        let mut is_whole = false;
        let roots = sections.filter_map(|(index, section)| {
            while let Some((.., all)) = files.next_if(|(_, first, _)| *first <= index) {
                is_whole = *all && entries.is_empty();
            }
            let is_called = matches!(section.kind, SectionKind::Constructors | SectionKind::Destructors);
            (is_whole || is_called || section.is_kept).then_some(index)
        });
        let symbols = entries.iter().filter_map(|name| self.find(name));
        reached(whole, &self.tables, roots, symbols)
    }

    fn finish(self, entries: &[String]) -> Result<Selected<'data>, Error> {
        let Some(whole) = &self.whole else {
            let name = entries.first().cloned().unwrap_or_default();
            return Err(Error::MissingFunction { name, defined: Vec::new() });
        };
        if let Some(name) = entries.iter().find(|name| self.find(name).is_none()) {
            return Err(Error::MissingFunction { name: name.clone(), defined: functions(&whole.object) });
        }
        let reached = self.reached(whole, entries);
        let ends = self.files.iter().skip(1).map(|(_, first, _)| *first);
        let ends = ends.chain([whole.object.sections.len()]);
        let files = self.files.iter().zip(ends);
        let files = files.filter(|((_, first, _), end)| reached.sections[*first..*end].contains(&true));
        let files = files.map(|((name, ..), _)| name.clone()).collect();
        let without_pads = self.file_without_pads(whole, &reached);
        let tables = self.tables;
        let Some(whole) = self.whole else { return Err(Error::TooLarge) };
        let mut object = whole.finish();
        for (section, is_reached) in object.sections.iter_mut().zip(&reached.sections) {
            if !is_reached && section.kind.is_loaded() {
                section.kind = SectionKind::Ignored;
            }
        }
        let frames = unwind::build(&mut object, &tables, &reached.sections);
        Ok(Selected { object, frames, files, without_pads })
    }

    fn file_without_pads(&self, whole: &Whole<'data>, reached: &Reached) -> Option<String> {
        let mut sections = whole.object.sections.iter().zip(&reached.sections);
        let bare = sections.position(|(section, is_reached)| {
            *is_reached && section.kind == SectionKind::Code && section.size > 0 && !section.has_landing_pads
        })?;
        let home = self.files.iter().rfind(|(_, first, _)| *first <= bare);
        home.map(|(name, ..)| name.clone())
    }
}

/// The names of the functions that there are.
pub fn functions(object: &ObjectFile<'_>) -> Vec<String> {
    let functions = object.symbols.iter().filter(|symbol| {
        let home = match symbol.definition {
            Definition::InSection { section, .. } => object.sections[section].kind,
            _ => SectionKind::Ignored,
        };
        symbol.is_function_name() && home == SectionKind::Code
    });
    let names: BTreeSet<String> = functions.map(|symbol| symbol.name.to_string()).collect();
    names.into_iter().collect()
}
