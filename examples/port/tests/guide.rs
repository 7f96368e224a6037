//! The guide quotes the worked platform as it is.

/// The lines without what indents them.
fn trimmed(text: &str) -> String {
    text.lines().map(str::trim).collect::<Vec<_>>().join("\n")
}

#[test]
fn all_rust_in_the_guide_is_in_the_worked_platform() {
    let platform = trimmed(include_str!("../src/lib.rs"));
    let guide = include_str!("../../../docs/porting.md");
    let quotes: Vec<_> =
        guide.split("```rust\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(!quotes.is_empty());
    for quote in quotes {
        assert!(platform.contains(&trimmed(quote)), "not in src/lib.rs:\n{quote}");
    }
}
