//! The kernel's own view of the process: `/proc/self/maps`, read by other code than the library's.

use std::io::Read;
use std::sync::{Mutex, PoisonError};

/// A line of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// First address.
    pub start: i64,
    /// Address behind the last.
    pub end: i64,
    /// The contract's protection bits.
    pub protection: i32,
    /// The name at the line's end.
    pub name: Vec<u8>,
}

/// All lines, in address order. Names may hold any bytes.
pub fn lines() -> Vec<Line> {
    let text = text();
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(parse).collect()
}

/// All lines, with what the kernel could have merged: after a change that failed it leaves mappings split.
pub fn merged_lines() -> Vec<Line> {
    let mut all: Vec<Line> = Vec::new();
    for line in lines() {
        match all.last_mut() {
            Some(last)
                if (last.end, last.protection, &last.name) == (line.start, line.protection, &line.name) =>
            {
                last.end = line.end;
            }
            _ => all.push(line),
        }
    }
    all
}

/// The whole text, read into memory that is there already: an allocation might be mapped just where somebody
/// asks about, since the library has unmapped its pages there.
fn text() -> Vec<u8> {
    static BUFFER: Mutex<[u8; 1 << 20]> = Mutex::new([0; 1 << 20]);
    let mut buffer = BUFFER.lock().unwrap_or_else(PoisonError::into_inner);
    let mut file = std::fs::File::open("/proc/self/maps").expect("the kernel tells the mappings");
    let mut length = 0;
    loop {
        match file.read(&mut buffer[length..]).expect("the kernel tells the mappings") {
            0 => break,
            count => length += count,
        }
    }
    assert!(length < buffer.len(), "no test that asks has so many mappings");
    buffer[..length].to_vec()
}

fn parse(line: &[u8]) -> Line {
    let fields: Vec<&[u8]> = line.splitn(6, |byte| *byte == b' ').collect();
    let range = std::str::from_utf8(fields[0]).expect("addresses are digits");
    let (start, end) = range.split_once('-').expect("a range has two ends");
    // The vsyscall page lies above all that a signed number can say.
    let number = |digits| u64::from_str_radix(digits, 16).expect("hexadecimal") as i64;
    let protection = fields[1].iter().take(3).zip([1, 2, 4]).filter(|(letter, _)| **letter != b'-');
    Line {
        start: number(start),
        end: number(end),
        protection: protection.map(|(_, bit)| bit).sum(),
        name: fields.get(5).map(|name| name.trim_ascii_start().to_vec()).unwrap_or_default(),
    }
}

/// The protection of the page at an address, or -1.
pub fn protection_at(address: i64) -> i32 {
    protection_in(&lines(), address)
}

/// What these lines say of it. As unsigned numbers: the vsyscall page lies behind all others.
pub fn protection_in(lines: &[Line], address: i64) -> i32 {
    let address = address as u64;
    let line = lines.partition_point(|line| line.end as u64 <= address);
    lines.get(line).filter(|line| line.start as u64 <= address).map_or(-1, |line| line.protection)
}

/// Whether any page is writable and executable at once.
pub fn has_writable_code() -> bool {
    lines().iter().any(|line| line.protection & 6 == 6)
}

/// Whether this kernel can be asked about one address (6.11). Others give the whole text, which is opened anew for each
/// question.
pub fn has_query() -> bool {
    const QUERY: u64 = 0xc068_6611;
    let file = std::fs::File::open("/proc/self/maps").expect("the kernel tells its mappings");
    let mut query = [0u64; 13];
    query[0] = size_of_val(&query) as u64;
    // SAFETY: the kernel reads and writes as much as the structure says, which is its size.
    let result = unsafe { libc::ioctl(std::os::fd::AsRawFd::as_raw_fd(&file), QUERY as _, &raw mut query) };
    result == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ENOTTY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_that_holds_an_address_tells_its_protection() {
        let [stack, vsyscall] = [
            &b"7ffe0000-7fff0000 rw-p 0 00:00 0 [stack]"[..],
            b"ffffffffff600000-ffffffffff601000 --xp 0 00:00 0 [vsyscall]",
        ];
        let lines = [stack, vsyscall].map(parse);
        let told = [0x7ffd_ffff, 0x7ffe_0000, 0x7ffe_ffff, 0x7fff_0000, i64::MAX]
            .map(|at| protection_in(&lines, at));
        assert_eq!(told, [-1, 3, 3, -1, -1]);
    }
}
