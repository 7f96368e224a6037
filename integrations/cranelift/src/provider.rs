//! Memory for `cranelift-jit`'s own module.

use crate::data::Pool;
use crate::module::check_landing_pads;
use cranelift_jit::{BranchProtection, JITMemoryKind, JITMemoryProvider};
use cranelift_module::{ModuleError, ModuleResult};
use execmem::{ErrorKind, Protection, runtime};
use std::io;

/// Memory for [`cranelift_jit::JITModule`], for who can't leave it for [`HeapModule`](crate::HeapModule): its pages are
/// execmem's, near each other, and counted and reported with all else.
///
/// The trait has one pointer for writing and executing, so a page is read-write until it is finalized, and read-execute
/// from then on. So nothing is added to a page that was finalized, nothing is freed alone, and where no memory ever
/// changes so (policy `jit`) there is none but `HeapModule`.
///
/// As with `cranelift-jit`'s own providers, memory stays for the rest of the process's life, unless
/// `JITModule::free_memory` is called.
///
/// ```
/// # fn main() -> cranelift_module::ModuleResult<()> {
/// let mut builder = cranelift_jit::JITBuilder::new(cranelift_module::default_libcall_names())?;
/// builder.memory_provider(Box::new(execmem_cranelift::Provider::new()));
/// let module = cranelift_jit::JITModule::new(builder);
/// # // SAFETY: it has no code.
/// # unsafe { module.free_memory() };
/// # Ok(())
/// # }
/// ```
pub struct Provider {
    code: Pool,
    constants: Pool,
    variables: Pool,
}

impl Provider {
    /// It takes no memory before it is asked for some.
    #[expect(clippy::new_without_default, reason = "who names it wants memory of its own")]
    pub fn new() -> Self {
        Self {
            code: Pool::new(Protection::RX),
            constants: Pool::new(Protection::READ),
            variables: Pool::new(Protection::RW),
        }
    }

    fn pools(&mut self) -> [&mut Pool; 3] {
        [&mut self.code, &mut self.constants, &mut self.variables]
    }
}

impl JITMemoryProvider for Provider {
    fn allocate(&mut self, size: usize, align: u64, kind: JITMemoryKind) -> io::Result<*mut u8> {
        let near = [&self.code, &self.constants, &self.variables].into_iter().find_map(Pool::anywhere);
        let pool = match kind {
            JITMemoryKind::Executable => &mut self.code,
            JITMemoryKind::ReadOnly => &mut self.constants,
            JITMemoryKind::Writable => &mut self.variables,
        };
        // What is empty has an address of its own, too.
        let address = pool.alloc(size.max(1), align as usize, near).map_err(io::Error::other)?;
        Ok(std::ptr::with_exposed_provenance_mut(address))
    }

    unsafe fn free_memory(&mut self) {
        for pool in self.pools() {
            pool.free();
        }
    }

    fn finalize(&mut self, protection: BranchProtection) -> ModuleResult<()> {
        if protection == BranchProtection::None {
            check_landing_pads(false)?;
        }
        let guarded = |address, size| match protection {
            BranchProtection::None => Ok(()),
            BranchProtection::BTI => guard(address, size),
        };
        let finished = self.constants.finish(|_, _| Ok(())).and_then(|()| self.code.finish(guarded));
        finished.map_err(|err| ModuleError::Allocation { err })
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        for pool in self.pools() {
            pool.leak();
        }
    }
}

/// Lets indirect branches into pages of code end at landing pads only, where the processor can.
fn guard(address: usize, size: usize) -> io::Result<()> {
    match runtime().set_protection(address as i64, size as i64, Protection::RX | Protection::BTI) {
        Ok(()) | Err(ErrorKind::Unsupported) => Ok(()),
        Err(error) => Err(io::Error::other(error)),
    }
}
