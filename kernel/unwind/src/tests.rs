//! The walk, tried on the test program's own code and tables: against the host's unwinder, and at every single
//! instruction of a workload.

use crate::capture::here;
use crate::fault_entry::{Cause, aim_at_fault_entry};
use crate::text_map::{TextMap, TextRange};
use crate::walk::follows_call;
use crate::{Frame, INTERRUPTED, RegisterBlock, WalkError, walk_in};
use core::ffi::{c_int, c_void};
use core::ops::Range;
use core::sync::atomic::{AtomicPtr, Ordering};
use std::boxed::Box;
use std::string::String;
use std::sync::Mutex;
use std::vec::Vec;
use std::{format, ptr, vec};

/// The program's text and tables, as its program headers name them.
fn program() -> TextRange {
    unsafe extern "C" fn first(info: *mut libc::dl_phdr_info, _: usize, out: *mut c_void) -> c_int {
        // SAFETY: the C library's rows, valid for this call; `out` is the range below.
        unsafe {
            let info = &*info;
            let out = &mut *out.cast::<TextRange>();
            let headers = core::slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into());
            let at = |header: &libc::Elf64_Phdr| info.dlpi_addr + header.p_vaddr;
            let text = headers.iter().find(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_X != 0).unwrap();
            let index = headers.iter().find(|h| h.p_type == libc::PT_GNU_EH_FRAME).unwrap();
            (out.start, out.text_len) = (at(text), text.p_memsz);
            (out.eh_frame_hdr, out.eh_frame_hdr_len) = (at(index), index.p_memsz);
            let field = at(index) + 4;
            out.eh_frame = field.wrapping_add_signed((field as *const i32).read_unaligned().into());
            let holds =
                |h: &&libc::Elf64_Phdr| h.p_type == libc::PT_LOAD && (at(h)..at(h) + h.p_memsz).contains(&out.eh_frame);
            let around = headers.iter().find(holds).unwrap();
            out.eh_frame_len = at(around) + around.p_memsz - out.eh_frame;
        }
        1 // the program itself comes first
    }
    let mut range = TextRange {
        start: 0,
        text_len: 0,
        eh_frame: 0,
        eh_frame_len: 0,
        eh_frame_hdr: 0,
        eh_frame_hdr_len: 0,
        cell: 7,
        copy: 1,
        flags: 0,
        reserved: 0,
    };
    // SAFETY: `first` takes what it is given here.
    unsafe { libc::dl_iterate_phdr(Some(first), (&raw mut range).cast()) };
    range
}

fn with_map<R>(f: impl FnOnce(&TextMap) -> R) -> R {
    let ranges = [program()];
    f(&TextMap { ranges: ranges.as_ptr(), len: ranges.len() })
}

/// A stack of its own, whose base is known.
struct Stack(Vec<u128>);

impl Stack {
    fn new() -> Stack {
        Stack(vec![0; 16384])
    }

    fn area(&self) -> Range<u64> {
        let range = self.0.as_ptr_range();
        range.start as u64..range.end as u64
    }

    fn run(&self, mut f: &mut dyn FnMut()) {
        extern "sysv64" fn call(data: *mut ()) {
            // SAFETY: `data` is the reference below.
            unsafe { (*data.cast::<&mut dyn FnMut()>())() }
        }
        // SAFETY: the stack is large enough for what the tests do and lives as long as they run on it.
        unsafe { switch(self.area().end, call, (&raw mut f).cast()) }
    }
}

/// Calls `f` with `data` on the stack that ends at `top`, in a first frame whose return address is 0.
#[unsafe(naked)]
unsafe extern "sysv64" fn switch(top: u64, f: extern "sysv64" fn(*mut ()), data: *mut ()) {
    core::arch::naked_asm!(
        ".cfi_startproc",
        "push rbx",
        ".cfi_def_cfa_offset 16",
        ".cfi_offset rbx, -16",
        "mov rbx, rsp",
        ".cfi_def_cfa rbx, 16",
        "lea rsp, [rdi - 8]",
        "mov qword ptr [rsp], 0",
        "call {start}",
        "pop rbx",
        ".cfi_def_cfa rsp, 8",
        "ret",
        ".cfi_endproc",
        start = sym start,
    );
}

/// A task's first function, but that it can go back: it was called with rsp at base - 16, drops that return address, and
/// has the 0 above it for its own.
#[unsafe(naked)]
unsafe extern "sysv64" fn start() {
    core::arch::naked_asm!(
        ".cfi_startproc",
        "pop r12",
        "sub rsp, 8",
        ".cfi_def_cfa_offset 16",
        "mov rdi, rdx",
        "call rsi",
        "mov rsp, rbx",
        ".cfi_undefined rip",
        "jmp r12",
        ".cfi_endproc",
    );
}

/// Frames of all kinds between the stack's base and `f`: large, recursive, through the library, through a vtable.
#[inline(never)]
fn deep(depth: u32, f: &mut dyn FnMut()) -> u64 {
    let mut large = [depth; 300];
    core::hint::black_box(&mut large);
    let mut sum = 0;
    if depth == 0 {
        f();
    } else if depth % 2 == 0 {
        sum += deep(depth - 1, f);
    } else {
        let mut pair = [2u64, 1];
        let mut called = false;
        pair.sort_by(|a, b| {
            if !called {
                called = true;
                sum += deep(depth - 1, f);
            }
            a.cmp(b)
        });
        sum += pair[0];
    }
    sum + u64::from(large[depth as usize])
}

fn collect(map: &TextMap, block: *mut RegisterBlock, stack: &Stack) -> (Vec<Frame>, Result<(), WalkError>) {
    let mut frames = Vec::new();
    let result = walk_in(map, block, &[stack.area()], stack.area().end, &mut |frame| {
        frames.push(*frame);
        Ok(())
    });
    (frames, result)
}

fn host_backtrace() -> Vec<u64> {
    unsafe extern "C" {
        fn _Unwind_Backtrace(each: extern "C" fn(*mut c_void, *mut c_void) -> c_int, data: *mut c_void) -> c_int;
        fn _Unwind_GetIP(context: *mut c_void) -> usize;
    }
    extern "C" fn each(context: *mut c_void, data: *mut c_void) -> c_int {
        // SAFETY: `data` is the list below; the context is the unwinder's.
        unsafe { (*data.cast::<Vec<u64>>()).push(_Unwind_GetIP(context) as u64) };
        0
    }
    let mut list: Vec<u64> = Vec::new();
    // SAFETY: `each` takes what it is given here.
    unsafe { _Unwind_Backtrace(each, (&raw mut list).cast()) };
    list
}

#[test]
fn finds_what_the_hosts_unwinder_finds() {
    let stack = Stack::new();
    with_map(|map| {
        let (mut ours, mut theirs, mut result) = (Vec::new(), Vec::new(), Ok(()));
        stack.run(&mut || {
            deep(9, &mut || {
                here(&mut |block| {
                    (ours, result) = collect(map, block, &stack);
                    theirs = host_backtrace();
                });
            });
        });
        assert_eq!(result, Ok(()));
        theirs.retain(|&pc| pc != 0);
        let ours: Vec<u64> = ours.iter().map(|frame| frame.pc).collect();
        assert!(ours.len() > 15, "{ours:x?}");
        assert!(theirs.ends_with(&ours), "{ours:x?}\n{theirs:x?}");
    });
}

#[test]
fn every_frame_names_the_word_that_holds_its_pc() {
    let stack = Stack::new();
    with_map(|map| {
        stack.run(&mut || {
            deep(4, &mut || {
                here(&mut |block| {
                    let (frames, result) = collect(map, block, &stack);
                    assert_eq!(result, Ok(()));
                    for frame in &frames {
                        // SAFETY: words of a live stack, or of the block.
                        assert_eq!(unsafe { frame.at.read() }, frame.pc);
                        assert!(!frame.exact);
                    }
                    for pair in frames.windows(2) {
                        assert_eq!(pair[1].at as u64, pair[0].cfa - 8);
                    }
                });
            });
        });
    });
}

#[test]
fn a_damaged_stack_is_refused() {
    let stack = Stack::new();
    with_map(|map| {
        stack.run(&mut || {
            deep(4, &mut || {
                here(&mut |block| {
                    let (frames, _) = collect(map, block, &stack);
                    let good = *block;
                    block.rsp += 8;
                    let (_, result) = collect(map, block, &stack);
                    assert!(result.is_err(), "rsp off by 8: {result:?}");
                    *block = good;
                    for frame in &frames[1..] {
                        // SAFETY: a return address of a frame that is alive, put back before anybody returns to it.
                        unsafe {
                            // The bytes of one call may end in those of another.
                            let pc = (1..8).map(|by| frame.pc + by).find(|&pc| !follows_call(map, pc)).unwrap_or(0);
                            frame.at.write(pc);
                            let (_, result) = collect(map, block, &stack);
                            assert_eq!(result, Err(WalkError::NotAfterCall { pc, slot: frame.at as u64 }));
                            frame.at.write(0);
                            let (_, result) = collect(map, block, &stack);
                            let expected = stack.area().end - 8;
                            assert_eq!(result, Err(WalkError::WrongEnd { slot: frame.at as u64, expected }));
                            frame.at.write(frame.pc);
                        }
                    }
                    let half = stack.area().end - 64;
                    let result = walk_in(map, block, &[stack.area().start..half], half, &mut |_| Ok(()));
                    assert!(matches!(result, Err(WalkError::OutsideStack { .. })), "{result:?}");
                    let result = walk_in(map, block, &[stack.area()], half, &mut |frame| {
                        Err(WalkError::Stopped { pc: frame.pc })
                    });
                    assert_eq!(result, Err(WalkError::Stopped { pc: good.rip }));
                });
            });
        });
    });
}

/// What the trap handler needs; leaked, so that it is there whatever happens.
struct Stepping {
    map: TextMap,
    stack: Stack,
    /// Traps so far, and those whose stack was walked.
    steps: u64,
    walked: u64,
    /// At every so many walked steps the thread is sent through the fault entry and back; 0: never.
    fault_every: u64,
    faults: u64,
    /// The frames at the last trap, as the handler saw them.
    outside: Vec<u64>,
    /// The vector registers at the last fault, which a system without them need not keep.
    vectors: Vectors,
    wrong: Vec<(u64, WalkError)>,
}

/// What `fxsave` stores.
#[derive(Clone, Copy)]
#[repr(C, align(16))]
struct Vectors([u8; 512]);

static STEPPING: AtomicPtr<Stepping> = AtomicPtr::new(ptr::null_mut());
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

fn stepping() -> &'static mut Stepping {
    // SAFETY: set before the first trap, and used by one thread, whose traps do not nest.
    unsafe { &mut *STEPPING.load(Ordering::Relaxed) }
}

const TRAP_FLAG: u64 = 0x100;
/// Bytes below rsp that code of the host may use.
const RED_ZONE: u64 = 128;

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

extern "C" fn trapped(_: c_int, _: *mut c_void, context: *mut c_void) {
    let stepping = stepping();
    // SAFETY: the kernel's context of the interrupted thread.
    let machine = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext };
    let registers = &mut machine.gregs;
    let mut block = block_of(registers);
    stepping.steps += 1;
    let area = stepping.stack.area();
    if !area.contains(&block.rsp) {
        return;
    }
    let pc = block.rip;
    stepping.outside.clear();
    let mut interrupted = 0;
    let result = walk_in(&stepping.map, &mut block, &[area.clone()], area.end, &mut |frame| {
        interrupted += usize::from(frame.exact);
        stepping.outside.push(frame.pc);
        Ok(())
    });
    match result {
        Ok(()) if interrupted == 1 => stepping.walked += 1,
        // The C library's functions, and the stubs through which the linker calls them, have no place in the map.
        Err(WalkError::NoText { pc: at } | WalkError::NoUnwindInfo { pc: at } | WalkError::Unsupported { pc: at })
            if at == pc =>
        {
            return;
        }
        Ok(()) => stepping.wrong.push((pc, WalkError::Stopped { pc })),
        Err(error) => stepping.wrong.push((pc, error)),
    }
    if stepping.fault_every != 0 && stepping.walked % stepping.fault_every == 0 {
        stepping.faults += 1;
        // SAFETY: the kernel's frame begins with what `fxsave` stores.
        stepping.vectors = Vectors(unsafe { machine.fpregs.cast::<[u8; 512]>().read() });
        // SAFETY: nothing below the red zone is in use.
        unsafe { aim_at_fault_entry(&mut block, block.rsp - RED_ZONE, Cause::Kill, pc) };
        registers[libc::REG_RDI as usize] = block.rdi as i64;
        registers[libc::REG_RSI as usize] = block.rsi as i64;
        registers[libc::REG_RDX as usize] = block.rdx as i64;
        registers[libc::REG_RSP as usize] = block.rsp as i64;
        registers[libc::REG_RIP as usize] = block.rip as i64;
        registers[libc::REG_EFL as usize] = block.rflags as i64;
    }
}

/// Called by the fault entry in place of what raises an exception: walks from inside, compares, and goes back.
pub(crate) extern "sysv64-unwind" fn raise_from(block: &mut RegisterBlock, cause: u64, address: u64) -> ! {
    let stepping = stepping();
    let mut inside = Vec::with_capacity(64);
    here(&mut |from| {
        let area = stepping.stack.area();
        let mut exact = 0;
        let result = walk_in(&stepping.map, from, &[area.clone()], area.end, &mut |frame| {
            exact += usize::from(frame.exact);
            inside.push(frame.pc);
            Ok(())
        });
        if let Err(error) = result {
            stepping.wrong.push((address, error));
        } else if exact != 1 || !inside.ends_with(&stepping.outside) || cause != Cause::Kill as u64 {
            stepping.wrong.push((address, WalkError::Stopped { pc: address }));
        }
    });
    drop(inside);
    block.rflags |= TRAP_FLAG;
    // SAFETY: the block is that of the interrupted code, whose stack is untouched.
    unsafe { resume(block, &stepping.vectors) }
}

/// Goes on with a block's registers, as the event kernel does.
#[unsafe(naked)]
unsafe extern "sysv64" fn resume(block: &mut RegisterBlock, vectors: &Vectors) -> ! {
    core::arch::naked_asm!(
        "fxrstor64 [rsi]",
        "lea rsp, [rdi + 8]",
        "pop r15",
        "pop r14",
        "pop r13",
        "pop r12",
        "pop r11",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rbp",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rbx",
        "pop rax",
        "lea rsp, [rsp + 16]",
        "iretq",
    );
}

/// Sets the flags to `flags`, with unwind tables, which inline assembly has not.
#[unsafe(naked)]
unsafe extern "sysv64" fn set_flags(flags: u64) {
    core::arch::naked_asm!(
        ".cfi_startproc",
        "push rdi",
        ".cfi_def_cfa_offset 16",
        "popfq",
        ".cfi_def_cfa_offset 8",
        "ret",
        ".cfi_endproc",
    );
}

/// Sorting, formatting, hashing, vtables: code of `core` and `alloc` as well as of this crate.
#[inline(never)]
fn workload() -> u64 {
    let mut numbers: Vec<u64> = (0..40).map(|n| n * 0x9e37_79b9 % 101).collect();
    numbers.sort_by(|a, b| b.cmp(a));
    let texts: Vec<Box<dyn core::fmt::Display>> = vec![Box::new(numbers[3]), Box::new("text"), Box::new('c')];
    let text: String = texts.iter().map(|text| format!("{text:>5}")).collect();
    let ranges = core::hint::black_box(text.len() as u64) + deep(3, &mut || {});
    let found = crate::lsda::action(|at| text.as_bytes().get(at as usize).copied(), 1, 2).is_ok();
    ranges + u64::from(found) + numbers.iter().filter(|n| *n % 3 == 0).sum::<u64>()
}

/// Runs the workload with a trap after every instruction.
fn step_through(fault_every: u64) -> &'static mut Stepping {
    let ranges: &'static [TextRange] = Box::leak(Box::new([program()]));
    STEPPING.store(
        Box::leak(Box::new(Stepping {
            map: TextMap { ranges: ranges.as_ptr(), len: ranges.len() },
            stack: Stack::new(),
            steps: 0,
            walked: 0,
            fault_every,
            faults: 0,
            outside: Vec::with_capacity(64),
            vectors: Vectors([0; 512]),
            wrong: Vec::with_capacity(1 << 16),
        })),
        Ordering::Relaxed,
    );
    // SAFETY: a handler on a stack of its own, and the trap flag for this thread only.
    unsafe {
        let alternate = libc::stack_t {
            ss_sp: Box::leak(vec![0u8; 1 << 18].into_boxed_slice()).as_mut_ptr().cast(),
            ss_flags: 0,
            ss_size: 1 << 18,
        };
        let mut before = core::mem::zeroed();
        libc::sigaltstack(&alternate, &mut before);
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = trapped as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigaction(libc::SIGTRAP, &action, ptr::null_mut());
        stepping().stack.run(&mut || {
            workload();
            set_flags(2 | TRAP_FLAG);
            workload();
            set_flags(2);
        });
        libc::signal(libc::SIGTRAP, libc::SIG_DFL);
        libc::sigaltstack(&before, ptr::null_mut());
    }
    stepping()
}

#[test]
fn every_instruction_of_a_workload_can_be_walked_from() {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    let stepping = step_through(0);
    assert!(stepping.walked > 10_000, "{} of {} steps walked", stepping.walked, stepping.steps);
    assert!(stepping.wrong.is_empty(), "{} wrong, first {:x?}", stepping.wrong.len(), stepping.wrong[0]);
}

#[test]
fn the_fault_entry_is_a_frame_like_any_other() {
    let _one = ONE_AT_A_TIME.lock().unwrap();
    let stepping = step_through(3);
    assert!(stepping.faults > 3_000, "{} faults in {} steps", stepping.faults, stepping.steps);
    assert!(stepping.wrong.is_empty(), "{} wrong, first {:x?}", stepping.wrong.len(), stepping.wrong[0]);
}
