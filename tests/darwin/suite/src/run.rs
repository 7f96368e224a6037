//! The suite's rules by number, and the loader's functions as the rules know them.

use crate::{FAILED, Host, NOT_APPLICABLE, PASSED};
use core::cell::UnsafeCell;
use core::ffi::CStr;
use core::fmt::{self, Write};
use execmem_conformance::world::Descriptors;
use execmem_conformance::{Rule, SECTIONS, Section, Stop, World};

/// Links the adapter whose symbols the suite calls.
use execmem_os_macos as _;

/// Set by [`suite_run`] before any rule runs; a rule runs alone.
static HOST: Table = Table(UnsafeCell::new(None));

struct Table(UnsafeCell<Option<Host>>);

// SAFETY: written before any other thread can exist, and only read then.
unsafe impl Sync for Table {}

fn host() -> &'static Host {
    // SAFETY: written once, before.
    unsafe { (*HOST.0.get()).as_ref() }.expect("a rule runs after suite_run has begun")
}

fn rules() -> impl Iterator<Item = (&'static Section, &'static Rule)> {
    SECTIONS.iter().flat_map(|section| section.rules.iter().map(move |rule| (section, rule)))
}

/// How many rules there are.
#[unsafe(no_mangle)]
pub extern "C" fn suite_count() -> usize {
    rules().count()
}

/// Reports a rule's section and name.
///
/// # Safety
/// `report` takes what [`Host::report`] takes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn suite_name(index: usize, report: unsafe extern "C" fn(*const u8, usize)) {
    if let Some((section, rule)) = rules().nth(index) {
        let mut text = Reporter(report);
        let _ = write!(text, "{}: {}", section.title, rule.name);
    }
}

/// Runs a rule. Its result is one of [`PASSED`], [`FAILED`], [`NOT_APPLICABLE`].
///
/// # Safety
/// The table's functions do what they say, and no other rule runs.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn suite_run(index: usize, table: *const Host) -> i32 {
    // SAFETY: the caller gave a table; nobody reads it yet.
    unsafe { *HOST.0.get() = Some(table.read()) };
    let Some((_, rule)) = rules().nth(index) else { return FAILED };
    let mut text = Reporter(host().report);
    match (rule.run)(&world()) {
        Ok(()) => PASSED,
        Err(Stop::NotApplicable(reason)) => {
            let _ = text.write_str(reason);
            NOT_APPLICABLE
        }
        Err(Stop::Failed(failure)) => {
            let _ = write!(text, "{failure}");
            FAILED
        }
    }
}

fn world() -> World {
    let host = host();
    // SAFETY: the table's paths are C strings that stay.
    let path = |path| unsafe { CStr::from_ptr(path) };
    World {
        wished_policy: host.wished_policy,
        file: Ok(|bytes| file(bytes, false)),
        file_with_odd_name: Ok(|bytes| file(bytes, true)),
        descriptors: Ok(Descriptors {
            // SAFETY: the path is a C string.
            open: |path, access, offset| unsafe { (self::host().open)(path.as_ptr(), access, offset) },
            close: |descriptor| (self::host().close)(descriptor),
        }),
        // SAFETY: the path is a C string.
        shrink_file: Ok(|path, size| unsafe { (self::host().shrink_file)(path.as_ptr(), size) }),
        shared_writes: Ok(()),
        mappings_gain_exec: match host.gains_exec {
            true => Ok(()),
            false => Err("the hardened runtime lets no page become executable"),
        },
        missing_file: Ok(path(host.missing_file)),
        directory: Ok(path(host.directory)),
        fifo: Ok(path(host.fifo)),
        foreign_code: host.foreign_code,
        foreign_data: host.foreign_data,
        tells_foreign: true,
        unmapped: host.unmapped,
        has_writable_code: match host.lacks_write_switch {
            true => Err("Intel processors have no write switch: MAP_JIT pages are writable and executable"),
            false => Ok(|| (self::host().has_writable_code)()),
        },
        two_views: Ok(two_views),
        shows_stale_code: match host.shows_stale_code {
            true => Ok(()),
            false => Err("only qemu's user mode for aarch64, 8.1 or newer, is known to run stale code"),
        },
    }
}

fn file(bytes: &[u8], has_odd_name: bool) -> &'static CStr {
    // SAFETY: the slice is readable, and the loader's paths are C strings that stay.
    unsafe { CStr::from_ptr((host().file)(bytes.as_ptr(), bytes.len(), has_odd_name)) }
}

fn two_views(size: usize) -> (i64, i64) {
    let mut views = [0; 2];
    // SAFETY: room for both.
    unsafe { (host().two_views)(size, &mut views) };
    (views[0], views[1])
}

/// Text for the loader.
struct Reporter(unsafe extern "C" fn(*const u8, usize));

impl Write for Reporter {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: the text is readable.
        unsafe { (self.0)(text.as_ptr(), text.len()) };
        Ok(())
    }
}

/// No rule panics. If one does, its process ends, and the loader tells.
#[cfg(feature = "image")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}
