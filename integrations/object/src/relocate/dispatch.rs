//! The rules of each architecture, behind one name.

use super::form::{Form, STUB};
use super::{aarch64, x86_64};
use crate::architecture::Architecture;
use crate::error::Misfit;
use object::elf;

impl Architecture {
    /// What a relocation number asks for; `None` if it is unknown.
    pub(crate) const fn form(self, kind: elf::RelocationType) -> Option<Form> {
        match self {
            Self::X86_64 => x86_64::form(kind),
            Self::Aarch64 => aarch64::form(kind),
        }
    }

    /// Whether a relocation number asks for nothing. AAELF64 has two such numbers.
    pub(crate) const fn is_nothing(self, kind: elf::RelocationType) -> bool {
        match self {
            Self::X86_64 => kind.0 == elf::R_X86_64_NONE.0,
            Self::Aarch64 => matches!(kind.0, 0 | 256),
        }
    }

    /// The code at `place` that jumps to the address in the GOT entry at `entry`. It changes no register that a
    /// call keeps.
    pub(crate) fn stub(self, place: u64, entry: u64) -> Result<[u8; STUB as usize], Misfit> {
        match self {
            Self::X86_64 => x86_64::stub(place, entry),
            Self::Aarch64 => aarch64::stub(place, entry),
        }
    }

    /// Whether a relocation may point behind the start of a GOT entry, by its addend. AAELF64 has the entry hold
    /// symbol and addend instead. Compilers don't ask for that.
    pub(crate) const fn allows_got_addend(self) -> bool {
        matches!(self, Self::X86_64)
    }
}
