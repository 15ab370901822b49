// The machine as far as a host test needs it: each thread that enters is a CPU. Its private area is behind the GS
// base, as on the machine; Linux leaves that register to programs. A thread has a database of its own unless it is given
// another one's roots.
//
// Included by tests and, as text, by doc tests: so no inner attributes and no inner documentation here.

#[allow(dead_code)]
static YIELDS: core::sync::atomic::AtomicUsize = core::sync::atomic::AtomicUsize::new(0);

std::thread_local! {
    static INTERRUPTS: core::cell::Cell<bool> = const { core::cell::Cell::new(true) };
}

#[unsafe(no_mangle)]
fn delias_platform_irq_save() -> usize {
    if INTERRUPTS.replace(false) { 0x200 } else { 0 }
}

#[unsafe(no_mangle)]
fn delias_platform_irq_restore(flags: usize) {
    INTERRUPTS.set(flags & 0x200 != 0);
}

#[unsafe(no_mangle)]
fn delias_task_yield() {
    YIELDS.fetch_add(1, core::sync::atomic::Ordering::Relaxed);
}

/// Whether interrupts are on, on this CPU.
#[allow(dead_code)]
pub fn interrupts_on() -> bool {
    INTERRUPTS.get()
}

/// Calls of `delias_task_yield` so far, from all CPUs.
#[allow(dead_code)]
pub fn yields() -> usize {
    YIELDS.load(core::sync::atomic::Ordering::Relaxed)
}

/// Makes this thread CPU `number` of the machine that has these roots.
#[allow(dead_code)]
pub fn enter_cpu(number: u32, roots: &'static handoff::Roots) {
    // SAFETY: all bytes zero are a `PerCpuHead`: integers, atomics and a pointer.
    let head: &'static mut handoff::PerCpuHead = Box::leak(Box::new(unsafe { core::mem::zeroed() }));
    head.this = core::ptr::from_mut(head) as u64;
    head.roots = roots;
    head.cpu = number;
    const ARCH_PRCTL: usize = 158;
    const ARCH_SET_GS: usize = 0x1001;
    let result: isize;
    // SAFETY: arch_prctl(2) sets this thread's GS base, which nothing else in a Linux program uses on x86-64.
    unsafe {
        core::arch::asm!(
            "syscall",
            inlateout("rax") ARCH_PRCTL => result,
            in("rdi") ARCH_SET_GS,
            in("rsi") head.this,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    assert_eq!(result, 0, "arch_prctl");
}

/// Makes this thread the only CPU of a new machine.
#[allow(dead_code)]
pub fn enter_machine() -> &'static handoff::Roots {
    // SAFETY: all bytes zero are `Roots`: atomic pointers.
    let roots: &'static handoff::Roots = Box::leak(Box::new(unsafe { core::mem::zeroed() }));
    enter_cpu(0, roots);
    roots
}
