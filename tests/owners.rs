//! The owners of memory and files: what they hold is there while they live, and gone afterwards.

use execmem::{CodeMemory, ErrorKind, MappedFile, runtime};
use std::ffi::CString;
use std::io::Write;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One test at a time: what one has freed another would get.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn kind<T>(result: Result<T, execmem::Error>) -> Result<T, ErrorKind> {
    result.map_err(|error| error.kind())
}

/// A function that returns its argument and `number`.
fn adds(number: u8) -> Vec<u8> {
    if cfg!(target_arch = "x86_64") {
        vec![0x48, 0x8d, 0x47, number, 0xc3] // lea rax, [rdi + number]; ret
    } else if cfg!(target_arch = "riscv64") {
        let add = 0x0005_0513u32 | u32::from(number) << 20; // addi a0, a0, number; ret
        [add, 0x0000_8067].map(u32::to_le_bytes).concat()
    } else {
        let add = 0x9100_0000u32 | u32::from(number) << 10; // add x0, x0, #number
        [add, 0xd65f_03c0].map(u32::to_le_bytes).concat()
    }
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
    assert_eq!(kind(unsafe { memory.call(100, &[]) }), Err(ErrorKind::InvalidArgument));
    let error = memory.write(96, &[0; 5]).unwrap_err();
    assert_eq!((error.kind(), error.call()), (ErrorKind::NotOwned, "CodeMemory::write"));
    assert_eq!((error.address(), error.size()), (memory.address() + 96, 5));
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
    assert_eq!(kind(file.read(6, &mut bytes)), Err(ErrorKind::NotOwned));
    let address = file.address() as i64;
    drop(file);
    assert_eq!(runtime().unmap(address, 10), Err(ErrorKind::NotOwned));
    assert_eq!(kind(MappedFile::open(&name)).err(), Some(ErrorKind::NotFound));
}
