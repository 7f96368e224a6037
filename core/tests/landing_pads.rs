//! Pages that ask for landing pads: who can have them, and that they ask again after whatever passes over them.

mod support;

use execmem_core::{Error, Hardening, MapFlags, MapRequest, Policy, Protection};
use execmem_fake::{Call, Fake};
use support::{System, code_block, fork_as_child, fork_as_parent, write_block};

const GUARDED: Protection = Protection::RX.union(Protection::BTI);

/// On systems that have landing pads, under each policy whose pages can change.
fn each(test: impl Fn(&System)) {
    System::each(|system| {
        system.fake.switch(|switches| switches.hardening = Hardening::BTI);
        if system.policy != Policy::Jit {
            test(&system);
        }
        system.fake.verify();
    });
}

/// Three pages of code, of which the one in the middle asks for landing pads.
fn guarded(system: &System) -> usize {
    let size = 3 * system.page as i64;
    let code = system.runtime.alloc_exec(size).unwrap();
    system.publish(code, &[1; 10]);
    system.runtime.make_executable(code as i64, size).unwrap();
    system.runtime.set_protection((code + system.page) as i64, 1, GUARDED).unwrap();
    expect_guarded(system, code);
    code
}

fn expect_guarded(system: &System, code: usize) {
    for (page, expected) in [Protection::RX, GUARDED, Protection::RX].into_iter().enumerate() {
        let address = code + page * system.page;
        assert_eq!(system.fake.protection(address), Some(expected), "page {page}");
        assert_eq!(system.runtime.protection_at(address as i64), Ok(Some(expected)), "page {page}");
    }
}

#[test]
fn what_asks_for_landing_pads_can_be_executed() {
    let asks_for = |protection| MapRequest {
        path: None,
        protection,
        flags: MapFlags::PRIVATE | MapFlags::ANONYMOUS,
        offset: 0,
        length: 100,
    };
    each(|system| {
        let code = guarded(system) as i64;
        for without in [Protection::BTI, Protection::RW | Protection::BTI] {
            assert_eq!(system.runtime.set_protection(code, 1, without), Err(Error::InvalidArgument));
            assert_eq!(system.runtime.map_file(asks_for(without)), Err(Error::InvalidArgument));
        }
        let writable = system.runtime.set_protection(code, 1, Protection::RWX | Protection::BTI);
        assert_eq!(writable, if system.policy == Policy::Rwx { Ok(()) } else { Err(Error::Refused) });
        system.runtime.set_protection(code, 1, Protection::EXEC | Protection::BTI).unwrap();
        let (mapped, _) = system.runtime.map_file(asks_for(GUARDED)).unwrap();
        assert_eq!(system.fake.protection(mapped), Some(GUARDED));
        // By name, or by asking for the opposite, it goes.
        for plain in [Protection::RX, Protection::RW] {
            system.runtime.set_protection(mapped as i64, 1, GUARDED).unwrap();
            system.runtime.set_protection(mapped as i64, 1, plain).unwrap();
            assert_eq!(system.fake.protection(mapped), Some(plain));
        }
    });
}

#[test]
fn a_system_without_landing_pads_says_so_and_is_not_asked() {
    System::each(|system| {
        let code = system.runtime.alloc_exec(100).unwrap() as i64;
        let changes = system.fake.count(Call::Protect);
        for wanted in [GUARDED, Protection::BTI] {
            assert_eq!(system.runtime.set_protection(code, 100, wanted), Err(Error::Unsupported));
        }
        assert_eq!(system.fake.count(Call::Protect), changes);
        system.fake.verify();
    });
}

#[test]
fn they_ask_again_after_a_write() {
    each(|system| {
        // Under `rwx` these pages can't be written.
        if system.policy != Policy::Rwx {
            let code = guarded(system);
            let bytes = vec![7; 2 * system.page];
            assert_eq!(system.write(code + 1, &bytes), Ok(bytes.len()));
            expect_guarded(system, code);
        }
    });
}

#[test]
fn they_ask_again_after_a_change_that_failed() {
    each(|system| {
        let code = guarded(system);
        let count = system.fake.count(Call::Protect);
        for nth in 0..3 {
            system.fake.fail(Call::Protect, nth, Error::NoMemory);
            let changed =
                system.runtime.set_protection(code as i64, 3 * system.page as i64, Protection::READ);
            assert_eq!(changed, Err(Error::NoMemory));
            system.fake.clear_faults();
            expect_guarded(system, code);
        }
        assert!(system.fake.count(Call::Protect) > count);
    });
}

#[test]
fn they_ask_on_both_sides_of_a_fork_and_after_the_late_copy() {
    for fork in [fork_as_child, fork_as_parent] {
        each(|system| {
            let code = guarded(system);
            fork(system);
            expect_guarded(system, code);
            if system.policy != Policy::Rwx {
                assert_eq!(system.write(code, &[8; 100]), Ok(100));
                expect_guarded(system, code);
            }
        });
    }
}

#[test]
fn pages_that_regain_exec_from_another_view_ask_for_what_was_wanted() {
    // Nothing becomes executable that was not: memory of two views has a third one for that.
    let system = System::on(Fake::with_page_size(4096), Policy::Dual);
    system.fake.switch(|switches| switches.hardening = Hardening::BTI);
    let data = system.runtime.alloc_rw(3 * 4096).unwrap();
    let code = guarded(&system);
    system.runtime.make_writable(code as i64, 3 * 4096).unwrap();
    for address in [data, code] {
        for wanted in [GUARDED, Protection::RX, Protection::EXEC | Protection::BTI] {
            system.runtime.set_protection(address as i64, 3 * 4096, wanted).unwrap();
            assert_eq!(system.fake.protection(address + 4096), Some(wanted));
            system.runtime.make_writable(address as i64, 3 * 4096).unwrap();
        }
    }
    system.fake.verify();
}

/// With code that asks for landing pads wherever it lies.
fn each_hardened(test: impl Fn(&System)) {
    each(|system| {
        system.runtime.set_hardening(Hardening::BTI).unwrap();
        test(system);
    });
}

#[test]
fn code_of_a_hardened_process_asks_for_them_and_data_does_not() {
    each_hardened(|system| {
        let (runtime, page) = (&system.runtime, system.page as i64);
        let guarded = system.code() | Protection::BTI;
        let code = runtime.alloc_exec(page + 1).unwrap();
        let near = runtime.alloc_exec_near(page, code as i64, 1 << 30).unwrap();
        let block = runtime.code_heap().alloc(100).unwrap();
        for address in [code, code + system.page, near, block] {
            assert_eq!(system.fake.protection(address), Some(guarded));
            assert_eq!(runtime.protection_at(address as i64), Ok(Some(guarded)));
        }
        let data = runtime.alloc_rw(page).unwrap();
        assert_eq!(system.fake.protection(data), Some(Protection::RW));
        for address in [code, data] {
            runtime.make_executable(address as i64, 1).unwrap();
            assert_eq!(system.fake.protection(address), Some(GUARDED));
            // Who names a protection gets that one.
            runtime.set_protection(address as i64, 1, Protection::RX).unwrap();
            assert_eq!(system.fake.protection(address), Some(Protection::RX));
        }
        assert_eq!(runtime.statistics().hardening, i64::from(Hardening::BTI.bits()));
    });
}

#[test]
fn code_that_can_not_ask_for_them_is_not_given() {
    each_hardened(|system| {
        type Alloc = fn(&System) -> Result<usize, Error>;
        let allocs: [Alloc; 2] =
            [|system| system.runtime.alloc_exec(100), |system| system.runtime.code_heap().alloc(3 << 20)];
        for alloc in allocs {
            // So that the policy is tried out.
            alloc(system).unwrap();
            let before = (system.mapped(), system.runtime.statistics().mapped_bytes);
            system.fake.fail(Call::Protect, 0, Error::Refused);
            assert_eq!(alloc(system), Err(Error::Refused));
            assert_eq!((system.mapped(), system.runtime.statistics().mapped_bytes), before);
            alloc(system).unwrap();
        }
    });
}

#[test]
fn a_block_whose_pages_could_not_be_made_executable_again_asks_for_them_when_they_can() {
    let system = System::new(Policy::Toggle, 4096);
    system.fake.switch(|switches| switches.hardening = Hardening::BTI);
    system.runtime.set_hardening(Hardening::BTI).unwrap();
    let heap = system.runtime.code_heap();
    let block = code_block(&heap, &[1; 100]);
    system.fake.fail_from(1, Error::NoMemory);
    assert_eq!(write_block(&heap, block, &[2; 100]), Err(Error::NoMemory));
    system.fake.clear_faults();
    assert_eq!(system.fake.protection(block as usize), Some(Protection::RW));
    heap.publish(block, 100).unwrap();
    assert_eq!(system.fake.protection(block as usize), Some(GUARDED));
    assert_eq!(system.runtime.protection_at(block), Ok(Some(GUARDED)));
}
