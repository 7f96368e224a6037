//! The text of the contract has the names of the interface: every one, and no other.

use execmem_core::abi::SYMBOL_NAMES;
use std::collections::BTreeSet;

/// A file of the project, by its path from the root.
fn read(path: &str) -> String {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn contract() -> String {
    read("docs/contract.md")
}

/// The names in a text that begin with `prefix`, but for those that stand for many, as `rt_*` does.
fn names<'a>(text: &'a str, prefix: &str) -> BTreeSet<&'a str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_')
        .filter(|word| word.starts_with(prefix) && !word.ends_with('_'))
        .collect()
}

/// States that the same names are in both, and shows those that are not.
fn expect_same(some: &BTreeSet<&str>, others: &BTreeSet<&str>) {
    let no_name: [&&str; 0] = [];
    assert_eq!(some.symmetric_difference(others).collect::<Vec<_>>(), no_name);
}

macro_rules! signatures {
    (() $runtime:ident $(
        $(#[$doc:meta])*
        fn $name:ident($($argument:ident: $type:ty),*) -> $result:ty $(, else $failure:expr)? $(=> $call:expr)?;
    )*) => {
        /// Every symbol with its arguments, as the contract writes it.
        const SIGNATURES: &[&str] =
            &[$(concat!("`", stringify!($name), "(", stringify!($($argument),*), ")`")),*];
    };
}

execmem_core::for_each_symbol!(signatures!());

#[test]
fn the_contract_explains_every_symbol_once_with_the_arguments_that_it_has() {
    let contract = contract();
    for signature in SIGNATURES {
        // An argument may have a keyword's name.
        let signature = signature.replace("r#", "");
        assert_eq!(contract.matches(&signature).count(), 1, "{signature}");
    }
}

#[test]
fn the_contract_has_no_symbol_that_is_not_in_the_list() {
    expect_same(&names(&contract(), "rt_"), &SYMBOL_NAMES.iter().copied().collect());
}

#[test]
fn the_contract_has_every_constant_of_the_header_and_no_other() {
    let (contract, header) = (contract(), read("include/execmem.h"));
    let constants = names(&header, "RT_");
    assert!(constants.contains("RT_ERROR_NOT_OWNED"));
    expect_same(&names(&contract, "RT_"), &constants);
}
