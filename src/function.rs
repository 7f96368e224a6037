//! An owner of one of many small functions.

use crate::block::OwnedBlock;
use crate::error::{Call, Error, ErrorKind};
use crate::os::runtime;
use crate::signature::Signature;
use core::marker::PhantomData;

/// A published function of type `F` in the process's code heap, freed when dropped.
///
/// Functions share pages, so that each costs little more than its bytes. No page is writable and executable,
/// except under policy `rwx`. A call is a call by a function pointer, with no check in front.
///
/// ```
/// # #[cfg(target_arch = "x86_64")] const CODE: &[u8] = &[0x48, 0x8d, 0x04, 0x37, 0xc3]; // lea rax, [rdi + rsi]; ret
/// # #[cfg(target_arch = "aarch64")] const CODE: &[u8] = &[0x00, 0x00, 0x01, 0x8b, 0xc0, 0x03, 0x5f, 0xd6];
/// # #[cfg(target_arch = "riscv64")] const CODE: &[u8] = &[0x33, 0x05, 0xb5, 0x00, 0x67, 0x80, 0, 0];
/// let add = execmem::Function::<unsafe extern "C" fn(i64, i64) -> i64>::new(CODE)?;
/// // SAFETY: the code is such a function.
/// assert_eq!(unsafe { add.call(40, 2) }, 42);
/// # Ok::<(), execmem::Error>(())
/// ```
///
/// It is called with the arguments of its type:
///
/// ```compile_fail,E0061
/// let add = execmem::Function::<unsafe extern "C" fn(i64, i64) -> i64>::new(&[0xc3])?;
/// unsafe { add.call(40) };
/// # Ok::<(), execmem::Error>(())
/// ```
#[derive(Debug)]
pub struct Function<F: Signature> {
    block: OwnedBlock,
    signature: PhantomData<F>,
}

impl<F: Signature> Function<F> {
    /// The function of a block that is published.
    pub(crate) fn of(block: OwnedBlock) -> Self {
        const { assert!(size_of::<F>() == size_of::<*const ()>(), "it is a type of function pointers") };
        Self { block, signature: PhantomData }
    }

    /// What is called. It can't be kept longer than the function:
    ///
    /// ```compile_fail,E0505
    /// let function = execmem::Function::<unsafe extern "C" fn() -> i64>::new(&[0xc3])?;
    /// let entry = function.entry();
    /// drop(function);
    /// unsafe { entry.call() };
    /// # Ok::<(), execmem::Error>(())
    /// ```
    pub fn entry(&self) -> Entry<'_, F> {
        Entry { pointer: self.as_raw(), owner: PhantomData }
    }

    /// The function pointer itself, for code that keeps it: tables, C. To call it after the function was dropped is
    /// undefined behaviour, which its caller has to rule out.
    pub fn as_raw(&self) -> F {
        let pointer = core::ptr::with_exposed_provenance::<()>(self.address());
        // SAFETY: `Signature` says that F is a type of function pointers, whose size `of` checks, and that to call one
        // is unsafe.
        unsafe { core::mem::transmute_copy::<*const (), F>(&pointer) }
    }

    /// The first byte's address: a multiple of 64.
    pub fn address(&self) -> usize {
        self.block.address as usize
    }

    /// The block's length in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no function is empty")]
    pub fn len(&self) -> usize {
        self.block.size
    }

    /// Replaces the eight bytes at `offset`, a multiple of eight, while other threads may be executing them: they
    /// see the old ones or the new ones. *Unsupported* under policy `toggle`.
    ///
    /// # Safety
    /// With the word in it, the code is still a function of this type, whoever calls it or is in it.
    pub unsafe fn patch(&self, offset: usize, word: u64) -> Result<(), Error> {
        let patched = if offset < self.len() {
            runtime().code_heap().patch(self.block.address + offset as i64, word)
        } else {
            Err(ErrorKind::NotOwned)
        };
        let call = Call { name: "Function::patch", address: self.address().wrapping_add(offset), size: 8 };
        patched.map_err(|kind| call.failed(kind))
    }
}

/// A pointer to a [`Function`] that lives while the entry does.
#[derive(Debug)]
pub struct Entry<'f, F: Signature> {
    pointer: F,
    owner: PhantomData<&'f ()>,
}

impl<'f, F: Signature> Entry<'f, F> {
    /// As [`Function::as_raw`].
    pub fn as_raw(self) -> F {
        self.pointer
    }

    /// The same code as a function of another type: for a compiler that knows it only when it has compiled. Whoever
    /// calls it answers for the type, as before.
    pub fn cast<G: Signature>(self) -> Entry<'f, G> {
        const { assert!(size_of::<G>() == size_of::<F>(), "both are types of function pointers") };
        // SAFETY: `Signature` says that both are types of function pointers, and that to call one is unsafe.
        Entry { pointer: unsafe { core::mem::transmute_copy::<F, G>(&self.pointer) }, owner: PhantomData }
    }
}

impl<F: Signature> Copy for Entry<'_, F> {}

impl<F: Signature> Clone for Entry<'_, F> {
    fn clone(&self) -> Self {
        *self
    }
}

macro_rules! calls {
    ($($value:ident: $argument:ident),*) => {
        impl<R: 'static, $($argument: 'static),*> Function<unsafe extern "C" fn($($argument),*) -> R> {
            /// Calls it.
            ///
            /// # Safety
            /// The code is a function of this type, and its arguments are what it wants.
            #[inline]
            #[allow(clippy::too_many_arguments, reason = "as many as the function has")]
            pub unsafe fn call(&self, $($value: $argument),*) -> R {
                // SAFETY: the caller's promise, passed on; the code is there as long as `self`.
                unsafe { self.as_raw()($($value),*) }
            }
        }

        impl<R: 'static, $($argument: 'static),*> Entry<'_, unsafe extern "C" fn($($argument),*) -> R> {
            /// Calls it.
            ///
            /// # Safety
            /// As for [`Function::call`].
            #[inline]
            #[allow(clippy::too_many_arguments, reason = "as many as the function has")]
            pub unsafe fn call(self, $($value: $argument),*) -> R {
                // SAFETY: the caller's promise, passed on; the code is there as long as the borrowed function.
                unsafe { (self.pointer)($($value),*) }
            }
        }
    };
}

calls!();
calls!(a: A);
calls!(a: A, b: B);
calls!(a: A, b: B, c: C);
calls!(a: A, b: B, c: C, d: D);
calls!(a: A, b: B, c: C, d: D, e: E);
calls!(a: A, b: B, c: C, d: D, e: E, f: F);
calls!(a: A, b: B, c: C, d: D, e: E, f: F, g: G);
calls!(a: A, b: B, c: C, d: D, e: E, f: F, g: G, h: H);
calls!(a: A, b: B, c: C, d: D, e: E, f: F, g: G, h: H, i: I);
calls!(a: A, b: B, c: C, d: D, e: E, f: F, g: G, h: H, i: I, j: J);
calls!(a: A, b: B, c: C, d: D, e: E, f: F, g: G, h: H, i: I, j: J, k: K);
calls!(a: A, b: B, c: C, d: D, e: E, f: F, g: G, h: H, i: I, j: J, k: K, l: L);
