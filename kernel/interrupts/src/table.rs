//! The interrupt descriptor table. Its gates hold the thunks of the stubs, so it stays right when this cell is replaced.
//! Format: Intel SDM volume 3, 6.14.1.

use crate::stubs::{plain, with_error};
use alloc::boxed::Box;
use platform::vector;

/// A 64-bit interrupt gate, present, for ring 0.
const INTERRUPT_GATE: u128 = 0x8e << 40;
const DOUBLE_FAULT: usize = 8;
const PAGE_FAULT: usize = 14;

type Stub = extern "sysv64" fn();

fn gate(stub: Stub, code: u16, stack: u8) -> u128 {
    let address = stub as usize as u128;
    (address & 0xffff)
        | u128::from(code) << 16
        | u128::from(stack) << 32
        | INTERRUPT_GATE
        | (address >> 16 & 0xffff) << 48
        | (address >> 32) << 64
}

/// The stack (of the task-state segment's seven) on which an exception comes in; 0: the task's own.
fn stack(vector: usize) -> u8 {
    match vector {
        DOUBLE_FAULT => 1,
        2 => 2,
        18 => 3,
        PAGE_FAULT => 4, // a task that has overflowed its stack has no room for a block
        _ => 0,
    }
}

/// Builds the table; nothing if memory has run out.
pub(crate) fn build() -> Option<Box<[u128; 256]>> {
    let mut table = Box::<[u128; 256]>::try_from({
        let mut words = alloc::vec::Vec::new();
        words.try_reserve_exact(256).ok()?;
        words.resize(256, 0);
        words.into_boxed_slice()
    })
    .ok()?;
    let code = <x86_64::registers::segmentation::CS as x86_64::registers::segmentation::Segment>::get_reg().0;
    macro_rules! gates {
        ($kind:ident: $($vector:literal)*) => { $( table[$vector] = gate($kind::<$vector>, code, stack($vector)); )* };
    }
    gates!(plain: 0 1 2 3 4 5 6 7 9 15 16 18 19 20 22 23 24 25 26 27 28 31);
    gates!(with_error: 8 10 11 12 13 14 17 21 29 30);
    gates!(plain: 32 33 34 35 36 37 38 39 40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56 57 58 59 60 61 62 63);
    gates!(plain: 64 240 255);
    const { assert!(vector::TIMER == 64 && vector::IPI == 240 && vector::SPURIOUS == 255) };
    Some(table)
}
