//! What a CPU must be able to find for as long as it runs: segment table, task-state segment, emergency stacks.

use crate::apic::Apic;
use crate::flags::set_code_segment;
use alloc::alloc::alloc_zeroed;
use core::alloc::Layout;
use core::ptr::NonNull;
use core::sync::atomic::Ordering;
use x86_64::VirtAddr;
use x86_64::instructions::segmentation::{DS, ES, SS, Segment};
use x86_64::instructions::tables::load_tss;
use x86_64::structures::gdt::{Descriptor, GlobalDescriptorTable};
use x86_64::structures::tss::TaskStateSegment;

/// Bytes of an emergency stack.
const STACK_BYTES: usize = 8 << 10;

/// Emergency stacks, by number in the interrupt table (from 1): double fault, non-maskable interrupt, machine check,
/// page fault, which must not be taken on a stack that has just overflowed.
const STACKS: usize = 4;

/// One CPU's tables and emergency stacks.
#[repr(C, align(16))]
pub struct Machine {
    stacks: [[u8; STACK_BYTES]; STACKS],
    tss: TaskStateSegment,
    gdt: GlobalDescriptorTable,
    /// Where the local APIC is mapped.
    apic: u64,
}

impl Machine {
    /// The CPU's, once [`start`] has made it.
    pub fn get() -> Option<&'static Machine> {
        let machine = NonNull::new(platform::roots().platform.load(Ordering::Acquire))?;
        // SAFETY: written once by `start`, which made a `Machine` there that is never given back.
        Some(unsafe { machine.cast().as_ref() })
    }

    /// The CPU's local interrupt controller.
    pub fn apic(&self) -> Apic {
        Apic::at(self.apic)
    }
}

/// Makes tables and stacks and loads them.
///
/// # Panics
/// If memory for them is missing.
pub fn start(apic: u64) -> &'static Machine {
    let layout = Layout::new::<Machine>();
    // SAFETY: the size is not 0.
    let machine = unsafe { alloc_zeroed(layout) }.cast::<Machine>();
    assert!(!machine.is_null(), "no memory for the segment tables and emergency stacks ({} bytes)", layout.size());
    let mut tss = TaskStateSegment::new();
    for stack in 0..STACKS {
        let top = machine.addr() + (stack + 1) * STACK_BYTES;
        tss.interrupt_stack_table[stack] = VirtAddr::new_truncate(top as u64);
    }
    let mut gdt = GlobalDescriptorTable::new();
    let code = gdt.append(Descriptor::kernel_code_segment());
    let data = gdt.append(Descriptor::kernel_data_segment());
    // SAFETY: the place is allocated and never given back. The tables are written before they are loaded, the segments
    // loaded are those of this table, and the GS base, which is not the GDT's business, is left alone.
    unsafe {
        let task = gdt.append(Descriptor::tss_segment_unchecked(&raw const (*machine).tss));
        (&raw mut (*machine).tss).write(tss);
        (&raw mut (*machine).gdt).write(gdt);
        (&raw mut (*machine).apic).write(apic);
        (*machine).gdt.load_unsafe();
        set_code_segment(u64::from(code.0));
        SS::set_reg(data);
        DS::set_reg(data);
        ES::set_reg(data);
        load_tss(task);
        platform::roots().platform.store(machine.cast(), Ordering::Release);
        &*machine
    }
}
