//! The table of symbols that a language runtime asks for.

use crate::symbols::*;
use crate::verdict::{Verdict, check, check_eq, check_fails};
use crate::{Rule, World};
use core::ffi::{CStr, c_char, c_void};
use execmem_core::abi::*;

pub(super) const RULES: &[Rule] = &[
    Rule::new("the interface's version is 1", version),
    Rule::new("rt_symbol_lookup gives a function for every symbol, the same each time", lookup),
    Rule::new("rt_symbol_lookup knows no other name", unknown_names),
    Rule::new(
        "rt_register_symbols calls back once for each symbol, with its context, and says how many",
        register,
    ),
    Rule::new("rt_register_symbols without a function registers nothing", nobody),
];

/// So many bytes hold any name and its NUL.
const NAME: usize = 64;

/// A name as C wants it.
fn c_name<'a>(name: &str, buffer: &'a mut [u8; NAME]) -> &'a CStr {
    buffer.fill(0);
    buffer[..name.len()].copy_from_slice(name.as_bytes());
    CStr::from_bytes_until_nul(buffer).unwrap_or_default()
}

fn version(_: &World) -> Verdict {
    check_eq!(rt_abi_version(), 1);
    Ok(())
}

fn lookup(world: &World) -> Verdict {
    let mut buffer = [0; NAME];
    for name in SYMBOL_NAMES {
        let address = look_up(Some(c_name(name, &mut buffer)));
        check!(address > 0);
        check_eq!(address, look_up(Some(c_name(name, &mut buffer))));
        check_eq!(rt_is_executable(address), world.tells_foreign);
    }
    Ok(())
}

fn unknown_names(_: &World) -> Verdict {
    for name in
        [c"", c"rt_", c"rt_munma", c"rt_munmap2", c"rt_munmap ", c"RT_MUNMAP", c"munmap", c"main", c"\xff"]
    {
        check_fails!(look_up(Some(name)), 0, RT_ERROR_NOT_FOUND);
    }
    check_fails!(look_up(None), 0, RT_ERROR_INVALID_ARGUMENT);
    Ok(())
}

/// How often each symbol of the list was registered, how many others were, and how many with another address than a
/// lookup gives.
struct Seen {
    times: [u32; 128],
    others: u32,
    wrong_addresses: u32,
}

unsafe extern "C" fn note(context: *mut c_void, name: *const c_char, address: i64) {
    // SAFETY: the rule passes a `Seen`, and the library a C string.
    let (seen, name) = unsafe { (&mut *context.cast::<Seen>(), CStr::from_ptr(name)) };
    match SYMBOL_NAMES.iter().position(|known| known.as_bytes() == name.to_bytes()) {
        Some(index) => {
            seen.times[index] += 1;
            seen.wrong_addresses += u32::from(address == 0 || address != look_up(Some(name)));
        }
        None => seen.others += 1,
    }
}

fn register(_: &World) -> Verdict {
    let mut seen = Seen { times: [0; 128], others: 0, wrong_addresses: 0 };
    check_eq!(register_symbols(Some(note), &mut seen), SYMBOL_NAMES.len() as i64);
    check!(seen.times[..SYMBOL_NAMES.len()].iter().all(|times| *times == 1));
    check_eq!((seen.others, seen.wrong_addresses), (0, 0));
    Ok(())
}

fn nobody(_: &World) -> Verdict {
    check_fails!(register_symbols(None, &mut ()), 0, RT_ERROR_INVALID_ARGUMENT);
    Ok(())
}
