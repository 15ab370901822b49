//! Slots: calls, doors, exchange of the object.
#![allow(unsafe_code, reason = "stands in for the platform")]

mod support;

use state_db::{Closed, Error, Slot};
use std::sync::atomic::{AtomicBool, Ordering};

trait Number: Sync {
    fn twice(&self) -> (u64, u64);
}

trait Other: Sync {}

/// Two types that tell whether the object and the vtable that a call read belong together.
struct Low(u64);
struct High(u64);

impl Number for Low {
    fn twice(&self) -> (u64, u64) {
        (1, self.0)
    }
}

impl Number for High {
    fn twice(&self) -> (u64, u64) {
        (2, self.0)
    }
}

static LOW: Low = Low(1);
static HIGH: High = High(2);

#[test]
fn a_handle_outlives_the_object_behind_it() {
    support::enter();
    let slot = Slot::<dyn Number>::bind("number", &LOW).unwrap();
    let found = Slot::<dyn Number>::find("number").unwrap();
    let kept = Slot::<dyn Number>::from_bits(found.bits());
    assert_eq!((slot, slot), (found, kept));
    assert_eq!(kept.call(|n| n.twice()), Ok((1, 1)));
    slot.rebind(&HIGH).unwrap();
    assert_eq!(kept.call(|n| n.twice()), Ok((2, 2)));
    assert_eq!(kept.name().unwrap().as_str(), "number");
    slot.unbind().unwrap();
    assert_eq!(kept.call(|n| n.twice()), Err(Closed::Gone));
    assert!(kept.name().is_err() && kept.rebind(&LOW).is_err() && kept.unbind().is_err());
    kept.close();
    kept.open();
    Slot::<dyn Number>::bind("number", &LOW).unwrap();
    assert_eq!(kept.call(|n| n.twice()), Err(Closed::Gone), "stale for ever");
}

#[test]
fn a_closed_slot_refuses_new_calls_and_lets_those_inside_end() {
    support::enter();
    let slot = Slot::<dyn Number>::bind("number", &LOW).unwrap();
    let inside = slot.call(|n| {
        slot.close();
        assert_eq!(slot.call(|_| ()), Err(Closed::Closed));
        assert_eq!(slot.inside(), Ok(1));
        assert_eq!(slot.unbind(), Err(Error::Busy { inside: 1 }));
        slot.rebind(&HIGH).unwrap();
        n.twice()
    });
    assert_eq!(inside, Ok((1, 1)));
    assert_eq!(slot.inside(), Ok(0));
    assert_eq!(slot.call(|_| ()), Err(Closed::Closed));
    slot.open();
    assert_eq!(slot.call(|n| n.twice()), Ok((2, 2)));
    slot.close();
    assert_eq!(slot.unbind(), Ok(()), "a closed slot may go");
}

#[test]
fn the_trait_is_checked_by_name_at_find_and_at_each_call() {
    support::enter();
    let slot = Slot::<dyn Number>::bind("number", &LOW).unwrap();
    let refused = Slot::<dyn Other>::find("number").unwrap_err();
    assert_eq!(refused.to_string(), "`number` is a dyn slots::Number, not a dyn slots::Other");
    assert_eq!(Slot::<dyn Other>::from_bits(slot.bits()).call(|_| ()), Err(Closed::Gone));
    assert_eq!(Slot::<dyn Number>::from_bits(0).call(|_| ()), Err(Closed::Gone));
    assert!(matches!(Slot::<dyn Number>::bind("number", &HIGH), Err(Error::Taken { .. })));
}

#[test]
fn an_object_of_known_size_needs_no_vtable() {
    support::enter();
    let slot = Slot::<Low>::bind("low", &LOW).unwrap();
    assert_eq!(slot.call(|low| low.0), Ok(1));
    state_db::slots(|info| {
        assert_eq!((info.name, info.trait_name, info.inside, info.closed), ("low", "slots::Low", 0, false));
        assert_eq!((info.data, info.vtable.is_null()), ((&raw const LOW).cast(), true));
    });
}

#[test]
fn a_panic_inside_counts_the_call_out() {
    support::enter();
    let slot = Slot::<dyn Number>::bind("number", &LOW).unwrap();
    assert!(std::panic::catch_unwind(|| slot.call(|_| panic!("inside"))).is_err());
    assert_eq!(slot.inside(), Ok(0));
}

#[test]
fn calls_of_other_cpus_see_one_object_or_the_other_never_half_of_each() {
    let roots = support::enter();
    let slot = Slot::<dyn Number>::bind("number", &LOW).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 1..=2 {
            let done = &done;
            scope.spawn(move || {
                support::enter_cpu(number, roots);
                while !done.load(Ordering::Relaxed) {
                    match slot.call(|n| n.twice()) {
                        Ok((vtable, data)) => assert_eq!(vtable, data),
                        Err(closed) => assert_eq!(closed, Closed::Closed),
                    }
                }
            });
        }
        for round in 0..500_000 {
            slot.rebind(if round % 2 == 0 { &HIGH } else { &LOW }).unwrap();
            if round % 4096 == 0 {
                slot.close();
                while slot.inside() != Ok(0) {
                    std::thread::yield_now();
                }
                slot.open();
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(slot.inside(), Ok(0));
}

#[test]
fn the_words_that_an_update_writes_are_what_calls_read() {
    support::enter();
    let slot = Slot::<dyn Number>::bind("number", &LOW).unwrap();
    let other = Slot::<dyn Number>::bind("other", &HIGH).unwrap();
    let mut seen = Vec::new();
    state_db::slots(|info| seen.push((info.bits, info.words)));
    assert_eq!(seen.iter().map(|(bits, _)| *bits).collect::<Vec<_>>(), [slot.bits(), other.bits()]);
    // SAFETY: both slots are there; no other CPU uses them.
    let (to, from) = unsafe { (&*seen[0].1, &*seen[1].1) };
    to.data.store(from.data.load(Ordering::Relaxed), Ordering::Relaxed);
    to.vtable.store(from.vtable.load(Ordering::Relaxed), Ordering::Relaxed);
    to.sequence.fetch_add(2, Ordering::Relaxed);
    assert_eq!(slot.call(|n| n.twice()), Ok((2, 2)));
}
