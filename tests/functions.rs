//! Functions: what they hold is there while they live, and gone afterwards, in each of the steps to one.

use execmem::{Error, ErrorKind, Function, Reserved, Written, publish_all, runtime};
use std::sync::{Mutex, MutexGuard, PoisonError};

type Unary = unsafe extern "C" fn(i64) -> i64;

/// One test at a time: what one has freed another would get.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
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

/// The bytes of the live block at an address.
fn live(address: usize) -> Option<usize> {
    runtime().find_block(address as i64).map(|block| block.size)
}

/// What an error says.
fn said<T>(result: Result<T, Error>) -> (ErrorKind, &'static str, usize) {
    let error = result.err().expect("it fails");
    (error.kind(), error.call(), error.size())
}

#[test]
fn a_function_lives_as_long_as_its_owner() {
    let _alone = alone();
    let function = Function::<Unary>::new(&adds(1)).unwrap();
    let other = Function::<Unary>::new(&adds(2)).unwrap();
    let address = function.address();
    assert_eq!((address % 64, function.len()), (0, adds(1).len()));
    // SAFETY: both are of that type.
    unsafe {
        assert_eq!(function.call(41), 42);
        assert_eq!(function.entry().call(1), 2);
        assert_eq!(other.as_raw()(41), 43);
    }
    drop(function);
    assert_eq!(live(address), None);
    assert_eq!(runtime().is_executable(other.address() as i64), Ok(true));
}

#[test]
fn a_function_near_a_target_is_near() {
    let _alone = alone();
    let target = Function::<Unary>::new(&adds(1)).unwrap();
    let near = Function::<Unary>::near(&adds(3), target.address(), 64 << 20).unwrap();
    assert!(near.address().abs_diff(target.address()) + near.len() <= 64 << 20);
    // SAFETY: it is of that type.
    assert_eq!(unsafe { near.call(1) }, 4);
    let size = adds(3).len();
    let error = Function::<Unary>::near(&adds(3), 0, 1);
    assert_eq!(said(error), (ErrorKind::InvalidArgument, "Function::reserve_near", size));
}

#[test]
fn a_function_is_patched_in_place() {
    let _alone = alone();
    let mut code = adds(1);
    code.resize(16, 0);
    let function = Function::<Unary>::new(&code).unwrap();
    let mut other = adds(5);
    other.resize(8, 0);
    // SAFETY: it is of that type, with the word in it too.
    unsafe { function.patch(0, u64::from_ne_bytes(other.try_into().unwrap())) }.unwrap();
    // SAFETY: what was patched in is of that type.
    assert_eq!(unsafe { function.call(1) }, 6);
    // SAFETY: these are refused.
    let refused = [16, 4].map(|offset| said(unsafe { function.patch(offset, 0) }));
    let expected = |kind| (kind, "Function::patch", 8);
    assert_eq!(refused, [ErrorKind::NotOwned, ErrorKind::InvalidArgument].map(expected));
}

#[test]
fn a_place_becomes_a_function_at_its_address() {
    let _alone = alone();
    let place = Function::<Unary>::reserve(1000).unwrap();
    let (address, code) = (place.address(), adds(1));
    assert_eq!((live(address), place.len()), (Some(1000), 1000));
    let function = place.finish(&code).unwrap();
    assert_eq!((function.address(), function.len(), live(address)), (address, 1000, Some(1000)));
    let shrunk = Function::<Unary>::reserve(1000).unwrap().finish_shrunk(&code).unwrap();
    assert_eq!((shrunk.len(), live(shrunk.address())), (code.len(), Some(code.len())));
    // SAFETY: both are of that type.
    assert_eq!(unsafe { (function.call(1), shrunk.call(2)) }, (2, 3));
}

#[test]
fn a_place_that_is_given_up_is_freed() {
    let _alone = alone();
    let place = Function::<Unary>::reserve(64).unwrap();
    let address = place.address();
    drop(place);
    assert_eq!(live(address), None);
    let written = Function::<Unary>::reserve(64).unwrap().write(&adds(1)).unwrap();
    let address = written.address();
    drop(written);
    assert_eq!(live(address), None);
}

#[test]
fn code_that_does_not_fit_frees_the_place_and_says_so() {
    let _alone = alone();
    type Finish = fn(Reserved<Unary>, &[u8]) -> Result<Function<Unary>, Error>;
    let finish: [(Finish, _); 2] =
        [(Reserved::finish, "Reserved::finish"), (Reserved::finish_shrunk, "Reserved::finish_shrunk")];
    for (finish, name) in finish {
        for (length, kind) in [(0, ErrorKind::InvalidArgument), (65, ErrorKind::WrongSize)] {
            let place = Function::reserve(64).unwrap();
            let address = place.address();
            assert_eq!(said(finish(place, &vec![0; length])), (kind, name, length));
            assert_eq!(live(address), None);
        }
    }
    let none = Function::<Unary>::reserve(0);
    assert_eq!(said(none), (ErrorKind::InvalidArgument, "Function::reserve", 0));
}

#[test]
fn many_functions_are_published_at_once() {
    let _alone = alone();
    let write = |number| Function::<Unary>::reserve(100).unwrap().write(&adds(number)).unwrap();
    let functions: Vec<_> = publish_all((1..50).map(write).collect::<Vec<_>>()).unwrap().collect();
    for (function, number) in functions.iter().zip(1..) {
        // SAFETY: it is of that type.
        assert_eq!(unsafe { function.call(1) }, 1 + number);
    }
    // That it was published no call can tell: freeing has made caches coherent. But the heap gives the last block's
    // memory out at once if no core may have fetched from there.
    let last = functions.last().unwrap().address();
    drop(functions);
    assert_ne!(write(1).address(), last);
    let last = write(1).address();
    assert_eq!(write(1).address(), last);
    let [one, two] = [write(1), write(2)];
    let addresses = [one.address(), two.address()];
    let mut pair = publish_all([one, two]).unwrap();
    let first = pair.next().unwrap();
    drop(pair);
    assert_eq!((first.address(), live(addresses[1])), (addresses[0], None));
    assert_eq!(publish_all::<Unary, _>([]).unwrap().count(), 0);
}

/// Lends functions to be published, and gives others.
struct Fickle(Vec<Written<Unary>>, Vec<Written<Unary>>);

impl AsMut<[Written<Unary>]> for Fickle {
    fn as_mut(&mut self) -> &mut [Written<Unary>] {
        &mut self.0
    }
}

impl IntoIterator for Fickle {
    type Item = Written<Unary>;
    type IntoIter = std::vec::IntoIter<Self::Item>;

    fn into_iter(self) -> Self::IntoIter {
        self.1.into_iter()
    }
}

#[test]
fn whoever_lends_some_and_gives_others_gets_published_ones() {
    let _alone = alone();
    let write = |number| Function::<Unary>::reserve(100).unwrap().write(&adds(number)).unwrap();
    let fickle = Fickle(vec![write(1)], vec![write(2)]);
    let given = fickle.1[0].address();
    let functions: Vec<_> = publish_all(fickle).unwrap().collect();
    // SAFETY: it is of that type.
    assert_eq!((functions[0].address(), unsafe { functions[0].call(1) }), (given, 3));
    // As above: it was published, so that its memory is not the next one's.
    drop(functions);
    assert_ne!(write(1).address(), given);
}
