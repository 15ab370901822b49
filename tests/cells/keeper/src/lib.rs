//! `run keeper`: a server that counts on behalf of its client, which holds the count as an opaque and fails if one number
//! is not the next.
#![no_std]

use state_db::{Error, Opaque, OpaqueSlab, State, cached};

/// What the client holds.
pub enum Cursor {}

/// What the server remembers of it.
#[derive(State)]
pub struct Progress {
    line: u64,
}

/// The server's state.
#[derive(State)]
pub struct Keeper {
    kept: OpaqueSlab<Progress, Cursor>,
}

cached!(KEEPER: Keeper = "keeper");

/// A new count.
#[inline(never)]
fn open() -> Result<Opaque<Cursor>, Error> {
    if KEEPER.with(|_| ()).is_err() {
        state_db::publish("keeper", Keeper { kept: OpaqueSlab::new()? })?;
    }
    KEEPER.with(|keeper| keeper.kept.keep(Progress { line: 0 }))?
}

/// The next number.
#[inline(never)]
fn next(cursor: &Opaque<Cursor>) -> Result<u64, Error> {
    KEEPER.with(|keeper| {
        keeper.kept.with_opaque(cursor, |progress| {
            progress.line += 1;
            progress.line
        })
    })?
}

/// Runs until it is killed.
#[allow(unsafe_code, reason = "an app is found by the name of this symbol")]
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_app_keeper(_: &[&str]) -> i32 {
    let Ok(cursor) = open() else { return 2 };
    let mut expected = 0;
    loop {
        expected += 1;
        if next(&cursor) != Ok(expected) {
            return 3;
        }
        if task::sleep_ns(3_000_000).is_err() {
            return 130;
        }
    }
}
