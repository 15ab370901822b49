// The machine of the lock tests, with a database.

include!(concat!(env!("CARGO_MANIFEST_DIR"), "/../kernel/sync/tests/support/mod.rs"));

/// Makes this thread the only CPU of a new machine, whose database is empty.
#[allow(dead_code)]
pub fn enter() -> &'static handoff::Roots {
    let roots = enter_machine();
    state_db::start().expect("a new machine has no database");
    roots
}
