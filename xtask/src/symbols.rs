//! What a built library shows to the world, compared with the one list of symbols.

use std::collections::BTreeSet;
use std::path::Path;

use execmem_core::abi::SYMBOL_NAMES;
use object::read::archive::ArchiveFile;
use object::{Object, ObjectSymbol, ObjectSymbolTable, RelocationTarget};

use crate::result::Result;

/// A static library must define the listed symbols and no other global one, not even a weak or a
/// hidden one, since all of those take part in somebody else's link.
pub fn check_static(library: &Path) -> Result<()> {
    compare(&names_of_archive(library)?.0)
}

/// The same for libraries with other names.
pub fn check_named(names: &[String], static_library: &Path, shared_library: &Path) -> Result<()> {
    let listed: BTreeSet<String> = names.iter().cloned().collect();
    compare_with(&listed, &names_of_archive(static_library)?.0)?;
    let data = contents(shared_library)?;
    let file = parse(shared_library, &data)?;
    compare_with(&listed, &global_names(file.dynamic_symbols()).collect())
}

/// A static library for kernels must define these symbols and no other global one, and ask for none.
pub fn check_alone(library: &Path, listed: &BTreeSet<String>) -> Result<()> {
    let (defined, asked_for) = names_of_archive(library)?;
    compare_with(listed, &defined)?;
    match asked_for.first() {
        None => Ok(()),
        Some(name) => Err(format!("it asks for {name} and {} other symbols", asked_for.len() - 1)),
    }
}

/// The global symbols that an archive defines, and those that it asks for.
fn names_of_archive(library: &Path) -> Result<(BTreeSet<String>, BTreeSet<String>)> {
    let data = contents(library)?;
    let unreadable = |error: object::Error| format!("{}: {error}", library.display());
    let archive = ArchiveFile::parse(&*data).map_err(unreadable)?;
    let (mut defined, mut asked_for) = (BTreeSet::new(), BTreeSet::new());
    for member in archive.members() {
        let member = member.map_err(unreadable)?.data(&*data).map_err(unreadable)?;
        let file = object::File::parse(member).map_err(unreadable)?;
        defined.extend(global_names(file.symbols()));
        asked_for.extend(undefined_names(file.symbols()));
    }
    Ok((defined, asked_for))
}

/// A shared library must export the listed symbols and nothing else.
pub fn check_shared(library: &Path) -> Result<()> {
    let data = contents(library)?;
    let file = parse(library, &data)?;
    compare(&global_names(file.dynamic_symbols()).collect())
}

/// A shared library must ask for nothing but libc, and load without patching its own code: a system
/// that forbids pages that are written and executed would refuse to load it otherwise. What it uses of its own it
/// must not ask for by name: a program's function of that name would be taken instead.
pub fn check_loading(library: &Path) -> Result<()> {
    let data = contents(library)?;
    let file = parse(library, &data)?;
    let unreadable = |error: object::Error| format!("{}: {error}", library.display());
    for needed in file.import_libraries().map_err(unreadable)? {
        let needed = needed.map_err(unreadable)?;
        let name = String::from_utf8_lossy(needed.name());
        if !name.starts_with("libc.so") {
            return Err(format!("the shared library asks for {name}, which is not libc"));
        }
    }
    if let Some(name) = own_name_asked_for(&file) {
        return Err(format!("the shared library asks for {name}, which is its own"));
    }
    if has_text_relocations(&file)? {
        return Err("the shared library must be patched by the loader: it has DT_TEXTREL".into());
    }
    if has_executable_stack(&file) {
        return Err("the shared library would make the process's stacks executable".into());
    }
    Ok(())
}

/// No listed symbol may panic, on any input. The linker leaves out what no export can reach, from a shared library and from
/// the one object of a static one: so a library whose functions may panic is told by the functions that `core` has for
/// it.
pub fn check_panics(library: &Path) -> Result<()> {
    let names = names_of_all(library)?;
    if !names.iter().any(|name| SYMBOL_NAMES.iter().any(|listed| name.ends_with(listed))) {
        return Err(format!("{} has no symbols to tell by", library.display()));
    }
    let may_panic =
        |name: &&String| ["panicking", "rust_begin_unwind"].iter().any(|part| name.contains(part));
    let panics: Vec<_> = names.iter().filter(may_panic).map(String::as_str).collect();
    match panics.is_empty() {
        true => Ok(()),
        false => Err(format!("{} can panic: {}", library.display(), panics.join(", "))),
    }
}

/// All symbols of a library, local ones too: of an archive those of its members.
fn names_of_all(library: &Path) -> Result<Vec<String>> {
    let data = contents(library)?;
    let unreadable = |error: object::Error| format!("{}: {error}", library.display());
    let names = |file: object::File<'_>| -> Vec<String> {
        file.symbols().filter_map(|symbol| symbol.name().ok().map(str::to_owned)).collect()
    };
    let Ok(archive) = ArchiveFile::parse(&*data) else { return Ok(names(parse(library, &data)?)) };
    let mut all = Vec::new();
    for member in archive.members() {
        let member = member.map_err(unreadable)?.data(&*data).map_err(unreadable)?;
        all.extend(names(object::File::parse(member).map_err(unreadable)?));
    }
    Ok(all)
}

/// A listed symbol that a relocation for the loader names.
fn own_name_asked_for<'data>(file: &object::File<'data>) -> Option<&'data str> {
    let symbols = file.dynamic_symbol_table()?;
    file.dynamic_relocations()?.find_map(|(_, relocation)| match relocation.target() {
        RelocationTarget::Symbol(index) => {
            let name = symbols.symbol_by_index(index).ok()?.name().ok()?;
            SYMBOL_NAMES.contains(&name).then_some(name)
        }
        _ => None,
    })
}

fn has_text_relocations(file: &object::File<'_>) -> Result<bool> {
    use object::elf::{DF_TEXTREL, DT_FLAGS, DT_TEXTREL};
    let object::File::Elf64(elf) = file else {
        return Err("the shared library is not a 64-bit ELF file".into());
    };
    let table = elf.elf_dynamic_table().map_err(|error| error.to_string())?;
    Ok(table
        .iter()
        .any(|entry| entry.tag == DT_TEXTREL || entry.tag == DT_FLAGS && entry.val & DF_TEXTREL.0 != 0))
}

/// What doesn't say that it needs none gets one.
fn has_executable_stack(file: &object::File<'_>) -> bool {
    use object::elf::{PF_X, PT_GNU_STACK};
    use object::read::elf::ProgramHeader;
    let object::File::Elf64(elf) = file else { return true };
    let endian = elf.endian();
    let stack = elf.elf_program_headers().iter().find(|header| header.p_type(endian) == PT_GNU_STACK);
    stack.is_none_or(|header| (header.p_flags(endian) & PF_X).0 != 0)
}

/// A file's bytes.
pub fn contents(library: &Path) -> Result<Vec<u8>> {
    std::fs::read(library).map_err(|error| format!("{} can't be read: {error}", library.display()))
}

fn parse<'data>(library: &Path, data: &'data [u8]) -> Result<object::File<'data>> {
    object::File::parse(data).map_err(|error| format!("{}: {error}", library.display()))
}

fn global_names<'data, S: ObjectSymbol<'data>>(
    symbols: impl Iterator<Item = S>,
) -> impl Iterator<Item = String> {
    let global = symbols.filter(|symbol| !symbol.is_undefined() && !symbol.is_local());
    global.map(|symbol| String::from_utf8_lossy(symbol.name_bytes().unwrap_or(b"?")).into_owned())
}

fn undefined_names<'data, S: ObjectSymbol<'data>>(
    symbols: impl Iterator<Item = S>,
) -> impl Iterator<Item = String> {
    // The first symbol of an ELF file has no name.
    let undefined =
        symbols.filter(|symbol| symbol.is_undefined() && !symbol.name_bytes().unwrap_or(b"?").is_empty());
    undefined.map(|symbol| String::from_utf8_lossy(symbol.name_bytes().unwrap_or(b"?")).into_owned())
}

/// Whether these are the listed symbols, all of them and no other.
pub fn compare(found: &BTreeSet<String>) -> Result<()> {
    compare_with(&SYMBOL_NAMES.iter().map(|name| String::from(*name)).collect(), found)
}

fn compare_with(listed: &BTreeSet<String>, found: &BTreeSet<String>) -> Result<()> {
    let missing: Vec<_> = found_only_in(listed, found);
    let unlisted: Vec<_> = found_only_in(found, listed);
    if missing.is_empty() && unlisted.is_empty() {
        return Ok(());
    }
    Err(format!("missing: [{}]; not in the list: [{}]", missing.join(", "), unlisted.join(", ")))
}

fn found_only_in(these: &BTreeSet<String>, those: &BTreeSet<String>) -> Vec<String> {
    these.difference(those).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_symbol_and_one_too_many_are_both_named() {
        let mut found: BTreeSet<String> = SYMBOL_NAMES.iter().map(|name| String::from(*name)).collect();
        assert_eq!(compare(&found), Ok(()));
        found.remove("rt_mmap_file");
        found.insert("memcpy".to_owned());
        let difference = compare(&found).expect_err("the sets differ");
        assert!(difference.contains("missing: [rt_mmap_file]"), "{difference}");
        assert!(difference.contains("not in the list: [memcpy]"), "{difference}");
    }

    #[test]
    fn a_program_of_this_system_is_no_library_of_ours() {
        let program = std::env::current_exe().expect("a test knows its own program");
        assert!(check_shared(&program).is_err());
        assert!(check_static(&program).is_err(), "it is not even an archive");
    }
}
