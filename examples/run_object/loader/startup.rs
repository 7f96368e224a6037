//! What runs before all else and after it: in which order, and called with what.

use super::layout::Layout;
use super::object_file::{ObjectFile, SectionKind};
use std::ffi::{CString, OsString, c_char};
use std::ptr::null_mut;
use std::sync::OnceLock;

/// The relocated addresses of all constructors, in the order in which they run.
pub fn constructors(object: &ObjectFile<'_>, layout: &Layout, image: &[u8]) -> Vec<i64> {
    addresses(object, layout, image, SectionKind::Constructors)
}

/// The relocated addresses of all destructors, in the order in which they run.
pub fn destructors(object: &ObjectFile<'_>, layout: &Layout, image: &[u8]) -> Vec<i64> {
    let mut addresses = addresses(object, layout, image, SectionKind::Destructors);
    addresses.reverse();
    addresses
}

/// Those of one kind, in the order of a linked program's `.init_array` or `.fini_array`.
fn addresses(object: &ObjectFile<'_>, layout: &Layout, image: &[u8], kind: SectionKind) -> Vec<i64> {
    let mut sections: Vec<_> = object.loaded().filter(|(_, section)| section.kind == kind).collect();
    sections.sort_by_key(|(_, section)| priority(&section.name));
    let mut addresses = Vec::new();
    for (index, section) in sections {
        let start = layout.sections[index].unwrap_or(0) as usize;
        let bytes = image[start..][..section.data.len()].chunks_exact(8);
        let words = bytes.map(|word| i64::from_le_bytes(word.try_into().unwrap_or_default()));
        // Linkers write 0 and -1 for "none".
        let words = words.filter(|address| !matches!(address, 0 | -1));
        match is_of_older_kind(&section.name) {
            true => addresses.extend(words.rev()),
            false => addresses.extend(words),
        }
    }
    addresses
}

/// Whether a section is of the older kind, which the C runtime reads from its end (`.dtors` from its start).
fn is_of_older_kind(name: &str) -> bool {
    name.starts_with(".ctors") || name.starts_with(".dtors")
}

/// Lower ones come first: `.preinit_array`, then by the number at the end of a name (`.init_array.100`, which is
/// `.ctors.65435`), then those without. GNU ld has it so: `SORT_BY_INIT_PRIORITY`.
fn priority(name: &str) -> u32 {
    if name.starts_with(".preinit_array") {
        return 0;
    }
    let number = name.rsplit('.').next().and_then(|end| end.parse::<u32>().ok());
    let number = match number {
        Some(number) if is_of_older_kind(name) => Some(0xffff_u32.saturating_sub(number)),
        number => number,
    };
    number.map_or(u32::MAX, |number| number.saturating_add(1))
}

unsafe extern "C" {
    #[cfg(not(target_os = "macos"))]
    static environ: *const *const c_char;
}

/// What the C runtime of Linux and macOS calls constructors with: `argc`, `argv` and `envp` of this process.
pub fn arguments() -> [i64; 3] {
    static WORDS: OnceLock<[i64; 2]> = OnceLock::new();
    let [argc, argv] = *WORDS.get_or_init(|| {
        let words = std::env::args_os().map(OsString::into_encoded_bytes);
        let words = words.map(|word| CString::new(word).unwrap_or_default().into_raw());
        let words: Vec<*mut c_char> = words.chain([null_mut()]).collect();
        // Kept for ever, and writable: programs keep such pointers and cut such words to pieces.
        [words.len() as i64 - 1, words.leak().as_mut_ptr() as i64]
    });
    [argc, argv, environment()]
}

/// The live list of the environment's variables, which a program without any may lack.
fn environment() -> i64 {
    static NONE: usize = 0;
    #[cfg(not(target_os = "macos"))]
    // SAFETY: the C library's variable is a pointer that other threads change in one piece.
    let list = unsafe { environ };
    #[cfg(target_os = "macos")]
    // SAFETY: libSystem gives the address of the same variable, which lives as long as the process.
    let list = unsafe { *libc::_NSGetEnviron() };
    if list.is_null() { (&raw const NONE) as i64 } else { list as i64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sections_run_in_the_order_of_their_priorities() {
        let names = [
            ".preinit_array",
            ".init_array.0",
            ".init_array.00101",
            ".ctors.65433",
            ".init_array.103",
            ".ctors.00000",
            ".init_array",
        ];
        assert!(names.is_sorted_by_key(|name| priority(name)));
        assert_eq!(priority(".ctors"), priority(".init_array"));
        assert_eq!(priority(".dtors.65434"), priority(".fini_array.101"));
        assert_eq!(priority("__DATA,__mod_init_func"), priority(".init_array"));
    }
}
