//! The owners of the facade: what they hold is there while they live, and gone afterwards.

use execmem::{CodeMemory, Error, Function, MappedFile, runtime};
use std::ffi::CString;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time: what one has freed another would get.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A function that returns its argument and `number`.
fn adds(number: u8) -> Vec<u8> {
    if cfg!(target_arch = "x86_64") {
        vec![0x48, 0x8d, 0x47, number, 0xc3] // lea rax, [rdi + number]; ret
    } else {
        let add = 0x9100_0000u32 | u32::from(number) << 10; // add x0, x0, #number
        [add, 0xd65f_03c0].map(u32::to_le_bytes).concat()
    }
}

#[test]
fn a_function_lives_as_long_as_its_owner() {
    let _alone = alone();
    let function = Function::new(&adds(1)).unwrap();
    let other = Function::new(&adds(2)).unwrap();
    let address = function.address();
    assert_eq!((address % 64, function.len()), (0, adds(1).len()));
    // SAFETY: both take one argument.
    unsafe {
        assert_eq!(function.call(&[41]), Ok(42));
        assert_eq!(other.call(&[41]), Ok(43));
    }
    drop(function);
    assert_eq!(runtime().find_block(address as i64), None);
    assert_eq!(runtime().is_executable(other.address() as i64), Ok(true));
}

#[test]
fn a_function_near_a_target_is_near() {
    let _alone = alone();
    let target = Function::new(&adds(1)).unwrap();
    let near = Function::near(&adds(3), target.address(), 64 << 20).unwrap();
    assert!(near.address().abs_diff(target.address()) + near.len() <= 64 << 20);
    // SAFETY: it takes one argument.
    assert_eq!(unsafe { near.call(&[1]) }, Ok(4));
    assert_eq!(Function::near(&adds(3), 0, 1).err(), Some(Error::InvalidArgument));
}

#[test]
fn a_function_is_patched_in_place() {
    let _alone = alone();
    let mut code = adds(1);
    code.resize(16, 0);
    let function = Function::new(&code).unwrap();
    let mut other = adds(5);
    other.resize(8, 0);
    function.patch(0, u64::from_ne_bytes(other.try_into().unwrap())).unwrap();
    // SAFETY: it takes one argument.
    assert_eq!(unsafe { function.call(&[1]) }, Ok(6));
    assert_eq!(function.patch(16, 0), Err(Error::NotOwned));
    assert_eq!(function.patch(4, 0), Err(Error::InvalidArgument));
    assert_eq!(Function::new(&[]).err(), Some(Error::InvalidArgument));
}

#[test]
fn code_memory_lives_as_long_as_its_owner() {
    let _alone = alone();
    let memory = CodeMemory::new(100).unwrap();
    memory.write(8, &adds(7)).unwrap();
    memory.make_executable().unwrap();
    // SAFETY: there is a function of one argument.
    assert_eq!(unsafe { memory.call(8, &[1]) }, Ok(8));
    // SAFETY: nothing is called.
    assert_eq!(unsafe { memory.call(100, &[]) }, Err(Error::InvalidArgument));
    assert_eq!(memory.write(96, &[0; 5]), Err(Error::NotOwned));
    let address = memory.address() as i64;
    drop(memory);
    assert_eq!(runtime().is_executable(address), Ok(false));
}

#[test]
fn a_mapped_file_is_read() {
    let _alone = alone();
    let path = std::env::temp_dir().join(format!("execmem-owners-{}", std::process::id()));
    std::fs::File::create(&path).unwrap().write_all(b"some bytes").unwrap();
    let name = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let file = MappedFile::open(&name).unwrap();
    std::fs::remove_file(&path).unwrap();
    let mut bytes = [0; 5];
    file.read(5, &mut bytes).unwrap();
    assert_eq!((&bytes, file.len()), (b"bytes", 10));
    assert_eq!(file.read(6, &mut bytes), Err(Error::NotOwned));
    let address = file.address() as i64;
    drop(file);
    assert_eq!(runtime().unmap(address, 10), Err(Error::NotOwned));
    assert_eq!(MappedFile::open(&name).err(), Some(Error::NotFound));
}
