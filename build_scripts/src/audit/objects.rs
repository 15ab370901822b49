//! The rules about cells' objects.

use super::{Subject, Verdict};
use crate::cellset::CellObject;
use crate::{check, hosted};
use anyhow::{Context, Result};
use linker::{Kind, Object, Relocation, RelocationKind, SymbolKind};
use std::collections::{BTreeMap, HashSet};

/// A symbol's name for a person.
fn plain(symbol: &str) -> String {
    format!("{:#}", rustc_demangle::demangle(symbol))
}

/// Runs `look` over every cell's object.
fn each<'a>(subject: &'a Subject, mut look: impl FnMut(&'a CellObject, &Object<'a>) -> Result<()>) -> Result<()> {
    for cell in &subject.cells {
        let object = Object::parse(cell.object.bytes()).with_context(|| format!("cell {}", cell.cell.name))?;
        look(cell, &object)?;
    }
    Ok(())
}

/// Every cell of the manifest is in the archive with the hash the manifest gives, and the id is what they make.
pub fn archive(subject: &Subject) -> Result<Verdict> {
    let mut faults = Vec::new();
    for row in &subject.manifest.cells {
        match subject.cells.iter().find(|cell| cell.cell.name == row.name) {
            None => faults.push(format!("cell {} is not in the archive", row.name)),
            Some(cell) if *blake3::hash(cell.object.bytes()).as_bytes() != row.object_hash => {
                faults.push(format!("cell {} has another hash than the manifest gives", row.name));
            }
            Some(_) => {}
        }
    }
    if subject.manifest.id(|bytes| *blake3::hash(bytes).as_bytes()) != subject.manifest.image_id {
        faults.push("the image id is not the hash of cells and toolchain".to_owned());
    }
    let boot = subject.manifest.cells.iter().filter(|cell| cell.boot).count();
    Ok(Verdict { figures: format!("{} cells, {boot} linked by nano_core", subject.cells.len()), faults })
}

/// The whole image links.
pub fn link(subject: &Subject) -> Result<Verdict> {
    check::link(&subject.cells, &subject.manifest)?;
    Ok(Verdict { figures: "no symbol undefined, doubled, or outside of a namespace".to_owned(), ..Verdict::default() })
}

/// goblin sees in each object what the linker sees.
pub fn second_reader(subject: &Subject) -> Result<Verdict> {
    check::second_reader(&subject.cells)?;
    Ok(Verdict { figures: format!("{} objects", subject.cells.len()), ..Verdict::default() })
}

/// No writable section but caches, per-CPU values and listed statics.
pub fn spill(subject: &Subject) -> Result<Verdict> {
    let rows = hosted::rows(&subject.project)?;
    let (mut faults, mut listed, mut bytes) = (Vec::new(), 0, 0);
    for cell in &subject.cells {
        for found in hosted::statics(cell)? {
            if rows.iter().any(|row| row.cell == found.cell && row.path == found.path) {
                (listed, bytes) = (listed + 1, bytes + found.bytes);
            } else {
                faults.push(format!(
                    "cell {} keeps {} ({} bytes) in a writable section",
                    found.cell, found.path, found.bytes
                ));
            }
        }
    }
    Ok(Verdict { figures: format!("{listed} writable statics, {bytes} bytes, all listed"), faults })
}

/// The list of hosted statics names nothing that is not there, and the manifest has what it names.
pub fn hosted(subject: &Subject) -> Result<Verdict> {
    let mut faults = Vec::new();
    let rows = hosted::rows(&subject.project)?;
    for row in &rows {
        let Some(cell) = subject.cells.iter().find(|cell| cell.cell.name == row.cell) else {
            faults.push(format!("cfg/hosted.toml lists {}, but the image has no cell {}", row.path, row.cell));
            continue;
        };
        let found: Vec<_> = hosted::statics(cell)?.into_iter().filter(|found| found.path == row.path).collect();
        if found.is_empty() {
            faults.push(format!("cfg/hosted.toml lists {}, which cell {} does not have", row.path, row.cell));
        }
        for found in found {
            if !subject.manifest.hosted.iter().any(|h| h.cell == found.cell && h.symbol == found.symbol) {
                faults.push(format!("the manifest does not have the hosted static {}", found.symbol));
            }
        }
    }
    Ok(Verdict { figures: format!("{} rows", rows.len()), faults })
}

/// Every symbol in an executable section is a function with a length, and functions cover every such section. So every
/// address of text has a name, and a copy's frames can be moved function by function.
pub fn functions(subject: &Subject) -> Result<Verdict> {
    let (mut faults, mut count, mut bytes) = (Vec::new(), 0, 0);
    each(subject, |cell, object| {
        let name = &cell.cell.name;
        for (index, section) in object.sections.iter().enumerate().filter(|(_, s)| s.kind == Kind::Text && s.size > 0) {
            let mut spans = Vec::new();
            for symbol in object.symbols.iter().filter(|symbol| symbol.section == Some(index as u32)) {
                match symbol.kind {
                    SymbolKind::Function if symbol.size > 0 => spans.push((symbol.value, symbol.value + symbol.size)),
                    SymbolKind::Section => {}
                    _ => faults.push(format!(
                        "cell {name}: {} in {} is no function with a length",
                        plain(object.name(symbol)),
                        section.name
                    )),
                }
            }
            count += spans.len();
            bytes += section.size;
            if let Some(gap) = first_gap(&mut spans, section.size, section.bytes) {
                faults.push(format!("cell {name}: {} has no function at {gap:#x}", section.name));
            }
        }
        Ok(())
    })?;
    Ok(Verdict { figures: format!("{count} functions, {bytes} bytes"), faults })
}

/// The first byte that no span covers, padding between functions excepted: up to 15 bytes of `nop` or `int3`.
fn first_gap(spans: &mut [(u64, u64)], size: u64, bytes: &[u8]) -> Option<u64> {
    spans.sort_unstable();
    let mut covered = 0;
    let padding = |from: u64, to: u64| {
        to - from < 16
            && bytes.get(from as usize..to as usize).is_some_and(|b| matches!(b[0], 0x90 | 0xcc | 0x66 | 0x0f | 0x2e))
    };
    for &(start, end) in spans.iter().chain([&(size, size)]) {
        if start > covered && !padding(covered, start) {
            return Some(covered);
        }
        covered = covered.max(end);
    }
    None
}

/// One row of an unwind table: the function it is about.
struct Fde {
    symbol: u32,
    addend: i64,
    length: u64,
}

/// The rows of an `.eh_frame` (System V ABI, AMD64 supplement, 4.2.4): a length, the distance to the row that describes
/// the format (0 for such a row itself), the function's start (relocated, 4 bytes) and its length (4 bytes).
fn fdes(bytes: &[u8], relocations: &BTreeMap<u64, Relocation>) -> Result<Vec<Fde>> {
    let word = |at: usize| {
        let field = bytes.get(at..at + 4).with_context(|| format!("it ends inside the row at {at:#x}"))?;
        Ok::<u32, anyhow::Error>(u32::from_le_bytes([field[0], field[1], field[2], field[3]]))
    };
    let (mut rows, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let length = word(at)? as usize;
        if length == 0 {
            at += 4;
            continue;
        }
        if word(at + 4)? != 0 {
            let start =
                relocations.get(&(at as u64 + 8)).with_context(|| format!("the row at {at:#x} names no function"))?;
            rows.push(Fde { symbol: start.symbol, addend: start.addend, length: word(at + 12)?.into() });
        }
        at += 4 + length;
    }
    Ok(rows)
}

/// Every byte of text has a row in its cell's unwind table.
pub fn unwind_tables(subject: &Subject) -> Result<Verdict> {
    let (mut faults, mut rows) = (Vec::new(), 0);
    each(subject, |cell, object| {
        let name = &cell.cell.name;
        let mut covered: BTreeMap<u32, Vec<(u64, u64)>> = BTreeMap::new();
        for table in object.sections.iter().filter(|section| section.kind == Kind::Unwind) {
            let relocations = table.relocations().map(|relocation| (relocation.offset, relocation)).collect();
            let found = fdes(table.bytes, &relocations).with_context(|| format!("the unwind table of cell {name}"))?;
            rows += found.len();
            for fde in found {
                let symbol = object.symbols.get(fde.symbol as usize).context("a relocation names no symbol")?;
                let start = symbol.value.wrapping_add_signed(fde.addend);
                match symbol.section {
                    Some(section) => covered.entry(section).or_default().push((start, start + fde.length)),
                    None => faults
                        .push(format!("cell {name}: a row of the unwind table names {}", plain(object.name(symbol)))),
                }
            }
        }
        for (index, section) in object.sections.iter().enumerate().filter(|(_, s)| s.kind == Kind::Text && s.size > 0) {
            let spans = covered.entry(index as u32).or_default();
            if let Some(gap) = first_gap(spans, section.size, section.bytes) {
                faults.push(format!(
                    "cell {name}: nothing unwinds {} at {gap:#x}",
                    plain(section.name.trim_start_matches(".text."))
                ));
            }
        }
        Ok(())
    })?;
    Ok(Verdict { figures: format!("{rows} rows"), faults })
}

/// The compiler makes no jump table for fewer cases.
const JUMPS: usize = 4;

/// Relocations are of the four kinds. A function's address is relative only in branches and in unwind tables: whatever
/// else names it gets its thunk, which may lie out of reach. Addresses inside a function stand in jump tables, each
/// table's in one function; all others are functions' starts.
pub fn relocations(subject: &Subject) -> Result<Verdict> {
    let mut faults = Vec::new();
    let mut census: BTreeMap<&str, usize> = BTreeMap::new();
    let mut jump_tables = 0;
    let mut functions: HashSet<&str> = HashSet::new();
    each(subject, |_, object| {
        let is_text = |section: u32| object.sections.get(section as usize).is_some_and(|s| s.kind == Kind::Text);
        let exported =
            object.symbols.iter().filter(|symbol| symbol.is_exported() && symbol.section.is_some_and(is_text));
        functions.extend(exported.map(|symbol| object.name(symbol)));
        Ok(())
    })?;
    each(subject, |cell, object| {
        let mut starts: HashSet<(u32, u64)> = HashSet::new();
        for symbol in object.symbols.iter().filter(|symbol| symbol.kind == SymbolKind::Function) {
            starts.extend(symbol.section.map(|section| (section, symbol.value)));
        }
        for section in &object.sections {
            let (mut inside, mut at_start): (BTreeMap<u32, usize>, HashSet<u32>) = Default::default();
            for relocation in section.relocations() {
                let (kind, bias) = match relocation.kind {
                    RelocationKind::Branch32 => ("PLT32", 4),
                    RelocationKind::Absolute64 => ("64", 0),
                    RelocationKind::Absolute32 => ("32S", 0),
                    RelocationKind::Relative32 => ("PC32", 0),
                };
                *census.entry(kind).or_default() += 1;
                let place = || format!("cell {}: {}+{:#x} ({kind})", cell.cell.name, section.name, relocation.offset);
                if relocation.kind == RelocationKind::Branch32 && section.kind != Kind::Text {
                    faults.push(format!("{} is a branch outside of text", place()));
                }
                let symbol = object.symbols.get(relocation.symbol as usize).context("a relocation names no symbol")?;
                let target_kind =
                    symbol.section.and_then(|target| object.sections.get(target as usize)).map(|s| s.kind);
                let code = match target_kind {
                    Some(kind) => kind == Kind::Text,
                    None => functions.contains(object.name(symbol)),
                };
                if relocation.kind == RelocationKind::Relative32 && code && section.kind != Kind::Unwind {
                    faults
                        .push(format!("{} names a function, and is neither a branch nor in an unwind table", place()));
                }
                let Some(target) = symbol.section.filter(|_| code) else {
                    // A function of another cell: its start or nothing.
                    if code && relocation.addend + bias != 0 {
                        faults.push(format!("{} points inside {}", place(), plain(object.name(symbol))));
                    }
                    continue;
                };
                let value = symbol.value.wrapping_add_signed(relocation.addend + bias);
                if starts.contains(&(target, value)) {
                    at_start.insert(target);
                } else if section.kind == Kind::Constant && relocation.kind == RelocationKind::Absolute64 {
                    *inside.entry(target).or_default() += 1;
                } else {
                    faults.push(format!("{} points inside a function", place()));
                }
            }
            jump_tables += usize::from(!inside.is_empty());
            // A constant with methods of several types, one of them off, is no table of jumps in one function.
            let one = inside.len() == 1 && at_start.iter().all(|target| inside.contains_key(target));
            let jumps = one && inside.values().all(|&count| count >= JUMPS);
            if !inside.is_empty() && !jumps {
                faults.push(format!(
                    "cell {}: {} points inside functions, and is no jump table",
                    cell.cell.name, section.name
                ));
            }
        }
        Ok(())
    })?;
    let counted: Vec<String> = census.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
    Ok(Verdict { figures: format!("{}; {jump_tables} jump tables", counted.join(", ")), faults })
}

/// The applier's blob refers to nothing: it runs while everything else may be replaced.
pub fn applier(subject: &Subject) -> Result<Verdict> {
    const SECTION: &str = ".rodata.delias_applier_blob";
    let mut verdict = Verdict::default();
    each(subject, |cell, object| {
        for section in object.sections.iter().filter(|section| section.name == SECTION) {
            verdict.figures = format!("a blob of {} bytes in cell {}", section.size, cell.cell.name);
            if section.is_relocated() {
                verdict.faults.push(format!("the blob in cell {} has relocations", cell.cell.name));
            }
        }
        Ok(())
    })?;
    if verdict.figures.is_empty() {
        verdict.faults.push(format!("no cell has a section {SECTION}"));
    }
    Ok(verdict)
}

#[cfg(test)]
mod tests {
    use super::first_gap;

    #[test]
    fn gaps() {
        assert_eq!(first_gap(&mut [(0, 4), (4, 8)], 8, &[0; 8]), None);
        assert_eq!(first_gap(&mut [(4, 8), (0, 4)], 9, &[0; 9]), Some(8));
        assert_eq!(first_gap(&mut [(0, 4), (6, 8)], 8, &[0x90; 8]), None);
        assert_eq!(first_gap(&mut [], 1, &[0xc3]), Some(0));
        assert_eq!(first_gap(&mut [], 0, &[]), None);
    }
}
