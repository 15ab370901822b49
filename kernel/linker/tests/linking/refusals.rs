//! Every way in which a link is refused, with the sentence that says so. A refusal leaves the graph as it was.

use crate::{
    support::{
        PLACES,
        elf::{
            ABS, Elf, FUNC, GLOBAL, LOCAL, MERGE, OBJECT, R_32S, R_64, R_PC32, R_PLT32, STRINGS, WEAK, WRITE, put,
            with_function,
        },
        frames::{HANDLED, PLAIN, Table},
        memory::Host,
    },
    worlds::state,
};
use linker::{CellId, Change, Error, Graph, Object, PAGE, Places};

/// A graph with the linked cell `base`, which defines the function `base_function`.
fn base() -> (Graph<'static>, Host) {
    let (mut graph, mut memory) = (Graph::new(PLACES), Host::default());
    let cell = add(&mut graph, "base", &with_function("base_function")).expect("nothing is there yet");
    graph.link(&[cell], &mut memory).expect("it needs nothing");
    (graph, memory)
}

fn object(elf: &Elf) -> Object<'static> {
    Object::parse(elf.finish().leak()).expect("the writer writes whole objects")
}

fn add(graph: &mut Graph<'static>, name: &'static str, elf: &Elf) -> Result<CellId, Error> {
    graph.add(name, "0.1.0", object(elf))
}

/// What adding and linking a cell answers, as a sentence, after checking that nothing has changed.
fn refused_in(graph: &mut Graph<'static>, memory: &mut Host, elf: &Elf) -> String {
    let before = state(graph);
    let error = match add(graph, "new", elf) {
        Err(error) => error,
        Ok(cell) => {
            let staged = graph.link(&[cell], memory);
            graph.forget(cell);
            staged.expect_err("it cannot be linked")
        }
    };
    assert_eq!(state(graph), before, "{error}");
    error.to_string()
}

fn refused(elf: &Elf) -> String {
    let (mut graph, mut memory) = base();
    refused_in(&mut graph, &mut memory, elf)
}

#[test]
fn names_that_do_not_fit_are_refused() {
    let (mut graph, _) = base();
    let before = state(&graph);
    assert_eq!(
        add(&mut graph, "base", &with_function("f")).expect_err("it is taken").to_string(),
        "there is already a cell base"
    );
    assert_eq!(state(&graph), before);
    let twice = refused(&with_function("base_function"));
    assert_eq!(twice, "symbol base_function is defined twice: in cell base and in cell new");
    let mut elf = with_function("f");
    elf.symbol("f", FUNC | WEAK, 1, 16, 16);
    assert_eq!(refused(&elf), "symbol f is defined twice: in cell new and in cell new");
    let mut elf = with_function("f");
    elf.undefined("g", GLOBAL);
    assert_eq!(refused(&elf), "cell new needs symbol g, which no cell defines");

    let (mut graph, mut memory) = base();
    add(&mut graph, "other", &with_function("other_function")).expect("the name is free");
    let mut elf = with_function("f");
    let other = elf.undefined("other_function", GLOBAL);
    elf.relocate(1, (4, R_PLT32, other, -4));
    assert_eq!(
        refused_in(&mut graph, &mut memory, &elf),
        "cell new needs symbol other_function of cell other, which is not linked"
    );
}

#[test]
fn state_that_may_not_be_kept_is_refused() {
    let mut elf = Elf::default();
    let data = elf.section(".data.COUNT", WRITE, 8, &[1; 8]);
    elf.symbol("COUNT", OBJECT | GLOBAL, data, 0, 8);
    let sentence = "cell new has writable data COUNT in section .data.COUNT: a cell may keep no state of its own";
    assert_eq!(refused(&elf), sentence);
    elf.symbols[0].value = 4;
    elf.symbols[0].size = 4;
    assert_eq!(refused(&elf), sentence.replace("data COUNT", "data without a name"));
    for section in [".cache", ".percpu.count"] {
        let mut elf = Elf::default();
        elf.section(section, WRITE, 8, &[0, 0, 0, 1]);
        let sentence = format!(
            "cell new: section {section} has an initial value, expected zeros: caches are wiped, each CPU has its own copy"
        );
        assert_eq!(refused(&elf), sentence);
    }
    let mut elf = Elf::default();
    elf.section(".percpu", WRITE, 8, &[0; 8]);
    elf.section(".percpu", WRITE, 8, &[0; 16]);
    assert_eq!(refused(&elf), "symbol .percpu is defined twice: in cell new and in cell new");

    // A new version whose static or per-CPU value has grown.
    for (section, size) in [(".data.COUNT", 16), (".percpu.COUNT", 24)] {
        let of_size = |size: usize| {
            let mut elf = Elf::default();
            let section = elf.section(section, WRITE, 8, &vec![0; size]);
            elf.symbol("COUNT", OBJECT | GLOBAL, section, 0, 8);
            elf
        };
        let (mut graph, mut memory) = base();
        graph.allow_hosted("COUNT");
        let cell = add(&mut graph, "new", &of_size(8)).expect("the name is free");
        graph.link(&[cell], &mut memory).expect("its static is listed");
        let before = state(&graph);
        let change = Change::Replace { cell, version: "0.2.0", object: object(&of_size(size)) };
        let error = graph
            .stage_changes(vec![change], &|_, _| None, &[], &mut memory)
            .expect_err("what follows would be overwritten");
        assert_eq!(
            error.to_string(),
            format!("cell new: COUNT, which outlives the cell's copies, has {size} bytes, expected 8 as before")
        );
        assert_eq!(state(&graph), before);
    }
}

#[test]
fn fields_out_of_reach_are_refused() {
    let mut elf = with_function("f");
    let constant = elf.section(".rodata.a", 0, 8, &[0; 8]);
    let constant = elf.section_symbol(constant);
    elf.relocate(1, (4, R_32S, constant, -(1 << 31)));
    let sentence = refused(&elf);
    assert_eq!(
        sentence,
        "cell new: relocation at .text.f+0x4 to .rodata.a-2147483648 does not fit: 0xffffffff08000000 is out of reach"
    );

    // Areas further apart than a branch reaches.
    let mut graph = Graph::new(Places { thunks: PLACES.thunks - (8 << 30), ..PLACES });
    let sentence = refused_in(&mut graph, &mut Host::default(), &with_function("f"));
    assert_eq!(
        sentence,
        "cell new: relocation at thunks+0xfffffffd8a000000 to .text.f does not fit: 0xffffffff80000000 is out of reach"
    );
    let (mut graph, mut memory) = base();
    graph.move_text(PLACES.text - (4 << 30));
    let mut elf = with_function("_Rf");
    let function = elf.undefined("base_function", GLOBAL);
    elf.relocate(1, (4, R_PLT32, function, -4));
    let sentence = refused_in(&mut graph, &mut memory, &elf);
    assert_eq!(
        sentence,
        "cell new: relocation at .text._Rf+0x4 to base_function-4 does not fit: 0xfffffff8 is out of reach"
    );
    // A second copy out of reach of a branch that exists.
    let (mut graph, mut memory) = base();
    let cell = add(&mut graph, "new", &elf).expect("the name is free");
    graph.link(&[cell], &mut memory).expect("it is near");
    graph.move_text(PLACES.text - (1 << 30));
    let base = graph.find("base").expect("it is there");
    let staged = graph.stage(&[base], &mut memory).expect("the thunks are near");
    graph.commit(staged);
    graph.move_text(PLACES.text - (1 << 30) + (3 << 20));
    let staged = graph.stage(&[cell], &mut memory).expect("the other copy is near");
    graph.commit(staged);
    graph.move_text(PLACES.text + (1 << 30) + (1 << 29));
    let staged = graph.stage(&[base], &mut memory).expect("the thunks are near");
    let sentence = graph.patches(&staged).expect_err("the branch does not reach").to_string();
    assert_eq!(
        sentence,
        "cell new: relocation at text+0x4 to its new copy does not fit: 0xffffffffe0000000 is out of reach"
    );
}

#[test]
fn references_that_may_not_be_are_refused() {
    // Each: changes to a cell with a function, a constant, a jump table, elements, a per-CPU value, an LSDA.
    let with_all = |change: &dyn Fn(&mut Elf, &dyn Fn(&mut Elf, &str) -> u32)| {
        let mut elf = with_function("f");
        let constant = elf.section(".rodata.a", 0, 8, &[0; 16]);
        let table = elf.section(".rodata.table", 0, 8, &[0; 8]);
        elf.section(".rodata.cst8", MERGE, 8, &[7; 16]);
        elf.at(4).entry = 8;
        elf.section(".percpu", WRITE, 8, &[0; 8]);
        elf.section(".gcc_except_table.f", 0, 4, &[0; 8]);
        elf.relocate(table, (0, R_64, 1, 8));
        let note = elf.section(".note", 0, 1, &[0; 8]);
        elf.at(note).flags = 0;
        assert_eq!(constant, 2);
        let section = |elf: &mut Elf, name: &str| {
            let number = elf.sections.iter().position(|section| section.name == name).expect("it is there") as u16 + 1;
            elf.section_symbol(number)
        };
        change(&mut elf, &section);
        let sentence = refused(&elf);
        let what = sentence.split(" is of a kind that is not allowed here (").nth(1).unwrap_or(&sentence);
        what.trim_end_matches(')').to_owned()
    };
    let text_to = |kind, name: &'static str, addend| {
        with_all(&move |elf, section| {
            let symbol = section(elf, name);
            elf.relocate(1, (4, kind, symbol, addend));
        })
    };
    let data_to = |kind, name: &'static str, addend| {
        with_all(&move |elf, section| {
            let symbol = section(elf, name);
            elf.relocate(2, (4, kind, symbol, addend));
        })
    };
    assert_eq!(text_to(R_32S, ".note", 0), "a place in a section that is not allocated");
    assert_eq!(text_to(R_PLT32, ".text.f", 4), "a branch that does not lead to a function's start");
    assert_eq!(text_to(R_PLT32, ".rodata.a", -4), "a branch, which only text may have and only to text");
    assert_eq!(data_to(R_PLT32, ".text.f", -4), "a branch, which only text may have and only to text");
    assert_eq!(text_to(R_32S, ".text.f", 8), "an address inside a function, outside its jump tables");
    assert_eq!(text_to(R_PC32, ".text.f", -4), "a relative address of a function, outside a branch");
    assert_eq!(data_to(R_64, ".gcc_except_table.f", 0), "an unwind table");
    assert_eq!(data_to(R_64, ".rodata.table", 0), "a jump table, by data that outlives it");
    assert_eq!(text_to(R_32S, ".rodata.cst8", 17), "an address outside a mergeable section");
    assert_eq!(text_to(R_32S, ".rodata.cst8", -1), "an address outside a mergeable section");
    assert_eq!(text_to(R_PC32, ".rodata.cst8", -4), "a relative address of an unnamed element");
    assert_eq!(text_to(R_PC32, ".percpu", -4), "a relative address of a per-CPU value, which is an offset");
    assert_eq!(data_to(R_PC32, ".rodata.cst8", 0), "a relative address of an unnamed element");
    assert_eq!(data_to(R_PC32, ".rodata.a", 0), "a relative address outside text");
    let to_nobody = |elf: &mut Elf, _: &dyn Fn(&mut Elf, &str) -> u32| {
        let nobody = elf.undefined("nobody", WEAK);
        elf.relocate(2, (4, R_PC32, nobody, 0));
    };
    assert_eq!(with_all(&to_nobody), "a relative number outside text");

    // The whole sentence, and a jump table of another cell.
    let (mut graph, mut memory) = (Graph::new(PLACES), Host::default());
    let mut elf = with_function("f");
    let table = elf.section(".rodata.table", 0, 8, &[0; 8]);
    elf.relocate(table, (0, R_64, 1, 8));
    elf.symbol("TABLE", OBJECT | GLOBAL, table, 0, 8);
    let first = add(&mut graph, "first", &elf).expect("nothing is there yet");
    graph.link(&[first], &mut memory).expect("its jump table is its own");
    let mut elf = with_function("g");
    let table = elf.undefined("TABLE", GLOBAL);
    elf.relocate(1, (4, R_32S, table, 0));
    let sentence = refused_in(&mut graph, &mut memory, &elf);
    assert_eq!(
        sentence,
        "cell new: relocation at .text.g+0x4 to TABLE is of a kind that is not allowed here (another cell's jump table)"
    );
}

#[test]
fn damaged_unwind_tables_are_refused() {
    let table = |lsda: bool| {
        let mut table = Table::default();
        table.add(1, 32, lsda.then_some(2), 1);
        table
    };
    let sentence = |table: &Table| {
        let mut elf = with_function("f");
        let lsda = elf.section(".gcc_except_table.f", 0, 4, &[0xff; 8]);
        elf.section_symbol(lsda);
        let frames = elf.section(".eh_frame", 0, 8, &table.bytes);
        elf.at(frames).relocations.clone_from(&table.relocations);
        refused(&elf)
    };
    let damaged = |lsda: bool, change: fn(&mut Table)| {
        let mut table = table(lsda);
        change(&mut table);
        let sentence = sentence(&table);
        let rest = sentence
            .strip_prefix("cell new: the unwind table is damaged at offset ")
            .expect("it is the unwind table's fault");
        rest.to_owned()
    };
    assert_eq!(
        damaged(false, |t| {
            t.bytes.truncate(26);
            t.relocations.clear()
        }),
        "0x18: an entry is cut off"
    );
    assert_eq!(damaged(false, |t| t.bytes[24] = 40), "0x18: an entry's length is not within the table");
    assert_eq!(
        damaged(false, |t| put(&mut t.bytes, 24, &[0xff; 4])),
        "0x18: an entry's length is not within the table"
    );
    assert_eq!(damaged(false, |t| t.bytes[24] = 0), "0x18: an entry's length is not within the table");
    assert_eq!(damaged(false, |t| t.bytes[28] = 27), "0x18: an entry does not lead back to a CIE");
    assert_eq!(damaged(false, |t| t.bytes[28] = 200), "0x18: an entry does not lead back to a CIE");
    assert_eq!(
        damaged(false, |t| {
            t.bytes.truncate(36);
            t.bytes[24] = 8
        }),
        "0x18: an entry is too short for a function"
    );
    assert_eq!(damaged(false, |t| t.relocations.clear()), "0x18: an entry's function is not relocated");
    assert_eq!(damaged(false, |t| t.relocations[0].2 = 2), "0x18: an entry is for no function of this cell");
    assert_eq!(damaged(false, |t| t.relocations[0].3 = 1), "0x18: an entry's function reaches out of its section");
    assert_eq!(damaged(false, |t| t.relocations[0].3 = -1), "0x18: an entry's function reaches out of its section");
    assert_eq!(damaged(false, |t| t.bytes[40] = 9), "0x18: an entry's augmentation is not within it");
    assert_eq!(
        damaged(false, |t| t.relocations.insert(0, (24, R_PC32, 1, 0))),
        "0x18: an entry's function is not relocated"
    );
    assert_eq!(
        damaged(false, |t| t.relocations.push((38, R_PC32, 1, 0))),
        "0x18: a relocation fills another field than a pointer of the entry"
    );
    assert_eq!(damaged(false, |t| t.bytes[8] = 3), "0x0: a CIE is not of version 1");
    assert_eq!(damaged(false, |t| t.bytes[9..24].fill(b'z')), "0x0: a CIE is cut off");
    assert_eq!(damaged(false, |t| t.bytes[10] = b'Q'), "0x0: a CIE has an unknown augmentation");
    assert_eq!(damaged(false, |t| t.bytes[15] = 2), "0x0: a CIE's augmentation has not the length that it says");
    assert_eq!(
        damaged(false, |t| t.bytes[16] = 0),
        "0x0: a CIE encodes functions otherwise than relative and in 32 bits"
    );
    assert_eq!(damaged(true, |t| t.bytes[18] = 0x9b), "0x0: a CIE encodes its personality in an unknown way");
    assert_eq!(damaged(true, |t| _ = t.relocations.remove(0)), "0x0: a CIE's personality is not relocated");
    assert_eq!(damaged(true, |t| t.bytes[27] = 0x9b), "0x0: a CIE encodes LSDAs in an unknown way");
    assert_eq!(damaged(true, |t| t.bytes[48] = 7), "0x20: an entry has no room for its LSDA");
    assert_eq!(damaged(true, |t| t.relocations[2].2 = 1), "0x20: an entry's LSDA is none of this cell");
    assert_eq!(damaged(true, |t| t.relocations[2].3 = 8), "0x20: an entry's LSDA is none of this cell");
    assert_eq!(
        damaged(true, |t| {
            t.relocations.pop();
            t.bytes[49] = 1
        }),
        "0x20: an entry's LSDA is none of this cell"
    );
    assert_eq!((PLAIN.len(), HANDLED.len()), (0x18, 0x20), "the offsets above");
}

#[test]
fn too_deep_constants_are_refused() {
    let chain = |len: u32| {
        let mut elf = Elf::default();
        for index in 0..len {
            let section = elf.section(&format!(".rodata.{index}"), 0, 8, &[0; 8]);
            elf.symbol(&format!("C{index}"), OBJECT | LOCAL, section, 0, 8);
        }
        for index in 1..len {
            elf.relocate(index as u16, (0, R_64, index + 1, 0));
        }
        elf
    };
    let (mut graph, mut memory) = base();
    let cell = add(&mut graph, "deep", &chain(65)).expect("the name is free");
    assert_eq!(graph.link(&[cell], &mut memory), Ok(()));
    assert_eq!(refused(&chain(1000)), "cell new: constants refer to one another deeper than 64 levels");
}

#[test]
fn without_room_nothing_is_linked() {
    let mut elf = with_function("f");
    elf.section(".rodata.a", 0, 8, &[1; 5000]);
    let percpu = elf.section(".percpu", WRITE, 8, &[0; 24]);
    elf.symbol("COUNT", OBJECT | GLOBAL, percpu, 0, 8);
    let hosted = elf.section(".data.STATE", WRITE, 8, &[0; 5000]);
    elf.symbol("STATE", OBJECT | GLOBAL, hosted, 0, 8);
    let whole = Places {
        text: PLACES.constants,
        constants: PLACES.thunks,
        thunks: PLACES.hosted,
        hosted: PLACES.hosted + (2 << 20),
        per_cpu: 16384,
    };
    let refused = |ends: Places, left: u64| {
        let mut graph = Graph::new(PLACES);
        graph.allow_hosted("STATE");
        graph.limit(ends);
        refused_in(&mut graph, &mut Host { left, ..Host::default() }, &elf)
    };
    let text = Places { text: PLACES.text + PAGE, ..whole };
    assert_eq!(
        refused(text, 1 << 20),
        "no room in the text: 8192 bytes from 0xffffffff80000000 end behind 0xffffffff80001000"
    );
    let constants = Places { constants: PLACES.constants + PAGE, ..whole };
    assert_eq!(
        refused(constants, 1 << 20),
        "no room in the constants: 5001 bytes from 0xffffffff88000000 end behind 0xffffffff88001000"
    );
    let thunks = Places { thunks: PLACES.thunks, ..whole };
    assert_eq!(
        refused(thunks, 1 << 20),
        "no room in the thunks: 8 bytes from 0xffffffff8a000000 end behind 0xffffffff8a000000"
    );
    let hosted = Places { hosted: PLACES.hosted + PAGE, ..whole };
    assert_eq!(
        refused(hosted, 1 << 20),
        "no room in the hosted statics: 5000 bytes from 0xffffffff8a800000 end behind 0xffffffff8a801000"
    );
    let per_cpu = Places { per_cpu: 256 + 16, ..whole };
    assert_eq!(refused(per_cpu, 1 << 20), "no room in the per-CPU values: 24 bytes from 0x100 end behind 0x110");
    // Memory that ends at each of the pages: constants, thunks, statics, text, tables.
    let needed = [8192, 4096, 8192, 4096, 4096];
    for (index, len) in needed.into_iter().enumerate() {
        let left = needed[..index].iter().sum::<u64>() + len - 1;
        assert_eq!(refused(whole, left), format!("no memory for {len} bytes"));
    }
    let mut graph = Graph::new(PLACES);
    graph.allow_hosted("STATE");
    graph.limit(whole);
    let cell = add(&mut graph, "new", &elf).expect("nothing is there yet");
    assert_eq!(graph.link(&[cell], &mut Host { left: needed.iter().sum(), ..Host::default() }), Ok(()));
}

#[test]
fn memory_that_differs_is_noticed() {
    let mut elf = with_function("f");
    let constant = elf.section(".rodata.a", 0, 8, &[1; 8]);
    let constant = elf.section_symbol(constant);
    elf.relocate(1, (4, R_32S, constant, 0));
    elf.section(".rodata.str", MERGE | STRINGS, 1, b"one\0two\0");
    elf.symbol("NUMBER", GLOBAL, ABS, 77, 0);
    let (mut graph, mut memory) = base();
    let cell = add(&mut graph, "new", &elf).expect("the names are free");
    graph.link(&[cell], &mut memory).expect("it needs nothing");
    assert_eq!(graph.verify(cell, &memory), Ok(()));
    assert_eq!(graph.symbol("NUMBER"), Some(77));
    let placement = graph.cell(cell).placement.clone().expect("it is linked");
    let thunk = graph.symbol("f").expect("it is defined");
    let places =
        [placement.address(0, 31), placement.address(1, 7), placement.address(2, 6), placement.index.address, thunk];
    for address in places {
        let mut memory = memory.clone();
        let byte = memory.word(address, 1);
        memory.write(address, 1, byte ^ 1);
        let sentence = graph.verify(cell, &memory).expect_err("a byte differs").to_string();
        let expected = format!(
            "cell new: memory at {address:#x} differs from what the object says: expected {byte:#04x}, found {:#04x}",
            byte ^ 1
        );
        assert_eq!(sentence, expected);
        memory.ranges.retain(|start, range| !(*start..*start + range.bytes.len() as u64).contains(&address));
        let sentence = graph.verify(cell, &memory).expect_err("it is not there").to_string();
        assert!(sentence.starts_with("cell new: ") && sentence.ends_with(" cannot be read"), "{sentence}");
    }
}
