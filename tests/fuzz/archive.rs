//! The reader of cpio archives: one that was written is read as it was written, and a damaged one as anything.
#![no_main]

#[path = "../../os-baremetal/src/archive.rs"]
mod archive;
#[allow(dead_code, reason = "there are files only")]
#[path = "../../xtask/src/cpio.rs"]
mod cpio;

use libfuzzer_sys::fuzz_target;

// Entries are lines: a name, `=` and the contents. What follows `!` is damage: places and bytes.
fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == b'!');
    let entries: Vec<(&str, &[u8])> = parts
        .next()
        .unwrap_or_default()
        .split(|byte| *byte == b'\n')
        .filter_map(|line| {
            let at = line.iter().position(|byte| *byte == b'=')?;
            let name = std::str::from_utf8(&line[..at]).ok()?;
            Some((name, &line[at + 1..])).filter(|_| !name.contains('\0') && name != "TRAILER!!!")
        })
        .collect();
    let files: Vec<_> = entries.iter().map(|(name, contents)| (*name, cpio::REGULAR, *contents)).collect();
    let mut bytes = cpio::archive(&files);
    assert_eq!(archive::check(&bytes), Ok(()));
    for (name, _) in &entries {
        let path = |name: &str| name.trim_start_matches("./").trim_start_matches('/').to_owned();
        let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric()) && !name.is_empty();
        // Names that are written differently may mean the same file.
        if is_plain && entries.iter().all(|(other, _)| other == name || path(other) != *name) {
            let last = entries.iter().rev().find(|(other, _)| other == name).expect("it is there");
            assert_eq!(archive::find(&bytes, name.as_bytes()), Ok(last.1));
        }
    }
    for damage in parts.next().unwrap_or_default().chunks_exact(3) {
        let place = usize::from(damage[0]) << 8 | usize::from(damage[1]);
        let length = bytes.len();
        bytes[place % length] = damage[2];
    }
    // Read as far as it goes, whether it is checked or not.
    let checked = archive::check(&bytes).map_err(|damaged| damaged.to_string());
    for name in entries.iter().map(|(name, _)| name.as_bytes()).chain([&b"."[..], b"a/b"]) {
        if let Ok(contents) = archive::find(&bytes, name) {
            assert!(bytes.as_ptr_range().contains(&contents.as_ptr()) || contents.is_empty());
        }
    }
    drop(checked);
});
