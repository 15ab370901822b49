//! Where a failure lands.

use crate::caught::Caught;
use crate::exception::{Exception, landed};
use core::mem::{ManuallyDrop, MaybeUninit};
use core::sync::atomic::Ordering;

unsafe extern "Rust" {
    // The platform's, by name: the flag as a bare value, which can be kept while interrupts are on.
    safe fn delias_platform_irq_save() -> usize;
    safe fn delias_platform_irq_restore(flags: usize);
}

/// Calls `f`; a panic, a CPU exception or a kill inside it becomes an error here, after destructors have run.
///
/// # Errors
/// What happened, and where.
pub fn catch<R>(f: impl FnOnce() -> R) -> Result<R, Caught> {
    union Call<F, R> {
        f: ManuallyDrop<F>,
        result: ManuallyDrop<R>,
    }
    fn call<F: FnOnce() -> R, R>(data: *mut u8) {
        // SAFETY: `data` is the union below, which holds `f`; afterwards it holds the result.
        unsafe {
            let data = &mut *data.cast::<Call<F, R>>();
            let f = ManuallyDrop::take(&mut data.f);
            data.result = ManuallyDrop::new(f());
        }
    }
    fn of<F: FnOnce() -> R, R>(_: &F) -> fn(*mut u8) {
        call::<F, R>
    }
    let call = of::<_, R>(&f);
    let mut data = Call { f: ManuallyDrop::new(f) };
    catch_call(call, (&raw mut data).cast())?;
    // SAFETY: `call` returned, so it has put the result there.
    Ok(ManuallyDrop::into_inner(unsafe { data.result }))
}

/// [`catch`] for all types: only the call differs, so this is here once and no client has a landing pad of it.
fn catch_call(call: fn(*mut u8), data: *mut u8) -> Result<(), Caught> {
    struct Attempt {
        call: fn(*mut u8),
        data: *mut u8,
        caught: MaybeUninit<Caught>,
    }
    fn attempt(data: *mut u8) {
        // SAFETY: `data` is the attempt below.
        let attempt = unsafe { &*data.cast::<Attempt>() };
        (attempt.call)(attempt.data);
    }
    fn land(data: *mut u8, exception: *mut u8) {
        // SAFETY: `data` is the attempt below; `exception` is one of ours, since the personality refuses others, has
        // landed here, and is read once.
        unsafe {
            let exception = exception.cast::<Exception>();
            (*data.cast::<Attempt>()).caught.write((&raw const (*exception).caught).read());
            landed(exception);
        }
    }
    let before = Guards::now();
    let mut frame = Attempt { call, data, caught: MaybeUninit::uninit() };
    // SAFETY: both functions take what they are given here.
    let failed = unsafe { core::intrinsics::catch_unwind(attempt, (&raw mut frame).cast(), land) };
    if failed == 0 {
        return Ok(());
    }
    before.put_back();
    // SAFETY: `land` has written it.
    Err(unsafe { frame.caught.assume_init() })
}

/// Interrupt flag and preemption as they stood, so that a guard lost in the failing function does not outlive it.
struct Guards {
    flags: usize,
    preempt_depth: u32,
}

impl Guards {
    fn now() -> Guards {
        let flags = delias_platform_irq_save();
        let preempt_depth = platform::cpu().preempt_depth.load(Ordering::Relaxed);
        delias_platform_irq_restore(flags);
        Guards { flags, preempt_depth }
    }

    fn put_back(self) {
        // With interrupts off the task stays on this CPU; if preemption was off before, it never left it.
        delias_platform_irq_save();
        platform::cpu().preempt_depth.store(self.preempt_depth, Ordering::Relaxed);
        delias_platform_irq_restore(self.flags);
    }
}
