//! `run subject`: holds closures, function pointers and trait objects while the cells that made them are replaced.
//!
//! A closure goes on with the code it was made of, whatever the cell's new version says; the app checks that, and fails if
//! one of them gives another result than at first.
#![no_std]

extern crate alloc;

use alloc::{boxed::Box, vec::Vec};
use measure::{Measure, SCALE, Thing, UNIT};

type Kept = (Box<dyn Fn(u64) -> u64>, u64);

/// What the closures are tried with.
const PROBE: u64 = 41;

#[inline(never)]
fn closures(seed: u64) -> Vec<Box<dyn Fn(u64) -> u64>> {
    let (a, b) = (seed * 3, seed + 5);
    let mut all: Vec<Box<dyn Fn(u64) -> u64>> = Vec::new();
    // Closures come here.
    all.push(Box::new(move |x| x * a + 11));
    all.push(Box::new(move |x| x ^ b));
    all
}

/// What the libraries say now: any version of them may be heard here.
#[inline(never)]
fn listen(object: &dyn Measure, x: u64) -> u64 {
    let sum = measure::body(x) ^ measure::inlined(x) ^ measure::generic(x as u32);
    sum.wrapping_add(UNIT * SCALE.factor).wrapping_add(object.length()).wrapping_add(object.weight(x))
}

/// Runs until it is killed.
#[allow(unsafe_code, reason = "an app is found by the name of this symbol")]
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_app_subject(_: &[&str]) -> i32 {
    let kept: Vec<Kept> = closures(7).into_iter().map(|f| {
        let first = f(PROBE);
        (f, first)
    }).collect();
    let object: Box<dyn Measure> = Box::new(Thing(4));
    let function: fn(u64) -> u64 = measure::body;
    let mut sum = 0u64;
    loop {
        for (number, (f, first)) in kept.iter().enumerate() {
            let now = f(PROBE);
            if now != *first {
                console::println!("subject: closure {number} gave {first} and gives {now}");
                return 1;
            }
        }
        sum = sum.wrapping_add(listen(&*object, PROBE)).wrapping_add(function(PROBE));
        log::trace!("subject: {sum}");
        if task::sleep_ns(7_000_000).is_err() {
            return 130;
        }
    }
}
