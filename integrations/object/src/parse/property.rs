//! What an ELF file says of itself in its properties (`.note.gnu.property`), of which one matters here.
//!
//! The format is in "Linux Extensions to gABI", 2.1.7, the property in "ELF for the Arm 64-bit Architecture", 6.1.

use crate::error::Error;
use object::LittleEndian;
use object::elf::{self, SectionHeader64};
use object::read::elf::SectionHeader;

type Header = SectionHeader64<LittleEndian>;

/// Whether a section has properties.
pub fn is_properties(section: &Header, name: &str) -> bool {
    name == ".note.gnu.property" && section.sh_type(LittleEndian) == elf::SHT_NOTE
}

/// Whether code for aarch64 has landing pads wherever an indirect branch may end: the property's bit, if such a section
/// has the property. Of several, all must have the bit.
pub fn has_landing_pads(section: &Header, file: &[u8]) -> Result<Option<bool>, Error> {
    let mut found = None;
    let Some(mut notes) = SectionHeader::notes(section, LittleEndian, file)? else { return Ok(None) };
    while let Some(note) = notes.next()? {
        let Some(mut properties) = note.gnu_properties(LittleEndian) else { continue };
        while let Some(property) = properties.next()? {
            if property.pr_type() == elf::GNU_PROPERTY_AARCH64_FEATURE_1_AND {
                let has_bit = property.data_u32(LittleEndian)? & elf::GNU_PROPERTY_AARCH64_FEATURE_1_BTI != 0;
                found = Some(found.unwrap_or(true) && has_bit);
            }
        }
    }
    Ok(found)
}
