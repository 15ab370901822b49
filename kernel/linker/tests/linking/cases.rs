//! Single cases, each a fault that was found or one that a linker of this kind could have.

use crate::support::{
    PLACES,
    elf::{EXEC, Elf, FUNC, GLOBAL, LOCAL, MERGE, OBJECT, R_32S, R_64, R_PC32, R_PLT32, STRINGS, WEAK, WRITE},
    frames,
    memory::Host,
};
use linker::{Access, CellId, Change, Graph, Memory, Object};

/// A graph with memory.
struct Running {
    graph: Graph<'static>,
    memory: Host,
}

impl Running {
    fn new() -> Running {
        let mut graph = Graph::new(PLACES);
        graph.allow_hosted("STATE");
        Running { graph, memory: Host::default() }
    }

    fn link(&mut self, name: &'static str, elf: &Elf) -> CellId {
        let object = Object::parse(elf.finish().leak()).expect("the object is whole");
        let cell = self.graph.add(name, "0.1.0", object).expect("the names are free");
        self.graph.link(&[cell], &mut self.memory).expect("it can be linked");
        self.verify();
        cell
    }

    fn change(&mut self, changes: Vec<Change<'static>>, also: &[CellId]) -> Vec<CellId> {
        let staged = self.graph.stage_changes(changes, &|_, _| None, also, &mut self.memory).expect("it can be linked");
        let cells = staged.cells().map(|(cell, _)| cell).collect();
        for patch in self.graph.patches(&staged).expect("the copies are near") {
            self.memory.write(patch.address, patch.width, patch.new);
        }
        self.graph.commit(staged);
        self.verify();
        cells
    }

    fn verify(&self) {
        for (id, _) in self.graph.cells() {
            assert_eq!(self.graph.verify(id, &self.memory), Ok(()));
        }
    }

    /// The address of a place in a section of a cell.
    fn at(&self, cell: CellId, section: u32, offset: u64) -> u64 {
        self.graph.cell(cell).placement.as_ref().expect("it is linked").address(section, offset)
    }

    /// A relocated word of a cell.
    fn word(&self, cell: CellId, section: u32, offset: u64, width: u8) -> u64 {
        let word = self.memory.word(self.at(cell, section, offset), width);
        if width == 4 { word as u32 as i32 as u64 } else { word }
    }
}

/// A cell with a function that branches to and takes the address of the weak `maybe`, and a constant and a static with its
/// address.
fn perhaps() -> Elf {
    let mut elf = Elf::default();
    let text = elf.section(".text._Rf", EXEC, 16, &[0x90; 32]);
    elf.symbol("_Rf", FUNC | GLOBAL, text, 0, 32);
    let maybe = elf.undefined("maybe", WEAK);
    let constant = elf.section(".rodata.a", 0, 8, &[0; 8]);
    let named = elf.section(".rodata.NAMED", 0, 8, &[0; 8]);
    elf.symbol("NAMED", OBJECT | GLOBAL, named, 0, 8);
    let of_constant = elf.section_symbol(constant);
    elf.relocate(text, (4, R_PLT32, maybe, -4));
    elf.relocate(text, (12, R_32S, maybe, 0));
    elf.relocate(text, (20, R_32S, of_constant, 0));
    elf.relocate(constant, (0, R_64, maybe, 0));
    elf.relocate(named, (0, R_64, maybe, 0));
    elf
}

fn maybe() -> Elf {
    let mut elf = Elf::default();
    let text = elf.section(".text.maybe", EXEC, 16, &[0xc3; 16]);
    elf.symbol("maybe", FUNC | GLOBAL, text, 0, 16);
    elf
}

#[test]
fn a_weak_symbol_that_nobody_defines_is_null() {
    let mut running = Running::new();
    let cell = running.link("perhaps", &perhaps());
    let field = running.at(cell, 0, 4);
    assert_eq!((field + 4).wrapping_add(running.word(cell, 0, 4, 4)), 0, "the branch");
    assert_eq!(running.word(cell, 0, 12, 4), 0);
    assert_eq!(running.word(cell, 1, 0, 8), 0);
}

#[test]
fn a_weak_symbol_that_comes_to_be_defined_is_seen_by_the_next_copy() {
    let mut running = Running::new();
    let cell = running.link("perhaps", &perhaps());
    let (constant, named) = (running.at(cell, 1, 0), running.at(cell, 2, 0));
    running.link("maybe", &maybe());
    assert_eq!(running.word(cell, 1, 0, 8), 0, "this copy was linked without it");
    assert_eq!(running.change(Vec::new(), &[cell]), [cell]);
    let thunk = running.graph.symbol("maybe").expect("it is linked");
    assert_eq!(running.word(cell, 1, 0, 8), thunk);
    assert_eq!(running.word(cell, 0, 12, 4), thunk);
    assert_ne!(running.at(cell, 1, 0), constant, "a constant is what it holds");
    assert_eq!(running.at(cell, 2, 0), named, "a static is a place");
    assert_eq!(running.word(cell, 2, 0, 8), thunk);
    // The first copy's constant is another's by now, if anyone's.
    assert_eq!(running.memory.word(constant, 8), 0);
}

#[test]
fn a_removed_cell_is_forgotten_by_those_who_can_do_without_it() {
    let mut running = Running::new();
    let definer = running.link("maybe", &maybe());
    let cell = running.link("perhaps", &perhaps());
    assert_ne!(running.word(cell, 0, 12, 4), 0);
    assert_eq!(running.change(vec![Change::Remove { cell: definer }], &[]), [cell]);
    assert_eq!(running.word(cell, 0, 12, 4), 0);
    assert_eq!(running.word(cell, 1, 0, 8), 0);
    let field = running.at(cell, 0, 4);
    assert_eq!((field + 4).wrapping_add(running.word(cell, 0, 4, 4)), 0, "the branch");
    // It can come back.
    let object = Object::parse(maybe().finish().leak()).expect("the object is whole");
    let changed = running.change(vec![Change::Add { name: "maybe", version: "0.1.0", object }], &[]);
    assert_eq!(changed, [definer, cell]);
    assert_eq!(running.word(cell, 0, 12, 4), running.graph.symbol("maybe").expect("it is back"));
}

#[test]
fn what_is_empty_has_an_address() {
    let mut elf = Elf::default();
    let text = elf.section(".text._Rf", EXEC, 16, &[0x90; 64]);
    let mut symbols = Vec::new();
    for (name, flags) in [
        (".rodata.a", 0),
        (".rodata.cst8", MERGE),
        (".rodata.str", MERGE | STRINGS),
        (".data.a", WRITE),
        (".cache", WRITE),
        (".percpu", WRITE),
    ] {
        let section = elf.section(name, flags, 8, &[]);
        symbols.push(elf.section_symbol(section));
    }
    let empty = elf.section(".text._Rnothing", EXEC, 16, &[]);
    symbols.push(elf.symbol("_Rnothing", FUNC | GLOBAL, empty, 0, 0));
    for (index, &symbol) in symbols.iter().enumerate() {
        elf.relocate(text, (8 * index as u64, R_32S, symbol, 0));
    }
    let mut running = Running::new();
    let cell = running.link("empty", &elf);
    for index in 0..symbols.len() {
        assert_ne!(running.word(cell, 0, 8 * index as u64, 4), 0, "symbol {index}");
    }
    running.change(Vec::new(), &[cell]);
}

#[test]
fn a_symbol_at_the_end_of_a_section_is_behind_it() {
    let mut elf = Elf::default();
    let text = elf.section(".text._Rf", EXEC, 16, &[0x90; 32]);
    let constant = elf.section(".rodata.a", 0, 8, &[5; 12]);
    let strings = elf.section(".rodata.str", MERGE | STRINGS, 1, b"one\0two\0");
    let after = [
        elf.symbol("A_END", LOCAL, constant, 12, 0),
        elf.symbol("S_END", LOCAL, strings, 8, 0),
        elf.section_symbol(strings),
    ];
    for (index, (symbol, addend)) in after.into_iter().zip([0, 0, 8]).enumerate() {
        elf.relocate(text, (8 * index as u64, R_32S, symbol, addend));
    }
    let mut running = Running::new();
    let cell = running.link("ends", &elf);
    assert_eq!(running.word(cell, 0, 0, 4), running.at(cell, 1, 0) + 12);
    assert_eq!(running.word(cell, 0, 8, 4), running.at(cell, 2, 4) + 4);
    assert_eq!(running.word(cell, 0, 16, 4), running.at(cell, 2, 4) + 4);
}

#[test]
fn what_is_added_to_a_named_element_does_not_change_which_it_is() {
    let mut elf = Elf::default();
    let text = elf.section(".text._Rf", EXEC, 16, &[0x90; 32]);
    // The order of the elements in the pool is another than in the section.
    let first = elf.section(".rodata.cst8", MERGE, 8, b"22222222");
    let second = elf.section(".rodata.cst8.b", MERGE, 8, b"1111111122222222");
    (elf.at(first).entry, elf.at(second).entry) = (8, 8);
    let named = elf.symbol("local", LOCAL, second, 8, 8);
    elf.relocate(text, (0, R_32S, named, -8));
    elf.relocate(text, (8, R_32S, named, 64));
    elf.relocate(text, (16, R_PC32, named, -4));
    let mut running = Running::new();
    let cell = running.link("elements", &elf);
    let element = running.at(cell, 2, 8);
    assert_eq!(element, running.at(cell, 1, 0), "equal elements lie once");
    assert_eq!(running.word(cell, 0, 0, 4), element - 8);
    assert_eq!(running.word(cell, 0, 8, 4), element + 64);
    assert_eq!(running.word(cell, 0, 16, 4), (element - 4).wrapping_sub(running.at(cell, 0, 16)));
}

#[test]
fn equal_constants_of_different_alignment_are_two() {
    let mut elf = Elf::default();
    for (name, align) in [(".rodata.a", 1), (".rodata.b", 64), (".rodata.c", 1), (".rodata.d", 64)] {
        elf.section(name, 0, align, b"the same");
    }
    let mut running = Running::new();
    let cell = running.link("aligned", &elf);
    let at: Vec<u64> = (0..4).map(|section| running.at(cell, section, 0)).collect();
    assert_eq!((at[0], at[1]), (at[2], at[3]));
    assert_ne!(at[0], at[1]);
    assert_eq!(at[1] % 64, 0);
}

#[test]
fn a_cache_is_wiped_by_every_copy() {
    let mut elf = Elf::default();
    let cache = elf.section(".cache", WRITE, 1, &[0; 13]);
    elf.symbol("FOUND", OBJECT | LOCAL, cache, 0, 13);
    let mut running = Running::new();
    let cell = running.link("caching", &elf);
    let at = running.at(cell, 0, 0);
    assert_eq!(at % 8, 0);
    running.memory.bytes_mut(at, 13).fill(0x55);
    running.change(Vec::new(), &[cell]);
    assert_eq!(running.at(cell, 0, 0), at);
    assert_eq!(running.memory.bytes(at, 13), [0; 13]);
    assert_eq!(running.memory.access(at), Some(Access::Write));
}

#[test]
fn a_cell_named_twice_gets_one_copy() {
    let mut running = Running::new();
    let cell = running.link("maybe", &maybe());
    assert_eq!(running.change(Vec::new(), &[cell, cell]), [cell]);
}

#[test]
fn the_longer_of_two_functions_at_one_place_is_found() {
    let mut elf = maybe();
    elf.symbol("label", FUNC | LOCAL, 1, 0, 0);
    let mut running = Running::new();
    let cell = running.link("maybe", &elf);
    let found = running.graph.locate(running.at(cell, 0, 15)).expect("it lies in the cell");
    assert_eq!((found.cell, found.function, found.offset), (cell, Some("maybe"), 15));
    let behind = running.graph.locate(running.at(cell, 0, 16)).expect("it lies in the cell");
    assert_eq!((behind.function, behind.offset), (None, 16));
}

#[test]
fn an_index_of_thunks_leads_to_their_entry() {
    let (area, at) = (linker::Span { address: PLACES.thunks, len: 0x4000 }, PLACES.thunks + 0x1_0000);
    let (bytes, index) = linker::for_thunks(area, at);
    let word = |offset: u64| i32::from_le_bytes(bytes[offset as usize..][..4].try_into().expect("four bytes"));
    let fde = (index as i32 + word(index + 16)) as u64;
    assert_eq!((at + index).wrapping_add_signed(word(index + 12).into()), area.address);
    assert_eq!((at + fde + 8).wrapping_add_signed(word(fde + 8).into()), area.address);
    assert_eq!(word(fde + 12), 0x4000);
}

/// Functions `f` and, before it in the unwind table, the others.
fn with_table(others: &[&'static str], padding: u32) -> Elf {
    let mut elf = Elf::default();
    let mut table = frames::Table::default();
    for name in others.iter().copied().chain(["f"]) {
        let text = elf.section(&format!(".text.{name}"), EXEC, 16, &[0x90; 16]);
        let function = elf.symbol(name, FUNC | GLOBAL, text, 0, 16);
        table.add(function, 16, None, function);
    }
    // The last entry of a table is padded to a multiple of eight.
    let entry = table.bytes.len() - 20;
    table.bytes[entry] += padding as u8;
    table.bytes.extend(vec![0; padding as usize]);
    let section = elf.section(".eh_frame", 0, 8, &table.bytes);
    elf.at(section).relocations = table.relocations;
    elf
}

#[test]
fn a_frame_moves_whatever_padding_its_unwind_table_has() {
    let mut running = Running::new();
    let cell = running.link("padded", &with_table(&[], 0));
    let from = running.at(cell, 0, 0);
    let object = Object::parse(with_table(&["before"], 4).finish().leak()).expect("the object is whole");
    let change = Change::Replace { cell, version: "0.2.0", object };
    let staged =
        running.graph.stage_changes(vec![change], &|_, _| None, &[], &mut running.memory).expect("it can be linked");
    let moves = running.graph.moves(&staged);
    assert_eq!(moves.len(), 1, "{moves:?}");
    assert_eq!((moves[0].from, moves[0].len), (from, 16));
}

#[test]
fn statics_in_a_circle_keep_their_places() {
    let circle = |number: u8| {
        let mut elf = Elf::default();
        let names = ["FIRST", "SECOND"];
        let sections = names.map(|name| elf.section(&format!(".rodata.{name}"), 0, 8, &[number; 16]));
        let symbols = [0, 1].map(|index| elf.symbol(names[index], OBJECT | GLOBAL, sections[index], 0, 16));
        elf.relocate(sections[0], (0, R_64, symbols[1], 0));
        elf.relocate(sections[1], (0, R_64, symbols[0], 0));
        elf
    };
    let mut running = Running::new();
    let cell = running.link("circle", &circle(1));
    let at = [running.at(cell, 0, 0), running.at(cell, 1, 0)];
    assert_eq!(running.graph.shared_bytes(), (32, 0), "both are counted");
    let object = Object::parse(circle(2).finish().leak()).expect("the object is whole");
    running.change(vec![Change::Replace { cell, version: "0.2.0", object }], &[]);
    assert_eq!(at, [running.at(cell, 0, 0), running.at(cell, 1, 0)]);
    assert_eq!((running.word(cell, 0, 0, 8), running.word(cell, 1, 0, 8)), (at[1], at[0]));
    assert_eq!(
        (running.word(cell, 0, 8, 8), running.word(cell, 1, 8, 8)),
        (0x0202_0202_0202_0202, 0x0202_0202_0202_0202)
    );
    assert_eq!(running.graph.shared_bytes(), (32, 0));
    assert!(running.graph.loose().is_empty());
}
