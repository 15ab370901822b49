//! What QEMU itself says of the machine: page tables and physical memory, seen from outside.

use crate::bench::{Bench, Test};
use anyhow::{Context, Result, ensure};
use std::fs;

pub const TESTS: &[Test] = &[
    Test { name: "memory-never-writable-and-executable", limit_s: 180, run: writable_or_executable },
    Test { name: "memory-nano-core-gone", limit_s: 180, run: nano_core_gone },
];

/// A mapping as the monitor prints it.
struct Page {
    address: u64,
    physical: u64,
    len: u64,
    executable: bool,
    writable: bool,
}

/// Lines `ADDRESS: PHYSICAL FLAGS`; flags are letters at fixed places: X no-execute first, P large, W writable last.
fn pages(text: &str) -> Vec<Page> {
    let mut found: Vec<Page> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (Some(address), Some(physical), Some(flags)) = (words.next(), words.next(), words.next()) else { continue };
        let number = |word: &str| u64::from_str_radix(word.trim_end_matches(':'), 16).ok();
        let (Some(address), Some(physical)) = (number(address), number(physical)) else { continue };
        let len = if flags.contains('P') { 2 << 20 } else { 4096 };
        found.push(Page { address, physical, len, executable: !flags.starts_with('X'), writable: flags.contains('W') });
    }
    found
}

fn writable_or_executable(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    session.run("reseat --all")?;
    let pages = pages(&session.monitor("info tlb")?);
    ensure!(pages.iter().any(|page| page.executable), "the monitor shows no executable page among {}", pages.len());
    for page in pages.iter().filter(|page| page.executable) {
        ensure!(!page.writable, "{:#x} is writable and executable", page.address);
        let end = page.physical + page.len;
        let alias = pages
            .iter()
            .find(|other| other.writable && other.physical < end && page.physical < other.physical + other.len);
        ensure!(
            alias.is_none(),
            "{:#x} is executable, and writable at {:#x}",
            page.address,
            alias.map_or(0, |a| a.address)
        );
    }
    Ok(())
}

/// The loaded parts of an ELF64 program: physical address and bytes.
fn segments(elf: &[u8]) -> Result<Vec<(u64, &[u8])>> {
    let field = |at: u64, len: usize| {
        let bytes = elf.get(at as usize..at as usize + len).context("nano_core ends inside its headers")?;
        Ok::<u64, anyhow::Error>(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    let (table, size, count) = (field(32, 8)?, field(54, 2)?, field(56, 2)?);
    let mut found = Vec::new();
    for index in 0..count {
        let at = table + index * size;
        let (kind, offset, physical, len) = (field(at, 4)?, field(at + 8, 8)?, field(at + 24, 8)?, field(at + 32, 8)?);
        if kind == 1 && len > 0 {
            found.push((
                physical,
                elf.get(offset as usize..(offset + len) as usize).context("a segment reaches past the end")?,
            ));
        }
    }
    Ok(found)
}

fn nano_core_gone(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    let path = bench.image.join("nano_core");
    let elf = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let dump = std::env::temp_dir().join(format!("delias-{}.memory", std::process::id()));
    let (mut same, mut all) = (0, 0);
    for (physical, bytes) in segments(&elf)? {
        let arguments =
            serde_json::json!({ "val": physical, "size": bytes.len(), "filename": dump.display().to_string() });
        session.qmp("pmemsave", arguments)?;
        let memory = fs::read(&dump).with_context(|| format!("cannot read {}", dump.display()))?;
        same += bytes.iter().zip(&memory).filter(|(a, b)| **a != 0 && a == b).count();
        all += bytes.iter().filter(|byte| **byte != 0).count();
    }
    // Nothing is lost if it stays.
    let _ = fs::remove_file(&dump);
    // Memory that was used again has some equal bytes by chance.
    ensure!(all > 0 && same * 50 < all, "{same} of {all} bytes of nano_core are still where they were");
    Ok(())
}
