//! The smallest, the largest and the strangest numbers, to every method: an answer, and never a panic.

mod support;

use core::ptr;
use execmem_core::MapRequest;
use execmem_core::{Advice, Error, MapFlags, Protection};
use support::System;

const PROTECTIONS: [Protection; 4] = [Protection::NONE, Protection::RW, Protection::EXEC, Protection::RWX];

#[test]
fn extreme_numbers_fail_and_change_nothing() {
    System::each(|system| {
        system.fake.add_file(c"file", &[1; 100]);
        system.fake.add_sparse_file(c"endless", i64::MAX as u64);
        let code = system.runtime.alloc_exec(100).unwrap() as i64;
        let page = system.page as i64;
        let numbers = [
            i64::MIN,
            i64::MIN + 1,
            -page,
            -1,
            0,
            1,
            page,
            i32::MAX as i64,
            1 << 47,
            (1 << 48) - page,
            1 << 48,
            1 << 52,
            i64::MAX - page,
            i64::MAX - 1,
            i64::MAX,
        ];
        let numbers = || numbers.into_iter().step_by(if cfg!(miri) { 4 } else { 1 });
        let before = system.moment();
        let runtime = &system.runtime;
        let mut target = [0; 1];
        for first in numbers() {
            for second in numbers() {
                assert!(runtime.free_exec(first, second).is_err());
                assert!(runtime.unmap(first, second).is_err());
                assert!(runtime.free_exec(code, second).is_err() || second == page);
                assert!(runtime.unmap(code, second).is_err());
                assert!(runtime.flush_icache(first, second).is_err());
                assert!(runtime.sync(first, second, true).is_err());
                assert!(runtime.lock(first, second).is_err());
                assert!(runtime.unlock(first, second).is_err());
                assert!(runtime.advise(first, second, Advice::DontNeed).is_err());
                for protection in PROTECTIONS {
                    assert!(runtime.set_protection(first, second, protection).is_err());
                }
                for address in [first, code] {
                    for third in numbers() {
                        assert!(runtime.read_string(address, second, third).is_err() || address == code);
                        if second == 0 && (0..=100).contains(&third) || third == 0 {
                            continue;
                        }
                        assert!(runtime.read_bytes(address, second, third).is_err() || address == code);
                        if address == code && second == 1 && third == 1 {
                            continue;
                        }
                        // SAFETY: refused before a byte is touched.
                        unsafe {
                            assert!(runtime.write(address, target.as_ptr(), third, second).is_err());
                            assert!(runtime.read_into(address, second, target.as_mut_ptr(), third).is_err());
                        }
                    }
                }
                let flags = MapFlags::PRIVATE;
                let request = MapRequest {
                    path: Some(c"endless"),
                    protection: Protection::READ,
                    flags,
                    offset: first,
                    length: second,
                };
                if let Ok((address, size)) = runtime.map_file(request) {
                    runtime.unmap(address as i64, size as i64).unwrap();
                }
                if let Ok(address) = runtime.alloc_exec_near(first, second, i64::MAX) {
                    runtime.free_exec(address as i64, first).unwrap();
                }
                if let Ok(address) = runtime.alloc_exec_near(1, first, second) {
                    runtime.free_exec(address as i64, 1).unwrap();
                }
            }
            assert!(runtime.protection_at(first).is_ok() == (first > 0));
            assert_eq!(runtime.is_executable(first), Ok(false));
            // SAFETY: nothing there is executable.
            unsafe {
                assert_eq!(runtime.call(first, &[]), Err(Error::NotExecutable));
                assert_eq!(runtime.write(code, ptr::null(), first.max(1), 0), Err(Error::InvalidArgument));
                assert_eq!(
                    runtime.read_into(code, 0, ptr::null_mut(), first.max(1)),
                    Err(Error::InvalidArgument)
                );
            }
            for limit in [usize::MAX, i64::MAX as usize, 1, 0] {
                runtime.set_limit(limit);
                for address in [runtime.alloc_exec(first), runtime.alloc_rw(first)].into_iter().flatten() {
                    runtime.free_exec(address as i64, first).unwrap();
                }
            }
        }
        if system.runtime.region_count() == 0 {
            // One of the numbers was the size of the code, rounded up to pages.
            return;
        }
        assert_eq!(before.differences(&system.moment()).next(), None);
    });
}

#[test]
fn a_single_allocation_over_the_limit_fails_at_once() {
    System::each(|system| {
        let maps = system.fake.count(execmem_fake::Call::Map);
        assert_eq!(system.runtime.alloc_exec(1 << 40), Err(Error::OverLimit));
        assert_eq!(system.runtime.alloc_rw(1 << 40), Err(Error::OverLimit));
        assert_eq!(system.fake.count(execmem_fake::Call::Map), maps);
        system.runtime.set_limit(100);
        assert_eq!(system.runtime.alloc_exec(101), Err(Error::OverLimit));
        assert!(system.runtime.alloc_exec(100).is_ok());
    });
}
