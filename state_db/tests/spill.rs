//! Clients come and go; the bytes stay what they were.
#![allow(unsafe_code, reason = "counts what is allocated, and stands in for the platform")]

mod support;

use state_db::{Error, Migrate, Opaque, OpaqueSlab, Slab, Slot, State, opaque_count, publish};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

struct Counting;

std::thread_local! {
    static BYTES: Cell<isize> = const { Cell::new(0) };
    /// Allocations that succeed before one fails; negative: all do.
    static LEFT: Cell<isize> = const { Cell::new(-1) };
}

// SAFETY: passes everything on to `System`; the counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if LEFT.get() == 0 {
            return core::ptr::null_mut();
        }
        LEFT.set(LEFT.get() - (LEFT.get() > 0) as isize);
        BYTES.set(BYTES.get() + layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get() - layout.size() as isize);
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

enum Cursor {}

/// What the server remembers of a client.
#[derive(State)]
pub struct Progress {
    line: u32,
    history: Vec<u32>,
}

trait Nothing: Sync {}
impl Nothing for () {}

/// One client: everything a cell may ask of the database, and everything given back.
fn visit(kept: &OpaqueSlab<Progress, Cursor>, slab: &Slab<Vec<u8>>, n: u32) {
    let name = format!("client/{n}");
    let entry = publish(&name, vec_state(n)).unwrap();
    let slot = Slot::<dyn Nothing>::bind(&name, &()).unwrap();
    let r = slab.insert(vec![0; 100]).unwrap();
    let cursor = kept.keep(Progress { line: n, history: vec![n; 10] }).unwrap();
    kept.with_opaque(&cursor, |p| p.history.push(p.line)).unwrap();
    entry.with(|state| assert_eq!(state.line, n)).unwrap();
    slot.call(|_| ()).unwrap();
    drop(cursor);
    slab.remove(r).unwrap();
    slot.unbind().unwrap();
    entry.withdraw().unwrap();
}

fn vec_state(n: u32) -> Progress {
    Progress { line: n, history: vec![n; 20] }
}

#[test]
fn ten_thousand_clients_come_and_go() {
    support::enter();
    let kept = OpaqueSlab::new().unwrap();
    let slab = Slab::new();
    let settle = |kept: &OpaqueSlab<_, _>| kept.reap();
    visit(&kept, &slab, 0);
    settle(&kept);
    let before = BYTES.get();
    for n in 0..10_000 {
        visit(&kept, &slab, n);
    }
    settle(&kept);
    assert_eq!(BYTES.get(), before);
    assert_eq!((slab.len(), kept.len(), opaque_count(Progress::NAME)), (0, 0, 0));
}

#[test]
fn a_thousand_at_a_time_cost_only_records_and_these_only_once() {
    support::enter();
    let kept: OpaqueSlab<Progress, Cursor> = OpaqueSlab::new().unwrap();
    let crowd = || drop((0..1000).map(|n| kept.keep(vec_state(n)).unwrap()).collect::<Vec<_>>());
    crowd();
    kept.reap();
    let before = BYTES.get();
    for _ in 0..10 {
        crowd();
    }
    kept.reap();
    assert_eq!(BYTES.get(), before);
}

#[test]
fn a_dropped_slab_gives_everything_back() {
    support::enter_machine();
    let before = BYTES.get();
    let slab = Slab::new();
    (0..500).for_each(|_| assert!(slab.insert(vec![1_u8; 50]).is_ok()));
    drop(slab);
    assert_eq!(BYTES.get(), before);
}

/// Lets the first allocation of `act` fail, then the second, and so on until it needs no more; how many failed.
fn fail_each<R>(mut act: impl FnMut() -> Result<R, Error>) -> isize {
    for failing in 0.. {
        let before = BYTES.get();
        LEFT.set(failing);
        let result = act();
        LEFT.set(-1);
        match result {
            Ok(_) => return failing,
            Err(error) => assert_eq!((error, BYTES.get()), (Error::OutOfMemory, before), "allocation {failing}"),
        }
    }
    unreachable!()
}

#[test]
fn running_out_of_memory_at_any_point_is_an_error_and_changes_nothing() {
    support::enter_machine();
    assert_eq!(fail_each(state_db::start), 1);
    // The type's name, the value, the first chunk of records.
    assert_eq!(fail_each(|| publish("n", 1_u64)), 3);
    assert_eq!(fail_each(|| Slot::<dyn Nothing>::bind("n", &())), 2);
    let slab = Slab::new();
    assert_eq!(fail_each(|| slab.insert(1)), 1);
    assert_eq!(fail_each(OpaqueSlab::<Progress, Cursor>::new), 2);
    let kept: OpaqueSlab<Progress, Cursor> = OpaqueSlab::new().unwrap();
    assert_eq!(fail_each(|| kept.keep(Progress { line: 1, history: Vec::new() })), 2);
    assert_eq!(kept.len(), 0, "the one that was made has been dropped");
}

#[test]
fn an_opaque_is_its_own_servers_alone() {
    support::enter();
    let (ours, theirs): (OpaqueSlab<Progress, Cursor>, OpaqueSlab<Progress, Cursor>) =
        (OpaqueSlab::new().unwrap(), OpaqueSlab::new().unwrap());
    let cursor = ours.keep(vec_state(3)).unwrap();
    assert_eq!(theirs.with_opaque(&cursor, |_| ()), Err(Error::Foreign));
    let nested = ours.with_opaque(&cursor, |_| ours.with_opaque(&cursor, |_| ()));
    assert_eq!(nested, Ok(Err(Error::Busy { inside: 1 })));
    drop(ours);
    assert!(matches!(theirs.with_opaque(&cursor, |_| ()), Err(Error::Gone(_))));
    drop(cursor);
}

mod next {
    use super::{Error, Migrate, State};

    #[derive(State)]
    #[state(version = 2, name = "spill::Progress")]
    pub struct Progress {
        pub line: u64,
        pub history: Vec<u32>,
    }

    impl Migrate for Progress {
        type From = super::Progress;
        type Plan = ();

        fn prepare(old: &super::Progress) -> Result<(), Error> {
            if old.line == 13 { Err(Error::Migration { reason: "13" }) } else { Ok(()) }
        }

        fn commit(old: super::Progress, (): &mut ()) -> Self {
            Progress { line: old.line.into(), history: old.history }
        }
    }
}

/// What the new code of a server sees: the same slab, of the next type.
fn reseat(old: OpaqueSlab<Progress, Cursor>) -> OpaqueSlab<next::Progress, Cursor> {
    // SAFETY: a slab of opaques is one handle whatever its types are, as an update of its server relies on.
    unsafe { core::mem::transmute(old) }
}

#[test]
fn opaques_of_the_version_before_migrate_when_handed_in() {
    support::enter();
    let before = BYTES.get();
    let old: OpaqueSlab<Progress, Cursor> = OpaqueSlab::new().unwrap();
    let mut cursors: Vec<Opaque<Cursor>> = (10..15).map(|line| old.keep(vec_state(line)).unwrap()).collect();
    let new = reseat(old);
    let first = &cursors[0];
    assert!(matches!(new.with_opaque(first, |_| ()), Err(Error::OtherLayout { .. })));
    new.migrate(first).unwrap();
    new.migrate(first).unwrap();
    assert_eq!(new.with_opaque(first, |p| (p.line, p.history.len())), Ok((10, 20)));

    drop(cursors.remove(1)); // 11, dropped by its client before it was migrated
    assert_eq!(new.migrate_all(), Err(Error::Migration { reason: "13" }));
    assert_eq!(opaque_count("spill::Progress"), 4, "the dropped one is freed");
    let lines = cursors.iter().map(|c| new.with_opaque(c, |p| p.line).ok()).collect::<Vec<_>>();
    assert_eq!(lines, [Some(10), Some(12), None, Some(14)], "all but the refused one");

    drop(cursors);
    new.reap();
    assert_eq!((new.len(), opaque_count("spill::Progress")), (0, 1), "nobody here knows how to drop that one");
    drop(new);
    assert_eq!(opaque_count("spill::Progress"), 1, "so it stays and is counted");
    assert!(BYTES.get() > before);
}
