//! The ways out, the surest first; each next one is for machines that lack the one before.

use platform::Leave;
use x86_64::VirtAddr;
use x86_64::instructions::port::Port;
use x86_64::instructions::tables::lidt;
use x86_64::instructions::{hlt, interrupts};
use x86_64::structures::DescriptorTablePointer;

/// QEMU's `isa-debug-exit`: the process ends with status `2 * value + 1`.
const DEBUG_EXIT: u16 = 0xf4;
/// ACPI's PM1a control register where QEMU puts it: `pc` and `q35`, then older ones. The value is S5 with its enable bit.
const SLEEP: [u16; 2] = [0x604, 0xb004];
const SLEEP_S5: u16 = 0x2000;
/// The chipset's reset control register: full reset.
const RESET_CONTROL: u16 = 0xcf9;
const FULL_RESET: u8 = 0x06;
/// The keyboard controller's pulse on the reset line.
const KEYBOARD: u16 = 0x64;
const PULSE_RESET: u8 = 0xfe;

/// Leaves the machine, or halts it for ever.
pub fn leave(how: Leave) -> ! {
    interrupts::disable();
    match how {
        Leave::PowerOff { status } => power_off(status),
        Leave::Reboot => reboot(),
    }
    loop {
        hlt();
    }
}

fn power_off(status: u8) {
    // SAFETY: nothing runs after this, so no driver is disturbed; a port without a device ignores the write.
    unsafe {
        Port::<u32>::new(DEBUG_EXIT).write(u32::from(status));
        for port in SLEEP {
            Port::<u16>::new(port).write(SLEEP_S5);
        }
    }
}

fn reboot() {
    let nothing = DescriptorTablePointer { limit: 0, base: VirtAddr::zero() };
    // SAFETY: as in `power_off`. The last way is an exception without a table to take it, which resets the CPU.
    unsafe {
        Port::<u8>::new(RESET_CONTROL).write(FULL_RESET);
        Port::<u8>::new(KEYBOARD).write(PULSE_RESET);
        lidt(&nothing);
        core::arch::asm!("ud2", options(noreturn));
    }
}
