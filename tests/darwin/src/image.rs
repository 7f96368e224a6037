//! Loading a Mach-O library as dyld would: segments, rebases, binds, exports.
//!
//! Only what a library without `std` has is known: libSystem as the one library it needs, no thread-local
//! variables, initialisers as pointers, fixups in the form of macOS 11 (`LC_DYLD_INFO`). Anything else is refused.

use crate::host;
use object::read::macho::MachOFile64;
use object::{Endianness, ExportTarget, NameOrOrdinal, Object, ObjectSection, ObjectSegment, macho};
use std::collections::HashMap;
use std::ops::Range;

/// A library in memory.
pub struct Image {
    exports: HashMap<String, usize>,
    jit_callbacks: Range<usize>,
    /// Pointers to the functions that run before any other.
    initialisers: Range<usize>,
}

impl Image {
    /// The address of an exported symbol, by its C name.
    pub fn symbol(&self, name: &str) -> Result<usize, String> {
        self.exports.get(name).copied().ok_or_else(|| format!("the library does not export {name}"))
    }

    /// Runs what the library wants to have run before any of its functions, as dyld does.
    pub fn initialise(&self) {
        for place in self.initialisers.clone().step_by(size_of::<usize>()) {
            // SAFETY: the loader has rebased the pointers; they are to functions without arguments of ours.
            unsafe { (*(place as *const extern "C" fn()))() };
        }
    }

    /// The list of callbacks in the section `__pth_jit_func`.
    pub fn jit_callbacks(&self) -> Range<usize> {
        self.jit_callbacks.clone()
    }
}

type File<'data> = MachOFile64<'data, Endianness>;

/// A segment, its addresses counted from the first one's.
struct Segment<'data> {
    name: String,
    range: Range<usize>,
    contents: &'data [u8],
    protection: i32,
}

/// Loads a library. `libsystem` says where an imported symbol is; `page_size` is the model's.
pub fn load(
    data: &[u8],
    page_size: usize,
    libsystem: impl Fn(&str) -> Option<usize>,
) -> Result<Image, String> {
    let file = File::parse(data).map_err(sentence)?;
    refuse_unknown_features(&file)?;
    let segments = segments(&file, page_size)?;
    let length = segments.iter().map(|segment| segment.range.end).max().unwrap_or(0);
    let base = host::map_anywhere(length, page_size, libc::PROT_READ | libc::PROT_WRITE)
        .map_err(|number| format!("no memory for the library: error {number}"))?;
    for segment in &segments {
        // SAFETY: the segment lies inside the fresh mapping, and its contents fit into it.
        unsafe {
            let target = (base + segment.range.start) as *mut u8;
            target.copy_from_nonoverlapping(segment.contents.as_ptr(), segment.contents.len());
        }
    }
    fix_up(&file, data, &segments, base, libsystem)?;
    for segment in &segments {
        host::protect(base + segment.range.start..base + segment.range.end, segment.protection)
            .map_err(|number| format!("segment {} can't be protected: error {number}", segment.name))?;
    }
    let jit_callbacks = section_range(&file, base, "__pth_jit_func");
    let initialisers = section_range(&file, base, "__mod_init_func");
    Ok(Image { exports: exports(&file, base)?, jit_callbacks, initialisers })
}

fn sentence(error: object::Error) -> String {
    format!("not a library that can be loaded: {error}")
}

fn refuse_unknown_features(file: &File<'_>) -> Result<(), String> {
    let header = file.macho_header();
    if header.filetype.get(file.endian()) != macho::MH_DYLIB {
        return Err("not a dynamic library".into());
    }
    let architecture = if cfg!(target_arch = "aarch64") {
        object::Architecture::Aarch64
    } else {
        object::Architecture::X86_64
    };
    if file.architecture() != architecture {
        return Err(format!("made for {:?}, not for this machine", file.architecture()));
    }
    for section in file.sections() {
        let name = section.name().map_err(sentence)?;
        if ["__init_offsets", "__thread_vars"].contains(&name) && section.size() > 0 {
            return Err(format!("has a section {name}, which this loader doesn't know"));
        }
    }
    let mut commands = file.macho_load_commands().map_err(sentence)?;
    while let Some(command) = commands.next().map_err(sentence)? {
        if command.cmd() == macho::LC_DYLD_CHAINED_FIXUPS {
            return Err("has chained fixups: link it for macOS 11".into());
        }
        if let Some(dylib) = command.dylib().map_err(sentence)? {
            let name = command.string(file.endian(), dylib.dylib.name).map_err(sentence)?;
            if command.cmd() != macho::LC_ID_DYLIB && name != b"/usr/lib/libSystem.B.dylib" {
                return Err(format!("needs {}, which is not libSystem", String::from_utf8_lossy(name)));
            }
        }
    }
    Ok(())
}

/// The segments, checked as the kernel checks them.
fn segments<'data>(file: &File<'data>, page_size: usize) -> Result<Vec<Segment<'data>>, String> {
    let first = file.segments().map(|segment| segment.address()).min().unwrap_or(0);
    let mut segments = Vec::new();
    for segment in file.segments() {
        let name = segment.name().map_err(sentence)?.unwrap_or_default().to_owned();
        let start = (segment.address() - first) as usize;
        let contents = segment.data().map_err(sentence)?;
        let protection = segment.macho_segment().initprot.get(file.endian()).0 as i32;
        if !start.is_multiple_of(page_size) {
            return Err(format!("segment {name} does not begin with a page"));
        }
        if protection & 6 == 6 {
            return Err(format!("segment {name} is writable and executable"));
        }
        if contents.len() as u64 > segment.size() {
            return Err(format!("segment {name} is shorter than its contents"));
        }
        let end = start + segment.size().next_multiple_of(page_size as u64) as usize;
        segments.push(Segment { name, range: start..end, contents, protection });
    }
    Ok(segments)
}

fn fix_up(
    file: &File<'_>,
    data: &[u8],
    segments: &[Segment<'_>],
    base: usize,
    libsystem: impl Fn(&str) -> Option<usize>,
) -> Result<(), String> {
    let endian = file.endian();
    let place = |segment: u8, offset: u64| {
        let segment = segments.get(segment as usize).ok_or("a fixup names a segment that isn't there")?;
        match segment.range.len().checked_sub(8) {
            Some(last) if offset as usize <= last => {
                Ok::<_, String>((base + segment.range.start + offset as usize) as *mut usize)
            }
            _ => Err("a fixup lies outside of its segment".into()),
        }
    };
    let mut commands = file.macho_load_commands().map_err(sentence)?;
    while let Some(command) = commands.next().map_err(sentence)? {
        let Some(info) = command.dyld_info().map_err(sentence)? else { continue };
        let mut rebases = info.rebases(endian, data, 8).map_err(sentence)?;
        while let Some(rebase) = rebases.next().map_err(sentence)? {
            if rebase.kind != macho::REBASE_TYPE_POINTER {
                return Err("a rebase that is no pointer".into());
            }
            let place = place(rebase.segment_index, rebase.segment_offset)?;
            // SAFETY: the place is inside a segment, which is writable still. The first segment is linked at 0.
            unsafe { place.write_unaligned(place.read_unaligned().wrapping_add(base)) };
        }
        // What dyld would bind at the first call is bound now.
        for lazily in [false, true] {
            let binds = if lazily { info.lazy_binds(endian, data, 8) } else { info.binds(endian, data, 8) };
            let mut binds = binds.map_err(sentence)?;
            while let Some(bind) = binds.next().map_err(sentence)? {
                if bind.kind != macho::BIND_TYPE_POINTER {
                    return Err("a bind that is no pointer".into());
                }
                let name = String::from_utf8_lossy(bind.symbol);
                let address = libsystem(&name).ok_or_else(|| format!("the model has no {name}"))?;
                let place = place(bind.segment_index, bind.segment_offset)?;
                // SAFETY: the place is inside a segment, which is writable still.
                unsafe { place.write_unaligned(address.wrapping_add(bind.addend as usize)) };
            }
        }
    }
    Ok(())
}

fn exports(file: &File<'_>, base: usize) -> Result<HashMap<String, usize>, String> {
    let mut exports = HashMap::new();
    for export in file.exports().map_err(sentence)? {
        let export = export.map_err(sentence)?;
        if let (NameOrOrdinal::Name(name), ExportTarget::Address { address }) =
            (export.name(), export.target())
        {
            let name = String::from_utf8_lossy(name);
            // C names have a leading underscore in Mach-O.
            exports.insert(name.strip_prefix('_').unwrap_or(&name).to_owned(), base + address as usize);
        }
    }
    Ok(exports)
}

/// Where a section is; nowhere, if the file has none of that name.
fn section_range(file: &File<'_>, base: usize, name: &str) -> Range<usize> {
    match file.section_by_name(name) {
        Some(section) => {
            let start = base + section.address() as usize;
            start..start + section.size() as usize
        }
        None => base..base,
    }
}
