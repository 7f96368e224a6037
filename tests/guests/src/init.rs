//! The first process of a guest, and all the userland that it has. It runs each program of the list that came with the
//! kernel, tells how each of them ended, and powers the machine off. `xtask` reads what it says: each line of its own
//! starts with `guest: `.

#[cfg(target_os = "linux")]
fn main() {
    assert_eq!(std::process::id(), 1, "this is the first process of a machine, and powers it off");
    let outcome = std::panic::catch_unwind(guest::run);
    // The host counts what it has read before this word, and misses it after a panic.
    if outcome.is_ok() {
        println!("guest: done");
    }
    guest::power_off();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    panic!("it starts as a Linux kernel's first process");
}

#[cfg(target_os = "linux")]
mod guest {
    use std::ffi::CString;
    use std::fs;
    use std::io::{Error, Write};
    use std::process::Command;

    /// What programs expect to find: a kind of file system, and where.
    const FILE_SYSTEMS: [(&str, &str); 7] = [
        ("proc", "/proc"),
        ("sysfs", "/sys"),
        ("selinuxfs", "/sys/fs/selinux"),
        ("cgroup2", "/sys/fs/cgroup"),
        ("devtmpfs", "/dev"),
        ("tmpfs", "/tmp"),
        ("tmpfs", "/dev/shm"),
    ];

    /// What SELinux denies (`selinux.cil`): nothing, but to processes that ask for it.
    const POLICY: &str = "/policy";

    /// A line for each program: a name to tell it by, settings of the environment as NAME=VALUE, its path, arguments.
    const PROGRAMS: &str = "/programs";

    pub fn run() {
        for (kind, place) in FILE_SYSTEMS {
            mount(kind, place);
        }
        load_policy();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").expect("a kernel has a name");
        // SAFETY: ask for numbers.
        let (page, processors) =
            unsafe { (libc::sysconf(libc::_SC_PAGESIZE), libc::sysconf(libc::_SC_NPROCESSORS_ONLN)) };
        println!("guest: system {} {page} {processors}", release.trim());
        for line in fs::read_to_string(PROGRAMS).expect("the list of programs").lines() {
            let (name, command) = line.split_once(' ').expect("a name and a program");
            println!("guest: begin {name}");
            println!("guest: end {name} {}", run_program(command));
        }
    }

    fn load_policy() {
        let policy = fs::read(POLICY).expect("a policy for SELinux");
        for (file, bytes) in [("load", &policy[..]), ("enforce", b"1")] {
            // The kernel takes each as one write.
            let mut file = fs::File::options().write(true).open(format!("/sys/fs/selinux/{file}"));
            let written = file.as_mut().map(|file| file.write(bytes));
            assert!(matches!(written, Ok(Ok(count)) if count == bytes.len()), "the policy: {written:?}");
        }
    }

    fn mount(kind: &str, place: &str) {
        fs::create_dir_all(place).unwrap_or_else(|error| panic!("{place}: {error}"));
        let [kind, target] = [kind, place].map(|word| CString::new(word).expect("no NUL in a constant"));
        // SAFETY: C strings, and no options.
        let result =
            unsafe { libc::mount(kind.as_ptr(), target.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
        // Some kernels mount /dev themselves.
        let error = Error::last_os_error();
        assert!(result == 0 || error.raw_os_error() == Some(libc::EBUSY), "mounting {place}: {error}");
    }

    fn run_program(line: &str) -> String {
        let mut words = line.split_whitespace().peekable();
        let mut settings = Vec::new();
        while let Some(setting) = words.next_if(|word| word.contains('=')) {
            settings.extend(setting.split_once('='));
        }
        let mut command = Command::new(words.next().expect("a program"));
        // Tests may do to this machine what they would not do to anybody's own.
        command.args(words).envs(settings).env("EXECMEM_TESTS_GUEST", "1").current_dir("/tmp");
        command.status().map_or_else(|error| error.to_string(), |status| status.to_string())
    }

    pub fn power_off() -> ! {
        // SAFETY: nothing is mounted that would have to be written back.
        unsafe { libc::reboot(libc::RB_POWER_OFF) };
        panic!("the machine can't be powered off: {}", Error::last_os_error());
    }
}
