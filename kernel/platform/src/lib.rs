//! The interface to the machine. Everything that touches it goes through here: interrupt flag, halt, page-table
//! install, timer, ports, console of last resort, reset.
//!
//! 1. Which implementation answers is decided when the image is linked: a call is one direct branch, no table.
//! 2. Nothing here allocates, waits or takes a lock.
//! 3. Addresses are physical or virtual as their names say; times are ticks of [`ticks`], whose rate [`Clock`] gives.
//!
//! Implementations: `cells/platform/pc`.
#![no_std]
#![allow(
    unsafe_code,
    reason = "names functions that another cell defines, and reads the CPU's private area through GS"
)]

use core::sync::atomic::{AtomicU32, Ordering};
use handoff::{PerCpuHead, Roots};

/// Rates measured at start-up.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct Clock {
    /// Ticks of [`ticks`] in a second.
    pub ticks_per_s: u64,
    /// Counts of the one-shot timer in a second.
    pub timer_per_s: u64,
}

/// How the machine is left.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leave {
    /// Power off; `status` is what a run without a screen gives back to its host.
    PowerOff {
        /// 0 to 127.
        status: u8,
    },
    /// Start again from the firmware.
    Reboot,
}

/// The vectors that the platform raises by itself.
pub mod vector {
    /// First vector of external interrupts: that of line 0 of the legacy controllers.
    pub const EXTERNAL: u8 = 32;
    /// Lines of the legacy controllers.
    pub const LINES: u8 = 16;
    /// The legacy UART's interrupt.
    pub const UART: u8 = 36;
    /// The one-shot timer.
    pub const TIMER: u8 = 64;
    /// The interrupt that wakes or stops another CPU.
    pub const IPI: u8 = 240;
    /// The interrupt that means nothing.
    pub const SPURIOUS: u8 = 255;
}

unsafe extern "Rust" {
    safe fn delias_platform_start(device_memory: u64) -> Clock;
    safe fn delias_platform_irq_save() -> usize;
    safe fn delias_platform_irq_restore(flags: usize);
    safe fn delias_platform_halt();
    safe fn delias_platform_root_table() -> u64;
    safe fn delias_platform_flush(address: u64);
    safe fn delias_platform_flush_all();
    safe fn delias_platform_ticks() -> u64;
    safe fn delias_platform_timer(counts: u32);
    safe fn delias_platform_end_of_interrupt(vector: u8);
    safe fn delias_platform_mask(vector: u8);
    safe fn delias_platform_unmask(vector: u8);
    safe fn delias_platform_debug_write(text: &[u8]);
    safe fn delias_platform_random() -> Option<u64>;
    safe fn delias_platform_leave(how: Leave) -> !;
    safe fn delias_platform_fault_address() -> u64;
    unsafe fn delias_platform_install_idt(table: *const [u128; 256]);
    unsafe fn delias_platform_port_read(port: u16) -> u8;
    unsafe fn delias_platform_port_write(port: u16, value: u8);
    unsafe fn delias_platform_port_read_u32(port: u16) -> u32;
    unsafe fn delias_platform_port_write_u32(port: u16, value: u32);
}

/// Starts the machine: segments, interrupt controllers (all masked), timer, and measures the clocks. Called once per
/// boot, by the starter, with interrupts off. `device_memory` is where the local interrupt controller's page is mapped.
pub fn start(device_memory: u64) -> Clock {
    delias_platform_start(device_memory)
}

/// The state of the interrupt flag, to be given to [`irq_restore`].
#[derive(Debug)]
#[must_use]
pub struct IrqState(usize);

impl IrqState {
    /// Whether interrupts were on.
    pub fn were_on(&self) -> bool {
        self.0 & 0x200 != 0
    }
}

/// Turns interrupts off on this CPU and says how they stood.
#[inline]
pub fn irq_save() -> IrqState {
    IrqState(delias_platform_irq_save())
}

/// Puts the interrupt flag back as it was.
#[inline]
pub fn irq_restore(state: IrqState) {
    delias_platform_irq_restore(state.0);
}

/// Turns interrupts on and stops the CPU until one comes.
pub fn halt() {
    delias_platform_halt();
}

/// Physical address of the top page table.
pub fn root_table() -> u64 {
    delias_platform_root_table()
}

/// Forgets one page's cached translation on this CPU.
pub fn flush(address: u64) {
    delias_platform_flush(address);
}

/// Forgets all cached translations on this CPU.
pub fn flush_all() {
    delias_platform_flush_all();
}

/// The time-stamp counter.
#[inline]
pub fn ticks() -> u64 {
    delias_platform_ticks()
}

/// Lets the one-shot timer raise [`vector::TIMER`] after `counts` of its counts; 0 stops it.
pub fn timer(counts: u32) {
    delias_platform_timer(counts);
}

/// Tells the interrupt controller that `vector` has been served.
pub fn end_of_interrupt(vector: u8) {
    delias_platform_end_of_interrupt(vector);
}

/// Keeps the external interrupt `vector` back.
pub fn mask(vector: u8) {
    delias_platform_mask(vector);
}

/// Lets the external interrupt `vector` through.
pub fn unmask(vector: u8) {
    delias_platform_unmask(vector);
}

/// Writes to the console of last resort, waiting for the device. For panics of the system itself.
pub fn debug_write(text: &[u8]) {
    delias_platform_debug_write(text);
}

/// A number from the machine's random source, where it has one.
pub fn random() -> Option<u64> {
    delias_platform_random()
}

/// Leaves the machine.
pub fn leave(how: Leave) -> ! {
    delias_platform_leave(how)
}

/// The address whose access raised the last page fault on this CPU (CR2; Intel SDM volume 3, 6.15).
pub fn fault_address() -> u64 {
    delias_platform_fault_address()
}

/// Installs an interrupt descriptor table on this CPU.
///
/// # Safety
/// `table` must stay mapped and valid for as long as it is installed.
pub unsafe fn install_idt(table: *const [u128; 256]) {
    // SAFETY: passed on to the caller.
    unsafe { delias_platform_install_idt(table) }
}

/// Reads an I/O port.
///
/// # Safety
/// The port must belong to a device that the caller owns.
pub unsafe fn port_read(port: u16) -> u8 {
    // SAFETY: passed on to the caller.
    unsafe { delias_platform_port_read(port) }
}

/// Writes an I/O port.
///
/// # Safety
/// The port must belong to a device that the caller owns.
pub unsafe fn port_write(port: u16, value: u8) {
    // SAFETY: passed on to the caller.
    unsafe { delias_platform_port_write(port, value) }
}

/// Reads four bytes from an I/O port.
///
/// # Safety
/// As [`port_read`].
pub unsafe fn port_read_u32(port: u16) -> u32 {
    // SAFETY: passed on to the caller.
    unsafe { delias_platform_port_read_u32(port) }
}

/// Writes four bytes to an I/O port.
///
/// # Safety
/// As [`port_write`].
pub unsafe fn port_write_u32(port: u16, value: u32) {
    // SAFETY: passed on to the caller.
    unsafe { delias_platform_port_write_u32(port, value) }
}

/// The head of this CPU's private area. The reference is good for as long as the caller stays on this CPU.
#[inline]
pub fn cpu() -> &'static PerCpuHead {
    let head: *const PerCpuHead;
    // SAFETY: the GS base is set before any cell runs and points to the area, whose first word is its own address.
    unsafe {
        core::arch::asm!("mov {}, gs:[0]", out(reg) head, options(nostack, preserves_flags, readonly));
        &*head
    }
}

/// The roots.
#[inline]
pub fn roots() -> &'static Roots {
    let roots: *const Roots;
    // SAFETY: as in `cpu`; the roots are mapped for ever.
    unsafe {
        core::arch::asm!("mov {}, gs:[8]", out(reg) roots, options(nostack, preserves_flags, readonly));
        &*roots
    }
}

/// Defers preemption of the running task until [`preempt_on`].
#[inline]
pub fn preempt_off() {
    // SAFETY: a word of this CPU's own area (offset 20), changed in one instruction, so it cannot move between CPUs.
    unsafe { core::arch::asm!("inc dword ptr gs:[20]", options(nostack)) }
}

/// Takes one [`preempt_off`] back; true if the CPU was asked for meanwhile and may now be given up.
#[inline]
pub fn preempt_on() -> bool {
    // SAFETY: as in `preempt_off`.
    unsafe { core::arch::asm!("dec dword ptr gs:[20]", options(nostack)) }
    let head = cpu();
    let depth: &AtomicU32 = &head.preempt_depth;
    depth.load(Ordering::Relaxed) == 0 && head.resched.load(Ordering::Relaxed) != 0
}
