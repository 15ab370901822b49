//! The workload, a trap after every instruction, and what the trap does.

use crate::machine::{HEAP, protect};
use crate::world::World;
use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicPtr, Ordering};
use linker::Move;
use std::ptr;
use unwind::{INTERRUPTED, RegisterBlock, TextMap, walk_in};

/// Bytes of the stack that the workload runs on.
const STACK_BYTES: usize = 1 << 18;
/// Frames that a stack has at most.
const MOST_FRAMES: usize = 256;
const TRAP_FLAG: u64 = 0x100;

/// What is left behind on purpose, once, in the middle of the run; nothing moves any more from there on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Forget {
    /// Nothing: every frame moves.
    Nothing,
    /// Nothing moves at all.
    Everything,
    /// The return address of the frame next to the innermost.
    ReturnAddress,
    /// The words that lead to the other copy: those of the thunks above all.
    Thunk,
    /// Where the innermost frame goes on.
    ProgramCounter,
}

/// What came of a run.
pub struct Steps {
    /// What the workload computed.
    pub result: u64,
    /// Instructions.
    pub taken: u64,
    /// Frames that were moved.
    pub frames: u64,
}

struct Run {
    world: *const World,
    map: TextMap,
    stack: (u64, u64),
    forget: Forget,
    /// Which copy is in use.
    copy: usize,
    taken: u64,
    frames: u64,
    wrong: Option<&'static str>,
    /// Of the code that started the run: its stack pointer.
    outside: u64,
}

static RUN: AtomicPtr<Run> = AtomicPtr::new(ptr::null_mut());

/// When something is left behind, if it is to be.
const WHEN: u64 = 20_000;

/// Runs the workload.
pub fn run(world: &World, forget: Forget) -> Result<Steps, String> {
    let mut stack = vec![0u128; STACK_BYTES / 16];
    let range = stack.as_mut_ptr_range();
    let (low, top) = (range.start as u64, range.end as u64);
    // SAFETY: the heap's area is mapped.
    unsafe { ptr::write_bytes(HEAP as *mut u8, 0, 1 << 20) };
    let mut result = [0u64; 2];
    let map = TextMap { ranges: world.ranges.as_ptr(), len: world.ranges.len() };
    let mut run = Run { world, map, stack: (low, top), forget, copy: 0, taken: 0, frames: 0, wrong: None, outside: 0 };
    RUN.store(&raw mut run, Ordering::Relaxed);
    // SAFETY: the handler runs on a stack of its own, as the alternate stack of this thread alone; `enter` comes back when the
    // handler sends it back.
    unsafe {
        let mut alternate_stack = vec![0u8; 1 << 18];
        let alternate =
            libc::stack_t { ss_sp: alternate_stack.as_mut_ptr().cast(), ss_flags: 0, ss_size: alternate_stack.len() };
        let mut before = core::mem::zeroed();
        libc::sigaltstack(&alternate, &mut before);
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = trapped as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGTRAP, &action, ptr::null_mut());
        (top as *mut u64).sub(1).write(0);
        enter(top - 8, world.entry, result.as_mut_ptr(), &raw mut run.outside);
        libc::signal(libc::SIGTRAP, libc::SIG_DFL);
        libc::sigaltstack(&before, ptr::null_mut());
    }
    if run.copy == 1 {
        swap(&mut run, true);
    }
    for text in world.copies.iter().flat_map(|copy| &copy.text) {
        protect(text.address, text.len, libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC);
    }
    match run.wrong {
        Some(why) => Err(format!("after {} steps: {why}", run.taken)),
        None => Ok(Steps { result: result[0], taken: run.taken, frames: run.frames }),
    }
}

/// Where a program counter goes. A return address belongs to the function before it.
fn moved(moves: &[Move], pc: u64, exact: bool) -> Option<u64> {
    let within = if exact { pc } else { pc - 1 };
    let step = &moves[moves.partition_point(|step| step.from <= within).checked_sub(1)?];
    (within - step.from < step.len).then(|| pc - step.from + step.to)
}

/// Goes to the other copy: writes every word that leads there, and forbids the one that is left.
fn swap(run: &mut Run, thunks: bool) {
    // SAFETY: it outlives the run.
    let world = unsafe { &*run.world };
    let (from, to) = (&world.copies[run.copy], &world.copies[1 - run.copy]);
    for patch in world.patches.iter().filter(|_| thunks) {
        let value = if run.copy == 0 { patch.new } else { patch.old };
        // SAFETY: words of thunks, constants and texts, which are mapped for writing.
        unsafe {
            match patch.width {
                1 => (patch.address as *mut u8).write(value as u8),
                4 => (patch.address as *mut u32).write_unaligned(value as u32),
                _ => (patch.address as *mut u64).write_unaligned(value),
            }
        }
    }
    for text in &to.text {
        protect(text.address, text.len, libc::PROT_READ | libc::PROT_EXEC);
    }
    for text in &from.text {
        protect(text.address, text.len, libc::PROT_NONE);
    }
    run.copy = 1 - run.copy;
}

extern "C" fn trapped(_: c_int, _: *mut c_void, context: *mut c_void) {
    // SAFETY: set before the first trap, and used by one thread, whose traps do not nest.
    let run = unsafe { &mut *RUN.load(Ordering::Relaxed) };
    // SAFETY: the host's context of the interrupted thread.
    let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
    let leave = |registers: &mut [i64; 23], outside: u64| {
        registers[libc::REG_RIP as usize] = come_back as *const () as i64;
        registers[libc::REG_RSP as usize] = outside as i64;
        registers[libc::REG_EFL as usize] &= !(TRAP_FLAG as i64);
    };
    let mut block = block_of(registers);
    if !(run.stack.0..=run.stack.1).contains(&block.rsp) {
        return; // still on the way in
    }
    // SAFETY: the words of the one who started the run.
    if unsafe { *(*(run.outside as *const *const u64)).add(1) } != 0 {
        return leave(registers, run.outside);
    }
    run.taken += 1;
    if run.forget == Forget::Everything {
        return;
    }
    // SAFETY: it outlives the run.
    let world = unsafe { &*run.world };
    let moves = &world.copies[run.copy].moves;
    let mut words = [(ptr::null_mut::<u64>(), 0); MOST_FRAMES];
    let mut count = 0;
    let mut unmoved = false;
    let bounds = run.stack.0..run.stack.1;
    let in_thunk = |pc: u64| world.ranges.iter().any(|range| range.flags & unwind::THUNKS != 0 && range.contains(pc));
    let walked = walk_in(&run.map, &mut block, &[bounds], run.stack.1, &mut |frame| {
        match moved(moves, frame.pc, frame.exact) {
            Some(new) if count < MOST_FRAMES => {
                words[count] = (frame.at, new);
                count += 1;
            }
            Some(_) => unmoved = true,
            None => unmoved |= !in_thunk(frame.pc),
        }
        Ok(())
    });
    if walked.is_err() || unmoved {
        run.wrong =
            Some(if walked.is_err() { "the stack cannot be walked" } else { "a frame has no place in the other copy" });
        return leave(registers, run.outside);
    }
    let forgets = |what: Forget| run.forget == what && run.taken >= WHEN;
    for (at, &(word, new)) in words[..count].iter().enumerate() {
        let innermost = ptr::eq(word, &raw mut block.rip);
        let forgotten = innermost && forgets(Forget::ProgramCounter) || at == 1 && forgets(Forget::ReturnAddress);
        if !forgotten {
            // SAFETY: the walker says that a return address, or the block's program counter, lies there.
            unsafe { word.write(new) };
        }
    }
    run.frames += count as u64;
    let thunks = !forgets(Forget::Thunk);
    if run.taken >= WHEN && run.forget != Forget::Nothing {
        // Once: from here on nothing moves any more.
        run.forget = Forget::Everything;
    }
    swap(run, thunks);
    registers[libc::REG_RIP as usize] = block.rip as i64;
}

fn block_of(registers: &[i64; 23]) -> RegisterBlock {
    let register = |number: c_int| registers[number as usize] as u64;
    RegisterBlock {
        kind: INTERRUPTED,
        r15: register(libc::REG_R15),
        r14: register(libc::REG_R14),
        r13: register(libc::REG_R13),
        r12: register(libc::REG_R12),
        r11: register(libc::REG_R11),
        r10: register(libc::REG_R10),
        r9: register(libc::REG_R9),
        r8: register(libc::REG_R8),
        rbp: register(libc::REG_RBP),
        rdi: register(libc::REG_RDI),
        rsi: register(libc::REG_RSI),
        rdx: register(libc::REG_RDX),
        rcx: register(libc::REG_RCX),
        rbx: register(libc::REG_RBX),
        rax: register(libc::REG_RAX),
        vector: 1,
        error: 0,
        rip: register(libc::REG_RIP),
        cs: register(libc::REG_CSGSFS) & 0xffff,
        rflags: register(libc::REG_EFL),
        rsp: register(libc::REG_RSP),
        ss: register(libc::REG_CSGSFS) >> 48,
    }
}

/// Enters `entry` with `result` on the stack at `top`, with the trap flag; its own stack pointer goes to `outside`, and
/// `result` lies there first.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter(top: u64, entry: u64, result: *mut u64, outside: *mut u64) {
    core::arch::naked_asm!(
        "push rbx",
        "push rbp",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdx",
        "mov [rcx], rsp",
        "mov rsp, rdi",
        "mov rdi, rdx",
        // The flags last, by way of the word below: the trap comes after the jump.
        "push {flags}",
        "popfq",
        "jmp rsi",
        flags = const 2 | TRAP_FLAG,
    );
}

/// Where the trap sends the thread at the end: back from `enter`.
#[unsafe(naked)]
unsafe extern "sysv64" fn come_back() {
    core::arch::naked_asm!("pop rdx", "pop r15", "pop r14", "pop r13", "pop r12", "pop rbp", "pop rbx", "ret",);
}
