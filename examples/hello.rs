//! Writes a function, makes it executable, calls it, frees it.

#[cfg(target_arch = "x86_64")]
const CODE: &[u8] = &[0xb8, 42, 0, 0, 0, 0xc3]; // mov eax, 42; ret
#[cfg(target_arch = "aarch64")]
const CODE: &[u8] = &[0x40, 0x05, 0x80, 0x52, 0xc0, 0x03, 0x5f, 0xd6]; // mov w0, #42; ret
#[cfg(target_arch = "riscv64")]
const CODE: &[u8] = &[0x13, 0x05, 0xa0, 0x02, 0x67, 0x80, 0x00, 0x00]; // li a0, 42; ret

fn main() -> Result<(), execmem::Error> {
    let memory = execmem::CodeMemory::new(CODE.len())?;
    memory.write(0, CODE)?;
    memory.make_executable()?;
    // SAFETY: CODE is a function without arguments.
    let answer = unsafe { memory.call(0, &[]) }?;
    println!("the code at {:#x} says {answer}", memory.address());

    // The same among many small functions, in pages that it shares with them.
    let function = execmem::Function::<unsafe extern "C" fn() -> i32>::new(CODE)?;
    // SAFETY: CODE is such a function.
    let answer = unsafe { function.call() };
    println!("the function at {:#x} says {answer}", function.address());
    Ok(())
}
