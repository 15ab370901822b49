//! Entries: names, types, withdrawal, weak references.
#![allow(unsafe_code, reason = "stands in for the platform")]

mod support;

use state_db::{Error, Field, State, cached, find, layout_id, publish};
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(State, Debug, PartialEq)]
struct Clock {
    now_ms: u64,
}

mod next {
    #[derive(state_db::State)]
    #[state(version = 2, name = "entries::Clock")]
    pub struct Clock {
        pub now_us: u64,
    }
}

mod v1 {
    #[derive(state_db::State)]
    pub struct Clock {
        pub now_ms: u64,
    }
}

mod wider {
    #[derive(state_db::State)]
    #[state(name = "entries::Clock")]
    pub struct Clock {
        pub now_ms: u64,
        pub rate: u32,
    }
}

#[test]
fn a_name_finds_its_value_until_it_is_withdrawn() {
    support::enter();
    let made = publish("time/clock", Clock { now_ms: 5 }).unwrap();
    let found = find::<Clock>("time/clock").unwrap();
    assert_eq!(made, found);
    assert_eq!(found.with(|clock| clock.now_ms), Ok(5));
    assert_eq!(made.withdraw(), Ok(Clock { now_ms: 5 }));
    assert!(found.with(|_| ()).is_err());
    assert!(found.withdraw().is_err());
    let gone = find::<Clock>("time/clock").unwrap_err();
    assert_eq!(gone.to_string(), "there is no `time/clock`");

    let again = publish("time/clock", Clock { now_ms: 6 }).unwrap();
    assert_eq!(again.bits() as u32, made.bits() as u32, "the same record");
    assert!(found.with(|_| ()).is_err(), "but a new generation");
}

#[test]
fn a_name_is_taken_once_and_has_1_to_48_bytes() {
    support::enter();
    publish("a", 1_u32).unwrap();
    assert_eq!(publish("a", Clock { now_ms: 0 }).unwrap_err().to_string(), "`a` exists already");
    let long = "x".repeat(49);
    assert_eq!(publish(&long, 1_u32).unwrap_err(), Error::NameLength { len: 49 });
    assert_eq!(publish("", 1_u32).unwrap_err(), Error::NameLength { len: 0 });
    publish(&long[..48], 1_u32).unwrap();
    assert!(find::<u32>(&"é".repeat(40)).unwrap_err().to_string().contains(&"é".repeat(24)));
}

#[test]
fn another_type_version_or_layout_is_refused_with_both_named() {
    support::enter();
    publish("clock", Clock { now_ms: 5 }).unwrap();
    assert_eq!(find::<AtomicU64>("clock").unwrap_err().to_string(), "`clock` is a entries::Clock, not a AtomicU64");
    assert_eq!(
        find::<next::Clock>("clock").unwrap_err().to_string(),
        "`clock` has version 1 of its type, not version 2"
    );
    assert_eq!(
        find::<wider::Clock>("clock").unwrap_err(),
        Error::OtherLayout {
            name: state_db::Name::from("clock").unwrap(),
            expected: layout_id::<wider::Clock>(),
            found: layout_id::<Clock>(),
        }
    );
    assert_eq!(find::<v1::Clock>("clock").map(|_| ()), Ok(()), "modules named for a version do not count");
}

#[test]
fn a_handle_made_from_any_word_finds_nothing_of_another_type() {
    support::enter();
    let text = publish("text", Clock { now_ms: 5 }).unwrap();
    for bits in [0, 1, u64::MAX, text.bits() + 1, text.bits() + (1 << 32), u32::MAX.into()] {
        assert!(state_db::Entry::<Clock>::from_bits(bits).with(|_| ()).is_err(), "{bits:#x}");
    }
    let other = state_db::Entry::<u64>::from_bits(text.bits());
    assert!(other.with(|_| ()).is_err());
    assert!(other.withdraw().is_err());
    assert!(text.with(|_| ()).is_ok(), "and the entry is still there");
}

#[test]
fn withdrawing_from_inside_is_refused_and_changes_nothing() {
    support::enter();
    let entry = publish("n", AtomicU64::new(0)).unwrap();
    let refused = entry.with(|_| entry.withdraw().unwrap_err()).unwrap();
    assert_eq!(refused, Error::Busy { inside: 1 });
    assert!(find::<AtomicU64>("n").unwrap().with(|_| ()).is_ok());
}

#[test]
fn preemption_is_off_inside_and_back_on_after_a_panic() {
    support::enter();
    let depth = || platform::cpu().preempt_depth.load(Ordering::Relaxed);
    let entry = publish("n", 0_u64).unwrap();
    assert_eq!(entry.with(|_| depth()), Ok(1));
    let caught = std::panic::catch_unwind(|| entry.with(|_| panic!("inside")));
    assert!(caught.is_err());
    assert_eq!(depth(), 0);
    assert_eq!(entry.withdraw(), Ok(0), "and it is not counted as in use");
}

cached!(TICKS: AtomicU64 = "ticks");

#[test]
fn a_weak_reference_survives_wiping_and_follows_the_name() {
    support::enter();
    assert!(matches!(TICKS.with(|_| ()), Err(Error::Absent { .. })));
    let first = publish("ticks", AtomicU64::new(1)).unwrap();
    for wipe in [false, true, true, false] {
        assert_eq!(TICKS.with(|n| n.fetch_add(1, Ordering::Relaxed)).map(|_| ()), Ok(()));
        if wipe {
            TICKS.forget();
        }
    }
    assert_eq!(first.withdraw().unwrap().into_inner(), 5);
    assert!(TICKS.with(|_| ()).is_err());
    publish("ticks", 7_u64).unwrap();
    assert!(matches!(TICKS.with(|_| ()), Err(Error::OtherType { .. })));
}

#[derive(State)]
struct Pair<T>(u8, #[state(number = 9)] T);

#[derive(State)]
#[allow(dead_code)]
enum Phase {
    Idle,
    Run(u64),
}

#[test]
fn the_derive_describes_fields_and_variants() {
    assert_eq!(<Pair<u64>>::FIELDS.len(), 2);
    let Field { number, name, offset, size, ty } = <Pair<u64>>::FIELDS[1];
    assert_eq!((number, name, offset, size, ty), (9, "1", core::mem::offset_of!(Pair<u64>, 1), 8, "u64"));
    assert_eq!(<Pair<u64>>::NAME, "entries::Pair<u64>");
    assert_ne!(layout_id::<Pair<u64>>(), layout_id::<Pair<i64>>());
    let variants = Phase::FIELDS.iter().map(|v| (v.number, v.name, v.ty)).collect::<Vec<_>>();
    assert_eq!(variants, [(0, "Idle", "()"), (1, "Run", "(u64,)")]);
}

#[test]
fn every_entry_is_shown_with_the_words_an_update_writes() {
    support::enter();
    let entry = publish("clock", Clock { now_ms: 5 }).unwrap();
    let mut seen = Vec::new();
    state_db::entries(|e| {
        let value = e.value.cast::<Clock>();
        // SAFETY: the only entry is the one above, which nobody withdraws.
        let (now, word) = unsafe { ((*value).now_ms, (*e.words).value.load(Ordering::Relaxed)) };
        assert_eq!(word.cast_const(), e.value);
        seen.push((e.name.to_owned(), e.type_name.to_owned(), e.version, e.layout, e.size, e.align, e.inside, now));
    });
    let expected = ("clock".into(), "entries::Clock".into(), 1, layout_id::<Clock>(), 8, 8, 0, 5);
    assert_eq!(seen, [expected]);
    entry.withdraw().unwrap();
    state_db::entries(|_| panic!("none is left"));
}

#[test]
fn many_names_stay_apart() {
    support::enter();
    let entries = (0..1000_u64).map(|n| publish(&format!("n/{n}"), n).unwrap()).collect::<Vec<_>>();
    for n in (0..1000).step_by(3) {
        assert_eq!(entries[n].withdraw(), Ok(n as u64));
    }
    for n in 0..1000_u64 {
        let found = find::<u64>(&format!("n/{n}")).ok().map(|entry| entry.with(|value| *value).unwrap());
        assert_eq!(found, (n % 3 != 0).then_some(n));
    }
}

#[test]
fn nothing_works_before_the_start_and_it_happens_once() {
    support::enter_machine();
    assert_eq!(publish("n", 0_u64).unwrap_err(), Error::NotStarted);
    assert_eq!(find::<u64>("n").unwrap_err(), Error::NotStarted);
    state_db::entries(|_| panic!("there is none"));
    assert_eq!(state_db::start(), Ok(()));
    assert_eq!(state_db::start(), Err(Error::Started));
}
