//! Darwin's error numbers (`sys/errno.h`), and Linux's in terms of them.

/// A Darwin error number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Errno(pub i32);

/// No access; also: the protection is refused.
pub const EACCES: Errno = Errno(13);
/// Not permitted: code signing refuses.
pub const EPERM: Errno = Errno(1);
/// No such device; also: a FIFO that nobody reads.
pub const ENXIO: Errno = Errno(6);
/// The operation is not supported on this kind of file or socket.
pub const EOPNOTSUPP: Errno = Errno(102);
/// Invalid argument.
pub const EINVAL: Errno = Errno(22);
/// No memory, or none mapped there.
pub const ENOMEM: Errno = Errno(12);

impl Errno {
    /// Up to 34 the two systems agree, except for 11. Of the others those that the library can meet.
    pub fn from_linux(number: i32) -> Self {
        Self(match number {
            libc::EAGAIN => 35,
            libc::EDEADLK => 11,
            libc::ENAMETOOLONG => 63,
            libc::ENOSYS => 78,
            libc::ELOOP => 62,
            libc::EOVERFLOW => 84,
            libc::EOPNOTSUPP => 102,
            libc::ENOBUFS => 55,
            1..=34 => number,
            // A number that Darwin doesn't have, so that a gap in this table is noticed.
            _ => 1000 + number,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_that_differ_are_translated() {
        assert_eq!(Errno::from_linux(libc::EAGAIN), Errno(35));
        assert_eq!(Errno::from_linux(libc::ELOOP), Errno(62));
        assert_eq!(Errno::from_linux(libc::EINVAL), EINVAL);
        assert_eq!(Errno::from_linux(libc::ENOTEMPTY), Errno(1000 + libc::ENOTEMPTY));
    }
}
