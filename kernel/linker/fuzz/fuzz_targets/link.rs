//! Fuzzing: arbitrary bytes are read and linked. The linker may refuse them; it may not panic, not accept what goblin
//! refuses, and not link what `verify` does not find again.
//!
//! With guidance by coverage, as long as wanted, from this folder's parent (`kernel/linker`):
//!
//! ```text
//! mkdir -p fuzz/corpus/link && cp tests/fixtures/small.o fuzz/corpus/link/
//! RUSTC_BOOTSTRAP=1 cargo fuzz run link            # `cargo install cargo-fuzz`, clang
//! ```
//!
//! Without anything but a C++ compiler (plain `cargo build` on stable; changes are then blind):
//!
//! ```text
//! cd fuzz && cargo build --release && mkdir -p corpus/link && cp ../tests/fixtures/small.o corpus/link/
//! target/release/link -max_total_time=60 corpus/link
//! ```
#![no_main]

#[allow(dead_code, reason = "shared with the tests, which use all of it")]
#[path = "../../tests/linking/support/mod.rs"]
mod support;

use libfuzzer_sys::fuzz_target;
use std::cell::LazyCell;
use support::{elf::Aligned, small::World};

thread_local! {
    static WORLD: LazyCell<World> = LazyCell::new(World::new);
}

fuzz_target!(|bytes: &[u8]| {
    let object = Aligned::new(bytes);
    WORLD.with(|world| {
        if world.try_bytes(object.bytes()) == "Linked" {
            world.try_second_copy(object.bytes());
        }
    });
});
