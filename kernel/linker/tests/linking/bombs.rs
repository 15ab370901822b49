//! Objects that ask for more than they are worth: refused, and before much memory is taken.

use crate::support::{
    PLACES,
    elf::{Aligned, EXEC, Elf, FUNC, GLOBAL, MERGE, NOBITS, R_32S, STRINGS, WRITE},
    heap::most,
    memory::Host,
};
use linker::{Graph, Object};

/// What may be taken beside the object itself, in bytes.
const LITTLE: usize = 8 << 20;

/// Reads and links an object, which is refused; the sentence, after checking how much memory was taken.
fn refused(elf: &Elf) -> String {
    refused_bytes(&elf.finish())
}

fn refused_bytes(object: &Aligned) -> String {
    let (error, bytes) = most(|| match Object::parse(object.bytes()) {
        Err(error) => error.to_string(),
        Ok(object) => {
            let mut graph = Graph::new(PLACES);
            graph.allow_hosted("STATE");
            let cell = graph.add("bomb", "0.1.0", object).expect("nothing is there yet");
            graph.link(&[cell], &mut Host::default()).expect_err("it asks for too much").to_string()
        }
    });
    assert!(bytes <= LITTLE + object.bytes().len(), "{bytes} bytes were taken: {error}");
    error
}

/// A section of zeros without bytes in the file.
fn zeros(elf: &mut Elf, size: u64, align: u64) {
    let section = elf.section(&format!(".bss.{}", elf.sections.len()), WRITE, align, &[]);
    let section = elf.at(section);
    (section.kind, section.size) = (NOBITS, size);
}

#[test]
fn much_zeroed_memory_is_refused() {
    let mut elf = Elf::default();
    zeros(&mut elf, 1 << 40, 8);
    assert_eq!(refused(&elf), "section 1 has size 0x10000000000, expected at most 32 MiB");
    let mut elf = Elf::default();
    zeros(&mut elf, u64::MAX, 8);
    assert_eq!(refused(&elf), "section 1 has size 0xffffffffffffffff, expected at most 32 MiB");
    let mut elf = Elf::default();
    (0..1000).for_each(|_| zeros(&mut elf, 32 << 20, 1));
    assert_eq!(refused(&elf), "the object has 67108864 bytes in memory, at most 33554432 are accepted");
}

#[test]
fn large_alignments_are_refused() {
    let mut elf = Elf::default();
    zeros(&mut elf, 8, 1 << 40);
    assert_eq!(refused(&elf), "section 1 has alignment 0x10000000000, expected a power of two up to 4096");
    // The gaps count as well.
    let mut elf = Elf::default();
    (0..10_000).for_each(|_| zeros(&mut elf, 1, 4096));
    assert_eq!(refused(&elf), "the object has 33558528 bytes in memory, at most 33554432 are accepted");
}

#[test]
fn a_million_relocations_are_refused() {
    let mut elf = Elf::default();
    let text = elf.section(".text.f", EXEC, 16, &[0; 4_000_000]);
    let symbol = elf.symbol("f", FUNC | GLOBAL, text, 0, 16);
    elf.at(text).relocations = (0..1_000_000).map(|index| (index * 4, R_32S, symbol, 0)).collect();
    assert_eq!(refused(&elf), "the object has 1000000 relocations, at most 400000 are accepted");
}

#[test]
fn sections_that_share_their_bytes_are_counted_each() {
    // Ten thousand sections, all of the same 16 KiB of the file.
    let mut elf = Elf::default();
    elf.section(".rodata.whole", 0, 1, &[0; 1 << 14]);
    (0..10_000).for_each(|index| _ = elf.section(&format!(".rodata.{index}"), 0, 1, &[]));
    let mut object = elf.finish();
    let table = u64::from_le_bytes(object.bytes()[40..48].try_into().expect("eight bytes")) as usize;
    let whole: Vec<u8> = object.bytes()[table + 64 + 24..][..16].to_vec();
    for section in 2..=10_001 {
        whole.iter().enumerate().for_each(|(at, &byte)| object.set(table + section * 64 + 24 + at, byte));
    }
    assert_eq!(
        refused_bytes(&object),
        "the object has 33554432 bytes in memory, at most 33554432 are accepted"
            .replace("33554432 bytes", "33570816 bytes")
    );
}

#[test]
fn many_small_elements_are_refused() {
    for flags in [MERGE, MERGE | STRINGS] {
        let mut elf = Elf::default();
        elf.section(".rodata.cst1", flags, 1, &[0; 20 << 20]);
        let (sentence, bytes) = most(|| refused(&elf));
        assert_eq!(sentence, "cell bomb: the object has 400001 elements in a section, at most 400000 are accepted");
        assert!(bytes < 100 << 20, "{bytes}");
    }
}
