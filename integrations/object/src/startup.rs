//! Constructors and destructors: in which order they run, and what they are called with.

use crate::error::Error;
use crate::object_file::{ObjectFile, SectionKind};
use std::ffi::{CString, OsString, c_char};
use std::ptr::null_mut;
use std::sync::OnceLock;

/// The addresses in sections of one kind, in the order that a linked program's `.init_array` or `.fini_array` has.
/// Destructors run the other way round. `linked` gives a section's bytes, linked.
pub fn addresses(
    object: &ObjectFile<'_>,
    kind: SectionKind,
    linked: impl Fn(usize) -> Result<Vec<u8>, Error>,
) -> Result<Vec<i64>, Error> {
    let mut sections: Vec<_> = object.loaded().filter(|(_, section)| section.kind == kind).collect();
    sections.sort_by_key(|(_, section)| priority(&section.name));
    let mut addresses = Vec::new();
    for (index, section) in sections {
        let bytes = linked(index)?;
        let words = bytes.chunks_exact(8).map(|word| i64::from_le_bytes(word.try_into().unwrap_or_default()));
        // Linkers write 0 and -1 for "none".
        let words = words.filter(|address| !matches!(address, 0 | -1));
        match is_of_older_kind(&section.name) {
            true => addresses.extend(words.rev()),
            false => addresses.extend(words),
        }
    }
    Ok(addresses)
}

/// Whether a section is of the older kind. The C runtime runs those the other way round: constructors from the
/// section's end, destructors from its start.
fn is_of_older_kind(name: &str) -> bool {
    name.starts_with(".ctors") || name.starts_with(".dtors")
}

/// The sections' order, which is that of GNU ld's `SORT_BY_INIT_PRIORITY`: first `.preinit_array`, then those with a
/// number at the end of their name, then the others. `.init_array.100` and `.ctors.65435` have the same place: the
/// older kind counts down from 65535.
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

/// What the C runtimes of Linux and macOS call constructors with: `argc`, `argv` and `envp` of this process.
pub fn arguments() -> [i64; 3] {
    static WORDS: OnceLock<[i64; 2]> = OnceLock::new();
    let [argc, argv] = *WORDS.get_or_init(|| {
        let words = std::env::args_os().map(OsString::into_encoded_bytes);
        let words = words.map(|word| CString::new(word).unwrap_or_default().into_raw());
        let words: Vec<*mut c_char> = words.chain([null_mut()]).collect();
        // Never freed, and writable: objects may keep `argv`, and may write to its words.
        [words.len() as i64 - 1, words.leak().as_mut_ptr() as i64]
    });
    [argc, argv, environment()]
}

/// What the C library of Linux calls the resolvers of indirect functions with: what the processor can do.
pub fn resolver_arguments() -> [i64; 2] {
    #[cfg(all(target_os = "linux", target_arch = "aarch64"))]
    {
        /// "System V ABI for the Arm 64-bit Architecture", section 9.3: its size, and two words of capabilities.
        static FURTHER: OnceLock<[u64; 3]> = OnceLock::new();
        /// Says that there is a second argument.
        const HAS_FURTHER: i64 = 1 << 62;
        // SAFETY: these ask the kernel's list of this process.
        let [first, second] = unsafe { [libc::getauxval(libc::AT_HWCAP), libc::getauxval(libc::AT_HWCAP2)] };
        let further = FURTHER.get_or_init(|| [size_of::<[u64; 3]>() as u64, first, second]);
        [first as i64 | HAS_FURTHER, further.as_ptr() as i64]
    }
    #[cfg(all(target_os = "linux", not(target_arch = "aarch64")))]
    // SAFETY: this asks the kernel's list of this process.
    return [unsafe { libc::getauxval(libc::AT_HWCAP) } as i64, 0];
    #[cfg(not(target_os = "linux"))]
    [0, 0]
}

/// The process's own list of environment variables, or an empty one if it has none.
fn environment() -> i64 {
    static NONE: usize = 0;
    #[cfg(not(target_os = "macos"))]
    // SAFETY: the C library defines `environ` as such a pointer, and sets it in one store.
    let list = unsafe { environ };
    #[cfg(target_os = "macos")]
    // SAFETY: libSystem returns the address of that variable, which lives as long as the process.
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
