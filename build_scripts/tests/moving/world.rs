//! Two copies of everything, linked into this process, and what leads from one to the other.

use crate::builds;
use crate::machine::{ENDS, HEAP, HEAP_BYTES, Machine, PLACES, map};
use crate::order::{Random, shuffled};
use delias::cellset::Aligned;
use delias::diff::side;
use delias::project::Project;
use linker::{Change, Graph, Move, Object, PAGE, Patch, Span};
use std::collections::BTreeSet;
use std::fs;
use unwind::TextRange;

/// The cells of the image that take part.
const LIBRARY: [&str; 3] = ["core", "alloc", "compiler_builtins"];

/// The compiler's roots, with an allocator that never takes anything back: its first word is how much is out.
const GROUND: &str = r#"
#![feature(rustc_attrs, lang_items)]
#![allow(internal_features)]
const HEAP: usize = 0x5000_0000;
#[rustc_std_internal_symbol]
unsafe fn __rust_alloc(size: usize, align: usize) -> *mut u8 {
    let out = HEAP as *mut usize;
    let at = (HEAP + 64 + *out + align - 1) & !(align - 1);
    *out = at + size - HEAP - 64;
    at as *mut u8
}
#[rustc_std_internal_symbol]
unsafe fn __rust_alloc_zeroed(size: usize, align: usize) -> *mut u8 { __rust_alloc(size, align) }
#[rustc_std_internal_symbol]
unsafe fn __rust_dealloc(_: *mut u8, _: usize, _: usize) {}
#[rustc_std_internal_symbol]
unsafe fn __rust_realloc(block: *mut u8, old: usize, align: usize, new: usize) -> *mut u8 {
    let to = __rust_alloc(new, align);
    core::ptr::copy_nonoverlapping(block, to, if old < new { old } else { new });
    to
}
#[rustc_std_internal_symbol]
unsafe fn __rust_alloc_error_handler(_: usize, _: usize) -> ! { loop {} }
#[rustc_std_internal_symbol]
fn __rust_no_alloc_shim_is_unstable_v2() {}
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! { unsafe { core::arch::asm!("ud2", options(noreturn)) } }
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume(_: *mut ()) -> ! { loop {} }
#[lang = "eh_personality"]
unsafe extern "C" fn rust_eh_personality(_: i32, _: i32, _: u64, _: *mut (), _: *mut ()) -> i32 { 0 }
"#;

/// Sorting, formatting, maps, trait objects, closures, recursion, a jump table, division of wide numbers, copying.
const WORK: &str = r#"
extern crate alloc;
use alloc::{boxed::Box, collections::BTreeMap, format, string::String, vec::Vec};
use core::fmt::Display;

trait Shape { fn area(&self) -> u64; fn name(&self) -> String; }
struct Square(u64);
struct Oblong(u64, u64);
impl Shape for Square {
    fn area(&self) -> u64 { self.0 * self.0 }
    fn name(&self) -> String { format!("square of {}", self.0) }
}
impl Shape for Oblong {
    fn area(&self) -> u64 { self.0 * self.1 }
    fn name(&self) -> String { format!("{:>4} by {:<4}", self.0, self.1) }
}

#[inline(never)]
fn through_a_table(n: u64, text: &mut String) -> u64 {
    match n % 9 {
        0 => { text.push('a'); n * 3 }
        1 => n.rotate_left(7),
        2 => { text.push_str("two"); n ^ 0x55 }
        3 => n / 3,
        4 => n.count_ones() as u64,
        5 => { text.clear(); 5 }
        6 => n.wrapping_mul(0x9e37_79b9),
        7 => text.len() as u64,
        _ => n.reverse_bits(),
    }
}

#[inline(never)]
fn deep(depth: u64, f: &mut dyn FnMut(u64) -> u64) -> u64 {
    if depth == 0 { f(1) } else { deep(depth - 1, &mut |x| f(x + depth)).wrapping_mul(31) }
}

#[inline(never)]
fn work(round: u64) -> u64 {
    let mut numbers: Vec<u64> = (0..48).map(|n: u64| (n + round).wrapping_mul(0x9e37_79b9) % 1009).collect();
    numbers.sort_by(|a, b| (b % 10, b).cmp(&(a % 10, a)));
    let shapes: Vec<Box<dyn Shape>> = numbers.iter().take(6).map(|&n| -> Box<dyn Shape> {
        if n % 2 == 0 { Box::new(Square(n)) } else { Box::new(Oblong(n, n + 1)) }
    }).collect();
    let mut map = BTreeMap::new();
    for shape in &shapes { map.insert(shape.name(), shape.area()); }
    let shown: Vec<Box<dyn Display>> = alloc::vec![Box::new(numbers[3]), Box::new("text"), Box::new('c'), Box::new(u128::from(numbers[5]) << 70)];
    let mut text: String = shown.iter().map(|item| format!("{item:>7}")).collect();
    let mut sum = 0u64;
    for (name, area) in &map { sum = sum.wrapping_mul(131).wrapping_add(*area + name.len() as u64); }
    for &number in &numbers { sum ^= through_a_table(number, &mut text).wrapping_add(sum << 1); }
    let wide = (u128::from(sum) << 64 | 12_345) / u128::from(numbers[1] + 1);
    sum ^= wide as u64 ^ (wide >> 64) as u64;
    sum ^= deep(9, &mut |x| x * 7 + numbers[2]);
    text.bytes().fold(sum, |sum, byte| sum.rotate_left(5) ^ u64::from(byte))
}

/// Leaves the result and that there is one, and waits to be stopped.
#[unsafe(no_mangle)]
pub extern "sysv64" fn delias_test_entry(result: *mut u64) -> ! {
    let sum = (0..5).fold(0, |sum: u64, round| sum.rotate_left(9) ^ work(round));
    unsafe {
        result.write_volatile(sum);
        result.add(1).write_volatile(1);
    }
    loop { core::hint::spin_loop() }
}
"#;

/// One of the two copies.
pub struct Copy {
    /// Sorted by `from`: where its functions lie in the other one.
    pub moves: Vec<Move>,
    /// Its text, cell by cell, in whole pages.
    pub text: Vec<Span>,
}

/// Both.
pub struct World {
    /// The first function, in the first copy.
    pub entry: u64,
    /// The two copies.
    pub copies: [Copy; 2],
    /// The words that lead from the first to the second.
    pub patches: Vec<Patch>,
    /// What the walker reads, of both copies.
    pub ranges: Vec<TextRange>,
}

impl World {
    /// Links everything, and everything again from objects whose functions have been shuffled.
    pub fn new(seed: u64) -> World {
        let folder = builds::image(&[("ground", GROUND), ("work", WORK)]);
        let project = Project::find().unwrap();
        let library = LIBRARY.map(|name| (name, project.build(&format!("cells/{name}.o"))));
        let own = ["ground", "work"].map(|name| (name, folder.0.join(format!("cells/{name}.o"))));
        let read = |(name, path): (&'static str, std::path::PathBuf)| {
            (name, fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
        };
        let originals: Vec<(&str, Vec<u8>)> = library.into_iter().chain(own).map(read).collect();
        let mut random = Random(seed);
        let others: Vec<Aligned> =
            originals.iter().map(|(_, bytes)| Aligned::new(shuffled(bytes, &mut random))).collect();
        let originals: Vec<(&str, Aligned)> =
            originals.into_iter().map(|(name, bytes)| (name, Aligned::new(bytes))).collect();

        let mut graph = Graph::new(PLACES);
        graph.limit(ENDS);
        for hosted in &side::manifest_of(&project.build("")).unwrap().hosted {
            graph.allow_hosted(&hosted.symbol);
        }
        let ids: Vec<_> = originals
            .iter()
            .map(|(name, bytes)| {
                graph
                    .add(name, "0.0.0", Object::parse(bytes.bytes()).unwrap())
                    .unwrap_or_else(|error| panic!("{error}"))
            })
            .collect();
        graph.link(&ids, &mut Machine).unwrap_or_else(|error| panic!("{error}"));
        let entry = graph.symbol("delias_test_entry").unwrap();
        let text = |graph: &Graph<'_>| {
            graph.cells().filter_map(|(_, cell)| Some(pages(cell.placement.as_ref()?.text))).collect()
        };
        let first = text(&graph);
        let mut ranges = rows(&graph, 0);

        let change = |(&cell, bytes): (_, &'static Aligned)| Change::Replace {
            cell,
            version: "0.0.0",
            object: Object::parse(bytes.bytes()).unwrap(),
        };
        // The graph borrows them, and the process ends soon.
        let others: &'static [Aligned] = others.leak();
        let changes = ids.iter().zip(others).map(change).collect();
        // Every function leads on to its like.
        let names: BTreeSet<String> = graph.cells().flat_map(|(_, cell)| locals(cell)).collect();
        let follow = |_, old: &str| names.get(old).map(String::as_str);
        let staged = graph.stage_changes(changes, &follow, &[], &mut Machine).unwrap_or_else(|error| panic!("{error}"));
        let patches = graph.patches(&staged).unwrap();
        let there = graph.moves(&staged);
        ranges.extend(rows(staged.next(), unwind::OLD_COPY));
        let second = text(staged.next());
        let mut back: Vec<Move> =
            there.iter().map(|step| Move { from: step.to, len: step.len, to: step.from }).collect();
        back.sort_unstable_by_key(|step| step.from);

        map(HEAP, HEAP_BYTES);
        ranges.push(thunks());
        ranges.sort_unstable_by_key(|range| range.start);
        World {
            entry,
            copies: [Copy { moves: there, text: first }, Copy { moves: back, text: second }],
            patches,
            ranges,
        }
    }
}

/// The names of all that a cell defines, whether others see it or not.
fn locals(cell: &linker::Cell<'_>) -> impl Iterator<Item = String> {
    cell.object.symbols.iter().map(|symbol| cell.object.name(symbol).to_owned())
}

fn pages(text: Span) -> Span {
    Span { address: text.address, len: text.len.next_multiple_of(PAGE) }
}

fn rows(graph: &Graph<'_>, flags: u32) -> Vec<TextRange> {
    let row = |(id, cell): (linker::CellId, &linker::Cell<'_>)| {
        let placement = cell.placement.as_ref()?;
        Some(TextRange {
            start: placement.text.address,
            text_len: placement.text.len,
            eh_frame: placement.unwind.address,
            eh_frame_len: placement.unwind.len + 4,
            eh_frame_hdr: placement.index.address,
            eh_frame_hdr_len: placement.index.len,
            cell: id.0,
            copy: 0,
            flags,
            reserved: 0,
        })
    };
    graph.cells().filter_map(row).collect()
}

/// The unwind table of the thunks, on a page of its own among the constants.
fn thunks() -> TextRange {
    let area = Span { address: PLACES.thunks, len: ENDS.thunks - PLACES.thunks };
    let at = ENDS.constants;
    map(at, PAGE);
    let (table, index) = linker::for_thunks(area, at);
    // SAFETY: the page was mapped just now.
    unsafe { core::ptr::copy_nonoverlapping(table.as_ptr(), at as *mut u8, table.len()) };
    TextRange {
        start: area.address,
        text_len: area.len,
        eh_frame: at,
        eh_frame_len: index,
        eh_frame_hdr: at + index,
        eh_frame_hdr_len: table.len() as u64 - index,
        cell: u32::MAX,
        copy: 0,
        flags: unwind::THUNKS,
        reserved: 0,
    }
}
