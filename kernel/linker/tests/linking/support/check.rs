//! What must hold of a linked world, computed from the world itself: the linker is asked only where it has put a section.

use super::{
    elf::{R_64, R_PC32, R_PLT32},
    memory::Host,
    world::{Kind, Thing, To, World},
};
use linker::{Access, CellId, Graph, Memory};
use std::collections::{BTreeMap, BTreeSet};

/// A linked world.
pub struct Linked<'w> {
    pub world: &'w World,
    /// The cells, by their number in the world.
    pub ids: Vec<CellId>,
    /// Whether hosted statics have their initial values, as they do until a cell is replaced.
    pub initial: bool,
}

impl Linked<'_> {
    /// Where a thing lies.
    pub fn address(&self, graph: &Graph<'_>, thing: usize) -> u64 {
        let thing = &self.world.things[thing];
        let cell = graph.cell(self.ids[thing.cell]);
        let section = cell
            .object
            .sections
            .iter()
            .position(|section| section.name == thing.section)
            .expect("its object has the section");
        cell.placement.as_ref().expect("it is linked").address(section as u32, thing.offset)
    }

    /// Whether a thing lies among the interned constants.
    pub fn is_interned(&self, thing: usize) -> bool {
        matches!(self.world.things[thing].kind, Kind::Constant | Kind::Static | Kind::Element)
    }

    /// Fails unless all holds.
    pub fn check(&self, graph: &Graph<'_>, memory: &Host) {
        let things = &self.world.things;
        let at: Vec<u64> = (0..things.len()).map(|thing| self.address(graph, thing)).collect();
        let mut thunks = BTreeMap::new();
        let in_memory = |thing: &Thing| thing.kind != Kind::PerCpu && (self.initial || thing.kind != Kind::Hosted);
        for (index, thing) in things.iter().enumerate().filter(|(_, thing)| in_memory(thing)) {
            let found = memory.bytes(at[index], thing.bytes.len() as u64);
            assert_eq!(found.len(), thing.bytes.len(), "{thing:?} is not backed");
            let mut expected = thing.bytes.clone();
            for reference in &thing.references {
                let here = at[index] + reference.at;
                let width = if reference.kind == R_64 { 8 } else { 4 };
                let field = memory.word(here, width);
                let target = match &reference.to {
                    To::Number(number) => *number,
                    To::Nothing => 0,
                    To::Inside(function, inside) => at[*function] + inside,
                    To::Thing(to) if things[*to].kind == Kind::Function && reference.kind != R_PLT32 => {
                        let sign = if width == 4 { field as u32 as i32 as u64 } else { field };
                        let thunk = *thunks.entry(*to).or_insert(sign);
                        assert_eq!(destination(memory, thunk), at[*to], "the thunk of {:?}", things[*to]);
                        thunk
                    }
                    To::Thing(to) => at[*to],
                };
                let mut value = target.wrapping_add_signed(reference.addend);
                if matches!(reference.kind, R_PC32 | R_PLT32) {
                    value = value.wrapping_sub(here);
                }
                let mask = if width == 4 { u64::from(u32::MAX) } else { u64::MAX };
                assert_eq!(field, value & mask, "{reference:?} of {thing:?}");
                let field = reference.at as usize..reference.at as usize + usize::from(width);
                expected[field.clone()].copy_from_slice(&found[field]);
            }
            assert_eq!(found, expected, "{thing:?}");
            let access = match thing.kind {
                Kind::Function => Access::Execute,
                Kind::Hosted | Kind::Cache => Access::Write,
                _ => Access::Read,
            };
            assert!(thing.bytes.is_empty() || memory.access(at[index]) == Some(access), "{thing:?} is not {access:?}");
        }
        for thunk in thunks.values() {
            assert_eq!(memory.access(*thunk), Some(Access::Execute), "a thunk's page");
        }
        self.check_sharing(memory, &at);
        self.check_overlap(&at);
        self.check_per_cpu(&at);
        for (cell, &id) in self.ids.iter().enumerate() {
            self.check_index(graph, memory, cell, id, &at);
        }
    }

    /// Equal constants lie at one address, statics at one each.
    fn check_sharing(&self, memory: &Host, at: &[u64]) {
        let in_circle = self.in_circle();
        let mut known: BTreeMap<(&[u8], u64), u64> = BTreeMap::new();
        let mut statics = BTreeSet::new();
        for (index, thing) in self.world.things.iter().enumerate().filter(|(index, _)| self.is_interned(*index)) {
            if thing.kind == Kind::Static {
                assert!(statics.insert(at[index]), "{thing:?} lies where another static lies");
            } else if !in_circle.contains(&index) {
                let bytes = memory.bytes(at[index], thing.bytes.len() as u64);
                let first = *known.entry((bytes, thing.align)).or_insert(at[index]);
                assert_eq!(at[index], first, "{thing:?} lies twice");
            }
            assert_eq!(at[index] % thing.align, 0, "alignment of {thing:?}");
        }
        assert!(known.values().all(|address| !statics.contains(address)), "a static is shared");
    }

    /// Constants that refer to one another in a circle: these are not told by their content.
    fn in_circle(&self) -> BTreeSet<usize> {
        let next = |thing: usize| {
            let targets = self.world.things[thing].references.iter().filter_map(|reference| match reference.to {
                To::Thing(to) if self.is_interned(to) => Some(to),
                _ => None,
            });
            targets.collect::<Vec<_>>()
        };
        let circles = (0..self.world.things.len()).filter(|&start| {
            let (mut seen, mut todo) = (BTreeSet::new(), next(start));
            while let Some(thing) = todo.pop() {
                if seen.insert(thing) {
                    todo.extend(next(thing));
                }
            }
            seen.contains(&start)
        });
        circles.collect()
    }

    /// No two things overlap, unless they are one.
    fn check_overlap(&self, at: &[u64]) {
        let things = self.world.things.iter().enumerate();
        let real = things.filter(|(_, thing)| thing.kind != Kind::PerCpu && !thing.bytes.is_empty());
        let mut spans: Vec<(u64, u64)> =
            real.map(|(index, thing)| (at[index], at[index] + thing.bytes.len() as u64)).collect();
        spans.sort_unstable();
        spans.dedup();
        assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "things overlap: {spans:x?}");
    }

    fn check_per_cpu(&self, at: &[u64]) {
        let things = self.world.things.iter().enumerate().filter(|(_, thing)| thing.kind == Kind::PerCpu);
        let mut spans: Vec<(u64, u64)> =
            things.map(|(index, thing)| (at[index], at[index] + thing.bytes.len() as u64)).collect();
        spans.sort_unstable();
        assert!(spans.first().is_none_or(|span| span.0 >= super::PLACES.per_cpu));
        assert!(spans.windows(2).all(|pair| pair[0].1 <= pair[1].0), "per-CPU values overlap: {spans:x?}");
    }

    /// The index of the unwind table: each function of the cell once, in order.
    fn check_index(&self, graph: &Graph<'_>, memory: &Host, cell: usize, id: CellId, at: &[u64]) {
        let placement = graph.cell(id).placement.as_ref().expect("it is linked");
        let hdr = placement.index.address;
        let things = self
            .world
            .things
            .iter()
            .enumerate()
            .filter(|(_, thing)| thing.cell == cell && thing.kind == Kind::Function);
        let mut functions: Vec<(u64, u64)> =
            things.map(|(index, thing)| (at[index], thing.bytes.len() as u64)).collect();
        functions.sort_unstable();
        let signed = |address: u64| memory.word(address, 4) as u32 as i32;
        assert_eq!(memory.word(hdr, 4), 0x3b03_1b01, "encodings");
        assert_eq!((hdr + 4).wrapping_add_signed(signed(hdr + 4).into()), placement.unwind.address);
        assert_eq!(memory.word(hdr + 8, 4), functions.len() as u64, "entries of the index");
        for (number, (start, len)) in functions.into_iter().enumerate() {
            let entry = hdr + 12 + 8 * number as u64;
            assert_eq!(hdr.wrapping_add_signed(signed(entry).into()), start, "a function in the index");
            let fde = hdr.wrapping_add_signed(signed(entry + 4).into());
            let field = fde + 8;
            assert_eq!(field.wrapping_add_signed(signed(field).into()), start, "a function in the table");
            assert_eq!(memory.word(fde + 12, 4), len, "a function's length");
        }
        let end = memory.bytes(placement.unwind.end(), 4);
        assert_eq!(end, [0; 4], "the end of the table");
    }
}

/// Where a thunk leads.
pub fn destination(memory: &Host, thunk: u64) -> u64 {
    assert_eq!(memory.word(thunk, 1), 0xe9, "{thunk:#x} is no thunk");
    (thunk + 5).wrapping_add_signed((memory.word(thunk + 1, 4) as u32 as i32).into())
}
