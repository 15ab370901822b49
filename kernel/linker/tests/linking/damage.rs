//! Damaged objects: whatever becomes of the bytes of a real object, the linker accepts it or says why it does not. It
//! never panics, and what it accepts the second reader accepts too and sees the same.

use crate::support::{
    elf::Aligned,
    random::Random,
    small::{self, World},
    world::{self as generated, Tape},
};
use std::collections::BTreeMap;

/// Outcomes by the name of the error, counted.
type Outcomes = BTreeMap<String, u32>;

/// What becomes of bytes that may be anything, counted.
fn try_bytes(world: &World, bytes: &[u8], outcomes: &mut Outcomes) {
    *outcomes.entry(world.try_bytes(bytes)).or_default() += 1;
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
    // Some changes matter to nobody; each of the others is refused for a reason of its own.
    assert!(outcomes["Linked"] > 100_000 && outcomes.len() > 12, "{outcomes:?}");
}

/// Changes that are less even than those of single bytes: words that mean something, bytes from elsewhere, several at once.
fn damage(object: &mut Aligned, random: &mut Random) {
    const WORDS: [u64; 8] = [0, 1, 8, 0xff, 0xfff1, 0x7fff_ffff, 0xffff_ffff, u64::MAX];
    let len = object.bytes().len();
    let changes = if random.below(4) == 0 { 4 } else { 1 };
    for _ in 0..changes {
        let (at, from, count) = (random.below(len), random.below(len), 1 + random.below(16));
        let bytes: Vec<u8> = match random.below(4) {
            0 => vec![random.below(256) as u8],
            1 => WORDS[random.below(8)].to_le_bytes()[..1 << random.below(4)].to_vec(),
            2 => object.bytes()[from..(from + count).min(len)].to_vec(),
            _ => vec![object.bytes()[at].wrapping_add([1, 255, 8, 248][random.below(4)])],
        };
        for (offset, byte) in bytes.into_iter().enumerate().filter(|(offset, _)| at + offset < len) {
            object.set(at + offset, byte);
        }
    }
}

#[test]
fn ten_thousand_random_changes_are_accepted_or_refused() {
    let (mut world, mut random, mut outcomes) = (World::new(), Random::new(10), Outcomes::new());
    // The statics of generated objects.
    (0..60).for_each(|index| world.graph.allow_hosted(&format!("_R0_{index}")));
    for round in 0..10_000 {
        let tape: Vec<u8> = (0..300).map(|_| random.below(256) as u8).collect();
        let object = if round % 2 == 0 {
            small::small()
        } else {
            generated::World::new(&mut Tape::new(&tape)).objects().swap_remove(0)
        };
        let mut damaged = object.clone();
        damage(&mut damaged, &mut random);
        try_bytes(&world, damaged.bytes(), &mut outcomes);
        world.try_second_copy(damaged.bytes());
    }
    assert!(outcomes["Linked"] > 2_000 && outcomes.len() > 10, "{outcomes:?}");
}
