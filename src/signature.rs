//! Types of functions in machine code.

/// The type of a function in machine code: an `unsafe extern "C" fn` of up to twelve arguments, such as
/// `unsafe extern "C" fn(i64, i64) -> i64`.
///
/// Only unsafe ones: whether bytes are a function of that type nobody can check, so whoever calls them answers for it.
///
/// ```compile_fail,E0277
/// // A safe function could be called without a promise by anybody.
/// let function = execmem::Function::<extern "C" fn() -> i64>::new(&[0xc3])?;
/// # Ok::<(), execmem::Error>(())
/// ```
///
/// # Safety
/// It is a type of function pointers, all of which are unsafe to call. Other conventions may be added by those who need
/// them; their functions are called by [`Entry::as_raw`](crate::Entry::as_raw).
pub unsafe trait Signature: Copy + Send + Sync + 'static {}

macro_rules! signatures {
    ($($argument:ident)*) => {
        // SAFETY: it is such a type.
        unsafe impl<R: 'static, $($argument: 'static),*> Signature for unsafe extern "C" fn($($argument),*) -> R {}
    };
}

signatures!();
signatures!(A);
signatures!(A B);
signatures!(A B C);
signatures!(A B C D);
signatures!(A B C D E);
signatures!(A B C D E F);
signatures!(A B C D E F G);
signatures!(A B C D E F G H);
signatures!(A B C D E F G H I);
signatures!(A B C D E F G H I J);
signatures!(A B C D E F G H I J K);
signatures!(A B C D E F G H I J K L);
