//! Generated worlds: every field is what it should be, constants are shared, and a second copy moves nothing but itself.

use crate::support::{
    PLACES,
    check::Linked,
    memory::Host,
    world::{Kind, Tape, World},
};
use linker::{CellId, Change, Graph, Object, Patch};
use proptest::prelude::*;

/// Links a world: all at once, or one cell after the other.
fn link(world: &World) -> (Graph<'static>, Host, Vec<CellId>) {
    let (mut graph, mut memory, mut ids) = (Graph::new(PLACES), Host::default(), Vec::new());
    for thing in world.things.iter().filter(|thing| thing.kind == Kind::Hosted) {
        graph.allow_hosted(thing.symbol.as_ref().expect("it has a name"));
    }
    for (cell, object) in world.objects().into_iter().enumerate() {
        let object = Object::parse(object.leak()).expect("the object is whole");
        ids.push(graph.add(format!("cell{cell}").leak(), "0.1.0", object).expect("names are distinct"));
        if world.layered {
            graph.link(&ids[cell..], &mut memory).expect("it needs only what is there");
        }
    }
    if !world.layered {
        graph.link(&ids, &mut memory).expect("the world is closed");
    }
    (graph, memory, ids)
}

/// What of a graph a failed link must leave as it was.
pub fn state(graph: &Graph<'_>) -> String {
    let cells =
        graph.cells().map(|(id, cell)| format!("{id:?} {} {} {:?}\n", cell.name, cell.reseated, cell.placement));
    let symbols = graph
        .cells()
        .flat_map(|(_, cell)| cell.object.defined())
        .map(|name| format!("{name} {:?}\n", graph.symbol(name)));
    format!(
        "{:?} {:?}\n{}{}",
        graph.places(),
        graph.shared_bytes(),
        cells.collect::<String>(),
        symbols.collect::<String>()
    )
}

fn apply(memory: &mut Host, patches: &[Patch]) {
    for patch in patches {
        memory.write(patch.address, patch.width, patch.new);
    }
}

/// Gives the chosen cells second copies and checks everything that must hold then.
fn second_copies(
    linked: &Linked<'_>,
    mut graph: Graph<'static>,
    mut memory: Host,
    chosen: &[CellId],
) -> (Graph<'static>, Host) {
    let things = 0..linked.world.things.len();
    let addresses = |graph: &Graph<'_>| things.clone().map(|thing| linked.address(graph, thing)).collect::<Vec<u64>>();
    let (before, was) = (addresses(&graph), state(&graph));
    let (shared, ranges) = (graph.shared_bytes(), memory.ranges.clone());

    // Staging, and dropping what was staged, changes nothing.
    drop(graph.stage(chosen, &mut memory.clone()).expect("it could be linked before"));
    assert_eq!(state(&graph), was);
    let staged = graph.stage(chosen, &mut memory).expect("it could be linked before");
    assert_eq!(state(&graph), was);
    for (start, range) in &ranges {
        assert_eq!(memory.ranges.get(start), Some(range), "staging changed what runs");
    }

    let patches = graph.patches(&staged).expect("the copies are near");
    graph.commit(staged);
    let new: Vec<_> = chosen.iter().filter_map(|&id| graph.cell(id).span()).collect();
    for patch in &patches {
        assert!(new.iter().all(|span| !span.contains(patch.address)), "{patch:?} lies in a new copy");
    }
    let leads: Vec<Patch> = patches.iter().copied().filter(|patch| patch.old != patch.new).collect();
    for (number, patch) in leads.iter().enumerate() {
        assert_eq!(memory.word(patch.address, patch.width), patch.old, "{patch:?}");
        assert!(leads[..number].iter().all(|other| other.address != patch.address), "{patch:?} twice");
    }
    let verify = |memory: &Host| linked.ids.iter().try_for_each(|&id| graph.verify(id, memory));
    for left_out in 0..leads.len() {
        let mut memory = memory.clone();
        apply(&mut memory, &leads[..left_out]);
        apply(&mut memory, &leads[left_out + 1..]);
        assert!(verify(&memory).is_err(), "{:?} was not applied, and nobody noticed", leads[left_out]);
    }
    apply(&mut memory, &patches);
    assert_eq!(verify(&memory), Ok(()));
    linked.check(&graph, &memory);

    let after = addresses(&graph);
    for (index, thing) in linked.world.things.iter().enumerate() {
        let moves = matches!(thing.kind, Kind::Function | Kind::JumpTable(_) | Kind::Lsda(_))
            && chosen.contains(&linked.ids[thing.cell]);
        assert_eq!(before[index] != after[index], moves, "{thing:?}");
    }
    assert_eq!(graph.shared_bytes(), shared, "constants or thunks were added");
    (graph, memory)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn worlds_are_linked_as_they_should_be(tape in prop::collection::vec(any::<u8>(), 0..1200)) {
        let mut tape = Tape::new(&tape);
        let world = World::new(&mut tape);
        let (graph, memory, ids) = link(&world);
        let linked = Linked { world: &world, ids, initial: true };
        linked.check(&graph, &memory);
        for &id in &linked.ids {
            prop_assert_eq!(graph.verify(id, &memory), Ok(()));
        }
        let chosen: Vec<CellId> = linked.ids.iter().copied().filter(|_| !tape.chance(3)).collect();
        let (graph, memory) = second_copies(&linked, graph, memory, &chosen);
        second_copies(&linked, graph, memory, &linked.ids);
    }

    #[test]
    fn replaced_cells_are_linked_as_they_should_be(tape in prop::collection::vec(any::<u8>(), 0..1200)) {
        let mut tape = Tape::new(&tape);
        let world = World::new(&mut tape);
        let (mut graph, mut memory, ids) = link(&world);
        let cell = tape.below(world.cells);
        let changed = world.changed(&mut tape, cell);
        let object = Object::parse(changed.objects().swap_remove(cell).leak()).expect("the object is whole");
        let before = (state(&graph), memory.ranges.clone());
        let change = Change::Replace { cell: ids[cell], version: "0.2.0", object };
        let follow = |_, name: &str| changed.things.iter().filter_map(|thing| thing.symbol.as_deref()).find(|symbol| *symbol == name);
        let staged = graph.stage_changes(vec![change], &follow, &[], &mut memory).expect("the changed world is closed too");
        prop_assert_eq!(state(&graph), before.0);
        for (start, range) in &before.1 {
            prop_assert_eq!(memory.ranges.get(start), Some(range), "staging changed what runs");
        }
        let patches = graph.patches(&staged).expect("the copies are near");
        let replaced = graph.commit(staged);
        for patch in &patches {
            prop_assert!(patch.old == patch.new || memory.word(patch.address, patch.width) == patch.old, "{:?}", patch);
        }
        apply(&mut memory, &patches);
        for &id in &ids {
            prop_assert_eq!(graph.verify(id, &memory), Ok(()));
        }
        let linked = Linked { world: &changed, ids, initial: false };
        linked.check(&graph, &memory);
        // Nothing refers to what was left behind: it is given up, and nothing that runs misses it.
        let old: Vec<_> = replaced.iter().collect();
        let reached = graph.reach(&[], &old, &[], &memory);
        prop_assert!((0..old.len()).all(|at| reached.why(at).is_none()));
        let traps: Vec<_> = graph.traps(&reached).collect();
        apply(&mut memory, &traps);
        graph.give_up(&reached, std::iter::empty());
        prop_assert!(graph.loose().is_empty());
        for &id in &linked.ids {
            prop_assert_eq!(graph.verify(id, &memory), Ok(()));
        }
        let ids = linked.ids.clone();
        second_copies(&linked, graph, memory, &ids);
    }
}
