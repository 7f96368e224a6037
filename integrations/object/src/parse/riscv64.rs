//! What RISC-V's objects leave to every linker, also to one that makes no instruction shorter: alignment, and the two
//! halves of an address.

use crate::error::Error;
use crate::object_file::{Definition, High, ObjectFile, Relocation, SectionKind};
use object::elf;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// Takes out the padding that alignment doesn't need. Where instructions may become shorter, the assembler writes as
/// much as could be needed, with a relocation `ALIGN` there; all that lies behind is found by relocations and symbols.
pub fn align(object: &mut ObjectFile<'_>) -> Result<(), Error> {
    for index in 0..object.sections.len() {
        let cuts = cuts(object, index)?;
        if !cuts.is_empty() {
            cut(object, index, &cuts);
        }
    }
    Ok(())
}

/// Bytes to take out of a section.
struct Cut {
    /// Where in the section, as the file has it.
    start: u64,
    size: u64,
    /// What is taken out before it.
    before: u64,
}

/// What to take out of a section. Its relocations for that go, and the padding that stays becomes instructions again.
fn cuts(object: &mut ObjectFile<'_>, index: usize) -> Result<Vec<Cut>, Error> {
    let section = &mut object.sections[index];
    let is_alignment = |relocation: &Relocation| relocation.kind == elf::R_RISCV_ALIGN;
    if section.kind != SectionKind::Code || !section.relocations.iter().any(is_alignment) {
        return Ok(Vec::new());
    }
    let mut places: Vec<_> = section.relocations.iter().filter(|one| is_alignment(one)).copied().collect();
    places.sort_by_key(|place| place.offset);
    section.relocations.retain(|one| !is_alignment(one));
    let damaged = || Error::Damaged(format!("the padding in {} is outside of it", section.name));
    let mut data = section.data.to_vec();
    let (mut cuts, mut removed, mut end) = (Vec::new(), 0, 0);
    for place in places {
        let padding = u64::try_from(place.addend).map_err(|_| damaged())?;
        let close = place.offset.checked_add(padding).filter(|close| *close <= data.len() as u64);
        let close = close.filter(|_| place.offset >= end).ok_or_else(damaged)?;
        end = close;
        // The padding of n bytes is for the next power of two, of which the shortest instruction is subtracted.
        let alignment = (padding + 1).checked_next_power_of_two().ok_or_else(damaged)?;
        section.alignment = section.alignment.max(alignment);
        let start = place.offset - removed;
        let kept = start.next_multiple_of(alignment) - start;
        if kept > padding || kept % 2 != 0 {
            return Err(damaged());
        }
        for word in data[place.offset as usize..][..kept as usize].chunks_mut(4) {
            let no_operation: &[u8] = if word.len() == 4 { &[0x13, 0, 0, 0] } else { &[0x01, 0] };
            word.copy_from_slice(no_operation);
        }
        cuts.push(Cut { start: place.offset + kept, size: padding - kept, before: removed });
        removed += padding - kept;
    }
    section.data = Cow::Owned(data);
    Ok(cuts)
}

fn cut(object: &mut ObjectFile<'_>, index: usize, cuts: &[Cut]) {
    // Where an offset of the file is afterwards.
    let moved = |offset: u64| match cuts.partition_point(|cut| cut.start <= offset).checked_sub(1) {
        None => offset,
        Some(last) => {
            let cut = &cuts[last];
            // What is inside of a cut goes to its start.
            offset - cut.before - cut.size.min(offset - cut.start)
        }
    };
    let section = &mut object.sections[index];
    let mut data = Vec::with_capacity(section.data.len());
    let mut from = 0;
    for cut in cuts {
        data.extend(&section.data[from..cut.start as usize]);
        from = (cut.start + cut.size) as usize;
    }
    data.extend(&section.data[from..]);
    section.size = data.len() as u64;
    section.data = Cow::Owned(data);
    for relocation in &mut section.relocations {
        relocation.offset = moved(relocation.offset);
    }
    for symbol in &mut object.symbols {
        if let Definition::InSection { section, offset } = &mut symbol.definition
            && *section == index
        {
            let end = moved(offset.saturating_add(symbol.size));
            *offset = moved(*offset);
            symbol.size = end - *offset;
        }
    }
}

/// Gives the lower half of each address its upper half. The relocation of the lower one refers to the other
/// instruction, and only that one's relocation says which address they make.
pub fn pair(object: &mut ObjectFile<'_>) -> Result<(), Error> {
    for index in 0..object.sections.len() {
        let is_low =
            |one: &Relocation| one.kind == elf::R_RISCV_PCREL_LO12_I || one.kind == elf::R_RISCV_PCREL_LO12_S;
        // Those of thread-local variables are refused when they are linked.
        let kinds = [
            elf::R_RISCV_PCREL_HI20,
            elf::R_RISCV_GOT_HI20,
            elf::R_RISCV_TLS_GOT_HI20,
            elf::R_RISCV_TLS_GD_HI20,
        ];
        let is_high = |one: &&Relocation| kinds.contains(&one.kind);
        let relocations = &object.sections[index].relocations;
        if !relocations.iter().any(is_low) {
            continue;
        }
        let upper: BTreeMap<u64, Relocation> =
            relocations.iter().filter(is_high).map(|high| (high.offset, *high)).collect();
        let section = &mut object.sections[index];
        for low in section.relocations.iter_mut().filter(|one| is_low(one)) {
            let place = match object.symbols[low.symbol].definition {
                Definition::InSection { section, offset } if section == index => Some(offset),
                _ => None,
            };
            let Some(high) = place.and_then(|place| upper.get(&place)) else {
                return Err(Error::Damaged(format!("half an address in {}", section.name)));
            };
            low.symbol = high.symbol;
            low.addend = high.addend;
            low.high = Some(High { offset: high.offset, kind: high.kind });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::architecture::Architecture;
    use crate::object_file::{Section, Symbol};

    /// Eight bytes of code, six of padding for a multiple of eight, four of code, six of padding, two of code.
    #[test]
    fn padding_that_is_not_needed_goes_and_all_behind_it_moves() {
        let mut code =
            Section::new(".text".into(), SectionKind::Code, (0..26).collect::<Vec<u8>>().into(), 2);
        let relocation = |offset, kind, addend| Relocation { offset, kind, symbol: 0, addend, high: None };
        code.relocations = vec![
            relocation(8, elf::R_RISCV_ALIGN, 6),
            relocation(14, elf::R_RISCV_JAL, 0),
            relocation(18, elf::R_RISCV_ALIGN, 6),
            relocation(24, elf::R_RISCV_RVC_JUMP, 0),
        ];
        let symbol = |offset, size| Symbol {
            name: "f".into(),
            definition: Definition::InSection { section: 0, offset },
            size,
            may_be_function: true,
            is_global: true,
            is_weak: false,
            is_thread_local: false,
            is_indirect: false,
        };
        let mut object = ObjectFile::empty(Architecture::Riscv64);
        object.sections = vec![code];
        object.symbols = vec![symbol(0, 14), symbol(14, 12), symbol(24, 2), symbol(26, 0)];
        align(&mut object).unwrap();
        let section = &object.sections[0];
        let expected = [0, 1, 2, 3, 4, 5, 6, 7, 14, 15, 16, 17, 0x13, 0, 0, 0, 24, 25];
        assert_eq!((&*section.data, section.size, section.alignment), (&expected[..], 18, 8));
        assert_eq!(section.relocations.iter().map(|one| one.offset).collect::<Vec<_>>(), [8, 16]);
        let places = object.symbols.iter().map(|symbol| (symbol.definition, symbol.size));
        let place = |offset, size| (Definition::InSection { section: 0, offset }, size);
        assert_eq!(places.collect::<Vec<_>>(), [place(0, 8), place(8, 10), place(16, 2), place(18, 0)]);
    }

    #[test]
    fn padding_outside_of_its_section_is_damage() {
        for (offset, addend) in [(4, 6), (u64::MAX, 6), (0, -1), (0, i64::MAX)] {
            let mut code = Section::new(".text".into(), SectionKind::Code, vec![0; 8].into(), 2);
            code.relocations =
                vec![Relocation { offset, kind: elf::R_RISCV_ALIGN, symbol: 0, addend, high: None }];
            let mut object = ObjectFile::empty(Architecture::Riscv64);
            object.sections = vec![code];
            assert!(matches!(align(&mut object), Err(Error::Damaged(_))), "{offset} {addend}");
        }
    }
}
