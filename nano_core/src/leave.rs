//! The way out: the boot CPU's private memory, the hand-off block, the final page tables, and the jump.

use crate::error::Error;
use crate::info::{BootInfo, Rsdp};
use crate::link::Linked;
use crate::memory;
use crate::ranges::RangeSet;
use crate::tables::{DATA, Tables};
use core::arch::asm;
use handoff::layout::{PAGE, PER_CPU_BYTES, PHYSICAL_MAP, STACK_SLOT, STACKS, stack};
use handoff::{Arena, Handoff, PerCpuHead, Range, Roots, Use};
use x86_64::VirtAddr;
use x86_64::registers::control::{Cr0, Cr0Flags};
use x86_64::registers::model_specific::GsBase;

/// Everything that is known when linking has ended.
pub struct Outcome {
    pub info: BootInfo,
    pub archive: Range,
    pub linked: Linked,
    pub code: Range,
    pub code_frames: u64,
    pub tsc_first: u64,
    pub tsc_link: [u64; 2],
}

/// The boot CPU's private area, its event stack and the roots, by physical address. All zero but for two heads.
struct Cpu {
    head: u64,
    roots: u64,
    /// First byte above the event stack.
    stack_end: u64,
}

/// Fills in what the first cell gets and starts it.
pub fn leave(mut tables: Tables, outcome: &Outcome) -> Result<core::convert::Infallible, Error> {
    let cpu = cpu(&mut tables)?;
    tables.finish(outcome.code)?;
    let block = handoff(&tables, outcome)?;

    let event_stack = STACKS + STACK_SLOT;
    // SAFETY: all three lie in zeroed frames taken for them, mapped one to one.
    unsafe {
        (*(cpu.roots as *mut Roots)).handoff = ((PHYSICAL_MAP + block) as *mut Handoff).into();
        let head = cpu.head as *mut PerCpuHead;
        (*head).this = PHYSICAL_MAP + cpu.head;
        (*head).roots = (PHYSICAL_MAP + cpu.roots) as *const Roots;
        (*head).event_stack = event_stack;
        // Where the entry's return address is looked for: 0 ends every walk of this stack.
        ((cpu.stack_end - 8) as *mut u64).write(0);
    }
    GsBase::write(VirtAddr::new(PHYSICAL_MAP + cpu.head));
    // SAFETY: the new tables map the image, in which the next instructions lie, the new stack, the hand-off and the
    // entry. Only registers are used in between. From here on no text and no constant can be written.
    unsafe {
        Cr0::write(Cr0::read() | Cr0Flags::WRITE_PROTECT);
        asm!(
            "mov cr3, {root}",
            "mov rsp, {stack}",
            "xor ebp, ebp",
            "jmp {entry}",
            root = in(reg) tables.root(),
            stack = in(reg) event_stack - 8,
            entry = in(reg) outcome.linked.entry,
            in("rdi") PHYSICAL_MAP + block,
            options(noreturn),
        )
    }
}

fn cpu(tables: &mut Tables) -> Result<Cpu, Error> {
    let parts = [stack::RESERVE, stack::STACK];
    let stacks: u64 = parts.iter().map(|part| part.end - part.start).sum();
    let head = zeroed(PER_CPU_BYTES + PAGE + stacks, Use::Cpu, "the boot CPU")?;
    let roots = head + PER_CPU_BYTES;
    let mut frame = roots + PAGE;
    for offset in parts.into_iter().flat_map(|part| part.step_by(PAGE as usize)) {
        tables.map_page(STACKS + offset, frame, DATA);
        frame += PAGE;
    }
    Ok(Cpu { head, roots, stack_end: frame })
}

/// Writes the hand-off block and returns its physical address.
fn handoff(tables: &Tables, outcome: &Outcome) -> Result<u64, Error> {
    let info = &outcome.info;
    let copy_at = (size_of::<Handoff>() as u64).next_multiple_of(16);
    let block = zeroed(copy_at + 36, Use::Handoff, "the hand-off block")?;
    let rsdp = match info.rsdp {
        Rsdp::None => 0,
        Rsdp::At(address) => address,
        Rsdp::Copy(bytes) => {
            // SAFETY: the frames were taken with room for it behind the block.
            unsafe { ((block + copy_at) as *mut [u8; 36]).write(bytes) };
            block + copy_at
        }
    };
    let places = outcome.linked.places;
    let (used, used_count) = memory::uses();
    // SAFETY: zeroed frames of at least this size, page-aligned; zero is a valid value of every field.
    let handoff = unsafe { &mut *(block as *mut Handoff) };
    handoff.magic = handoff::MAGIC;
    handoff.boot_protocol = info.protocol as u32;
    handoff.memory_count = fill(&mut handoff.memory, &info.memory);
    handoff.used = used;
    handoff.used_count = used_count as u32;
    handoff.command_line = info.command_line.bytes;
    handoff.command_line_len = info.command_line.len as u32;
    handoff.archive = outcome.archive;
    handoff.rsdp = rsdp;
    handoff.root_table = tables.root();
    handoff.tsc_first = outcome.tsc_first;
    handoff.tsc_link = outcome.tsc_link;
    handoff.arena = Arena {
        text: places.text,
        constants: places.constants,
        thunks: places.thunks,
        hosted: places.hosted,
        per_cpu: places.per_cpu,
        code_frames: outcome.code_frames,
        table_frames: tables.frames(),
    };
    Ok(block)
}

fn fill<const N: usize>(rows: &mut [Range; N], set: &RangeSet<N>) -> u32 {
    let from = set.rows();
    rows[..from.len()].copy_from_slice(from);
    from.len() as u32
}

/// Takes zeroed frames for `len` bytes.
fn zeroed(len: u64, use_as: Use, what: &'static str) -> Result<u64, Error> {
    let start = memory::take(len, PAGE, use_as, what)?;
    // SAFETY: the frames were free, lie below 4 GiB and are mapped one to one.
    unsafe { core::ptr::write_bytes(start as *mut u8, 0, len.next_multiple_of(PAGE) as usize) };
    Ok(start)
}
