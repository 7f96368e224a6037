//! The architectures that objects can be loaded for.

use object::elf;
use std::fmt;

/// An architecture whose relocations are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Architecture {
    /// x86-64, also called AMD64.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
    /// 64-bit RISC-V.
    Riscv64,
}

impl Architecture {
    /// The one with this ELF number.
    pub(crate) fn from_machine(machine: elf::Machine) -> Option<Self> {
        [Self::X86_64, Self::Aarch64, Self::Riscv64]
            .into_iter()
            .find(|architecture| architecture.machine() == machine)
    }

    /// Its ELF number.
    const fn machine(self) -> elf::Machine {
        match self {
            Self::X86_64 => elf::EM_X86_64,
            Self::Aarch64 => elf::EM_AARCH64,
            Self::Riscv64 => elf::EM_RISCV,
        }
    }

    /// Whether this program runs on it.
    pub(crate) fn is_host(self) -> bool {
        match self {
            Self::X86_64 => cfg!(target_arch = "x86_64"),
            Self::Aarch64 => cfg!(target_arch = "aarch64"),
            Self::Riscv64 => cfg!(target_arch = "riscv64"),
        }
    }

    /// A relocation's name in the psABI, or its number.
    pub(crate) fn relocation_name(self, kind: elf::RelocationType) -> String {
        match elf::machine_names(self.machine()).r.name(kind) {
            Some(name) => name.to_string(),
            None => format!("number {}", kind.0),
        }
    }
}

impl fmt::Display for Architecture {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Riscv64 => "riscv64",
        })
    }
}
