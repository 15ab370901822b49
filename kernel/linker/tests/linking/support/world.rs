//! Generated worlds: cells with one of each thing that objects have, referring to one another in every allowed way.
//!
//! A world is made from a tape of bytes, each of which is a choice; a shorter tape makes a smaller world, so that a failing
//! one is shrunk by shortening its tape.

use super::elf::{
    ABS, Aligned, EXEC, Elf, FUNC, GLOBAL, HIDDEN, LOCAL, MERGE, NOBITS, OBJECT, R_32S, R_64, R_PC32, R_PLT32, Rela,
    STRINGS, WEAK, WRITE,
};
use super::frames;
use std::collections::BTreeMap;

/// What a thing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Function,
    /// Of this function.
    JumpTable(usize),
    /// Of this function.
    Lsda(usize),
    /// A constant without a name.
    Constant,
    /// A constant with a name.
    Static,
    /// An element of a mergeable section.
    Element,
    Hosted,
    Cache,
    PerCpu,
}

/// What a reference leads to.
#[derive(Clone, Debug)]
pub enum To {
    Thing(usize),
    /// A place inside a function.
    Inside(usize, u64),
    /// A weak symbol that nobody defines.
    Nothing,
    /// A number.
    Number(u64),
}

/// A field to be relocated.
#[derive(Clone, Debug)]
pub struct Reference {
    /// Offset in its thing.
    pub at: u64,
    /// `R_…`.
    pub kind: u32,
    pub to: To,
    pub addend: i64,
}

/// One thing of a cell.
#[derive(Clone, Debug)]
pub struct Thing {
    pub cell: usize,
    pub kind: Kind,
    pub section: String,
    /// Its symbol; without one it is referred to by its section.
    pub symbol: Option<String>,
    /// Whether other cells may refer to it.
    pub global: bool,
    pub offset: u64,
    pub align: u64,
    pub bytes: Vec<u8>,
    pub references: Vec<Reference>,
}

/// The world, before it is linked.
#[derive(Debug, Default)]
pub struct World {
    pub cells: usize,
    /// Cells refer only to themselves and to earlier ones, so that they can be linked one after the other.
    pub layered: bool,
    pub things: Vec<Thing>,
}

/// The number that the absolute symbol stands for.
pub const NUMBER: u64 = 0x1234_5678;
/// Contents that constants share, each eight bytes.
const CONTENTS: [&[u8; 8]; 4] = [b"\0\0\0\0\0\0\0\0", b"constant", b"\x01\0\0\0\0\0\0\0", b"another\0"];
const STRINGS_OF_ALL: [&str; 6] = ["", "a", "delias", "a longer string", "ias", "delias\u{e4}"];
/// Bytes of a function before its references, and for each.
const HEAD: u64 = 16;
const SLOT: u64 = 16;

/// A tape of choices; behind its end, all are the first.
pub struct Tape<'t> {
    bytes: &'t [u8],
    at: usize,
}

impl<'t> Tape<'t> {
    pub fn new(bytes: &'t [u8]) -> Tape<'t> {
        Tape { bytes, at: 0 }
    }

    /// A number below `below`.
    pub fn below(&mut self, below: usize) -> usize {
        self.at += 1;
        usize::from(self.bytes.get(self.at - 1).copied().unwrap_or(0)) % below.max(1)
    }

    pub fn chance(&mut self, one_in: usize) -> bool {
        self.below(one_in) == one_in - 1
    }
}

impl World {
    /// The world that a tape describes.
    pub fn new(tape: &mut Tape<'_>) -> World {
        let mut world = World { cells: 1 + tape.below(4), layered: tape.chance(3), things: Vec::new() };
        for cell in 0..world.cells {
            world.add_things(tape, cell);
        }
        for index in 0..world.things.len() {
            world.add_references(tape, index);
        }
        world
    }

    fn push(
        &mut self,
        cell: usize,
        kind: Kind,
        prefix: &str,
        symbol: Option<String>,
        align: u64,
        bytes: Vec<u8>,
    ) -> usize {
        let global = symbol.as_ref().is_some_and(|symbol| !symbol.starts_with("local"));
        let section = format!("{prefix}.{}", self.things.len());
        self.things.push(Thing {
            cell,
            kind,
            section,
            symbol,
            global,
            offset: 0,
            align,
            bytes,
            references: Vec::new(),
        });
        self.things.len() - 1
    }

    fn add_things(&mut self, tape: &mut Tape<'_>, cell: usize) {
        for _ in 0..tape.below(5) {
            let index = self.things.len();
            // Mangled, an entry point, or seen by its own cell only.
            let name = format!("{}{cell}_{index}", ["_R", "entry", "local"][tape.below(3)]);
            // Every function has bytes of its own, by which it is known wherever it lies.
            let mut bytes = format!("function {index:07}").into_bytes();
            let slots = tape.below(5) as u64;
            bytes.resize((HEAD + slots * SLOT) as usize, 0x90);
            let function = self.push(cell, Kind::Function, ".text", Some(name), 1 << tape.below(5), bytes);
            if tape.chance(3) {
                self.push(cell, Kind::JumpTable(function), ".rodata", None, 8, vec![0; 8 * (1 + tape.below(3))]);
            }
            if tape.chance(3) {
                self.push(cell, Kind::Lsda(function), ".gcc_except_table", None, 4, vec![0xff; 1 + tape.below(9)]);
            }
        }
        for _ in 0..tape.below(6) {
            let words = tape.below(4);
            let bytes = (0..words).flat_map(|_| *CONTENTS[tape.below(4)]).collect();
            let (align, index) = (8 << tape.below(3), self.things.len());
            if tape.chance(3) {
                let name = format!("{}{cell}_{index}", ["_R", "local"][tape.below(2)]);
                self.push(cell, Kind::Static, ".rodata", Some(name), align, bytes);
            } else {
                self.push(cell, Kind::Constant, ".rodata", None, align, bytes);
            }
        }
        self.add_elements(tape, cell, ".rodata.str", 1, |tape| {
            let mut string = STRINGS_OF_ALL[tape.below(6)].as_bytes().to_vec();
            string.push(0);
            string
        });
        let align = 1 << tape.below(5);
        self.add_elements(tape, cell, ".rodata.cst8", align, |tape| CONTENTS[tape.below(4)].to_vec());
        for (kind, prefix, most) in
            [(Kind::Hosted, ".data", 3), (Kind::PerCpu, ".percpu", 2), (Kind::Cache, ".cache", 2)]
        {
            for _ in 0..tape.below(most) {
                let name = format!("_R{cell}_{}", self.things.len());
                let len = if kind == Kind::Hosted { 8 * (1 + tape.below(3)) } else { 1 + tape.below(16) };
                self.push(cell, kind, prefix, Some(name), 1 << tape.below(5), vec![0; len]);
            }
        }
    }

    fn add_elements(
        &mut self,
        tape: &mut Tape<'_>,
        cell: usize,
        section: &str,
        align: u64,
        mut make: impl FnMut(&mut Tape<'_>) -> Vec<u8>,
    ) {
        let mut offset = 0u64;
        for _ in 0..tape.below(5) {
            let bytes = make(tape);
            let len = bytes.len() as u64;
            let name = tape.chance(3).then(|| format!("local{cell}_{}", self.things.len()));
            let align = if offset == 0 { align } else { align.min(1 << offset.trailing_zeros()) };
            let index = self.push(cell, Kind::Element, "", name, align, bytes);
            let thing = &mut self.things[index];
            (thing.section, thing.offset, thing.global) = (section.to_owned(), offset, false);
            offset += len;
        }
    }

    /// A thing that `index` may refer to and that `want` fits.
    fn pick(&self, tape: &mut Tape<'_>, index: usize, want: impl Fn(&Thing) -> bool) -> Option<usize> {
        let cell = self.things[index].cell;
        let seen = |thing: &Thing| thing.cell == cell || thing.global && !(self.layered && thing.cell > cell);
        let found: Vec<usize> =
            (0..self.things.len()).filter(|&other| seen(&self.things[other]) && want(&self.things[other])).collect();
        (!found.is_empty()).then(|| found[tape.below(found.len())])
    }

    fn add_references(&mut self, tape: &mut Tape<'_>, index: usize) {
        let thing = self.things[index].clone();
        let len = thing.bytes.len() as u64;
        let (first, step) = if thing.kind == Kind::Function { (HEAD + 4, SLOT) } else { (0, 8) };
        let fields = (first..).step_by(step as usize).take_while(|at| at + 8 <= len);
        for at in fields {
            let reference = match thing.kind {
                Kind::Function => self.reference_of_text(tape, index, at),
                Kind::JumpTable(function) => {
                    let inside = 1 + tape.below(self.things[function].bytes.len() - 1) as u64;
                    Some(Reference { at, kind: R_64, to: To::Inside(function, inside), addend: 0 })
                }
                Kind::Constant | Kind::Static | Kind::Hosted => self.reference_of_data(tape, index, at),
                _ => None,
            };
            self.things[index].references.extend(reference);
        }
    }

    fn reference_of_text(&self, tape: &mut Tape<'_>, index: usize, at: u64) -> Option<Reference> {
        let function = |thing: &Thing| thing.kind == Kind::Function;
        let own = |kind: Kind| matches!(kind, Kind::JumpTable(of) if of == index);
        let absolute = [R_32S, R_64][tape.below(2)];
        Some(match tape.below(7) {
            0 => Reference { at, kind: R_PLT32, to: To::Thing(self.pick(tape, index, function)?), addend: -4 },
            1 => Reference { at, kind: absolute, to: To::Thing(self.pick(tape, index, function)?), addend: 0 },
            2 => Reference {
                at,
                kind: R_32S,
                to: To::Thing(self.pick(tape, index, |thing| own(thing.kind))?),
                addend: -8 * tape.below(2) as i64,
            },
            3 => {
                let shared =
                    |thing: &Thing| matches!(thing.kind, Kind::Constant | Kind::Static | Kind::Hosted | Kind::Cache);
                Reference {
                    at,
                    kind: R_PC32,
                    to: To::Thing(self.pick(tape, index, shared)?),
                    addend: tape.below(8) as i64 - 8,
                }
            }
            4 => Reference {
                at,
                kind: [R_32S, R_PLT32, R_PC32][tape.below(3)],
                to: To::Nothing,
                addend: -4 * tape.below(2) as i64,
            },
            5 => Reference { at, kind: absolute, to: To::Number(NUMBER), addend: tape.below(9) as i64 },
            _ => self.reference_to_data(tape, index, at, absolute)?,
        })
    }

    fn reference_of_data(&self, tape: &mut Tape<'_>, index: usize, at: u64) -> Option<Reference> {
        Some(match tape.below(6) {
            0 => return None,
            1 => Reference {
                at,
                kind: R_64,
                to: To::Thing(self.pick(tape, index, |thing| thing.kind == Kind::Function)?),
                addend: 0,
            },
            2 => Reference { at, kind: R_64, to: To::Nothing, addend: 0 },
            _ => self.reference_to_data(tape, index, at, R_64)?,
        })
    }

    fn reference_to_data(&self, tape: &mut Tape<'_>, index: usize, at: u64, kind: u32) -> Option<Reference> {
        let data = |thing: &Thing| !matches!(thing.kind, Kind::Function | Kind::JumpTable(_) | Kind::Lsda(_));
        let to = self.pick(tape, index, data)?;
        let thing = &self.things[to];
        // Out of an element by its symbol only: by its section, another element would be meant.
        let addend = match (thing.kind, &thing.symbol) {
            (Kind::Element, None) => tape.below(thing.bytes.len()) as i64,
            _ => tape.below(40) as i64 - 16,
        };
        Some(Reference { at, kind, to: To::Thing(to), addend })
    }

    /// The world with another version of a cell: functions, constants and references change, names stay.
    pub fn changed(&self, tape: &mut Tape<'_>, cell: usize) -> World {
        let mut world = World { cells: self.cells, layered: self.layered, things: self.things.clone() };
        for index in 0..world.things.len() {
            if world.things[index].cell != cell || tape.chance(2) {
                continue;
            }
            let thing = &mut world.things[index];
            match thing.kind {
                Kind::Function => {
                    let slots = tape.below(5);
                    thing.bytes.resize(HEAD as usize + slots * SLOT as usize, 0x91);
                    thing.bytes[15] = thing.bytes[15].wrapping_add(1);
                }
                Kind::Constant | Kind::Static => {
                    thing.bytes = (0..tape.below(4)).flat_map(|_| *CONTENTS[tape.below(4)]).collect()
                }
                Kind::JumpTable(_) => {}
                _ => continue,
            }
            thing.references.clear();
            world.add_references(tape, index);
        }
        // What leads into a function leads into the new one.
        for index in (0..world.things.len()).filter(|&index| self.things[index].cell == cell) {
            if let Kind::JumpTable(function) = world.things[index].kind {
                let len = world.things[function].bytes.len() as u64;
                for reference in &mut world.things[index].references {
                    if let To::Inside(_, inside) = &mut reference.to {
                        *inside = (*inside).min(len - 1);
                    }
                }
            }
        }
        world
    }

    /// The objects of the cells.
    pub fn objects(&self) -> Vec<Aligned> {
        (0..self.cells).map(|cell| Builder::new(self, cell).build()).collect()
    }
}

/// The object of one cell in the making.
struct Builder<'w> {
    world: &'w World,
    cell: usize,
    elf: Elf,
    sections: BTreeMap<&'w str, u16>,
    section_symbols: BTreeMap<u16, u32>,
    symbols: BTreeMap<usize, u32>,
}

impl<'w> Builder<'w> {
    fn new(world: &'w World, cell: usize) -> Builder<'w> {
        Builder {
            world,
            cell,
            elf: Elf::default(),
            sections: BTreeMap::new(),
            section_symbols: BTreeMap::new(),
            symbols: BTreeMap::new(),
        }
    }

    fn own(&self) -> impl Iterator<Item = (usize, &'w Thing)> + use<'w> {
        let cell = self.cell;
        self.world.things.iter().enumerate().filter(move |(_, thing)| thing.cell == cell)
    }

    fn build(mut self) -> Aligned {
        for (index, thing) in self.own() {
            self.add_section(thing);
            if let Some(name) = &thing.symbol {
                let kind = match thing.kind {
                    Kind::Function => FUNC,
                    Kind::Element => 0,
                    _ => OBJECT,
                };
                let binding = [GLOBAL, WEAK, LOCAL][if thing.global { index % 2 } else { 2 }];
                let section = self.sections[&*thing.section];
                let symbol = self.elf.symbol(name, kind | binding, section, thing.offset, thing.bytes.len() as u64);
                self.elf.symbols[symbol as usize - 1].other = if index % 3 == 0 { HIDDEN } else { 0 };
                self.symbols.insert(index, symbol);
            }
        }
        let nothing = self.elf.undefined("nobody_defines_it", WEAK);
        let number = self.elf.symbol("the_number", LOCAL, ABS, NUMBER, 0);
        for (_, thing) in self.own() {
            for reference in &thing.references {
                let (symbol, addend) = match reference.to {
                    To::Thing(to) => self.target(to),
                    To::Inside(function, inside) => (self.target(function).0, inside as i64),
                    To::Nothing => (nothing, 0),
                    To::Number(_) => (number, 0),
                };
                let section = self.sections[&*thing.section];
                let rela: Rela = (thing.offset + reference.at, reference.kind, symbol, addend + reference.addend);
                self.elf.relocate(section, rela);
            }
        }
        self.add_frames();
        self.elf.finish()
    }

    fn add_section(&mut self, thing: &'w Thing) {
        let (flags, name) = match thing.kind {
            Kind::Function => (EXEC, &*thing.section),
            Kind::Hosted | Kind::Cache | Kind::PerCpu => (WRITE, &*thing.section),
            Kind::Element if thing.section == ".rodata.str" => (MERGE | STRINGS, ".rodata.str"),
            Kind::Element => (MERGE, ".rodata.cst8"),
            _ => (0, &*thing.section),
        };
        if let Some(&section) = self.sections.get(name) {
            self.elf.at(section).bytes.extend(&thing.bytes);
            return;
        }
        let section = self.elf.section(name, flags, thing.align, &thing.bytes);
        if name == ".rodata.cst8" {
            self.elf.at(section).entry = 8;
        }
        // A static of zeros has no bytes in the file.
        if matches!(thing.kind, Kind::PerCpu | Kind::Cache) || thing.kind == Kind::Hosted && thing.references.is_empty()
        {
            let section = self.elf.at(section);
            (section.kind, section.size, section.bytes) = (NOBITS, thing.bytes.len() as u64, Vec::new());
        }
        self.sections.insert(name, section);
    }

    /// The symbol for a thing, and what is to be added to it.
    fn target(&mut self, to: usize) -> (u32, i64) {
        let thing = &self.world.things[to];
        if let Some(&symbol) = self.symbols.get(&to) {
            return (symbol, 0);
        }
        if let (Some(name), true) = (&thing.symbol, thing.cell != self.cell) {
            let symbol = self.elf.undefined(name, GLOBAL);
            self.symbols.insert(to, symbol);
            return (symbol, 0);
        }
        let section = self.sections[&*thing.section];
        let elf = &mut self.elf;
        let symbol = *self.section_symbols.entry(section).or_insert_with(|| elf.section_symbol(section));
        (symbol, thing.offset as i64)
    }

    fn add_frames(&mut self) {
        let mut functions: Vec<usize> =
            self.own().filter(|(_, thing)| thing.kind == Kind::Function).map(|(index, _)| index).collect();
        // An unwind table need not be in the order of the functions.
        if self.cell % 2 == 1 {
            functions.reverse();
        }
        let mut table = frames::Table::default();
        for &function in &functions {
            let lsda =
                self.own().find(|(_, thing)| thing.kind == Kind::Lsda(function)).map(|(index, _)| self.target(index).0);
            let len = self.world.things[function].bytes.len() as u32;
            table.add(self.target(function).0, len, lsda, self.target(functions[0]).0);
        }
        if !functions.is_empty() {
            let section = self.elf.section(".eh_frame", 0, 8, &table.bytes);
            self.elf.at(section).relocations = table.relocations;
        }
    }
}
