//! Functions of an object, typed.

use crate::image::Image;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

/// A function of an object, and a part in the object's memory: it stays as long as any of its functions does.
///
/// It is called as the pointer `F` that it is: `unsafe { function(20) }`.
#[derive(Clone)]
pub struct Function<F> {
    pointer: F,
    _image: Arc<Image>,
}

impl<F: FunctionType> Function<F> {
    pub(crate) fn new(address: usize, image: Arc<Image>) -> Self {
        Self { pointer: F::at(address), _image: image }
    }
}

impl<F> Deref for Function<F> {
    type Target = F;

    fn deref(&self) -> &F {
        &self.pointer
    }
}

impl<F: FunctionType> fmt::Debug for Function<F> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Function({:#x})", self.pointer.address())
    }
}

/// The types of functions that objects can have: `unsafe extern "C" fn` of up to twelve arguments, also `"C-unwind"`,
/// which lets exceptions pass. Whether the object's function is of that type is what a caller vouches for.
pub trait FunctionType: Copy + private::Sealed {
    #[doc(hidden)]
    fn at(address: usize) -> Self;
    #[doc(hidden)]
    fn address(self) -> usize;
}

mod private {
    pub trait Sealed {}
}

macro_rules! function_types {
    ($abi:literal: ) => { function_types!(@one $abi: ); };
    ($abi:literal: $first:ident $($rest:ident)*) => {
        function_types!(@one $abi: $first $($rest)*);
        function_types!($abi: $($rest)*);
    };
    (@one $abi:literal: $($argument:ident)*) => {
        impl<R, $($argument),*> private::Sealed for unsafe extern $abi fn($($argument),*) -> R {}
        impl<R, $($argument),*> FunctionType for unsafe extern $abi fn($($argument),*) -> R {
            fn at(address: usize) -> Self {
                // SAFETY: a function pointer may have any value but 0, and no object has a function there. Calling it
                // is unsafe.
                unsafe { std::mem::transmute::<usize, Self>(address) }
            }

            fn address(self) -> usize {
                self as usize
            }
        }
    };
}

function_types!("C": A B C D E F G H I J K L);
function_types!("C-unwind": A B C D E F G H I J K L);
