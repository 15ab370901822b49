//! The debug information of one cell, as a flat list of what matters here: types, functions, and vtables.
//!
//! A companion object (`NAME.debug.o`) is relocatable, so addresses in it are zeros with relocations. They are written in
//! first, each section standing at an address of its own: its number in the upper half, the offset in the lower. An
//! address then says section and offset.

use anyhow::{Context, Result};
use gimli::{AttributeValue, Dwarf, EndianSlice, EntriesRaw, LittleEndian, SectionId, Unit, constants as dw};
use object::LittleEndian as Le;
use object::elf::{self, FileHeader64};
use object::read::elf::{FileHeader, Rela, SectionHeader, SectionTable, Sym, SymbolTable};
use std::collections::HashMap;

type Header = FileHeader64<Le>;
type Slice<'d> = EndianSlice<'d, LittleEndian>;

/// Bits of an address below the number of its section.
const SECTION_SHIFT: u32 = 32;
/// Nothing: the number of no node.
pub const NONE: u32 = u32::MAX;

/// The address of a place in a section.
pub fn address(section: u64, offset: u64) -> u64 {
    section << SECTION_SHIFT | offset
}

/// Section and offset of an address.
pub fn section(address: u64) -> (u64, u64) {
    (address >> SECTION_SHIFT, address & u64::from(u32::MAX))
}

/// A companion object whose debug sections have been relocated.
pub struct Companion {
    debug: HashMap<&'static str, Vec<u8>>,
    /// Names of functions, by address.
    pub functions: HashMap<u64, String>,
    /// Numbers of the sections that are part of a program, in their order.
    pub allocated: Vec<u64>,
    /// Of sections with constants: where each relocated word leads, as the name of a function, or nothing if to data.
    words: HashMap<u64, Option<String>>,
}

/// The sections that are read.
const WANTED: [SectionId; 7] = [
    SectionId::DebugAbbrev,
    SectionId::DebugInfo,
    SectionId::DebugLine,
    SectionId::DebugLineStr,
    SectionId::DebugLoc,
    SectionId::DebugRanges,
    SectionId::DebugStr,
];

impl Companion {
    /// Reads an object with debug information.
    ///
    /// # Errors
    /// It is no ELF object, or damaged.
    pub fn read(bytes: &[u8]) -> Result<Companion> {
        let header = Header::parse(bytes).context("not an ELF64 object")?;
        let sections = header.sections(Le, bytes).context("its sections cannot be read")?;
        let symbols = sections.symbols(Le, bytes, elf::SHT_SYMTAB).context("its symbols cannot be read")?;
        let mut companion = Companion {
            debug: HashMap::new(),
            functions: HashMap::new(),
            allocated: Vec::new(),
            words: HashMap::new(),
        };
        for symbol in symbols.iter().filter(|symbol| symbol.st_type() == elf::STT_FUNC) {
            let at = address(symbol.st_shndx(Le).0.into(), symbol.st_value(Le));
            let name = String::from_utf8_lossy(symbol.name(Le, symbols.strings())?).into_owned();
            companion.functions.entry(at).or_insert(name);
        }
        for (number, section) in sections.enumerate() {
            if section.sh_flags(Le).0 & elf::SHF_ALLOC.0 != 0 {
                companion.allocated.push(number.0 as u64);
            }
            let name = sections.section_name(Le, section).unwrap_or_default();
            if let Some(wanted) = WANTED.iter().find(|id| id.name().as_bytes() == name) {
                let data =
                    section.data(Le, bytes).with_context(|| format!("{} reaches past the end", wanted.name()))?;
                companion.debug.insert(wanted.name(), data.to_vec());
            }
        }
        for table in sections.iter() {
            companion.relocate(bytes, &sections, &symbols, table)?;
        }
        Ok(companion)
    }

    fn relocate<'d>(
        &mut self,
        bytes: &'d [u8],
        sections: &SectionTable<'d, Header>,
        symbols: &SymbolTable<'d, Header>,
        table: &elf::SectionHeader64<Le>,
    ) -> Result<()> {
        let Some((entries, _)) = table.rela(Le, bytes).context("relocations cannot be read")? else { return Ok(()) };
        let number = table.sh_info(Le) as usize;
        let of = sections.section(object::SectionIndex(number))?;
        let name = sections.section_name(Le, of)?;
        let debug = WANTED.iter().find(|id| id.name().as_bytes() == name).and_then(|id| self.debug.get_mut(id.name()));
        let is_constant = of.sh_type(Le) == elf::SHT_PROGBITS && name.starts_with(b".rodata");
        let mut words = Vec::new();
        if debug.is_none() && !is_constant {
            return Ok(());
        }
        let mut debug = debug;
        for entry in entries {
            let symbol = symbols.symbol(object::SymbolIndex(entry.r_sym(Le, false) as usize))?;
            let section = symbol.st_shndx(Le);
            let value = symbol.st_value(Le).wrapping_add_signed(entry.r_addend(Le));
            let at = entry.r_offset(Le);
            let Some(debug) = &mut debug else {
                let name = match section.0 {
                    0 => Some(String::from_utf8_lossy(symbol.name(Le, symbols.strings())?).into_owned()),
                    _ => self.functions.get(&address(section.0.into(), value)).cloned(),
                };
                words.push((address(number as u64, at), name));
                continue;
            };
            let allocated = sections
                .section(object::SectionIndex(section.0.into()))
                .is_ok_and(|to| to.sh_flags(Le).0 & elf::SHF_ALLOC.0 != 0);
            let value = if allocated { address(section.0.into(), value) } else { value };
            let width = if entry.r_type(Le, false) == elf::R_X86_64_64 { 8 } else { 4 };
            let field = debug.get_mut(at as usize..at as usize + width).context("a relocation lies past the end")?;
            field.copy_from_slice(&value.to_le_bytes()[..width]);
        }
        self.words.extend(words);
        Ok(())
    }

    /// Where a word of a constant leads: nothing if it is plain bytes, else the name of the function, if it is one.
    pub fn word(&self, at: u64) -> Option<Option<&str>> {
        self.words.get(&at).map(|name| name.as_deref())
    }

    /// The debug information, to be read by gimli.
    ///
    /// # Errors
    /// There is none.
    pub fn dwarf(&self) -> Result<Dwarf<Slice<'_>>> {
        let load = |id: SectionId| -> Result<Slice<'_>, gimli::Error> {
            let bytes = self.debug.get(id.name()).map_or(&[][..], Vec::as_slice);
            Ok(EndianSlice::new(bytes, LittleEndian))
        };
        Ok(Dwarf::load(load)?)
    }
}

/// A member of an enum's variant, an enumerator, a parameter, whatever has a name, a type and a number.
#[derive(Clone, Copy, Debug, Default)]
pub struct Attributes<'d> {
    /// Name.
    pub name: Option<&'d str>,
    /// Mangled name.
    pub linkage: Option<&'d str>,
    /// Type, as an offset in the unit.
    pub ty: Option<usize>,
    /// Bytes.
    pub size: Option<u64>,
    /// Alignment in bytes.
    pub align: Option<u64>,
    /// Offset in the type that it is a member of, in bytes.
    pub place: Option<u64>,
    /// Value of a discriminant or enumerator, number of elements.
    pub number: Option<i128>,
    /// Address.
    pub low_pc: Option<u64>,
    /// The entry that this one completes.
    pub origin: Option<usize>,
    /// Line of the declaration.
    pub line: Option<u64>,
    /// For a parameter: the register it is in when the function begins.
    pub register: Option<u16>,
    /// For a variable: where it lies.
    pub variable: Option<u64>,
}

/// One entry of the debug information, with the entry that it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Node<'d> {
    /// What it is.
    pub tag: gimli::DwTag,
    /// Offset in the unit.
    pub offset: usize,
    /// Index of the enclosing entry, [`NONE`] at the top.
    pub parent: u32,
    /// What it says.
    pub attributes: Attributes<'d>,
}

/// Whether entries of this kind are kept; what they enclose belongs to the entry around them otherwise.
fn is_kept(tag: gimli::DwTag) -> bool {
    !matches!(
        tag,
        dw::DW_TAG_compile_unit
            | dw::DW_TAG_lexical_block
            | dw::DW_TAG_GNU_call_site
            | dw::DW_TAG_GNU_call_site_parameter
            | dw::DW_TAG_call_site
            | dw::DW_TAG_call_site_parameter
    )
}

/// Reads the entries of a companion.
///
/// # Errors
/// The debug information is damaged.
pub fn nodes<'d>(dwarf: &Dwarf<Slice<'d>>) -> Result<Vec<Node<'d>>> {
    let mut nodes = Vec::new();
    let mut units = dwarf.units();
    // One crate is one unit; offsets of further ones would have to be told apart.
    if let Some(header) = units.next()? {
        let unit = dwarf.unit(header)?;
        let mut entries = unit.entries_raw(None)?;
        let mut open: Vec<(isize, u32)> = Vec::new();
        while !entries.is_empty() {
            let (depth, offset) = (entries.next_depth(), entries.next_offset().0);
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            while open.last().is_some_and(|&(outer, _)| outer >= depth) {
                open.pop();
            }
            let tag = abbreviation.tag();
            let parent = open.last().map_or(NONE, |&(_, node)| node);
            let in_body = |node: u32| node != NONE && nodes_tag(&nodes, node) == dw::DW_TAG_inlined_subroutine;
            // Of an inlined call only that it is there matters, and calls inside it.
            let skip = !is_kept(tag)
                || (tag == dw::DW_TAG_variable && parent != NONE && nodes_tag(&nodes, parent) != dw::DW_TAG_namespace)
                || (in_body(parent) && tag != dw::DW_TAG_inlined_subroutine);
            if skip {
                entries.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let attributes = attributes(dwarf, &unit, &mut entries, abbreviation)?;
            if abbreviation.has_children() {
                open.push((depth, nodes.len() as u32));
            }
            nodes.push(Node { tag, offset, parent, attributes });
        }
    }
    anyhow::ensure!(units.next()?.is_none(), "more than one compilation unit in one crate");
    Ok(nodes)
}

/// What each function handles: by the function's offset, the types of its parameters and variables, and of those that were
/// inlined into it, as offsets.
///
/// # Errors
/// The debug information is damaged.
pub fn handled(dwarf: &Dwarf<Slice<'_>>) -> Result<HashMap<usize, Vec<usize>>> {
    // Of each variable: its type, the variable that it stands for, and the function around it.
    let mut variables: HashMap<usize, (Option<usize>, Option<usize>)> = HashMap::new();
    let mut inside: Vec<(usize, usize)> = Vec::new();
    let mut units = dwarf.units();
    if let Some(header) = units.next()? {
        let unit = dwarf.unit(header)?;
        let mut entries = unit.entries_raw(None)?;
        let mut open: Vec<(isize, usize)> = Vec::new();
        while !entries.is_empty() {
            let (depth, offset) = (entries.next_depth(), entries.next_offset().0);
            let Some(abbreviation) = entries.read_abbreviation()? else { continue };
            while open.last().is_some_and(|&(outer, _)| outer >= depth) {
                open.pop();
            }
            match abbreviation.tag() {
                dw::DW_TAG_subprogram if abbreviation.has_children() => open.push((depth, offset)),
                dw::DW_TAG_variable | dw::DW_TAG_formal_parameter => {
                    let found = attributes(dwarf, &unit, &mut entries, abbreviation)?;
                    variables.insert(offset, (found.ty, found.origin));
                    inside.extend(open.last().map(|&(_, function)| (function, offset)));
                    continue;
                }
                _ => {}
            }
            entries.skip_attributes(abbreviation.attributes())?;
        }
    }
    let mut handled: HashMap<usize, Vec<usize>> = HashMap::new();
    for (function, mut variable) in inside {
        // A variable of an inlined call stands for the one of the function that was inlined; chains are short.
        for _ in 0..8 {
            match variables.get(&variable) {
                Some(&(Some(ty), _)) => {
                    handled.entry(function).or_default().push(ty);
                    break;
                }
                Some(&(None, Some(origin))) => variable = origin,
                _ => break,
            }
        }
    }
    Ok(handled)
}

fn nodes_tag(nodes: &[Node<'_>], node: u32) -> gimli::DwTag {
    nodes[node as usize].tag
}

fn attributes<'d>(
    dwarf: &Dwarf<Slice<'d>>,
    unit: &Unit<Slice<'d>>,
    entries: &mut EntriesRaw<'_, Slice<'d>>,
    abbreviation: &gimli::Abbreviation,
) -> Result<Attributes<'d>> {
    let mut found = Attributes::default();
    for &specification in abbreviation.attributes() {
        let attribute = entries.read_attribute(specification)?;
        let text = || -> Result<&'d str> { Ok(dwarf.attr_string(unit, attribute.value())?.to_string()?) };
        let reference = || match attribute.value() {
            AttributeValue::UnitRef(offset) => Some(offset.0),
            _ => None,
        };
        match attribute.name() {
            dw::DW_AT_name => found.name = Some(text()?),
            dw::DW_AT_linkage_name => found.linkage = Some(text()?),
            dw::DW_AT_type => found.ty = reference(),
            dw::DW_AT_byte_size => found.size = attribute.udata_value(),
            dw::DW_AT_alignment => found.align = attribute.udata_value(),
            dw::DW_AT_data_member_location => found.place = attribute.udata_value(),
            dw::DW_AT_discr_value | dw::DW_AT_const_value | dw::DW_AT_count => {
                found.number = number(&attribute.value())
            }
            dw::DW_AT_low_pc => {
                if let AttributeValue::Addr(address) = attribute.value() {
                    found.low_pc = Some(address);
                }
            }
            dw::DW_AT_abstract_origin | dw::DW_AT_specification => found.origin = reference(),
            dw::DW_AT_decl_line => found.line = attribute.udata_value(),
            dw::DW_AT_location if abbreviation.tag() == dw::DW_TAG_formal_parameter => {
                found.register = register_at_entry(dwarf, unit, attribute.value())?;
            }
            dw::DW_AT_location => found.variable = place_of_variable(&attribute.value()),
            _ => {}
        }
    }
    Ok(found)
}

/// The value of a discriminant, an enumerator, or a count, whatever its form. Forms without a sign say nothing of it: the
/// bits are what is compared.
fn number(value: &AttributeValue<Slice<'_>>) -> Option<i128> {
    match value {
        AttributeValue::Block(bytes) => {
            let mut wide = [0; 16];
            let bytes = bytes.slice();
            wide.get_mut(..bytes.len())?.copy_from_slice(bytes);
            Some(i128::from_le_bytes(wide))
        }
        AttributeValue::Sdata(number) => Some((*number).into()),
        _ => value.udata_value().map(i128::from).or(value.sdata_value().map(i128::from)),
    }
}

fn place_of_variable(value: &AttributeValue<Slice<'_>>) -> Option<u64> {
    let AttributeValue::Exprloc(expression) = value else { return None };
    let bytes = expression.0.slice();
    let address: [u8; 8] = bytes.get(1..9)?.try_into().ok()?;
    (bytes.len() == 9 && bytes[0] == dw::DW_OP_addr.0).then(|| u64::from_le_bytes(address))
}

/// The register a parameter is in when its function begins, if it is in one and the debug information says so. A list of
/// places says so if its first begins where the function does, which is where its section does.
fn register_at_entry<'d>(
    dwarf: &Dwarf<Slice<'d>>,
    unit: &Unit<Slice<'d>>,
    value: AttributeValue<Slice<'d>>,
) -> Result<Option<u16>> {
    /// rdx, rcx, rsi, rdi, r8, r9: what parameters are passed in.
    const PASSING: [u16; 6] = [1, 2, 4, 5, 8, 9];
    let expression = match value {
        AttributeValue::Exprloc(expression) => Some(expression),
        AttributeValue::LocationListsRef(_) | AttributeValue::SecOffset(_) => {
            match dwarf.attr_locations(unit, value)? {
                Some(mut list) => {
                    list.next()?.filter(|entry| entry.range.begin & u64::from(u32::MAX) == 0).map(|entry| entry.data)
                }
                None => None,
            }
        }
        _ => None,
    };
    let Some(expression) = expression else { return Ok(None) };
    let bytes = expression.0.slice();
    let register =
        bytes.first().and_then(|&first| first.checked_sub(dw::DW_OP_reg0.0)).filter(|&register| register < 32);
    Ok(register.map(u16::from).filter(|register| bytes.len() == 1 && PASSING.contains(register)))
}
