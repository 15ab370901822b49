//! `run panic`: panics two calls deep, with heap memory in both frames that only unwinding gives back.
#![no_std]

extern crate alloc;

use alloc::{boxed::Box, vec::Vec};
use core::hint::black_box;

/// Panics; does not return.
#[allow(unsafe_code, reason = "an app is found by the name of this symbol")]
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_app_panic(_args: &[&str]) -> i32 {
    let held = black_box(Box::new([0_u8; 100]));
    let status = inner(held.len());
    drop(black_box(held));
    status
}

#[inline(never)]
fn inner(bytes: usize) -> i32 {
    let mut held: Vec<u8> = Vec::new();
    held.resize(bytes, 1);
    let held = black_box(held);
    if held.len() == bytes {
        panic!("this app panics on purpose, holding {bytes} bytes twice");
    }
    drop(held);
    0
}
