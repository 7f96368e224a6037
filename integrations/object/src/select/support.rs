//! What objects expect to be linked with each program, and no library has for them.

use crate::architecture::Architecture;
use crate::object_file::{Definition, High, ObjectFile, Relocation, Section, SectionKind, Symbol};
use object::elf::{self, RelocationType};
use std::borrow::Cow;

/// The names that [`support`] defines. `__dso_handle` is what tells this image's destructors from others. A program's
/// own `atexit` passes it on.
pub const NAMES: [&str; 2] = ["__dso_handle", "atexit"];

/// An instruction or two, in their bytes, and the symbol that they refer to.
type Piece = (&'static [u8], Option<(RelocationType, usize)>);

const HANDLE: usize = 0;
const REGISTER: usize = 2;

/// `atexit(function)` is `__cxa_atexit(function, 0, &__dso_handle)`.
fn code(architecture: Architecture) -> &'static [Piece] {
    match architecture {
        Architecture::X86_64 => &[
            (&[0x31, 0xf6], None),       // xor esi, esi
            (&[0x48, 0x8d, 0x15], None), // lea rdx, [rip + ...]
            (&[0, 0, 0, 0], Some((elf::R_X86_64_PC32, HANDLE))),
            (&[0xe9], None), // jmp
            (&[0, 0, 0, 0], Some((elf::R_X86_64_PLT32, REGISTER))),
        ],
        Architecture::Aarch64 => &[
            (&[0x5f, 0x24, 0x03, 0xd5], None), // bti c
            (&[0x01, 0x00, 0x80, 0xd2], None), // mov x1, #0
            (&[0x02, 0x00, 0x00, 0x90], Some((elf::R_AARCH64_ADR_PREL_PG_HI21, HANDLE))),
            (&[0x42, 0x00, 0x00, 0x91], Some((elf::R_AARCH64_ADD_ABS_LO12_NC, HANDLE))),
            (&[0x00, 0x00, 0x00, 0x14], Some((elf::R_AARCH64_JUMP26, REGISTER))),
        ],
        Architecture::Riscv64 => &[
            (&[0x93, 0x05, 0x00, 0x00], None), // li a1, 0
            (&[0x17, 0x06, 0x00, 0x00], Some((elf::R_RISCV_PCREL_HI20, HANDLE))),
            (&[0x13, 0x06, 0x06, 0x00], Some((elf::R_RISCV_PCREL_LO12_I, HANDLE))),
            // auipc t1, ...; jr ...(t1)
            (&[0x17, 0x03, 0, 0, 0x67, 0x00, 0x03, 0x00], Some((elf::R_RISCV_CALL_PLT, REGISTER))),
        ],
    }
}

/// An object that defines [`NAMES`].
pub fn support(architecture: Architecture) -> ObjectFile<'static> {
    let mut object = ObjectFile::empty(architecture);
    let mut bytes = Vec::new();
    let mut relocations: Vec<Relocation> = Vec::new();
    for (piece, reference) in code(architecture) {
        if let Some((kind, symbol)) = *reference {
            // x86_64 counts from the end of the field.
            let addend = if architecture == Architecture::X86_64 { -4 } else { 0 };
            let high = relocations.last().filter(|_| kind == elf::R_RISCV_PCREL_LO12_I);
            let high = high.map(|high| High { offset: high.offset, kind: high.kind });
            relocations.push(Relocation { offset: bytes.len() as u64, kind, symbol, addend, high });
        }
        bytes.extend(*piece);
    }
    let handle = Section::new(".data".into(), SectionKind::Data, Cow::Borrowed(&[0; 8]), 8);
    let code = Section::new(".text".into(), SectionKind::Code, bytes.into(), 16);
    object.sections = vec![handle, Section { relocations, has_landing_pads: true, ..code }];
    let symbol = |name: &'static str, definition| Symbol {
        name: name.into(),
        definition,
        size: 0,
        may_be_function: name == "atexit",
        is_global: true,
        is_weak: true,
        is_thread_local: false,
        is_indirect: false,
    };
    object.symbols = vec![
        symbol(NAMES[0], Definition::InSection { section: 0, offset: 0 }),
        symbol(NAMES[1], Definition::InSection { section: 1, offset: 0 }),
        symbol("__cxa_atexit", Definition::Undefined { weak: false }),
    ];
    object
}
