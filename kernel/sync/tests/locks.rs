//! What each lock does to the CPU that holds it.
#![allow(unsafe_code, reason = "stands in for the platform")]

mod support;

use std::sync::atomic::Ordering;
use sync::{Exclusive, IrqLock, IrqOff, PreemptGuard, PreemptLock};

fn depth() -> u32 {
    platform::cpu().preempt_depth.load(Ordering::Relaxed)
}

#[test]
fn an_irq_lock_keeps_interrupts_off_and_puts_them_back_as_they_were() {
    support::enter_machine();
    let lock = IrqLock::new(1);
    {
        let mut outer = lock.lock();
        *outer += 1;
        assert!(!support::interrupts_on());
        assert!(lock.try_lock().is_none());
        assert!(!support::interrupts_on(), "a failed try must not turn them on");
        let inner = IrqLock::new(());
        drop(inner.lock());
        assert!(!support::interrupts_on(), "the outer lock is still held");
    }
    assert!(support::interrupts_on());
    let off = IrqOff::new();
    drop(lock.lock());
    assert!(!support::interrupts_on());
    drop(off);
    assert_eq!(lock.into_inner(), 2);
}

#[test]
fn a_preempt_lock_counts_and_leaves_interrupts_alone() {
    support::enter_machine();
    let lock = PreemptLock::new(());
    let guard = lock.lock();
    assert_eq!((depth(), support::interrupts_on()), (1, true));
    assert!(lock.try_lock().is_none());
    assert_eq!(depth(), 1);
    let more = PreemptGuard::new();
    assert_eq!(depth(), 2);
    drop((guard, more));
    assert_eq!(depth(), 0);
}

#[test]
fn the_cpu_is_given_up_when_the_last_guard_falls_where_a_task_may_be_preempted() {
    support::enter_machine();
    let asked = || platform::cpu().resched.store(1, Ordering::Relaxed);
    let before = support::yields();

    drop(PreemptGuard::new());
    assert_eq!(support::yields(), before, "nobody asked");

    let (outer, inner) = (PreemptGuard::new(), PreemptGuard::new());
    asked();
    drop(inner);
    assert_eq!(support::yields(), before, "one guard is left");
    let off = IrqOff::new();
    drop(outer);
    assert_eq!(support::yields(), before, "interrupts are off");
    drop(off);

    platform::cpu().in_event.store(1, Ordering::Relaxed);
    drop(PreemptGuard::new());
    assert_eq!(support::yields(), before, "this is the event kernel");
    platform::cpu().in_event.store(0, Ordering::Relaxed);

    drop(PreemptLock::new(()).lock());
    assert_eq!(support::yields(), before + 1);
}

#[test]
fn a_panic_under_a_lock_releases_it_and_the_cpu() {
    support::enter_machine();
    let (irq, preempt) = (IrqLock::new(()), PreemptLock::new(()));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _guards = (irq.lock(), preempt.lock());
        panic!("inside");
    }));
    assert!(result.is_err());
    assert!(support::interrupts_on());
    assert_eq!(depth(), 0);
    assert!(irq.try_lock().is_some() && preempt.try_lock().is_some());
}

#[test]
fn who_comes_second_does_not_open_the_door() {
    let value = Exclusive::new(5);
    let first = value.try_take();
    assert!(first.is_some());
    assert!(value.try_take().is_none());
    assert!(value.try_take().is_none(), "the second who came has opened it");
    drop(first);
    assert_eq!(value.try_take().as_deref(), Some(&5));
}

#[test]
fn several_cpus_count_to_the_right_number() {
    let roots = support::enter_machine();
    let lock = IrqLock::new(0);
    std::thread::scope(|scope| {
        for number in 1..=4 {
            let lock = &lock;
            scope.spawn(move || {
                support::enter_cpu(number, roots);
                (0..10_000).for_each(|_| *lock.lock() += 1);
            });
        }
    });
    assert_eq!(lock.into_inner(), 40_000);
}
