//! Arguments that nobody should pass, by their types and, where the contract has a say in them, by their names.

use crate::ground::Ground;
use core::ffi::{c_char, c_void};
use execmem_conformance::memory::page;
use execmem_conformance::symbols::rt_is_executable;
use execmem_core::abi::*;
use execmem_tests_linux::files;
use execmem_tests_linux::random::Random;
use execmem_tests_linux::system::foreign_function;
use std::ffi::{CStr, CString};
use std::fmt::Write;

/// As much as a pointer is valid for.
const ROOM: usize = 1 << 16;
/// Addresses and values that calls gave.
const KEPT: usize = 32;
/// Which path is a regular file's.
const FILE: usize = 0;

pub struct Draw {
    pub random: Random,
    symbol: &'static str,
    told: String,
    /// Addresses and sizes of what there is; those of what there is not.
    objects: Vec<(i64, i64)>,
    others: Vec<i64>,
    /// The object that this call is about.
    object: (i64, i64),
    paths: Vec<CString>,
    /// Of the path that was drawn last.
    path_length: i64,
    kept: Vec<i64>,
    /// The value that a call made last.
    value: i64,
    room: Vec<u64>,
}

impl Draw {
    pub fn new(seed: u64) -> Self {
        let paths =
            [c"", c"/dev/null", c"/proc/self/maps", files::directory(), files::missing(), files::fifo()];
        let long = CString::new(vec![b'a'; 5000]).expect("no NUL");
        let names = [c"rt_code_alloc", c"rt_", c"\xff"];
        Self {
            random: Random::new(seed),
            symbol: "",
            told: String::new(),
            objects: Vec::new(),
            others: Vec::new(),
            object: (0, 0),
            paths: paths.into_iter().chain(names).map(CStr::to_owned).chain([long]).collect(),
            path_length: 0,
            kept: vec![0; KEPT],
            value: 0,
            room: vec![0; ROOM / 8],
        }
    }

    pub fn enter(&mut self, ground: &Ground) {
        self.objects.clone_from(&ground.objects);
        self.others.clone_from(&ground.others);
    }

    pub fn begin(&mut self, symbol: &'static str) {
        self.symbol = symbol;
        self.told.clear();
        self.object = self.objects[self.random.below(self.objects.len())];
    }

    /// The arguments so far.
    pub fn told(&self) -> &str {
        &self.told
    }

    /// A number near one that matters.
    fn number(&mut self) -> i64 {
        let (address, size) = self.object;
        let whole = (size + page() - 1) / page() * page();
        let near = self.random.one_of(&[0, 0, 0, 0, 1, -1, 7, page(), -page()]);
        let other = self.others[self.random.below(self.others.len())];
        let number = match self.random.below(16) {
            0..4 => address,
            4..6 => size,
            6 => whole,
            7 => address.wrapping_add(size),
            8 => other,
            9 => self.random.one_of(&[
                i64::MAX,
                i64::MIN,
                i32::MAX.into(),
                i32::MIN.into(),
                u32::MAX.into(),
                1 << 47,
                1 << 48,
            ]),
            10 => self.random.one_of(&[0x7fff_ffff_f000, -1 << 47, -0x7f_ffff_ffff_f000, 1 << 32, 1 << 62]),
            11 => self.random.one_of(&[8, 64, 100, 4096, 65536, 1 << 20, 4 << 20]),
            12 => self.kept[self.random.below(KEPT)],
            13 => (self.random.bits() as i64).wrapping_shr(self.random.bits() as u32 & 63),
            _ => 0,
        };
        number.wrapping_add(near)
    }

    /// What would suit, every other time: so that a call comes farther than its first argument.
    fn fitting(&mut self, name: &str) -> Option<i64> {
        let fits = self.random.below(2) == 0;
        let (address, size) = self.object;
        match name {
            "address" if fits => Some(address),
            "size" | "length" if fits => Some(size),
            "offset" if fits => Some(0),
            "path_length" if fits => Some(self.path_length),
            "prot" if fits => Some(RT_PROT_READ.into()),
            "flags" if fits => Some(RT_MAP_PRIVATE.into()),
            "value" | "code" if fits => Some(self.value),
            _ => None,
        }
    }

    /// A pointer that is valid for [`ROOM`] bytes, or NULL.
    fn pointer<T>(&mut self) -> *mut T {
        let hostile: Vec<u64> = (0..16).map(|_| self.number() as u64).collect();
        self.room[..hostile.len()].copy_from_slice(&hostile);
        if self.random.below(8) == 0 { core::ptr::null_mut() } else { self.room.as_mut_ptr().cast() }
    }
}

pub trait Argument {
    fn drawn(draw: &mut Draw, name: &str) -> Self;
}

impl Argument for i64 {
    fn drawn(draw: &mut Draw, name: &str) -> Self {
        let mut number = draw.fitting(name).unwrap_or_else(|| draw.number());
        // Any other one might be no function.
        if name == "r#fn" && rt_is_executable(number) {
            number = foreign_function();
        }
        // What a pointer of ours is valid for.
        let has_pointer = [
            "rt_value_bytes",
            "rt_write_exec_bytes",
            "rt_mmap_read_into",
            "rt_code_write",
            "rt_code_set_unwind",
            "rt_mmap_path",
            "rt_code_publish_all",
            "rt_try_call",
        ];
        let most = if name == "count" { 64 } else { ROOM as i64 };
        if has_pointer.contains(&draw.symbol)
            && ["length", "path_length", "count"].contains(&name)
            && number > most
        {
            number %= most;
        }
        // What a mapping has may be locked into memory next.
        let is_mapping = ["rt_mmap_file", "rt_mmap_fd", "rt_mmap_path"].contains(&draw.symbol);
        if name == "path_length" && number > draw.path_length {
            number %= draw.path_length + 1;
        }
        if is_mapping && name == "length" && (1 << 24..1 << 46).contains(&number) {
            number >>= 24;
        }
        let _ = write!(draw.told, "{name} {number:#x}, ");
        number
    }
}

impl Argument for u64 {
    fn drawn(draw: &mut Draw, name: &str) -> Self {
        i64::drawn(draw, name) as Self
    }
}

impl Argument for i32 {
    fn drawn(draw: &mut Draw, name: &str) -> Self {
        let number = match draw.random.below(4) {
            0 => draw.random.bits() as Self,
            1 if name == "flags" => RT_MAP_PRIVATE,
            1 => draw.random.one_of(&[-1, Self::MAX, Self::MIN, 0x20, 0x21, 0x22, 0x11, 0x12, 1 << 16]),
            _ => draw.random.below(9) as Self,
        };
        let _ = write!(draw.told, "{name} {number:#x}, ");
        number
    }
}

impl Argument for bool {
    fn drawn(draw: &mut Draw, name: &str) -> Self {
        let is_so = draw.random.below(2) == 0;
        let _ = write!(draw.told, "{name} {is_so}, ");
        is_so
    }
}

fn text(draw: &mut Draw, name: &str) -> *const c_char {
    let index = draw.random.below(2 * draw.paths.len());
    // Every fourth time it is a file that can be mapped.
    let index = if index.is_multiple_of(4) { FILE } else { index };
    let text = draw.paths.get(index);
    draw.path_length = text.map_or(0, |text| text.as_bytes().len() as i64);
    let _ = write!(draw.told, "{name} {text:?}, ");
    text.map_or(core::ptr::null(), |text| text.as_ptr())
}

macro_rules! pointers {
    ($($type:ty)*) => {$(
        impl Argument for $type {
            fn drawn(draw: &mut Draw, name: &str) -> Self {
                // `c_char` is another type on each processor, also that of bytes: a text is told by its name.
                if ["path", "name"].contains(&name) {
                    return text(draw, name) as Self;
                }
                let pointer = draw.pointer::<u8>();
                // What unwinds later believes what is there.
                let pointer = if name == "eh_frame" { core::ptr::null_mut() } else { pointer };
                let _ = write!(draw.told, "{name} {pointer:?}, ");
                pointer.cast()
            }
        }
    )*};
}

pointers!(*const i8 *const u8 *mut u8 *const i64 *mut i64 *mut RtCodeBlock *mut RtExecMemoryStats *mut c_void);

/// No table that is accepted: what it would say were functions would be called.
impl Argument for *const RtValueOps {
    fn drawn(draw: &mut Draw, name: &str) -> Self {
        let size = i64::drawn(draw, name);
        let table = draw.pointer::<RtValueOps>();
        if !table.is_null() {
            // SAFETY: the pointer is valid for more than a table.
            unsafe {
                table.write(RtValueOps { size, make_bytes: None, make_string: None, borrow_bytes: None })
            };
        }
        table
    }
}

unsafe extern "C" fn ignore(_: *mut c_void, _: *const c_char, _: i64) {}

impl Argument for RtEachSymbol {
    fn drawn(draw: &mut Draw, _: &str) -> Self {
        (draw.random.below(4) > 0).then_some(ignore)
    }
}

/// Results, which later calls are tried on.
pub trait Kept {
    fn keep(&self, draw: &mut Draw);
}

impl Kept for i64 {
    fn keep(&self, draw: &mut Draw) {
        let place = draw.random.below(KEPT);
        draw.kept[place] = *self;
    }
}

/// Values alone are results of this type.
impl Kept for u64 {
    fn keep(&self, draw: &mut Draw) {
        draw.value = *self as i64;
        (*self as i64).keep(draw);
    }
}

impl Kept for RtMapping {
    fn keep(&self, draw: &mut Draw) {
        self.address.keep(draw);
        self.size.keep(draw);
    }
}

impl<T> Kept for *const T {
    fn keep(&self, draw: &mut Draw) {
        (self.expose_provenance() as i64).keep(draw);
    }
}

impl Kept for bool {
    fn keep(&self, _: &mut Draw) {}
}

impl Kept for i32 {
    fn keep(&self, _: &mut Draw) {}
}

impl Kept for () {
    fn keep(&self, _: &mut Draw) {}
}
