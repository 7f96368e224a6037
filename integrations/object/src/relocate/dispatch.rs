//! The rules of each architecture, behind one name.

use super::form::{Form, STUB};
use super::{aarch64, riscv64, x86_64};
use crate::architecture::Architecture;
use crate::error::Misfit;
use crate::object_file::Relocation;
use object::elf;

impl Architecture {
    /// What a relocation number asks for; `None` if it is unknown.
    const fn form_of_kind(self, kind: elf::RelocationType) -> Option<Form> {
        match self {
            Self::X86_64 => x86_64::form(kind),
            Self::Aarch64 => aarch64::form(kind),
            Self::Riscv64 => riscv64::form(kind),
        }
    }

    /// Whether a relocation number asks for nothing. AAELF64 has two such numbers. RISC-V's `RELAX` allows shorter
    /// instructions where they reach, and asks for none.
    pub(crate) const fn is_nothing(self, kind: elf::RelocationType) -> bool {
        match self {
            Self::X86_64 => kind.0 == elf::R_X86_64_NONE.0,
            Self::Aarch64 => matches!(kind.0, 0 | 256),
            Self::Riscv64 => kind.0 == elf::R_RISCV_NONE.0 || kind.0 == elf::R_RISCV_RELAX.0,
        }
    }

    /// The code at `place` that jumps to the address in the GOT entry at `entry`. It changes no register that a
    /// call keeps.
    pub(crate) fn stub(self, place: u64, entry: u64) -> Result<[u8; STUB as usize], Misfit> {
        match self {
            Self::X86_64 => x86_64::stub(place, entry),
            Self::Aarch64 => aarch64::stub(place, entry),
            Self::Riscv64 => riscv64::stub(place, entry),
        }
    }

    /// What a relocation asks for. The low half of a pair has the target of the other half.
    pub(crate) fn form(self, relocation: &Relocation) -> Option<Form> {
        let form = self.form_of_kind(relocation.kind)?;
        match &relocation.high {
            Some(high) => Some(Form { target: self.form_of_kind(high.kind)?.target, ..form }),
            None => Some(form),
        }
    }

    /// Whether a relocation may point behind the start of a GOT entry, by its addend. AAELF64 has the entry hold
    /// symbol and addend instead. Compilers don't ask for that.
    pub(crate) const fn allows_got_addend(self) -> bool {
        matches!(self, Self::X86_64)
    }
}
