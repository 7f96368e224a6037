//! Files: nothing that happens to one harms the process, and no descriptor stays open.

use crate::{Needs, Test};
use execmem_conformance::code::returning;
use execmem_conformance::memory::{RW, RX, page};
use execmem_conformance::symbols::*;
use execmem_core::abi::*;
use execmem_tests_linux::children::Outcome;
use execmem_tests_linux::confinement::{self, Condition, NO_PROCMAP_QUERY, Refusal};
use execmem_tests_linux::files;
use execmem_tests_linux::programs;
use execmem_tests_linux::system::foreign_function;
use std::io::{Read, Seek, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

pub const TESTS: &[Test] = &[
    Test {
        name: "files: no operation leaves a descriptor open, but for one of the kernel's list of mappings",
        needs: Needs::Nothing,
        run: no_leaks,
    },
    Test {
        name: "files: nor one where the kernel has no PROCMAP_QUERY",
        needs: Needs::Kernel,
        run: || {
            confinement::refuse(&[NO_PROCMAP_QUERY]).expect("a filter");
            no_leaks()
        },
    },
    Test {
        name: "files: what the library has open is closed when another program is started",
        needs: Needs::Kernel,
        run: close_on_exec,
    },
    Test {
        name: "files: a program that is running can't be mapped for shared writing: refused",
        needs: Needs::Kernel,
        run: running_program,
    },
    Test {
        name: "files: devices, sockets and links to them are no regular files, and nothing waits for them",
        needs: Needs::Nothing,
        run: odd_files,
    },
    Test {
        name: "files: descriptors of pipes, sockets and devices are no files; those of memory and of what was removed are",
        needs: Needs::Nothing,
        run: odd_descriptors,
    },
    Test {
        name: "files: bits above the bool of rt_msync don't make it asynchronous",
        needs: Needs::Kernel,
        run: wide_bool,
    },
    Test {
        name: "files: a mapping outlives its file's name and descriptor",
        needs: Needs::Nothing,
        run: unlinked,
    },
    Test {
        name: "files: a write through a private mapping of a file that shrank fails; the process lives",
        needs: Needs::Kernel,
        run: shrunk_write,
    },
];

fn descriptors() -> Vec<PathBuf> {
    let entries = std::fs::read_dir("/proc/self/fd").expect("the kernel tells the open files");
    // The directory's own descriptor is gone when its link is read.
    entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok()).collect()
}

/// Descriptors that were not open before.
fn opened_since(before: &[PathBuf]) -> Vec<PathBuf> {
    let mut now = descriptors();
    for known in before {
        if let Some(place) = now.iter().position(|path| path == known) {
            now.swap_remove(place);
        }
    }
    now.retain(|path| !path.ends_with("fd"));
    now
}

fn no_leaks() -> Outcome {
    // The policy whose allocations may need a file.
    assert!(rt_exec_memory_set_policy(RT_POLICY_DUAL));
    let before = descriptors();
    let path = files::file(b"some bytes");
    for _ in 0..50 {
        let code = rt_alloc_exec_memory(4096);
        let data = rt_alloc_rw_memory(4096);
        assert!(code > 0 && data > 0);
        assert!(rt_make_executable(data, 4096) && rt_make_writable(code, 4096));
        let mapping = map_file(Some(path), RW, RT_MAP_SHARED, 0, 0);
        assert_eq!(mapping.size, 10);
        for bad in [files::directory(), files::missing(), files::fifo(), files::file(b"")] {
            assert_eq!(map_file(Some(bad), RW, RT_MAP_SHARED, 0, 0), RtMapping::NONE);
            file_size(Some(bad));
        }
        assert_eq!(map_file(Some(path), RW, RT_MAP_SHARED, 0, 99), RtMapping::NONE);
        assert!(rt_is_executable(foreign_function()));
        assert!(rt_munmap(mapping.address, 10));
        assert!(rt_free_exec_memory(code, 4096) && rt_free_exec_memory(data, 4096));
    }
    let open = opened_since(&before);
    assert!(open.len() <= 1, "{open:?}");
    Outcome::Passed
}

fn close_on_exec() -> Outcome {
    assert!(rt_is_executable(foreign_function()));
    let code = rt_alloc_exec_memory(4096);
    assert!(code > 0);
    let listed = programs::open_files_command().output().expect("a program runs");
    let text = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(text.contains("->"), "{text}");
    assert!(!text.contains("/maps") && !text.contains("memfd"), "{text}");
    Outcome::Passed
}

fn running_program() -> Outcome {
    let own = c"/proc/self/exe";
    assert_eq!(map_file(Some(own), RW, RT_MAP_SHARED, 0, 0), RtMapping::NONE);
    assert_eq!(rt_last_error(), RT_ERROR_REFUSED);
    let mapping = map_file(Some(own), RX, RT_MAP_PRIVATE, 0, 0);
    assert_eq!(mapping.size, file_size(Some(own)));
    assert!(rt_munmap(mapping.address, mapping.size));
    Outcome::Passed
}

fn odd_files() -> Outcome {
    let socket = files::path_of(files::directory()).join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let link = files::path_of(files::directory()).join("link");
    std::os::unix::fs::symlink(files::path_of(files::fifo()), &link).expect("a link");
    let c_path = |path: &PathBuf| std::ffi::CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    for path in [c_path(&socket), c_path(&link), c"/dev/null".to_owned(), c"/dev/tty".to_owned()] {
        for (protection, flags) in [(RT_PROT_READ, RT_MAP_PRIVATE), (RW, RT_MAP_SHARED)] {
            assert_eq!(map_file(Some(&path), protection, flags, 0, 0), RtMapping::NONE, "{path:?}");
            assert_eq!(rt_last_error(), RT_ERROR_NOT_REGULAR_FILE, "{path:?}");
        }
        assert_eq!(file_size(Some(&path)), -1);
        assert_eq!(rt_last_error(), RT_ERROR_NOT_REGULAR_FILE, "{path:?}");
    }
    // A path through something that is no directory, and a link to itself.
    let circle = files::path_of(files::directory()).join("circle");
    std::os::unix::fs::symlink(&circle, &circle).expect("a link");
    let through =
        std::ffi::CString::new([files::file(b"x").to_bytes(), b"/inside"].concat()).expect("no NUL");
    let long = std::ffi::CString::new(vec![b'n'; 5000]).expect("no NUL");
    for path in [c_path(&circle), through, long] {
        assert_eq!(map_file(Some(&path), RT_PROT_READ, RT_MAP_PRIVATE, 0, 0), RtMapping::NONE);
        assert_eq!(rt_last_error(), RT_ERROR_NOT_FOUND, "{path:?}");
    }
    Outcome::Passed
}

fn odd_descriptors() -> Outcome {
    let map = |file: &dyn AsRawFd, protection: i32, flags: i32| {
        rt_mmap_fd(file.as_raw_fd().into(), protection.into(), flags.into(), 0, 0)
    };
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let (socket, _other) = std::os::unix::net::UnixStream::pair().expect("sockets");
    let device = std::fs::File::open("/dev/null").expect("a device");
    let odd: [&dyn AsRawFd; 4] = [&reader, &writer, &socket, &device];
    for file in odd {
        assert_eq!(map(file, RT_PROT_READ, RT_MAP_PRIVATE), 0);
        assert_eq!(rt_last_error(), RT_ERROR_NOT_REGULAR_FILE);
    }
    // SAFETY: a C string; the descriptor is this test's own.
    let nothing = unsafe { OwnedFd::from_raw_fd(libc::open(files::file(b"x").as_ptr(), libc::O_PATH)) };
    assert_eq!((map(&nothing, RT_PROT_READ, RT_MAP_PRIVATE), rt_last_error()), (0, RT_ERROR_REFUSED));
    // Nothing is read or closed on the way: what is written still arrives.
    (&writer).write_all(b"!").expect("the pipe is open");
    let mut byte = [0];
    (&reader).read_exact(&mut byte).expect("the pipe is open");
    assert_eq!(&byte, b"!");

    let path = files::path_of(files::file(b"first"));
    let mut file = std::fs::File::options().read(true).write(true).open(path).expect("the file is there");
    std::fs::remove_file(path).expect("the file is there");
    file.seek(std::io::SeekFrom::Start(3)).expect("an offset");
    let address = map(&file, RW, RT_MAP_SHARED);
    assert_eq!(write_bytes(address, b"second", 0), -1);
    assert_eq!(write_bytes(address, b"F", 0), 1);
    // Its offset is where it was.
    file.write_all(b"ST").expect("the file is open");
    let mut text = [0; 5];
    assert_eq!(read_into(address, 0, &mut text), 5);
    assert_eq!(&text, b"FirST");
    assert!(rt_munmap(address, rt_mapping_size(address)));

    // SAFETY: a new descriptor, which `File` closes.
    let memory = unsafe { std::fs::File::from_raw_fd(libc::memfd_create(c"memory".as_ptr(), 0)) };
    (&memory).write_all(&returning(42)).expect("memory");
    let address = map(&memory, RX, RT_MAP_SHARED);
    drop(memory);
    assert_eq!(call(address, &[]), 42);
    assert!(rt_munmap(address, 8));
    Outcome::Passed
}

fn unlinked() -> Outcome {
    let path = files::file(&returning(42));
    let mapping = map_file(Some(path), RX, RT_MAP_PRIVATE, 0, 0);
    std::fs::remove_file(files::path_of(path)).expect("the file is there");
    assert_eq!(call(mapping.address, &[]), 42);
    assert_eq!(file_size(Some(path)), -1);
    assert!(rt_munmap(mapping.address, mapping.size));
    Outcome::Passed
}

fn wide_bool() -> Outcome {
    let condition = Condition::HasBits(2, libc::MS_ASYNC as u32);
    confinement::refuse(&[Refusal { call: libc::SYS_msync, condition, error: libc::EPERM }])
        .expect("a filter");
    let mapping = map_file(Some(files::file(b"synced")), RW, RT_MAP_SHARED, 0, 0);
    for upper in [0, 1, -1, 0x0012_3456_789a_bcde] {
        let sync = |low: i64| call_by_name(c"rt_msync", [mapping.address, 1, upper << 8 | low, 0, 0, 0]);
        assert_eq!((sync(0), sync(1)), (1, 0), "{upper:#x}");
        assert_eq!(rt_last_error(), RT_ERROR_REFUSED);
    }
    Outcome::Passed
}

fn shrunk_write() -> Outcome {
    let page = page();
    for flags in [RT_MAP_PRIVATE, RT_MAP_SHARED] {
        let path = files::file(&vec![b'x'; 2 * page as usize]);
        let mapping = map_file(Some(path), RW, flags, 0, 0);
        files::shrink(path, 100);
        assert_eq!(write_bytes(mapping.address, b"text", 0), 4);
        assert_eq!(write_bytes(mapping.address, b"text", page), -1);
        assert_eq!(rt_last_error(), RT_ERROR_IO);
        assert_eq!(write_bytes(mapping.address, b"text", page - 2), -1);
        assert_eq!(read_into(mapping.address, page - 2, &mut [0; 2]), 2);
        assert!(rt_munmap(mapping.address, mapping.size));
    }
    Outcome::Passed
}
