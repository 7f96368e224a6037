//! An image: an object in memory, linked.

use crate::error::Error;
use crate::exit;
use crate::import::{self, Import, Imports};
use crate::layout::{Layout, Shape};
use crate::link;
use crate::memory::Memory;
use crate::object_file::{Definition, ObjectFile, Section, SectionKind};
use crate::select::Selected;
use crate::startup;
use crate::unwind::{Registration, check_linked};
use execmem::{Hardening, Protection, is_aarch64_landing_pad, runtime};
use std::collections::BTreeMap;
use std::ffi::CString;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

/// Bytes of code and read-only data up to which an image is a block of the code heap: a page, of which it would leave
/// a part empty otherwise.
const BLOCK_LIMIT: u64 = 4096;

/// What blocks of the code heap are aligned to.
const BLOCK_ALIGNMENT: u64 = 32;

/// A loaded object. When it is dropped, what it has registered for its end is called, its destructors run if it was
/// started, and its memory is freed.
#[derive(Debug)]
pub struct Image {
    symbols: BTreeMap<String, Place>,
    /// Whether indirect branches into its code end at landing pads only.
    is_guarded: bool,
    segments: Vec<Segment>,
    files: Vec<String>,
    /// Indirect functions: the function that finds the address, and the slot for it.
    indirect: Vec<(i64, u64)>,
    constructors: Vec<i64>,
    destructors: Vec<i64>,
    /// The address of its `__dso_handle`, if it may register calls.
    handle: Option<usize>,
    /// Whether its constructors have run, or run.
    started: Mutex<bool>,
    /// Whether its indirect functions have addresses. Constructors may ask.
    is_ready: AtomicBool,
    // Fields are dropped in this order.
    _frames: Option<Registration>,
    memory: Memory,
}

/// Where a symbol is.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Its address.
    pub address: usize,
    /// Its size in bytes; 0 if the file doesn't say it.
    pub size: u64,
    /// Whether it is in a section of code.
    pub is_code: bool,
    /// Whether a landing pad is there.
    is_pad: bool,
}

/// A part of an image with one protection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Its first address.
    pub address: usize,
    /// Its size in bytes: whole pages, unless it is in the code heap.
    pub size: usize,
    /// What may be done there.
    pub protection: Protection,
}

impl Image {
    /// Links what is selected, and puts it into memory.
    pub fn new(
        selected: &Selected<'_>,
        resolver: &mut dyn FnMut(&str) -> Option<Import>,
    ) -> Result<Self, Error> {
        let object = &selected.object;
        if !object.architecture.is_host() {
            return Err(Error::WrongArchitecture(object.architecture));
        }
        let imports = import::resolve(object, resolver)?;
        let layout = shape(object, &imports)?;
        let memory = Memory::new(&layout)?;
        // What the process is hardened by stays, now that memory is allocated.
        if let Some(file) = &selected.without_pads
            && runtime().hardening().contains(Hardening::BTI)
        {
            return Err(Error::InFile { file: file.clone(), error: Box::new(Error::NoLandingPads) });
        }
        let bases = memory.bases;
        link::link(object, &layout, &imports, bases, &mut |offset, bytes| {
            memory.write(&layout, offset, bytes)
        })?;
        memory.protect(&layout, selected.without_pads.is_none())?;
        let is_guarded = memory.is_guarded()?;

        let list = |kind| {
            startup::addresses(object, kind, |section| {
                link::section(object, &layout, &imports, bases, section)
            })
        };
        let constructors = list(SectionKind::Constructors)?;
        let mut destructors = list(SectionKind::Destructors)?;
        destructors.reverse();
        let address = |index| link::symbol(object, &layout, &imports, bases, index);
        // One that leads out of its section may be another image's.
        let is_inside = |section: usize, offset| {
            layout.sections[section].is_some() && offset < object.sections[section].size
        };
        let handle = object.symbols.iter().position(|symbol| {
            symbol.name == "__dso_handle"
                && matches!(symbol.definition, Definition::InSection { section, offset } if is_inside(section, offset))
        });
        let handle = handle.map(address).transpose()?.map(|address| address as usize);
        let frames = selected.frames.and_then(|section| Some((section, layout.sections[section]?)));
        if let Some((section, _)) = frames {
            let linked = link::section(object, &layout, &imports, bases, section)?;
            check_linked(&object.sections[section].data, &linked)?;
        }
        let frames = frames.map(|(_, start)| layout.address(bases, start) as usize);
        let segments = layout.segments.iter().filter(|(range, _)| !range.is_empty());
        let segments = segments.map(|(range, protection)| Segment {
            address: layout.address(bases, range.start) as usize,
            size: (range.end - range.start) as usize,
            protection: match *protection {
                Protection::RX if is_guarded => Protection::RX | Protection::BTI,
                other => other,
            },
        });
        let image = Self {
            symbols: symbols(object, &layout, &address),
            is_guarded,
            segments: segments.collect(),
            files: selected.files.clone(),
            indirect: indirect(object, &layout, bases),
            constructors,
            destructors,
            handle,
            started: Mutex::new(false),
            is_ready: AtomicBool::new(false),
            // SAFETY: the table was checked when it was read, and when it was linked; it ends with a zero, and is in the
            // image's memory, which is freed after the registration.
            _frames: frames.map(|start| unsafe { Registration::new(start) }),
            memory,
        };
        if let Some(handle) = handle {
            exit::open(handle);
        }
        image.name_functions();
        Ok(image)
    }

    /// Finds the addresses of indirect functions, and runs the constructors. A second call does nothing.
    ///
    /// # Safety
    /// They return, and do nothing that is undefined behaviour in this process.
    pub unsafe fn start(&self) -> Result<(), Error> {
        let mut started = self.started.lock().unwrap_or_else(PoisonError::into_inner);
        if *started {
            return Ok(());
        }
        let arguments = startup::resolver_arguments();
        for (resolver, slot) in &self.indirect {
            // SAFETY: the caller vouches for the function. It takes two words at most.
            let address = unsafe { runtime().call(*resolver, &arguments) }?;
            // SAFETY: the slot is in the image's data, which is read-write, and aligned. Until now nobody has called
            // through it: functions are handed out when the image is started.
            unsafe { (*slot as *mut u64).write(address as u64) };
        }
        *started = true;
        self.is_ready.store(true, Ordering::Release);
        for constructor in &self.constructors {
            // SAFETY: the caller vouches for the constructors.
            unsafe { runtime().call(*constructor, &startup::arguments()) }?;
        }
        Ok(())
    }

    /// Names the functions for debuggers and profilers. With nobody who listens nothing is done; and who can't be told has
    /// lost a name, no more.
    fn name_functions(&self) {
        for (name, place) in self.symbols.iter().filter(|(_, place)| place.is_code && place.size > 0) {
            if let Ok(name) = CString::new(name.as_str()) {
                let _ = runtime().set_name(place.address as i64, place.size as i64, &name);
            }
        }
    }

    /// A symbol by its name.
    pub fn place(&self, name: &str) -> Option<Place> {
        self.symbols.get(name).copied()
    }

    /// Whether functions can be called: indirect ones have no address before the start.
    pub fn is_ready(&self) -> bool {
        self.indirect.is_empty() || self.is_ready.load(Ordering::Acquire)
    }

    /// Whether indirect branches to a symbol end well.
    pub fn can_be_called(&self, place: Place) -> bool {
        place.is_pad || !self.is_guarded
    }

    /// The names of all functions, or of all data.
    pub fn names(&self, is_code: bool) -> Vec<String> {
        let names = self.symbols.iter().filter(|(_, place)| place.is_code == is_code);
        names.map(|(name, _)| name.clone()).collect()
    }

    /// The symbol that an address is in or behind, and how far behind its start.
    pub fn symbol_at(&self, address: usize) -> Option<(&str, usize)> {
        let is_inside = |segment: &Segment| address.wrapping_sub(segment.address) < segment.size;
        let segment = self.segments.iter().find(|segment| is_inside(segment))?;
        let candidates = self
            .symbols
            .iter()
            .filter(|(_, place)| place.address <= address && place.address >= segment.address);
        let (name, place) = candidates.max_by_key(|(_, place)| place.address)?;
        Some((name, address - place.address))
    }

    /// Code, read-only data and data, without those that are empty.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The objects, and the members of archives, of which something is linked.
    pub fn files(&self) -> &[String] {
        &self.files
    }

    /// Bytes of the mappings that are the image's own.
    pub fn mapped(&self) -> usize {
        self.memory.mapped()
    }
}

impl Drop for Image {
    fn drop(&mut self) {
        if let Some(handle) = self.handle {
            // SAFETY: only code of the image has registered calls, and whoever called that has vouched for it.
            unsafe { exit::run(handle) };
            exit::close(handle);
        }
        let started = *self.started.get_mut().unwrap_or_else(PoisonError::into_inner);
        for destructor in self.destructors.iter().filter(|_| started) {
            // SAFETY: whoever started the image has vouched for the destructors, and the memory is still there. If
            // one can't be called there is nobody to tell.
            let _ = unsafe { runtime().call(*destructor, &[]) };
        }
    }
}

/// The layout: a block's, if the object is small and has no data, which would need a mapping anyway.
fn shape(object: &ObjectFile<'_>, imports: &Imports) -> Result<Layout, Error> {
    let block = Layout::new(object, imports, Shape::Block)?;
    let [code, data] = block.sizes();
    match code <= BLOCK_LIMIT && data == 0 && block.alignments[0] <= BLOCK_ALIGNMENT {
        true => Ok(block),
        false => Layout::new(object, imports, Shape::Pages(runtime().page_size() as u64)),
    }
}

fn indirect(object: &ObjectFile<'_>, layout: &Layout, bases: crate::layout::Bases) -> Vec<(i64, u64)> {
    let symbols = object.symbols.iter().zip(&layout.stubs).filter(|(symbol, _)| symbol.is_indirect);
    let pair = |(symbol, stub): (&crate::object_file::Symbol<'_>, &Option<crate::layout::Stub>)| {
        let Definition::InSection { section, offset } = symbol.definition else { return None };
        let start = layout.address(bases, layout.sections[section]?);
        Some((start.wrapping_add(offset) as i64, layout.address(bases, stub.as_ref()?.entry)))
    };
    symbols.filter_map(pair).collect()
}

fn has_landing_pad(section: &Section<'_>, offset: u64) -> bool {
    let bytes = usize::try_from(offset).ok().and_then(|offset| section.data.get(offset..)?.first_chunk());
    bytes.is_some_and(|bytes| is_aarch64_landing_pad(u32::from_le_bytes(*bytes)))
}

/// The named symbols and where they are. Global ones come last, and so go before static ones of the same name.
fn symbols(
    object: &ObjectFile<'_>,
    layout: &Layout,
    address: &dyn Fn(usize) -> Result<u64, Error>,
) -> BTreeMap<String, Place> {
    let mut places = BTreeMap::new();
    for is_global in [false, true] {
        for (index, symbol) in object.symbols.iter().enumerate() {
            if symbol.is_global != is_global || !symbol.is_name() {
                continue;
            }
            let (is_code, is_pad) = match symbol.definition {
                Definition::InSection { section, offset } => {
                    let home = &object.sections[section];
                    let is_code = home.kind == SectionKind::Code;
                    // An assembler lets a symbol be anywhere. At a section's end there is data of no bytes at most.
                    if layout.sections[section].is_none()
                        || offset > home.size
                        || is_code && (offset == home.size || !symbol.may_be_function)
                        || symbol.name == home.name
                    {
                        continue;
                    }
                    // An indirect function's stub has a pad. So has the function that is called to choose, where it can be.
                    (is_code, has_landing_pad(home, offset))
                }
                Definition::Common { .. } => (false, false),
                _ => continue,
            };
            if let Ok(address) = address(index) {
                let place = Place { address: address as usize, size: symbol.size, is_code, is_pad };
                places.insert(symbol.name.to_string(), place);
            }
        }
    }
    places
}
