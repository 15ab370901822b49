//! Slabs against a model, and under several CPUs.
#![allow(unsafe_code, reason = "stands in for the platform")]

mod support;

use proptest::prelude::*;
use state_db::{Gone, Ref, Slab};
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

#[derive(Clone, Debug)]
enum Do {
    Insert(u32),
    Remove(usize),
    Use(usize),
    Forge(u64),
}

fn steps() -> impl Strategy<Value = Vec<Do>> {
    let step = prop_oneof![
        4 => any::<u32>().prop_map(Do::Insert),
        3 => any::<usize>().prop_map(Do::Remove),
        2 => any::<usize>().prop_map(Do::Use),
        1 => (0..200_u64, 0..4_u64).prop_map(|(index, generation)| Do::Forge(generation << 32 | index)),
    ];
    prop::collection::vec(step, 0..300)
}

proptest! {
    #[test]
    fn behaves_as_a_map_from_names_never_used_before(steps in steps()) {
        support::enter_machine();
        let slab = Slab::new();
        let mut model = HashMap::new();
        let mut given: Vec<Ref<u32>> = Vec::new();
        for step in steps {
            match step {
                Do::Insert(value) => {
                    let r = slab.insert(value).unwrap();
                    prop_assert_ne!(r.bits(), 0);
                    prop_assert!(model.insert(r, value).is_none() && !given.contains(&r), "{:?} twice", r);
                    given.push(r);
                }
                Do::Remove(n) if !given.is_empty() => {
                    let r = given[n % given.len()];
                    prop_assert_eq!(slab.remove(r), model.remove(&r).ok_or(Gone));
                }
                Do::Use(n) if !given.is_empty() => {
                    let r = Ref::from_bits(given[n % given.len()].bits());
                    prop_assert_eq!(slab.with(r, |value| *value), model.get(&r).copied().ok_or(Gone));
                }
                Do::Forge(bits) => {
                    let r = Ref::from_bits(bits);
                    prop_assert_eq!(slab.with(r, |value| *value), model.get(&r).copied().ok_or(Gone));
                }
                _ => {}
            }
            prop_assert_eq!(slab.len(), model.len());
        }
        let mut seen = HashMap::new();
        slab.for_each(|r, value| assert!(seen.insert(r, *value).is_none()));
        prop_assert_eq!(seen, model);
    }
}

#[test]
fn addresses_are_stable_while_the_slab_grows() {
    support::enter_machine();
    let slab = Slab::new();
    let refs = (0..1000_u64).map(|n| slab.insert(n).unwrap()).collect::<Vec<_>>();
    let place = |r| slab.with(r, |value| core::ptr::from_ref(value) as usize).unwrap();
    let before = refs.iter().map(|r| place(*r)).collect::<Vec<_>>();
    (0..5000).for_each(|n| assert!(slab.insert(n).is_ok()));
    assert_eq!(before, refs.iter().map(|r| place(*r)).collect::<Vec<_>>());
    assert!(refs.iter().enumerate().all(|(n, r)| slab.with(*r, |value| *value) == Ok(n as u64)));
    let mut distinct = before;
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len(), 1000);
}

#[test]
fn interrupts_are_off_inside_and_back_after_a_panic() {
    support::enter_machine();
    let slab = Slab::new();
    let r = slab.insert(AtomicU64::new(0)).unwrap();
    assert!(!slab.with(r, |_| support::interrupts_on()).unwrap());
    let inside = std::panic::AssertUnwindSafe(|| slab.with(r, |_| panic!("inside")));
    assert!(std::panic::catch_unwind(inside).is_err());
    assert!(support::interrupts_on());
    assert!(slab.remove(r).is_ok());
}

/// Counts how often it is dropped.
struct Counted<'a>(&'a Cell<u32>);

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

#[test]
fn each_value_is_dropped_once() {
    support::enter_machine();
    let drops = Cell::new(0);
    let slab = Slab::new();
    let refs = (0..100).map(|_| slab.insert(Counted(&drops)).unwrap()).collect::<Vec<_>>();
    drop(slab.remove(refs[50]));
    assert_eq!(drops.get(), 1);
    assert!(slab.remove(refs[50]).is_err());
    drop(slab);
    assert_eq!(drops.get(), 100);
}

#[test]
fn a_value_that_one_cpu_removes_is_never_seen_half_gone_by_another() {
    let roots = support::enter_machine();
    let slab: Slab<Box<[u64; 4]>> = Slab::new();
    let shared = [const { AtomicU64::new(0) }; 8];
    std::thread::scope(|scope| {
        for number in 1..=3_u32 {
            let (slab, shared) = (&slab, &shared);
            scope.spawn(move || {
                support::enter_cpu(number, roots);
                for round in 0..20_000_u64 {
                    let place = &shared[(round * number as u64 % 8) as usize];
                    let new = slab.insert(Box::new([round; 4])).unwrap();
                    let old = Ref::<Box<[u64; 4]>>::from_bits(place.swap(new.bits(), Ordering::AcqRel));
                    let _ = slab.with(Ref::from_bits(place.load(Ordering::Acquire)), |value| {
                        assert!(value.iter().all(|word| *word == value[0]));
                    });
                    if let Ok(value) = slab.remove(old) {
                        assert!(value.iter().all(|word| *word == value[0]));
                    }
                }
            });
        }
    });
    assert!(slab.len() <= 8);
}

#[test]
fn a_converted_slab_knows_the_same_names() {
    support::enter_machine();
    let slab: Slab<u8> = Slab::new();
    let all: Vec<Ref<u8>> = (0..40).map(|value| slab.insert(value).unwrap()).collect();
    for gone in all.iter().skip(1).step_by(3) {
        slab.remove(*gone).unwrap();
    }
    let small: state_db::Room<String> = Slab::<u8>::new().room().unwrap();
    assert!(!slab.fits(&small));
    let mut room = slab.room::<String>().unwrap();
    assert!(slab.fits(&room));
    let (len, capacity) = (slab.len(), slab.capacity());
    let texts = slab.convert(&mut room, |value| format!("value {value}"));
    drop(room);
    assert_eq!((texts.len(), texts.capacity()), (len, capacity));
    for (value, old) in all.iter().enumerate() {
        let found = texts.with(Ref::from_bits(old.bits()), String::clone);
        let expected = if value % 3 == 1 { Err(Gone) } else { Ok(format!("value {value}")) };
        assert_eq!(found, expected);
    }
    // The free records come again, with new generations.
    let more: Vec<Ref<String>> = (0..13).map(|n| texts.insert(format!("more {n}")).unwrap()).collect();
    assert_eq!(texts.capacity(), capacity);
    assert!(more.iter().all(|new| all.iter().all(|old| old.bits() != new.bits())));
}
