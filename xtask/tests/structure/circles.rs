//! Circles in a graph of files.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

use crate::uses::Graph;

/// The shortest circle through each file that is in one, but for files that an earlier circle has shown.
pub fn circles<'a>(graph: &Graph<'a>) -> Vec<Vec<&'a Path>> {
    let mut circles: Vec<Vec<&Path>> = Vec::new();
    let mut shown = BTreeSet::new();
    for file in graph.keys() {
        if shown.contains(file) {
            continue;
        }
        if let Some(circle) = circle_through(graph, file) {
            shown.extend(circle.iter().copied());
            circles.push(circle);
        }
    }
    circles
}

/// From a file back to itself, breadth first.
fn circle_through<'a>(graph: &Graph<'a>, file: &'a Path) -> Option<Vec<&'a Path>> {
    let mut user_of = BTreeMap::new();
    let mut queue = VecDeque::from([file]);
    while let Some(user) = queue.pop_front() {
        for used in graph.get(user).into_iter().flatten().copied() {
            if used == file {
                let mut circle = vec![user];
                while let Some(before) = user_of.get(circle[circle.len() - 1]).copied() {
                    circle.push(before);
                }
                circle.reverse();
                return Some(circle);
            }
            if !user_of.contains_key(used) {
                user_of.insert(used, user);
                queue.push_back(used);
            }
        }
    }
    None
}

/// `a uses b uses a`.
pub fn shown(circle: &[&Path]) -> String {
    let files = circle.iter().chain(circle.first()).map(|file| file.display().to_string());
    files.collect::<Vec<_>>().join(" uses ")
}

/// The circles of a crate that is made of these files; `lib.rs` is the root.
fn circles_in(files: &[(&str, &str)]) -> Vec<String> {
    let read = |wanted: &Path| {
        let found = files.iter().find(|(file, _)| Path::new("src").join(file) == *wanted);
        found.map(|(_, text)| (*text).to_owned())
    };
    let modules = crate::modules::Modules::read(Path::new("src/lib.rs"), &read);
    circles(&crate::uses::graph(&modules)).iter().map(|circle| shown(circle)).collect()
}

#[test]
fn a_circle_is_named_by_its_files() {
    let files = [
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod inner; pub use inner::Inner;"),
        ("a/inner.rs", "use crate::b::{self, B}; pub struct Inner(B);"),
        ("b.rs", "pub struct B; fn of() -> crate::a::inner::Inner { loop {} }"),
    ];
    assert_eq!(circles_in(&files), ["src/a/inner.rs uses src/b.rs uses src/a/inner.rs"]);
}

#[test]
fn each_processor_has_a_file_of_its_own() {
    let lib =
        "#[cfg_attr(unix, path = \"x.rs\")] #[cfg_attr(not(unix), path = \"y.rs\")] mod processor; mod user;";
    let files = [
        ("lib.rs", lib),
        ("x.rs", ""),
        ("y.rs", "use crate::user::U;"),
        ("user.rs", "use crate::processor::P;"),
    ];
    assert_eq!(circles_in(&files), ["src/user.rs uses src/y.rs uses src/user.rs"]);
}

#[test]
fn what_a_mod_file_re_exports_is_used_from_it() {
    let with = |b: &'static str| {
        let a = ("a/mod.rs", "mod inner; pub use inner::Inner; use crate::b::B;");
        circles_in(&[("lib.rs", "mod a; mod b;"), a, ("a/inner.rs", "pub struct Inner;"), ("b.rs", b)])
    };
    assert_eq!(with("use crate::a::Inner;"), ["src/a/mod.rs uses src/b.rs uses src/a/mod.rs"]);
    assert_eq!(with("use crate::a::inner::Inner;"), [""; 0]);
}

#[test]
fn parents_children_and_arguments_of_macros_count() {
    for (lib, child) in [
        ("mod a; pub use a::A; pub struct B;", "use super::B; pub struct A;"),
        ("mod a; fn f() { a::g() } struct B;", "use super::*;"),
        ("mod a; fn f() { println!(\"{}\", a::A) }", "fn f() { assert!(vec![1, crate::X].len() == 2) }"),
        ("mod a; fn f() -> [a::A; 2] {}", "impl<T: super::X> S for T {}"),
        ("mod a; use self::a as b;", "mod inline { fn f() { super::super::X } }"),
    ] {
        let found = circles_in(&[("lib.rs", lib), ("a.rs", child)]);
        assert_eq!(found, ["src/a.rs uses src/lib.rs uses src/a.rs"], "{lib} {child}");
    }
}

#[test]
fn declarations_tests_visibility_other_crates_and_bodies_of_macros_do_not_count() {
    for (lib, child) in [
        ("mod a; pub struct B;", "use super::B;"),
        ("mod a; #[cfg(test)] use a::A;", "use crate::X;"),
        ("mod a; #[cfg(test)] mod tests { use super::a::A; }", "use crate::X;"),
        ("mod a; #[cfg(all(test, unix))] mod tests;", "use crate::X;"),
        ("mod a; macro_rules! m { () => { a::A } }", "use crate::X;"),
        ("pub mod a; use a::A;", "pub(in crate::b) struct A; pub(super) struct B;"),
        ("mod a; use ::a::A; use std::a::A; fn f() { ::a::g() }", "use crate::X;"),
    ] {
        assert_eq!(circles_in(&[("lib.rs", lib), ("a.rs", child)]), [""; 0], "{lib} {child}");
    }
}
