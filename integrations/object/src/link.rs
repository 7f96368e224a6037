//! From an object, its layout and its imports to the bytes that run where the mappings are.

use crate::error::{Error, Misfit};
use crate::import::Imports;
use crate::layout::{Bases, Layout, needs_stub};
use crate::object_file::{Definition, ObjectFile, Relocation, Section};
use crate::relocate::{Field, Form, Origin, STUB, Target};

/// The bytes of the whole range, relocated. The zeroes at its end are left out.
pub fn link(
    object: &ObjectFile<'_>,
    layout: &Layout,
    imports: &Imports,
    bases: Bases,
) -> Result<Vec<u8>, Error> {
    Linker { object, layout, imports, bases }.link()
}

struct Linker<'a> {
    object: &'a ObjectFile<'a>,
    layout: &'a Layout,
    imports: &'a Imports,
    bases: Bases,
}

impl Linker<'_> {
    fn link(&self) -> Result<Vec<u8>, Error> {
        let mut image = Vec::new();
        let length = self.layout.initialised as usize;
        // There may be less memory than the sections need.
        image.try_reserve_exact(length).map_err(|_| Error::Memory(execmem::Error::NoMemory))?;
        image.resize(length, 0);

        self.write_got(&mut image)?;
        self.write_stubs(&mut image)?;
        for (index, section) in self.object.loaded() {
            let Some(start) = self.layout.sections[index] else { continue };
            // A section without bytes may begin behind the image's end.
            let bytes = image.get_mut(start as usize..).unwrap_or_default();
            let bytes = &mut bytes[..section.data.len()];
            bytes.copy_from_slice(section.data);
            for relocation in &section.relocations {
                self.relocate(section, self.at(start), bytes, relocation)?;
            }
        }
        Ok(image)
    }

    /// The address of what is at an offset of the layout.
    fn at(&self, offset: u64) -> u64 {
        self.layout.address(self.bases, offset)
    }

    fn write_got(&self, image: &mut [u8]) -> Result<(), Error> {
        for (symbol, entry) in self.layout.got_entries.iter().enumerate() {
            if let Some(entry) = *entry {
                let address = self.symbol(symbol)?;
                image[entry as usize..][..8].copy_from_slice(&address.to_le_bytes());
            }
        }
        Ok(())
    }

    fn write_stubs(&self, image: &mut [u8]) -> Result<(), Error> {
        for (stub, import) in self.layout.stubs.iter().zip(self.imports) {
            let (Some(stub), Some(import)) = (stub, import) else { continue };
            // The GOT is out of a stub's reach only if there are more than 2 GiB between them.
            let code = self.object.architecture.stub(self.at(stub.code), self.at(stub.entry));
            let code = code.map_err(|_| Error::TooLarge)?;
            image[stub.code as usize..][..STUB as usize].copy_from_slice(&code);
            image[stub.entry as usize..][..8].copy_from_slice(&(import.address as u64).to_le_bytes());
        }
        Ok(())
    }

    fn relocate(
        &self,
        section: &Section<'_>,
        start: u64,
        bytes: &mut [u8],
        relocation: &Relocation,
    ) -> Result<(), Error> {
        // There is one: the layout has refused unknown relocations.
        let Some(form) = self.object.architecture.form(relocation.kind) else { return Ok(()) };
        let outside = || Error::Damaged(format!("a relocation is outside of its section {}", section.name));
        let offset = usize::try_from(relocation.offset).map_err(|_| outside())?;
        let place = start.wrapping_add(relocation.offset);
        let target = self.target(form, relocation)?.wrapping_add_signed(relocation.addend);
        let origin = match form.origin {
            Origin::Place => place,
            Origin::Got => self.at(self.layout.got),
        };
        let misfit = |misfit| self.misfit(misfit, section, relocation);
        let bytes = bytes.get_mut(offset..).ok_or_else(outside)?;
        match form.field {
            Field::Word(write) => {
                let bytes: &mut [u8; 4] = bytes.first_chunk_mut().ok_or_else(outside)?;
                *bytes = write(u32::from_le_bytes(*bytes), target, origin).map_err(misfit)?.to_le_bytes();
            }
            Field::Quad(write) => {
                let bytes: &mut [u8; 8] = bytes.first_chunk_mut().ok_or_else(outside)?;
                *bytes = write(target, origin).to_le_bytes();
            }
        }
        Ok(())
    }

    /// The address that a relocation points to, without its addend.
    fn target(&self, form: Form, relocation: &Relocation) -> Result<u64, Error> {
        let symbol = relocation.symbol;
        let part = |offset: Option<u64>| match offset {
            Some(offset) => Ok(self.at(offset)),
            None => Err(Error::Damaged("a relocation without its stub or GOT entry".into())),
        };
        match form.target {
            Target::Got => Ok(self.at(self.layout.got)),
            Target::GotEntry if relocation.addend != 0 && !self.object.architecture.allows_got_addend() => {
                Err(Error::Unsupported("relocations that refer to an entry of the GOT with an addend".into()))
            }
            Target::GotEntry => part(self.layout.got_entries[symbol]),
            target if needs_stub(target, self.imports[symbol]) => {
                part(self.layout.stubs[symbol].map(|stub| stub.code))
            }
            _ => self.symbol(symbol),
        }
    }

    /// The address of a symbol. It is the same wherever it is taken.
    fn symbol(&self, index: usize) -> Result<u64, Error> {
        match self.object.symbols[index].definition {
            Definition::Undefined { .. } => match self.layout.stubs[index] {
                Some(stub) if stub.is_function => Ok(self.at(stub.code)),
                _ => Ok(self.imports[index].map_or(0, |import| import.address as u64)),
            },
            Definition::Absolute(value) => Ok(value),
            Definition::Common { .. } => Ok(self.at(self.layout.commons[index].unwrap_or(0))),
            Definition::Got => Ok(self.at(self.layout.got)),
            Definition::InSection { section, offset } => match self.layout.sections[section] {
                Some(start) => Ok(self.at(start).wrapping_add(offset)),
                None => {
                    let name = &self.object.sections[section].name;
                    Err(Error::Unsupported(format!("references to {name}, which is not loaded")))
                }
            },
        }
    }

    fn misfit(&self, misfit: Misfit, section: &Section<'_>, relocation: &Relocation) -> Error {
        Error::Misfit {
            misfit,
            relocation: self.object.architecture.relocation_name(relocation.kind),
            place: format!("{}+{:#x}", section.name, relocation.offset),
            symbol: self.object.symbols[relocation.symbol].name.to_string(),
        }
    }
}
