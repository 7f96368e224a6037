//! Kernels that refuse: confinements that a process puts itself under, for good.
//!
//! qemu's user mode has neither; they are tried natively.

use libc::{c_int, c_ulong, sock_filter, sock_fprog};

/// Memory that is writable can't become executable later, nor be both (Linux 6.3).
pub fn refuse_exec_gain() -> Result<(), String> {
    const PR_SET_MDWE: c_int = 65;
    const PR_MDWE_REFUSE_EXEC_GAIN: c_ulong = 1;
    // SAFETY: restricts this process only.
    match unsafe { libc::prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) } {
        0 => Ok(()),
        _ => Err(format!("PR_SET_MDWE: {}", std::io::Error::last_os_error())),
    }
}

/// A step of a seccomp filter, with what it needs said in words.
#[derive(Clone, Copy, Debug)]
pub enum Condition {
    /// The argument at this place has all of these bits.
    HasBits(u32, u32),
    /// The argument at this place has one of these bits or more.
    HasAnyOf(u32, u32),
    /// The lower half of the argument at this place is this number.
    Is(u32, u32),
    /// Always.
    Any,
}

/// Refuses a system call where the condition holds, with an error number.
#[derive(Clone, Copy, Debug)]
pub struct Refusal {
    /// `SYS_*`.
    pub call: i64,
    /// When.
    pub condition: Condition,
    /// With what: `libc::E*`.
    pub error: c_int,
}

/// What a hardened service manager's filter does: no mapping that is writable and executable at once.
pub const NO_WRITABLE_CODE: [Refusal; 2] = [
    Refusal { call: libc::SYS_mmap, condition: Condition::HasBits(2, 6), error: libc::EPERM },
    Refusal { call: libc::SYS_mprotect, condition: Condition::HasBits(2, 6), error: libc::EPERM },
];

/// As systemd's `MemoryDenyWriteExecute`: besides, `mprotect` never gives EXEC.
pub const NO_NEW_CODE: [Refusal; 2] = [
    Refusal { call: libc::SYS_mmap, condition: Condition::HasBits(2, 6), error: libc::EPERM },
    Refusal { call: libc::SYS_mprotect, condition: Condition::HasBits(2, 4), error: libc::EPERM },
];

/// As kernels before 6.11.
pub const NO_PROCMAP_QUERY: Refusal =
    Refusal { call: libc::SYS_ioctl, condition: Condition::Is(1, 0xc068_6611), error: libc::ENOTTY };

/// Puts the process under a filter.
pub fn refuse(refusals: &[Refusal]) -> Result<(), String> {
    let mut program = Vec::new();
    for Refusal { call, condition, error } in refusals {
        let verdict = libc::SECCOMP_RET_ERRNO | *error as u32;
        // Each refusal starts from the call's number, and ends with a jump over its own rest.
        program.push(load(NUMBER));
        match *condition {
            Condition::Any => program.extend([skip_unless_equal(*call as u32, 1), answer(verdict)]),
            Condition::Is(place, number) => program.extend([
                skip_unless_equal(*call as u32, 3),
                load(argument(place)),
                skip_unless_equal(number, 1),
                answer(verdict),
            ]),
            Condition::HasAnyOf(place, bits) => program.extend([
                skip_unless_equal(*call as u32, 3),
                load(argument(place)),
                skip_unless_any(bits, 1),
                answer(verdict),
            ]),
            Condition::HasBits(place, bits) => program.extend([
                skip_unless_equal(*call as u32, 4),
                load(argument(place)),
                and(bits),
                skip_unless_equal(bits, 1),
                answer(verdict),
            ]),
        }
    }
    program.push(answer(libc::SECCOMP_RET_ALLOW));
    install(&mut program)
}

/// Refuses all system calls from this number on, as if the kernel were too old for them.
pub fn refuse_newer(number: u32) -> Result<(), String> {
    let verdict = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    let allow = answer(libc::SECCOMP_RET_ALLOW);
    install(&mut [load(NUMBER), skip_unless_at_least(number, 1), answer(verdict), allow])
}

/// Whatever else the process calls ends it.
pub fn allow_only(calls: &[i64]) -> Result<(), String> {
    let allow = |call: &i64| [skip_unless_equal(*call as u32, 1), answer(libc::SECCOMP_RET_ALLOW)];
    let mut program = vec![load(NUMBER)];
    program.extend(calls.iter().flat_map(allow));
    program.push(answer(libc::SECCOMP_RET_KILL_PROCESS));
    install(&mut program)
}

/// Puts the process under a filter program.
pub fn install(program: &mut [sock_filter]) -> Result<(), String> {
    let filter = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program is whole and outlives the call; both calls restrict this process only.
    let result = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter)
    };
    if result == 0 { Ok(()) } else { Err(format!("no seccomp filter: {}", std::io::Error::last_os_error())) }
}

// Offsets in `struct seccomp_data`.
/// The system call's number.
pub const NUMBER: u32 = 0;
/// The lower half of the address behind the system call's instruction.
pub const POINTER_LOW: u32 = 8;

/// The lower half of an argument (little-endian, as all our machines are).
pub const fn argument(place: u32) -> u32 {
    16 + 8 * place
}

/// Loads a word of the structure.
pub fn load(offset: u32) -> sock_filter {
    step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset, 0, 0)
}

/// Skips so many steps unless the loaded word is this number.
pub fn skip_unless_equal(number: u32, steps: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number, 0, steps)
}

/// Skips so many steps unless the loaded word is at least this number.
pub fn skip_unless_at_least(number: u32, steps: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, number, 0, steps)
}

/// Skips so many steps if the loaded word is at least this number.
pub fn skip_if_at_least(number: u32, steps: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, number, steps, 0)
}

/// Skips so many steps unless the loaded word has any of these bits.
fn skip_unless_any(bits: u32, steps: u8) -> sock_filter {
    step(libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K, bits, 0, steps)
}

/// Ends with this verdict.
pub fn answer(verdict: u32) -> sock_filter {
    step(libc::BPF_RET | libc::BPF_K, verdict, 0, 0)
}

fn and(bits: u32) -> sock_filter {
    step(libc::BPF_ALU | libc::BPF_AND | libc::BPF_K, bits, 0, 0)
}

fn step(code: u32, k: u32, jt: u8, jf: u8) -> sock_filter {
    sock_filter { code: code as u16, jt, jf, k }
}
