//! Every way in which bytes are refused as an object, with the sentence that says so.

use crate::support::elf::{
    ALLOC, Aligned, EXEC, Elf, FUNC, LOCAL, MERGE, R_32S, R_64, R_PLT32, STRINGS, TLS, WRITE, put, with_function,
};
use linker::Object;

/// What reading an object answers, as a sentence.
fn read(elf: &Elf, damage: impl Fn(&mut Vec<u8>)) -> String {
    let mut bytes = elf.finish().bytes().to_vec();
    damage(&mut bytes);
    Object::parse(Aligned::new(&bytes).bytes()).map(|_| ()).expect_err("it is damaged").to_string()
}

/// Where the header of a section lies, by its number.
fn header(bytes: &[u8], section: usize) -> usize {
    u64::from_le_bytes(bytes[40..48].try_into().expect("eight bytes")) as usize + section * 64
}

/// Overwrites part of the header of a section.
fn put_header(bytes: &mut [u8], section: usize, at: usize, word: &[u8]) {
    put(bytes, header(bytes, section) + at, word);
}

#[test]
fn damaged_headers_are_refused() {
    let elf = with_function("f");
    let whole = |damage: fn(&mut Vec<u8>)| read(&elf, damage);
    assert_eq!(whole(|b| b.truncate(10)), "the object has 10 bytes, its ELF header needs 64");
    let cut = elf.finish().bytes().len() - 1;
    assert_eq!(
        whole(|b| b.truncate(b.len() - 1)),
        format!("the object has {cut} bytes, its section table needs {}", cut + 1)
    );
    assert_eq!(whole(|b| put(b, 0, b"ELF\x7f")), "the ELF magic is 0x7f464c45, expected 0x464c457f");
    assert_eq!(whole(|b| b[4] = 1), "the ELF class is 0x1, expected 0x2");
    assert_eq!(whole(|b| b[5] = 2), "the byte order is 0x2, expected 0x1");
    assert_eq!(whole(|b| b[6] = 0), "the ELF version is 0x0, expected 0x1");
    assert_eq!(whole(|b| b[16] = 2), "the file type is 0x2, expected 0x1");
    assert_eq!(whole(|b| b[18] = 183), "the machine is 0xb7, expected 0x3e");
    assert_eq!(whole(|b| b[56] = 1), "the number of program headers is 0x1, expected 0x0");
    assert_eq!(whole(|b| b[58] = 40), "the size of a section header is 0x28, expected 0x40");
    assert_eq!(
        whole(|b| b[40] += 1),
        "the ELF header cannot be read: its section table does not lie behind it at a multiple of 8"
    );
    assert_eq!(whole(|b| put(b, 60, &[0, 0xff])), "the object has 65280 sections, at most 65279 are accepted");
    assert_eq!(whole(|b| b[62] = 99), "section 99 has number 0x63, expected that of a string table");
    assert_eq!(whole(|b| b[62] = 1), "section 1 has type 0x1, expected a string table");
    assert_eq!(whole(|b| b.resize((32 << 20) + 1, 0)), "the object has 33554433 bytes, at most 33554432 are accepted");
    let object = elf.finish();
    let unaligned = &object.bytes()[1..];
    let sentence =
        format!("the object's bytes begin at address {:#x}, expected a multiple of 8", unaligned.as_ptr().addr());
    assert_eq!(Object::parse(unaligned).expect_err("it is not aligned").to_string(), sentence);
}

#[test]
fn damaged_sections_are_refused() {
    let mut elf = with_function("f");
    elf.section(".rodata.a", 0, 8, &[1; 16]);
    let section =
        |at: usize, word: u64| read(&elf, |b| put_header(b, 2, at, &word.to_le_bytes()[..if at == 4 { 4 } else { 8 }]));
    assert_eq!(
        section(4, 7),
        "section 2 has type 0x7, expected code, data, symbols, strings, relocations or unwind tables"
    );
    assert_eq!(section(4, 3), "section 2 has type 0x3, expected code, data or unwind tables, since it is allocated");
    assert_eq!(section(8, ALLOC | TLS), "section .rodata.a (index 2) is thread-local, which a cell may not have");
    assert_eq!(
        section(8, ALLOC | WRITE | EXEC),
        "section .rodata.a (index 2) is writable and executable, which a cell may not have"
    );
    assert_eq!(section(16, 1 << 20), "section 2 has address 0x100000, expected 0, as in every relocatable object");
    assert_eq!(section(24, 1 << 40), "section 2 has end 0x10000000010, expected an offset within the file");
    assert_eq!(section(32, u64::MAX), "section 2 has end 0xffffffffffffffff, expected an offset within the file");
    assert_eq!(section(48, 3), "section 2 has alignment 0x3, expected a power of two up to 4096");
    assert_eq!(section(48, 8192), "section 2 has alignment 0x2000, expected a power of two up to 4096");
    assert_eq!(
        read(&elf, |b| put_header(b, 2, 0, &[0xff; 4])),
        "section 2 has name 0xffffffff, expected an offset in the string table"
    );
    assert_eq!(
        read(&elf, |b| put_header(b, 5, 32, &[3])),
        "section 5 has size 0x3, expected strings that end with a zero"
    );
    assert_eq!(
        read(&elf, |b| put_header(b, 3, 56, &[16])),
        "section 3 has entry size 0x10, expected whole entries of 24 bytes"
    );
    assert_eq!(
        read(&elf, |b| put_header(b, 3, 60, &[1])),
        "section 3 has entry size 0x100000018, expected whole entries of 24 bytes"
    );
    assert_eq!(
        read(&elf, |b| put_header(b, 2, 4, &[2])),
        "section 2 has type 0x2, expected code, data or unwind tables, since it is allocated"
    );
    let strings = elf.symbols[0].name.len();
    assert_eq!(strings, 1, "the name lies behind one zero");
    let name_at =
        |b: &[u8]| u64::from_le_bytes(b[header(b, 4) + 24..][..8].try_into().expect("eight bytes")) as usize + 1;
    assert_eq!(
        read(&elf, |b| {
            let at = name_at(b);
            b[at] = 0xff
        }),
        "section 4 has strings with a fault at 0x1, expected UTF-8"
    );

    let mut elf = Elf::default();
    elf.section(".rodata.cst8", MERGE, 8, &[1; 15]);
    elf.at(1).entry = 8;
    assert_eq!(read(&elf, |_| {}), "section 1 has size 0xf, expected whole elements");
    let mut elf = Elf::default();
    elf.section(".rodata.str", MERGE | STRINGS, 1, b"endless");
    assert_eq!(read(&elf, |_| {}), "section 1 has size 0x7, expected strings that end with a zero");
    let mut elf = Elf::default();
    elf.section(".eh_frame", 0, 8, &[]);
    elf.section(".eh_frame", 0, 8, &[]);
    assert_eq!(read(&elf, |_| {}), "section .eh_frame (index 2) is a second unwind table, which a cell may not have");
}

#[test]
fn damaged_symbols_and_relocations_are_refused() {
    let symbol = |change: fn(&mut Elf)| {
        let mut elf = with_function("f");
        change(&mut elf);
        read(&elf, |_| {})
    };
    assert_eq!(
        symbol(|elf| elf.symbols[0].info = FUNC | 0x30),
        "symbol 1 has binding 0x3, expected local, global or weak"
    );
    assert_eq!(
        symbol(|elf| elf.symbols[0].info = 6),
        "symbol 1 has type 0x6, expected none, object, function, section or file"
    );
    assert_eq!(symbol(|elf| elf.symbols[0].value = 1), "symbol 1 has end 0x21, expected an offset within its section");
    assert_eq!(
        symbol(|elf| elf.symbols[0].size = u64::MAX),
        "symbol 1 has end 0xffffffffffffffff, expected an offset within its section"
    );
    assert_eq!(
        symbol(|elf| elf.symbols[0].section = 0xfff2),
        "symbol 1 has section 0xfff2, expected an index in the section table"
    );
    assert_eq!(
        symbol(|elf| elf.symbols[0].name.clear()),
        "symbol 1 has name 0x0, expected a name, since other cells see it"
    );
    assert_eq!(
        symbol(|elf| _ = elf.undefined("x", LOCAL)),
        "symbol 2 has section 0x0, expected a section, since it is local"
    );
    let elf = with_function("f");
    let table = |b: &[u8]| u64::from_le_bytes(b[header(b, 2) + 24..][..8].try_into().expect("eight bytes")) as usize;
    let damaged = |at: usize, word: &'static [u8]| {
        read(&elf, |b| {
            let table = table(b);
            put(b, table + at, word)
        })
    };
    assert_eq!(damaged(6, &[1]), "symbol 0 has section 0x1, expected nothing, as in every first symbol");
    assert_eq!(damaged(24, &[9]), "symbol 1 has name 0x9, expected an offset in the string table");

    let relocation = |rela| {
        let mut elf = with_function("f");
        elf.relocate(1, (0, R_PLT32, 1, -4));
        elf.relocate(1, rela);
        read(&elf, |_| {})
    };
    assert_eq!(
        relocation((8, 9, 1, 0)),
        "relocation 1 of section .text.f has type 0x9, expected R_X86_64_64, PC32, PLT32 or 32S"
    );
    assert_eq!(
        relocation((29, R_32S, 1, 0)),
        "relocation 1 of section .text.f has offset 0x1d, expected a field within the section"
    );
    assert_eq!(
        relocation((u64::MAX, R_64, 1, 0)),
        "relocation 1 of section .text.f has offset 0xffffffffffffffff, expected a field within the section"
    );
    assert_eq!(
        relocation((3, R_32S, 1, 0)),
        "relocation 1 of section .text.f has offset 0x3, expected a field behind the one before"
    );
    assert_eq!(
        relocation((8, R_32S, 2, 0)),
        "relocation 1 of section .text.f has symbol 0x2, expected an index in the symbol table"
    );
}
