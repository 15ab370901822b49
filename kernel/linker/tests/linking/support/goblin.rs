//! The second reader.

use goblin::elf::{Elf, section_header};
use linker::{Binding, Object, RelocationKind, SymbolKind};

/// Fails unless goblin accepts the bytes too, and sees the same sections, symbols and relocations.
pub fn agree(ours: &Object<'_>) {
    let theirs = Elf::parse(ours.bytes).unwrap_or_else(|error| panic!("goblin refuses what we accept: {error}"));
    let allocated: Vec<usize> =
        (0..theirs.section_headers.len()).filter(|&index| is_allocated(&theirs, index)).collect();
    assert_eq!(ours.sections.len(), allocated.len(), "sections");
    for (section, &index) in ours.sections.iter().zip(&allocated) {
        let header = &theirs.section_headers[index];
        assert_eq!(Some(section.name), theirs.shdr_strtab.get_at(header.sh_name), "a section's name");
        assert_eq!((section.size, section.align), (header.sh_size, header.sh_addralign.max(1)), "size and alignment");
        let bytes = header.file_range().map_or(&[][..], |range| &ours.bytes[range]);
        assert_eq!(section.bytes, bytes, "bytes");
        let of_it =
            theirs.shdr_relocs.iter().filter(|(table, _)| theirs.section_headers[*table].sh_info as usize == index);
        let relocations = of_it.flat_map(|(_, relocations)| relocations.iter());
        let relocations: Vec<_> =
            relocations.map(|r| (r.r_offset, r.r_type, r.r_sym as u32, r.r_addend.unwrap_or(0))).collect();
        let seen: Vec<_> = section.relocations().map(|r| (r.offset, number(r.kind), r.symbol, r.addend)).collect();
        assert_eq!(seen, relocations, "relocations");
    }
    assert_eq!(ours.symbols.len(), theirs.syms.len(), "symbols");
    for (symbol, other) in ours.symbols.iter().zip(theirs.syms.iter()) {
        assert_eq!(Some(ours.name(symbol)), theirs.strtab.get_at(other.st_name), "a symbol's name");
        assert_eq!((symbol.value, symbol.size), (other.st_value, other.st_size), "value and size");
        let section = symbol.section.map(|section| allocated[section as usize]);
        let known = Some(other.st_shndx).filter(|index| allocated.contains(index) && *index != 0);
        assert_eq!(section, known, "a symbol's section");
        let binding = [Binding::Local, Binding::Global, Binding::Weak][usize::from(other.st_bind())];
        assert_eq!(symbol.binding, binding, "binding");
        let kind = [SymbolKind::None, SymbolKind::Object, SymbolKind::Function, SymbolKind::Section, SymbolKind::None];
        assert_eq!(symbol.kind, kind[usize::from(other.st_type())], "kind");
    }
}

fn is_allocated(elf: &Elf<'_>, index: usize) -> bool {
    let header = &elf.section_headers[index];
    header.is_alloc() && header.sh_type != section_header::SHT_NULL
}

fn number(kind: RelocationKind) -> u32 {
    match kind {
        RelocationKind::Absolute64 => 1,
        RelocationKind::Relative32 => 2,
        RelocationKind::Branch32 => 4,
        RelocationKind::Absolute32 => 11,
    }
}
