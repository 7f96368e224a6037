//! A crate's modules, and the files that they are in.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use syn::punctuated::Punctuated;
use syn::{Attribute, Expr, ExprLit, Item, Lit, Meta, MetaList, Token};

/// Names from the crate's root on: `crate::a::b` is `["a", "b"]`.
pub type ModulePath = Vec<String>;

/// A module without those inside of it.
pub struct Module {
    pub file: PathBuf,
    pub items: Vec<Item>,
}

/// All modules of a crate but those for tests. One path has several where each processor has its own.
pub struct Modules(BTreeMap<ModulePath, Vec<Module>>);

/// What a file contains, if it exists.
pub type Read<'a> = &'a dyn Fn(&Path) -> Option<String>;

impl Modules {
    /// Reads a crate from its root file on. `read` gives what a file contains.
    pub fn read(root: &Path, read: Read<'_>) -> Modules {
        let mut modules = Modules(BTreeMap::new());
        let folder = root.parent().expect("a root file lies in a folder");
        let text = read(root).unwrap_or_else(|| panic!("{} can't be read", root.display()));
        modules.add(Vec::new(), root, folder, parse(root, &text), read);
        modules
    }

    /// `folder` is where the files of the modules inside of this one lie.
    fn add(&mut self, path: ModulePath, file: &Path, folder: &Path, items: Vec<Item>, read: Read<'_>) {
        let (inner, items): (Vec<_>, Vec<_>) = items
            .into_iter()
            .filter(|item| !is_for_tests(attributes(item)))
            .partition(|item| matches!(item, Item::Mod(_)));
        for item in inner {
            let Item::Mod(module) = item else { continue };
            let name = module.ident.to_string();
            let path = [&path[..], std::slice::from_ref(&name)].concat();
            let inside = folder.join(&name);
            if let Some((_, items)) = module.content {
                self.add(path, file, &inside, items, read);
                continue;
            }
            let mut candidates: Vec<_> =
                named_files(&module.attrs).iter().map(|name| folder.join(name)).collect();
            if candidates.is_empty() {
                candidates = vec![inside.with_extension("rs"), inside.join("mod.rs")];
            }
            let found: Vec<_> = candidates.iter().filter_map(|file| Some((file, read(file)?))).collect();
            assert!(!found.is_empty(), "{}: mod {name} has no file", file.display());
            for (file, text) in found {
                self.add(path.clone(), file, &inside, parse(file, &text), read);
            }
        }
        self.0.entry(path).or_default().push(Module { file: file.to_owned(), items });
    }

    /// Each with its path.
    pub fn all(&self) -> impl Iterator<Item = (&ModulePath, &Module)> {
        self.0.iter().flat_map(|(path, modules)| modules.iter().map(move |module| (path, module)))
    }

    /// The files of the innermost module that a path names, as it is written in the module `here`. A path that
    /// starts with the name of another crate, of an import or of a type is in none.
    pub fn files_of(&self, here: &[String], path: &[String]) -> impl Iterator<Item = &Path> {
        self.innermost(here, path).into_iter().flatten().map(|module| &*module.file)
    }

    fn innermost(&self, here: &[String], path: &[String]) -> Option<&Vec<Module>> {
        let mut names = path.iter().map(String::as_str).peekable();
        let mut module = here.to_vec();
        match names.peek()? {
            &"crate" => module.clear(),
            &"self" | &"super" => {}
            name => drop(self.0.get(&[here, &[name.to_string()]].concat())?),
        }
        for name in names {
            match name {
                "crate" | "self" => {}
                "super" => drop(module.pop()?),
                name => {
                    module.push(name.to_owned());
                    if !self.0.contains_key(&module) {
                        module.pop();
                        break;
                    }
                }
            }
        }
        self.0.get(&module)
    }
}

fn parse(file: &Path, text: &str) -> Vec<Item> {
    syn::parse_file(text).unwrap_or_else(|error| panic!("{}: {error}", file.display())).items
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// The files of `#[path = "..."]`, also where it is for one processor alone: `#[cfg_attr(..., path = "...")]`.
fn named_files(attributes: &[Attribute]) -> Vec<String> {
    fn named(meta: &Meta) -> Vec<String> {
        match meta {
            Meta::List(list) if list.path.is_ident("cfg_attr") => {
                inside(list).iter().flat_map(named).collect()
            }
            Meta::NameValue(pair) if pair.path.is_ident("path") => match &pair.value {
                Expr::Lit(ExprLit { lit: Lit::Str(file), .. }) => vec![file.value()],
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }
    attributes.iter().flat_map(|attribute| named(&attribute.meta)).collect()
}

/// `#[cfg(test)]`, or with more conditions `#[cfg(all(test, ...))]`.
pub fn is_for_tests(attributes: &[Attribute]) -> bool {
    fn needs_test(condition: &Meta) -> bool {
        match condition {
            Meta::Path(path) => path.is_ident("test"),
            Meta::List(list) if list.path.is_ident("all") => inside(list).iter().any(needs_test),
            _ => false,
        }
    }
    attributes.iter().any(|attribute| match &attribute.meta {
        Meta::List(list) if list.path.is_ident("cfg") => inside(list).iter().any(needs_test),
        _ => false,
    })
}

fn inside(list: &MetaList) -> Vec<Meta> {
    let metas = list.parse_args_with(Punctuated::<Meta, Token![,]>::parse_terminated);
    metas.into_iter().flatten().collect()
}
