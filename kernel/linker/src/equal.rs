//! Which functions of a new object are the same as in the old one, so that frames in them may move: bytes, relocations,
//! jump tables, unwind table and LSDA are equal, by what they refer to.

use crate::{
    graph::{CellId, Graph, Target, Unit},
    object::{Kind, Relocation, RelocationKind},
    place::Placement,
    stage::Move,
};
use alloc::vec::Vec;
use hashbrown::HashMap;
use rustc_hash::FxBuildHasher;

/// An object in its graph.
struct Side<'g, 'a> {
    graph: &'g Graph<'a>,
    id: CellId,
    unit: &'g Unit<'a>,
    placement: Option<&'g Placement>,
    /// By section of text: offset and length of its entry in the unwind table (section, offset, length).
    fdes: HashMap<u32, (u32, usize, usize), FxBuildHasher>,
}

/// Two objects of one cell.
pub(crate) struct Comparison<'g, 'a> {
    old: Side<'g, 'a>,
    new: Side<'g, 'a>,
}

impl<'g, 'a> Side<'g, 'a> {
    fn new(graph: &'g Graph<'a>, id: CellId) -> Side<'g, 'a> {
        let cell = graph.cell(id);
        let (unit, placement) = (&*cell.unit, cell.placement.as_deref());
        let mut fdes = HashMap::default();
        for (number, section) in
            unit.object.sections.iter().enumerate().filter(|(_, section)| section.kind == Kind::Unwind)
        {
            for relocation in section.relocations().filter(|r| r.kind == RelocationKind::Relative32 && r.offset >= 8) {
                let entry = relocation.offset as usize - 8;
                let len = section
                    .bytes
                    .get(entry..entry + 4)
                    .map_or(0, |b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize + 4);
                let text = unit.object.symbols[relocation.symbol as usize].section;
                if let Some(text) = text.filter(|&text| {
                    unit.object.sections[text as usize].kind == Kind::Text && section.bytes.len() >= entry + len
                }) {
                    fdes.insert(text, (number as u32, entry, len));
                }
            }
        }
        Side { graph, id, unit, placement, fdes }
    }

    /// Sections of text with one function at their start, by its name.
    fn functions(&self) -> HashMap<&'a str, (u32, u64), FxBuildHasher> {
        let mut functions = HashMap::default();
        for function in &self.unit.functions {
            let alone = self.unit.functions.iter().filter(|other| other.section == function.section).count() == 1;
            if function.value == 0 && alone {
                functions.insert(
                    self.unit.object.name(&self.unit.object.symbols[function.symbol as usize]),
                    (function.section, function.size),
                );
            }
        }
        functions
    }

    fn target(&self, relocation: &Relocation) -> Option<Target> {
        self.graph.cell(self.id).targets.get(relocation.symbol as usize).copied()
    }

    /// The name of the function at a place.
    fn function_name(&self, cell: CellId, section: u32, value: u64) -> Option<&'a str> {
        let unit = &self.graph.cell(cell).unit;
        let at = unit.functions.partition_point(|f| (f.section, f.value) < (section, value));
        let function = unit.functions.get(at).filter(|f| (f.section, f.value) == (section, value))?;
        Some(unit.object.name(&unit.object.symbols[function.symbol as usize]))
    }
}

impl<'g, 'a> Comparison<'g, 'a> {
    pub fn new(old: &'g Graph<'a>, new: &'g Graph<'a>, id: CellId) -> Self {
        Comparison { old: Side::new(old, id), new: Side::new(new, id) }
    }

    /// Where frames of equal functions move.
    pub fn moves(&self) -> Vec<Move> {
        let (Some(from), Some(to)) = (self.old.placement, self.new.placement) else { return Vec::new() };
        let new = self.new.functions();
        let old = self.old.functions();
        let equal = old.iter().filter_map(|(name, &(old, _))| {
            let &(new, _) = new.get(name)?;
            let len = self.old.unit.object.sections[old as usize].size;
            self.equal_text(old, new).then(|| Move { from: from.address(old, 0), len, to: to.address(new, 0) })
        });
        equal.collect()
    }

    fn equal_text(&self, old: u32, new: u32) -> bool {
        self.equal_sections(old, new, (old, new)) && self.equal_unwinding(old, new)
    }

    /// Whether two sections hold the same; `within` are the functions that they belong to.
    fn equal_sections(&self, old: u32, new: u32, within: (u32, u32)) -> bool {
        let (a, b) = (&self.old.unit.object.sections[old as usize], &self.new.unit.object.sections[new as usize]);
        let same_shape = a.size == b.size
            && a.bytes.len() == b.bytes.len()
            && a.kind == b.kind
            && a.relocations().len() == b.relocations().len();
        if !same_shape {
            return false;
        }
        let mut at = 0;
        for (x, y) in a.relocations().zip(b.relocations()) {
            let field = x.offset as usize;
            if x.offset != y.offset
                || x.kind != y.kind
                || field < at
                || a.bytes[at..field] != b.bytes[at..field]
                || !self.equal_reference(&x, &y, within)
            {
                return false;
            }
            at = field + x.kind.width() as usize;
        }
        a.bytes[at..] == b.bytes[at..]
    }

    fn equal_reference(&self, x: &Relocation, y: &Relocation, within: (u32, u32)) -> bool {
        let (Some(x_target), Some(y_target)) = (self.old.target(x), self.new.target(y)) else { return false };
        let (Target::Place { cell: xc, section: xs, value: xv }, Target::Place { cell: yc, section: ys, value: yv }) =
            (x_target, y_target)
        else {
            return x_target == y_target && x.addend == y.addend;
        };
        let (xv, yv) = (xv.wrapping_add_signed(x.addend), yv.wrapping_add_signed(y.addend));
        let (xu, yu) = (&self.old.graph.cell(xc).unit, &self.new.graph.cell(yc).unit);
        let own = xc == self.old.id && yc == self.new.id;
        match xu.object.sections[xs as usize].kind {
            Kind::Text if x.kind == RelocationKind::Branch32 => {
                let name = self.old.function_name(xc, xs, xv.wrapping_add(4));
                xc == yc && name.is_some() && name == self.new.function_name(yc, ys, yv.wrapping_add(4))
            }
            // An entry of a jump table: the same place in the same function.
            Kind::Text if own && (xs, ys) == within && !xu.is_function_start(xs, xv) => xv == yv,
            Kind::Text => {
                let thunk = self.old.graph.thunks.get(xc, xs, xv);
                thunk.is_some() && thunk == self.new.graph.thunks.get(yc, ys, yv)
            }
            Kind::Lsda => own && xv == yv && self.equal_sections(xs, ys, within),
            Kind::Constant if own && xu.jump_tables[xs as usize] => {
                yu.jump_tables[ys as usize] && xv == yv && self.equal_sections(xs, ys, within)
            }
            _ => {
                let place = |graph: &Graph<'a>, cell: CellId, section, value| {
                    graph.cell(cell).placement.as_ref().map(|p| p.address(section, value))
                };
                let old = place(self.old.graph, xc, xs, xv);
                old.is_some() && old == place(self.new.graph, yc, ys, yv)
            }
        }
    }

    /// Whether two functions are unwound alike: entry and CIE of the unwind table, and LSDA.
    fn equal_unwinding(&self, old: u32, new: u32) -> bool {
        let (Some(&a), Some(&b)) = (self.old.fdes.get(&old), self.new.fdes.get(&new)) else {
            return self.old.fdes.contains_key(&old) == self.new.fdes.contains_key(&new);
        };
        let entry = |side: &Side<'g, 'a>, (section, at, len): (u32, usize, usize)| {
            let section = &side.unit.object.sections[section as usize];
            let bytes = &section.bytes[at..at + len];
            let back = u32::from_le_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]) as usize;
            let cie = (at + 4).checked_sub(back)?;
            let cie_len =
                section.bytes.get(cie..cie + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]) as usize + 4)?;
            let references: Vec<Relocation> = section
                .relocations()
                .filter(|r| {
                    (at as u64 + 12..(at + len) as u64).contains(&r.offset)
                        || (cie as u64..(cie + cie_len) as u64).contains(&r.offset)
                })
                .collect();
            // Behind length, CIE pointer and function's start; without the padding, of which the last entry of a table has
            // more: an operand that is lost with it is 0 on both sides.
            Some((without_padding(&bytes[12..]), section.bytes.get(cie..cie + cie_len)?, references))
        };
        let (Some(x), Some(y)) = (entry(&self.old, a), entry(&self.new, b)) else { return false };
        let same_references = x.2.len() == y.2.len()
            && x.2.iter().zip(&y.2).all(|(x, y)| x.kind == y.kind && self.equal_reference(x, y, (old, new)));
        x.0 == y.0 && x.1 == y.1 && same_references
    }
}

/// Instructions of an unwind table without the `DW_CFA_nop`s, which are zeros, at their end.
fn without_padding(bytes: &[u8]) -> &[u8] {
    let len = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &bytes[..len]
}
