//! The platform interface on a PC: segments, the pair of 8259 controllers for legacy interrupts, the local APIC for the
//! timer, COM1 as console of last resort, and the ways out. Defines every `delias_platform_*` symbol that
//! `kernel/platform` names, with exactly its types.
//!
//! What must last (segment tables, emergency stacks, where the APIC is mapped) lies in one [`Machine`] on the heap, found
//! through the first spare root. What follows is one CPU: others will get a `Machine` of their own.
//!
//! Flags are read by a naked function with unwind information of its own, since a `pushfq` inside another function would
//! make its frame unreadable for the walker for an instruction or two.
#![no_std]
#![allow(unsafe_code, reason = "this is where the machine is touched")]

extern crate alloc;

mod apic;
mod clock;
mod flags;
mod leave;
mod machine;
mod pic;
mod serial;

use machine::Machine;
use platform::{Clock, Leave, vector};
use raw_cpuid::CpuId;
use x86_64::VirtAddr;
use x86_64::instructions::port::Port;
use x86_64::instructions::tables::lidt;
use x86_64::instructions::{interrupts, tlb};
use x86_64::registers::control::{Cr2, Cr3, Cr4, Cr4Flags};
use x86_64::structures::DescriptorTablePointer;

// SAFETY (of every `no_mangle` here): the names are the platform interface's, which one cell of an image defines; the
// audit refuses a second definition.

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_start(device_memory: u64) -> Clock {
    pic::start();
    let machine = machine::start(device_memory);
    let apic = machine.apic();
    apic.start();
    clock::measure(&apic)
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_irq_save() -> usize {
    flags::save()
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_irq_restore(state: usize) {
    if state & flags::INTERRUPTS != 0 { interrupts::enable() } else { interrupts::disable() }
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_halt() {
    interrupts::enable_and_hlt();
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_root_table() -> u64 {
    Cr3::read_raw().0.start_address().as_u64()
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_flush(address: u64) {
    tlb::flush(VirtAddr::new_truncate(address));
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_flush_all() {
    let cr4 = Cr4::read_raw();
    // SAFETY: only whether global pages exist changes, and back; that forgets all translations (SDM volume 3, 5.10.4.1).
    unsafe {
        Cr4::write_raw(cr4 & !Cr4Flags::PAGE_GLOBAL.bits());
        Cr4::write_raw(cr4);
    }
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_ticks() -> u64 {
    clock::ticks()
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_timer(counts: u32) {
    if let Some(machine) = Machine::get() {
        machine.apic().timer(counts);
    }
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_end_of_interrupt(vector: u8) {
    match vector {
        vector::SPURIOUS | 0..vector::EXTERNAL => {}
        _ if pic::is_ours(vector) => pic::end_of_interrupt(vector),
        _ => {
            if let Some(machine) = Machine::get() {
                machine.apic().end_of_interrupt();
            }
        }
    }
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_mask(vector: u8) {
    if pic::is_ours(vector) {
        pic::mask(vector);
    }
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_unmask(vector: u8) {
    if pic::is_ours(vector) {
        pic::unmask(vector);
    }
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_debug_write(text: &[u8]) {
    serial::write(text);
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_random() -> Option<u64> {
    if !CpuId::new().get_feature_info()?.has_rdrand() {
        return None;
    }
    // Ten tries are what the SDM advises (volume 1, 7.3.17.1).
    (0..10).find_map(|_| {
        let (number, good): (u64, u8);
        // SAFETY: the CPU has the instruction, which touches two registers and the flags.
        unsafe {
            core::arch::asm!("rdrand {}", "setc {}", out(reg) number, out(reg_byte) good, options(nomem, nostack))
        };
        (good != 0).then_some(number)
    })
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_leave(how: Leave) -> ! {
    leave::leave(how)
}

#[unsafe(no_mangle)]
extern "Rust" fn delias_platform_fault_address() -> u64 {
    Cr2::read_raw()
}

#[unsafe(no_mangle)]
unsafe extern "Rust" fn delias_platform_install_idt(table: *const [u128; 256]) {
    let pointer = DescriptorTablePointer {
        limit: (size_of::<[u128; 256]>() - 1) as u16,
        base: VirtAddr::new_truncate(table.addr() as u64),
    };
    // SAFETY: the caller says that the table is good and stays.
    unsafe { lidt(&pointer) };
}

#[unsafe(no_mangle)]
unsafe extern "Rust" fn delias_platform_port_read(port: u16) -> u8 {
    // SAFETY: the caller owns the device.
    unsafe { Port::new(port).read() }
}

#[unsafe(no_mangle)]
unsafe extern "Rust" fn delias_platform_port_write(port: u16, value: u8) {
    // SAFETY: the caller owns the device.
    unsafe { Port::new(port).write(value) }
}

#[unsafe(no_mangle)]
unsafe extern "Rust" fn delias_platform_port_read_u32(port: u16) -> u32 {
    // SAFETY: the caller owns the device.
    unsafe { Port::new(port).read() }
}

#[unsafe(no_mangle)]
unsafe extern "Rust" fn delias_platform_port_write_u32(port: u16, value: u32) {
    // SAFETY: the caller owns the device.
    unsafe { Port::new(port).write(value) }
}
