//! Allocating, writing, publishing, protecting and freeing, under each policy, with small and large pages.

mod support;

use execmem_core::{Error, Protection};
use support::System;

const CODE: [u8; 6] = [0xb8, 42, 0, 0, 0, 0xc3];
const OTHER: [u8; 6] = [0xb8, 43, 0, 0, 0, 0xc3];

#[test]
fn code_that_was_written_and_flushed_is_what_every_core_executes() {
    System::each(|system| {
        let address = system.runtime.alloc_exec(100).unwrap();
        assert_eq!(system.runtime.protection_at(address as i64), Ok(Some(system.code())));
        system.publish(address, &CODE);
        assert_eq!(system.read(address, CODE.len()), Ok(CODE.to_vec()));
        assert_eq!(system.fake.executed(address, CODE.len()), CODE);
        assert_eq!(system.fake.executed_elsewhere(address, CODE.len()), CODE);
        system.publish(address, &OTHER);
        assert_eq!(system.fake.executed(address, OTHER.len()), OTHER);
        assert_eq!(system.fake.executed_elsewhere(address, OTHER.len()), OTHER);
        system.runtime.free_exec(address as i64, 100).unwrap();
        assert_eq!(system.mapped(), []);
    });
}

#[test]
fn a_write_that_is_not_flushed_is_not_executed() {
    // Proves that the platform can see a flush that is missing.
    System::each(|system| {
        let address = system.runtime.alloc_exec(100).unwrap();
        system.publish(address, &CODE);
        system.write(address, &OTHER).unwrap();
        assert_eq!(system.fake.executed(address, CODE.len()), CODE);
    });
}

#[test]
fn data_that_was_made_executable_needs_no_flush() {
    System::each(|system| {
        let address = system.runtime.alloc_rw(100).unwrap();
        assert_eq!(system.runtime.protection_at(address as i64), Ok(Some(Protection::RW)));
        for code in [CODE, OTHER] {
            system.write(address, &code).unwrap();
            system.runtime.make_executable(address as i64, 100).unwrap();
            assert_eq!(system.runtime.protection_at(address as i64), Ok(Some(Protection::RX)));
            assert_eq!(system.read(address, code.len()), Ok(code.to_vec()));
            assert_eq!(system.fake.executed(address, code.len()), code);
            assert_eq!(system.fake.executed_elsewhere(address, code.len()), code);
            assert_eq!(system.write(address, &code), Err(Error::WrongProtection));
            system.runtime.make_writable(address as i64, 100).unwrap();
        }
        system.runtime.free_exec(address as i64, 100).unwrap();
        assert_eq!(system.mapped(), []);
    });
}
