//! `run hoard KIB`: takes all memory there is but that much, and keeps it until it is killed.
#![no_std]

extern crate alloc;

use alloc::vec::Vec;

/// Bytes taken at a time.
const PIECE: usize = 64 << 10;

/// Runs until it is killed.
#[allow(unsafe_code, reason = "an app is found by the name of this symbol")]
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_app_hoard(words: &[&str]) -> i32 {
    let Some(leave) = words.first().and_then(|word| word.parse::<usize>().ok()) else { return 2 };
    let mut kept: Vec<Vec<u8>> = Vec::new();
    loop {
        let mut piece = Vec::new();
        if piece.try_reserve_exact(PIECE).is_err() || kept.try_reserve(1).is_err() {
            break;
        }
        kept.push(piece);
    }
    let left = kept.len().saturating_sub((leave << 10) / PIECE);
    kept.truncate(left);
    loop {
        if task::sleep_ns(50_000_000).is_err() {
            return 130;
        }
    }
}
