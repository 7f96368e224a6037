//! This machine as a [`World`].

use crate::archive;
use crate::machine::UNMAPPED;
use aarch64_cpu::registers::{Readable, SCTLR_EL1};
use core::sync::atomic::AtomicU64;
use execmem_conformance::World;
use execmem_conformance::world::FOREIGN_RESULT;
use execmem_core::platform::Pages;
use execmem_core::{Error, Protection};
use execmem_os_baremetal::BareMetal;

extern "C" fn foreign_code() -> i64 {
    FOREIGN_RESULT
}

/// 64 bytes in the kernel's own data.
pub static FOREIGN_DATA: [AtomicU64; 8] = [const { AtomicU64::new(0x0101_0101_0101_0101) }; 8];

/// The machine, for a run that was asked to use this policy.
pub fn world(wished_policy: i32) -> World {
    World {
        wished_policy,
        file: Ok(archive::file),
        file_with_odd_name: Err("names in an archive are UTF-8"),
        descriptors: Err("a kernel has no descriptors"),
        shrink_file: Err("a file of an archive can't shrink"),
        shared_writes: Err("an archive in memory is read-only"),
        missing_file: Ok(c"/etc/missing"),
        directory: Ok(c"/etc"),
        fifo: Ok(c"/etc/fifo"),
        foreign_code,
        foreign_data: (&raw const FOREIGN_DATA).addr() as i64,
        tells_foreign: true,
        unmapped: UNMAPPED as i64,
        has_writable_code: Ok(has_writable_code),
        mappings_gain_exec: Ok(()),
        two_views: Err("QEMU's system mode never executes stale code"),
        shows_stale_code: Err("QEMU's system mode never executes stale code"),
    }
}

/// With WXN in force a page that can be written is not executable, whatever its descriptor says.
fn has_writable_code() -> bool {
    let mut found = false;
    let walked: Result<(), Error> = BareMetal.mappings(0, &mut |mapping| {
        found |= mapping.protection.contains(Protection::WRITE.union(Protection::EXEC));
        core::ops::ControlFlow::Continue(())
    });
    found || walked.is_err() || !SCTLR_EL1.matches_all(SCTLR_EL1::WXN::Enable)
}
