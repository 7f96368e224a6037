//! The owners of memory and files: what they hold is there while they live, and gone afterwards.

use execmem::{CodeMemory, DataMemory, ErrorKind, Function, MappedFile, Protection, runtime};
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
fn parts_of_code_memory_have_protections_of_their_own() {
    let _alone = alone();
    let page = runtime().page_size();
    let memory = CodeMemory::new(2 * page).unwrap();
    memory.write(0, &adds(7)).unwrap();
    memory.write(page, b"constants").unwrap();
    memory.set_protection(page, page, Protection::READ).unwrap();
    memory.set_protection(0, 1, Protection::RX).unwrap();
    let protections = [0, page].map(|offset| runtime().protection_at((memory.address() + offset) as i64));
    assert_eq!(protections, [Ok(Some(Protection::RX)), Ok(Some(Protection::READ))]);
    // SAFETY: there is a function of one argument.
    assert_eq!(unsafe { memory.call(0, &[1]) }, Ok(8));
    memory.make_writable().unwrap();
    memory.write(0, &adds(8)).unwrap();
    memory.make_executable().unwrap();
    // SAFETY: there is a function of one argument again.
    assert_eq!(unsafe { memory.call(0, &[1]) }, Ok(9));
    for (offset, size) in [(page, page + 1), (usize::MAX, 2), (2 * page + 1, 0)] {
        let error = memory.set_protection(offset, size, Protection::READ).unwrap_err();
        assert_eq!((error.kind(), error.call()), (ErrorKind::NotOwned, "CodeMemory::set_protection"));
    }
}

/// A function that returns the eight bytes at an address, for code at `place`.
fn loads(place: usize, cell: usize) -> Vec<u8> {
    if cfg!(target_arch = "x86_64") {
        let distance = cell.wrapping_sub(place + 7) as u32; // mov rax, [rip + distance]; ret
        [&[0x48, 0x8b, 0x05][..], &distance.to_le_bytes(), &[0xc3]].concat()
    } else {
        // adrp x0, cell; ldr x0, [x0, #:lo12:cell]; ret
        let pages = ((cell >> 12).wrapping_sub(place >> 12)) as u32;
        let adrp = 0x9000_0000 | (pages & 3) << 29 | (pages >> 2 & 0x7_ffff) << 5;
        let load = 0xf940_0000 | ((cell & 0xfff) as u32 >> 3) << 10;
        [adrp, load, 0xd65f_03c0].map(u32::to_le_bytes).concat()
    }
}

#[test]
fn code_reaches_the_cell_that_was_made_near_it() {
    let _alone = alone();
    let place = Function::<unsafe extern "C" fn() -> i64>::reserve(64).unwrap();
    let mut cells = DataMemory::near(4096, place.address(), 1 << 30).unwrap();
    let cell = cells.address() + 24;
    let code = loads(place.address(), cell);
    let function = place.finish_shrunk(&code).unwrap();
    for number in [0, 42, -1] {
        cells.write(24, &i64::to_ne_bytes(number)).unwrap();
        // SAFETY: it is such a function, and the cell is live.
        assert_eq!(unsafe { function.call() }, number);
    }
    let constants = cells.into_constants().unwrap();
    // SAFETY: it is such a function, and the cell lives on in the constants.
    assert_eq!(unsafe { function.call() }, -1);
    let mut bytes = [7; 10];
    constants.read(23, &mut bytes).unwrap();
    assert_eq!(bytes, [0, 255, 255, 255, 255, 255, 255, 255, 255, 0]);
    // SAFETY: the slice is readable.
    let written = unsafe { runtime().write(constants.address() as i64, [1].as_ptr(), 1, 0) };
    assert_eq!(written, Err(ErrorKind::WrongProtection));
    let address = constants.address() as i64;
    drop(constants);
    assert_eq!(runtime().free_exec(address, 4096), Err(ErrorKind::NotOwned));
}

#[test]
fn data_that_finds_no_room_says_near_what() {
    let _alone = alone();
    let error = DataMemory::near(4096, 1 << 40, 16).unwrap_err();
    assert_eq!(
        (error.kind(), error.call(), error.address()),
        (ErrorKind::NoMemory, "DataMemory::near", 1 << 40)
    );
    let mut data = DataMemory::new(10).unwrap();
    let error = data.write(8, &[0; 3]).unwrap_err();
    assert_eq!((error.kind(), error.address() - data.address(), error.size()), (ErrorKind::NotOwned, 8, 3));
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
