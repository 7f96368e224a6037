//! Hosts that lock a process down: what containers, service managers and administrators set, set by a process for
//! itself. Each says what becomes of the library there.

use crate::children::{self, Outcome};
use crate::confinement::{self, Condition, NO_NEW_CODE, NO_WRITABLE_CODE, Refusal};
use crate::limits::leave_no_descriptor;
use crate::selinux;
use crate::system::{has_keys, is_emulated, is_guest, looks_for_pads};
use execmem_conformance::{World, code, symbols};
use execmem_core::abi::*;
use std::ffi::CStr;
use std::fs;
use std::io::Error;

/// Runs a test where it is locked down. The reason, if this machine can't do that.
pub type Enter = fn(&dyn Fn() -> Outcome) -> Outcome;

/// A host.
pub struct Host {
    /// What it is called in the tests' names.
    pub name: &'static str,
    /// Goes there.
    pub enter: Enter,
    /// Which machines need not be able to do that.
    pub needs: Needs,
    /// What the rules must do without.
    pub lacks: &'static [&'static str],
    /// What `auto` becomes.
    pub policy: i32,
    /// The dump's first line, behind `execmem: executable memory, `.
    pub dump: &'static str,
}

const NO_DESCRIPTOR: &str = "no descriptor is left";
const NO_MEMORY_FILES: &str = "there are no memory files";
const NO_LIST: &str = "the kernel's list of the process can't be read";
/// What guards see to.
const NEIGHBOURS: &str = "this system leaves room between the regions that it places";
const NO_EXEC_GAIN: &str = "the kernel gives no mapping EXEC that had none";

/// What it takes to lock a process down.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// Any Linux, emulated too.
    Nothing,
    /// A kernel of its own.
    Kernel,
    /// Such a kernel, no older than this.
    Since(u32, u32),
    /// The right to make namespaces as well, which a guest of our own has.
    Rights(u32, u32),
    /// A processor with protection keys, and a kernel that gives them.
    Keys,
    /// A processor that looks for landing pads, emulated too.
    LandingPads,
    /// A kernel that was told so when it started, as our guests are.
    Guest,
}

impl Host {
    /// One that refuses nothing.
    pub const fn free(name: &'static str, policy: i32, dump: &'static str) -> Self {
        Self { name, enter: |test| test(), needs: Needs::Nothing, lacks: &[], policy, dump }
    }

    /// Tells the rules what they must do without.
    pub fn describe(&self, world: &mut World) {
        for lack in self.lacks {
            match *lack {
                NO_DESCRIPTOR => {
                    world.file = Err(lack);
                    world.file_with_odd_name = Err(lack);
                    world.missing_file = Err(lack);
                    world.directory = Err(lack);
                    world.fifo = Err(lack);
                    world.descriptors = Err(lack);
                    world.two_views = Err(lack);
                }
                NO_MEMORY_FILES => world.two_views = Err(lack),
                NEIGHBOURS => {}
                NO_LIST => {
                    world.tells_foreign = false;
                    world.has_writable_code = Err(lack);
                }
                _ => world.mappings_gain_exec = Err(lack),
            }
        }
    }

    /// Why a process can't be locked down here. Elsewhere each test tells that it could not run.
    pub fn obstacle(&self) -> Option<String> {
        if self.needs == Needs::Nothing {
            return None;
        }
        if is_emulated() && self.needs != Needs::LandingPads {
            return Some("qemu's user mode has no kernel of its own".to_owned());
        }
        let Outcome::NotApplicable(reason) = children::run(|| (self.enter)(&|| Outcome::Passed)) else {
            return None;
        };
        let is_excused = match self.needs {
            Needs::Nothing | Needs::Kernel => false,
            Needs::Since(major, minor) => release() < (major, minor),
            Needs::Rights(major, minor) => release() < (major, minor) || !is_guest(),
            Needs::Keys => !has_keys(),
            Needs::LandingPads => !looks_for_pads(),
            Needs::Guest => !is_guest(),
        };
        is_excused.then_some(reason)
    }
}

/// The kernel's version, its first two numbers.
fn release() -> (u32, u32) {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a kernel has a name");
    let mut numbers =
        text.split(|letter: char| !letter.is_ascii_digit()).map_while(|number| number.parse().ok());
    (numbers.next().expect("a number"), numbers.next().expect("a second one"))
}

const fn host(name: &'static str, enter: Enter, policy: i32, dump: &'static str) -> Host {
    Host { name, enter, needs: Needs::Kernel, lacks: &[], policy, dump }
}

/// Where `auto` is `dual`, since pages may not be writable and executable.
const fn dual(name: &'static str, enter: Enter) -> Host {
    let host = host(name, enter, RT_POLICY_DUAL, "policy dual, no rwx, no jit");
    Host { lacks: &[NO_EXEC_GAIN], ..host }
}

/// Where `auto` is what it is anywhere, and the program has hardened itself.
const fn hardened(name: &'static str, enter: Enter, policy: i32, dump: &'static str) -> Host {
    Host { enter, lacks: &[NEIGHBOURS], ..Host::free(name, policy, dump) }
}

/// Where all code must begin with landing pads.
const fn guarded(name: &'static str, policy: i32, dump: &'static str) -> Host {
    let enter = |test: &dyn Fn() -> Outcome| harden(RT_HARDEN_BTI, test);
    Host { enter, needs: Needs::LandingPads, ..Host::free(name, policy, dump) }
}

/// Where it is `rwx`.
const fn rwx(name: &'static str, enter: Enter) -> Host {
    host(name, enter, RT_POLICY_RWX, "policy rwx")
}

/// Where each wish for a policy is granted.
pub const FREE: [(i32, Host); 10] = [
    (RT_POLICY_AUTO, Host::free("auto", RT_POLICY_RWX, "policy rwx")),
    (RT_POLICY_RWX, Host::free("rwx", RT_POLICY_RWX, "policy rwx")),
    (RT_POLICY_DUAL, Host::free("dual", RT_POLICY_DUAL, "policy dual")),
    (RT_POLICY_TOGGLE, Host::free("toggle", RT_POLICY_TOGGLE, "policy toggle")),
    (RT_POLICY_AUTO, hardened("auto, with guards", |test| harden(GUARDS, test), RT_POLICY_RWX, "policy rwx")),
    (
        RT_POLICY_DUAL,
        hardened("dual, with guards", |test| harden(GUARDS, test), RT_POLICY_DUAL, "policy dual"),
    ),
    (
        RT_POLICY_DUAL,
        Host {
            needs: Needs::Keys,
            ..hardened("dual, with guards and keys", |test| harden(ALL, test), RT_POLICY_DUAL, "policy dual")
        },
    ),
    (RT_POLICY_AUTO, guarded("auto, with landing pads", RT_POLICY_RWX, "policy rwx")),
    (RT_POLICY_DUAL, guarded("dual, with landing pads", RT_POLICY_DUAL, "policy dual")),
    (RT_POLICY_TOGGLE, guarded("toggle, with landing pads", RT_POLICY_TOGGLE, "policy toggle")),
];

const GUARDS: i32 = RT_HARDEN_GUARDS;
const ALL: i32 = RT_HARDEN_GUARDS | RT_HARDEN_KEYS;

/// All that lock a process down.
pub const HOSTS: [Host; 16] = [
    Host {
        lacks: &[],
        ..dual("no page W and X", |test| under(confinement::refuse(&NO_WRITABLE_CODE), test))
    },
    dual("mprotect refuses EXEC", |test| under(confinement::refuse(&NO_NEW_CODE), test)),
    Host {
        lacks: &[NO_EXEC_GAIN, NEIGHBOURS],
        ..dual("mprotect refuses EXEC, with guards", |test| {
            under(confinement::refuse(&NO_NEW_CODE), &|| harden(GUARDS, test))
        })
    },
    Host {
        needs: Needs::Keys,
        lacks: &[NO_EXEC_GAIN, NEIGHBOURS],
        ..dual("mprotect refuses EXEC, with guards and keys", |test| {
            under(confinement::refuse(&NO_NEW_CODE), &|| harden(ALL, test))
        })
    },
    dual("systemd's MemoryDenyWriteExecute=", |test| under(confinement::refuse(&SYSTEMD), test)),
    Host {
        lacks: &[NO_EXEC_GAIN, NO_MEMORY_FILES],
        ..dual("systemd's MemoryDenyWriteExecute= and SystemCallFilter=~memfd_create", |test| {
            under(confinement::refuse(&[&SYSTEMD[..], &[NO_MEMORY_FILE]].concat()), test)
        })
    },
    Host {
        needs: Needs::Since(6, 3),
        ..dual("PR_SET_MDWE", |test| under(confinement::refuse_exec_gain(), test))
    },
    Host {
        needs: Needs::Since(6, 3),
        lacks: &[NO_EXEC_GAIN, NO_MEMORY_FILES],
        ..dual("PR_SET_MDWE and SystemCallFilter=~memfd_create", |test| {
            let filter = confinement::refuse(&[NO_MEMORY_FILE]);
            under(filter.and_then(|()| confinement::refuse_exec_gain()), test)
        })
    },
    rwx("Docker's default seccomp profile", |test| under(docker(), test)),
    rwx("Docker's default seccomp profile, without ptrace", |test| {
        under(docker().and_then(|()| confinement::refuse(&NO_PTRACE)), test)
    }),
    Host {
        needs: Needs::Rights(6, 3),
        ..rwx("vm.memfd_noexec=1", |test| no_executable_memory_file("1", test))
    },
    Host {
        needs: Needs::Rights(6, 3),
        ..rwx("vm.memfd_noexec=2", |test| no_executable_memory_file("2", test))
    },
    Host {
        needs: Needs::Rights(6, 3),
        ..dual("vm.memfd_noexec=2 and PR_SET_MDWE", |test| {
            no_executable_memory_file("2", &|| under(confinement::refuse_exec_gain(), test))
        })
    },
    Host { lacks: &[NO_DESCRIPTOR, NO_LIST], ..rwx("no descriptor left", no_more_descriptors) },
    Host { needs: Needs::Rights(4, 17), lacks: &[NO_LIST], ..rwx("/proc not mounted", without_proc) },
    Host {
        needs: Needs::Guest,
        ..dual("SELinux that denies execmem and execmod", |test| under(selinux::deny_execmem(), test))
    },
];

fn harden(wishes: i32, test: &dyn Fn() -> Outcome) -> Outcome {
    if wishes & RT_HARDEN_BTI != 0 {
        code::begin_with_landing_pads();
    }
    match symbols::rt_set_hardening(wishes) {
        true => test(),
        false => Outcome::NotApplicable(format!("no hardening: error {}", symbols::rt_last_error())),
    }
}

fn under(confined: Result<(), String>, test: &dyn Fn() -> Outcome) -> Outcome {
    match confined {
        Ok(()) => test(),
        Err(reason) => Outcome::NotApplicable(reason),
    }
}

/// What systemd's filter refuses (src/shared/seccomp-util.c, `seccomp_memory_deny_write_execute`), where it has no
/// PR_SET_MDWE or a unit asks for an older one.
const SYSTEMD: [Refusal; 4] = {
    const WRITE_AND_EXEC: u32 = 6;
    const EXEC: u32 = 4;
    const SHM_EXEC: u32 = 0o100000;
    const fn refuse(call: i64, bits: u32) -> Refusal {
        Refusal { call, condition: Condition::HasBits(2, bits), error: libc::EPERM }
    }
    [
        refuse(libc::SYS_mmap, WRITE_AND_EXEC),
        refuse(libc::SYS_mprotect, EXEC),
        refuse(libc::SYS_pkey_mprotect, EXEC),
        refuse(libc::SYS_shmat, SHM_EXEC),
    ]
};

/// systemd.exec(5) advises this besides.
const NO_MEMORY_FILE: Refusal = refused(libc::SYS_memfd_create);

const fn refused(call: i64) -> Refusal {
    Refusal { call, condition: Condition::Any, error: libc::EPERM }
}

/// Docker's default profile (moby, profiles/seccomp/default.json) as a process without capabilities gets it: all that
/// it does not allow, of the calls that the kernel has on each of our architectures; but for two calls of whose arguments
/// it allows some (`socket`, `personality`).
fn docker() -> Result<(), String> {
    const NAMESPACES: u32 = 0x7e02_0000;
    /// From here on the profile knows none, and the container's runtime says that the kernel doesn't either.
    const NEWER: u32 = 450;
    let calls = [
        libc::SYS_acct,
        libc::SYS_add_key,
        libc::SYS_bpf,
        libc::SYS_chroot,
        libc::SYS_clock_settime,
        libc::SYS_delete_module,
        libc::SYS_fanotify_init,
        libc::SYS_finit_module,
        libc::SYS_fsconfig,
        libc::SYS_fsmount,
        libc::SYS_fsopen,
        libc::SYS_fspick,
        libc::SYS_get_mempolicy,
        libc::SYS_init_module,
        libc::SYS_io_uring_enter,
        libc::SYS_io_uring_register,
        libc::SYS_io_uring_setup,
        libc::SYS_kcmp,
        libc::SYS_kexec_load,
        libc::SYS_keyctl,
        libc::SYS_mbind,
        libc::SYS_migrate_pages,
        libc::SYS_mount,
        libc::SYS_mount_setattr,
        libc::SYS_move_mount,
        libc::SYS_move_pages,
        libc::SYS_open_by_handle_at,
        libc::SYS_open_tree,
        libc::SYS_perf_event_open,
        libc::SYS_pidfd_getfd,
        libc::SYS_pivot_root,
        libc::SYS_process_madvise,
        libc::SYS_quotactl,
        libc::SYS_quotactl_fd,
        libc::SYS_reboot,
        libc::SYS_request_key,
        libc::SYS_set_mempolicy,
        libc::SYS_setdomainname,
        libc::SYS_sethostname,
        libc::SYS_setns,
        libc::SYS_settimeofday,
        libc::SYS_swapoff,
        libc::SYS_swapon,
        libc::SYS_syslog,
        libc::SYS_umount2,
        libc::SYS_unshare,
        libc::SYS_userfaultfd,
        libc::SYS_vhangup,
    ];
    let with_namespaces = Condition::HasAnyOf(0, NAMESPACES);
    let mut refusals = vec![
        Refusal { call: libc::SYS_clone, condition: with_namespaces, error: libc::EPERM },
        Refusal { call: libc::SYS_clone3, condition: Condition::Any, error: libc::ENOSYS },
    ];
    refusals.extend(calls.map(refused));
    confinement::refuse(&refusals)?;
    confinement::refuse_newer(NEWER)
}

/// As the profile did while these needed a capability, and still does before Linux 4.8.
const NO_PTRACE: [Refusal; 3] =
    [refused(libc::SYS_ptrace), refused(libc::SYS_process_vm_readv), refused(libc::SYS_process_vm_writev)];

/// The setting belongs to a namespace of processes: this process makes one, and its child is in it.
fn no_executable_memory_file(level: &'static str, test: &dyn Fn() -> Outcome) -> Outcome {
    // SAFETY: only changes what this process's children are.
    if unsafe { libc::unshare(libc::CLONE_NEWPID) } != 0 {
        return Outcome::NotApplicable(format!("no namespace of processes: {}", Error::last_os_error()));
    }
    children::run(|| {
        if let Err(error) = fs::write("/proc/sys/vm/memfd_noexec", level) {
            return Outcome::NotApplicable(format!("vm.memfd_noexec can't be set: {error}"));
        }
        let set = fs::read_to_string("/proc/sys/vm/memfd_noexec").expect("what was written");
        assert_eq!(set.trim(), level);
        // A namespace's first process gets no signals, that of a hang neither.
        children::run(test)
    })
}

fn no_more_descriptors(test: &dyn Fn() -> Outcome) -> Outcome {
    leave_no_descriptor();
    let file = fs::File::open("/dev/null");
    assert!(file.is_err_and(|error| error.raw_os_error() == Some(libc::EMFILE)), "none is left");
    test()
}

/// In a namespace of mounts: what lies in its place is empty. Whoever isn't root is so in a namespace of users.
fn without_proc(test: &dyn Fn() -> Outcome) -> Outcome {
    let mount = |kind: &CStr, place: &CStr, flags| {
        let nothing = std::ptr::null();
        // SAFETY: C strings, and no options.
        unsafe { libc::mount(kind.as_ptr(), place.as_ptr(), kind.as_ptr(), flags, nothing) == 0 }
    };
    // SAFETY: changes what this process sees of file systems, and who it is there.
    let is_apart = unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0 || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) == 0
    };
    // Else the mount would be seen by all.
    if !(is_apart && mount(c"none", c"/", libc::MS_REC | libc::MS_PRIVATE)) {
        return Outcome::NotApplicable(format!("no namespace of mounts: {}", Error::last_os_error()));
    }
    if !mount(c"tmpfs", c"/proc", libc::MS_RDONLY) {
        return Outcome::NotApplicable(format!("nothing can be mounted: {}", Error::last_os_error()));
    }
    assert!(!fs::exists("/proc/self").expect("there is a folder"), "nothing is there");
    test()
}
