//! Damaged objects: whatever becomes of the bytes of a real object, the linker accepts it or says why it does not. It
//! never panics, and what it accepts the second reader accepts too and sees the same.

use crate::support::{
    goblin::agree,
    small::{self, World},
};
use linker::Object;
use std::collections::BTreeMap;

/// Outcomes, counted by the first words of what was said.
type Outcomes = BTreeMap<String, u32>;

/// Reads and links bytes that may be anything; the outcome in a word.
fn try_bytes(world: &World, bytes: &[u8], outcomes: &mut Outcomes) {
    let outcome = match Object::parse(bytes) {
        Err(error) => name(&format!("{error:?}")),
        Ok(object) => {
            agree(&object);
            match world.link(object) {
                Err(error) => name(&format!("{error:?}")),
                Ok((graph, cell, memory)) => {
                    assert_eq!(graph.verify(cell, &memory), Ok(()), "what was linked is not what it should be");
                    "Linked".to_owned()
                }
            }
        }
    };
    *outcomes.entry(outcome).or_default() += 1;
}

/// The name of an error's variant.
fn name(debug: &str) -> String {
    debug.split([' ', '(']).next().unwrap_or_default().to_owned()
}

/// Every byte that is structure, not contents: headers, symbols, relocations, the unwind table.
fn structure(bytes: &[u8]) -> Vec<bool> {
    let elf = goblin::elf::Elf::parse(bytes).expect("the fixture is whole");
    let start = elf.header.e_shoff as usize;
    let mut structure = vec![false; bytes.len()];
    structure[..64].fill(true);
    structure[start..start + elf.section_headers.len() * 64].fill(true);
    for header in &elf.section_headers {
        let name = elf.shdr_strtab.get_at(header.sh_name).unwrap_or_default();
        if name == ".symtab" || name == ".eh_frame" || name.starts_with(".rela") {
            structure[header.file_range().expect("it has bytes")].fill(true);
        }
    }
    structure
}

#[test]
fn the_object_itself_is_linked() {
    let mut outcomes = Outcomes::new();
    let object = small::small();
    try_bytes(&World::new(), object.bytes(), &mut outcomes);
    assert_eq!(outcomes, Outcomes::from([("Linked".to_owned(), 1)]));
}

#[test]
fn every_truncation_is_refused() {
    let (world, object) = (World::new(), small::small());
    let mut outcomes = Outcomes::new();
    for len in 0..object.bytes().len() {
        try_bytes(&world, &object.bytes()[..len], &mut outcomes);
    }
    assert_eq!(outcomes, Outcomes::from([("Truncated".to_owned(), object.bytes().len() as u32)]));
}

#[test]
fn every_changed_byte_is_accepted_or_refused() {
    let structure = structure(small::small().bytes());
    let world = World::new();
    let half = |which: usize| {
        let (mut object, mut outcomes) = (small::small(), Outcomes::new());
        for (at, is_structure) in structure.iter().enumerate().filter(|(at, _)| at % 2 == which) {
            let byte = object.bytes()[at];
            let bits = [1, 2, 4, 8, 16, 32, 64, 128];
            let changes = if *is_structure { (1..=255).collect() } else { bits.to_vec() };
            for change in changes {
                object.set(at, byte ^ change);
                try_bytes(&world, object.bytes(), &mut outcomes);
            }
            object.set(at, byte);
        }
        outcomes
    };
    let outcomes = std::thread::scope(|scope| {
        let other = scope.spawn(|| half(1));
        let mut outcomes = half(0);
        for (outcome, count) in other.join().expect("no change makes the linker panic") {
            *outcomes.entry(outcome).or_default() += count;
        }
        outcomes
    });
    eprintln!("{outcomes:#?}");
}
