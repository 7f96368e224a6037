//! Limits of a process: reached at once, and lifted again.

use std::ptr::{null_mut, without_provenance_mut};

/// `libc::RLIMIT_*`.
#[cfg(target_env = "musl")]
pub type Resource = libc::c_int;
/// `libc::RLIMIT_*`.
#[cfg(not(target_env = "musl"))]
pub type Resource = libc::__rlimit_resource_t;

/// Sets a limit of this process, as far as the hard one lets it.
pub fn limit(resource: Resource, soft: u64) {
    // SAFETY: changes this process's limit only.
    unsafe {
        let mut limits: libc::rlimit = std::mem::zeroed();
        assert_eq!(libc::getrlimit(resource, &mut limits), 0);
        limits.rlim_cur = soft.min(limits.rlim_max);
        assert_eq!(libc::setrlimit(resource, &limits), 0);
    }
}

/// Sets it to what the hard one lets it be.
pub fn lift(resource: Resource) {
    limit(resource, u64::MAX);
}

/// No address is left but these bytes of them.
pub fn leave_addresses(bytes: u64) {
    limit(libc::RLIMIT_AS, statm(0) + bytes);
}

/// No private writable page is left but these bytes of them.
pub fn leave_data(bytes: u64) {
    // The kernel's number is that of data and stack together (proc(5)), and 0 would stand for a special case.
    limit(libc::RLIMIT_DATA, statm(5).saturating_sub(stack()).max(1) + bytes);
}

/// A number of pages from `/proc/self/statm`, in bytes.
fn statm(place: usize) -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("the kernel tells the sizes");
    let pages: u64 = text.split(' ').nth(place).and_then(|pages| pages.parse().ok()).expect("a number");
    pages * page() as u64
}

/// The kernel's: the library may not be asked yet.
fn page() -> usize {
    // SAFETY: has no preconditions (sysconf(3)).
    unsafe { libc::sysconf(libc::_SC_PAGESIZE) as usize }
}

/// The bytes that the main thread's stack has.
fn stack() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the kernel tells the sizes");
    let line = status.lines().find_map(|line| line.strip_prefix("VmStk:")).expect("a stack");
    let kibibytes: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
    kibibytes << 10
}

/// No descriptor is left.
pub fn leave_no_descriptor() {
    // SAFETY: asks for the first free number, and gives it back.
    let next = unsafe {
        let next = libc::dup(0);
        libc::close(next);
        next
    };
    limit(libc::RLIMIT_NOFILE, next as u64);
}

/// Lets the main thread's stack have its pages now: where no address is left it can't grow.
#[inline(never)]
pub fn grow_stack() {
    std::hint::black_box(&mut [0u8; 6 << 20]);
}

/// Gives up the right to lock memory without limit, if the process has it.
pub fn give_up_locking() {
    // linux/capability.h: a header, and three sets of bits in two words each.
    const VERSION_3: u32 = 0x2008_0522;
    const CAP_IPC_LOCK: u32 = 14;
    let mut header = [VERSION_3, 0];
    let mut sets = [[0u32; 3]; 2];
    // SAFETY: both are as long as this version asks for; changes this process's rights only.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_capget, header.as_mut_ptr(), sets.as_mut_ptr()), 0);
        sets[0].iter_mut().for_each(|set| *set &= !(1 << CAP_IPC_LOCK));
        assert_eq!(libc::syscall(libc::SYS_capset, header.as_mut_ptr(), sets.as_ptr()), 0);
    }
}

/// How many mappings the kernel allows a process, if it doesn't take too long to make them.
pub fn most_mappings() -> Result<usize, String> {
    let most = std::fs::read_to_string("/proc/sys/vm/max_map_count").expect("the kernel tells its limit");
    let most = most.trim().parse().expect("a number");
    match most {
        0..=200_000 => Ok(most),
        _ => Err(format!("vm.max_map_count is {most}: filling it takes too long")),
    }
}

/// Mappings of the program's own, as many as the kernel allows. They go when this is dropped.
#[derive(Debug)]
pub struct Hog {
    bulk: (usize, usize),
    singles: Vec<usize>,
}

/// So many of the mappings can be given up one by one.
const SINGLES: usize = 3000;

impl Hog {
    /// Leaves room for so many mappings.
    pub fn leave(spare: usize) -> Result<Self, String> {
        let most = most_mappings()?;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let length = page() * most.checked_sub(SINGLES).ok_or("there are few mappings anyway")?;
        let start = map(length, libc::PROT_NONE, flags).ok_or("no addresses")?;
        // Every second page becomes a mapping of its own, until there is none left for it.
        for inner in (start + page()..start + length).step_by(2 * page()) {
            // SAFETY: a page of the mapping above, which nobody uses.
            if unsafe { libc::mprotect(without_provenance_mut(inner), page(), libc::PROT_READ) } != 0 {
                break;
            }
        }
        let mut hog = Self { bulk: (start, length), singles: Vec::with_capacity(2 * SINGLES) };
        hog.fill(spare);
        Ok(hog)
    }

    /// Takes what has become free, but for so many mappings. Allocates nothing.
    pub fn fill(&mut self, spare: usize) {
        // Shared memory is never merged with a neighbour.
        let flags = libc::MAP_SHARED | libc::MAP_ANONYMOUS;
        while let Some(start) = map(page(), libc::PROT_READ, flags) {
            assert!(self.singles.len() < self.singles.capacity(), "there are more mappings than the limit");
            self.singles.push(start);
        }
        self.give(spare);
    }

    /// Gives up so many mappings.
    pub fn give(&mut self, count: usize) {
        self.singles.drain(self.singles.len() - count..).for_each(|start| unmap(start, page()));
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        self.give(self.singles.len());
        unmap(self.bulk.0, self.bulk.1);
    }
}

fn map(length: usize, protection: libc::c_int, flags: libc::c_int) -> Option<usize> {
    // SAFETY: a new mapping.
    let start = unsafe { libc::mmap(null_mut(), length, protection, flags, -1, 0) };
    (start != libc::MAP_FAILED).then(|| start.addr())
}

fn unmap(start: usize, length: usize) {
    // SAFETY: a mapping of this module's, which nobody uses.
    assert_eq!(unsafe { libc::munmap(without_provenance_mut(start), length) }, 0);
}
