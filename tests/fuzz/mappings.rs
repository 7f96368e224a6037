//! The text of `/proc/self/maps`, beside a reader that splits lines and fields.
#![no_main]

#[path = "../../os-linux/src/maps_text.rs"]
mod maps_text;

use execmem_core::Protection;
use execmem_core::platform::Mapping;
use libfuzzer_sys::fuzz_target;
use maps_text::Parser;

/// What a line says, if it is one of the kernel's: `start-end perms ` and whatever follows.
fn plainly(line: &[u8]) -> Option<Mapping> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let range = std::str::from_utf8(fields.next()?).ok()?;
    let permissions = fields.next()?;
    fields.next()?;
    let (start, end) = range.split_once('-')?;
    let number = |digits: &str| {
        let is_plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        is_plain.then(|| usize::from_str_radix(digits, 16).ok())?
    };
    let is_kernels = permissions.iter().all(|letter| b"rwxps-".contains(letter));
    let mut protection = Protection::NONE;
    for (letter, allowed) in [(b'r', Protection::READ), (b'w', Protection::WRITE), (b'x', Protection::EXEC)] {
        protection |= if permissions.contains(&letter) { allowed } else { Protection::NONE };
    }
    is_kernels.then_some(Mapping { start: number(start)?, end: number(end)?, protection })
}

fuzz_target!(|text: &[u8]| {
    for line in text.split(|byte| *byte == b'\n') {
        let mut parser = Parser::new();
        // Whatever stood before it.
        let found: Vec<_> = b"7f00-7f\n".iter().chain(line).filter_map(|byte| parser.push(*byte)).collect();
        if let Some(expected) = plainly(line) {
            assert_eq!(found, [expected]);
        }
        assert!(found.len() <= 1);
    }
});
