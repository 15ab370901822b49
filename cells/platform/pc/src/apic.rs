//! The local APIC: its timer, in one-shot mode, and the way in for the 8259s. Source: Intel SDM volume 3, chapter 12.

use platform::vector;
use x86_64::registers::model_specific::Msr;

const BASE_MSR: u32 = 0x1b;
const BASE_ENABLE: u64 = 1 << 11;

const TASK_PRIORITY: u64 = 0x80;
const END_OF_INTERRUPT: u64 = 0xb0;
const SPURIOUS: u64 = 0xf0;
const LOCAL_TIMER: u64 = 0x320;
const LOCAL_PERFORMANCE: u64 = 0x340;
const LOCAL_PIN_0: u64 = 0x350;
const LOCAL_PIN_1: u64 = 0x360;
const LOCAL_ERROR: u64 = 0x370;
const INITIAL_COUNT: u64 = 0x380;
const CURRENT_COUNT: u64 = 0x390;
const DIVIDE: u64 = 0x3e0;

const ENABLED: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const EXTERNAL: u32 = 0x700;
const NON_MASKABLE: u32 = 0x400;
const DIVIDE_BY_16: u32 = 0b0011;

/// By what the timer's input is divided.
pub const DIVISOR: u64 = 16;

/// The local interrupt controller of the CPU that runs.
pub struct Apic {
    base: u64,
}

impl Apic {
    /// The controller whose registers are mapped at `base`.
    pub fn at(base: u64) -> Apic {
        Apic { base }
    }

    fn read(&self, register: u64) -> u32 {
        // SAFETY: the registers are mapped at `base` for ever, uncached, and this cell owns them.
        unsafe { ((self.base + register) as *const u32).read_volatile() }
    }

    fn write(&self, register: u64, value: u32) {
        // SAFETY: as in `read`.
        unsafe { ((self.base + register) as *mut u32).write_volatile(value) }
    }

    /// Turns it on: legacy interrupts come in at pin 0, the timer is ready and stopped.
    pub fn start(&self) {
        let mut base = Msr::new(BASE_MSR);
        // SAFETY: only the enable bit changes; every x86-64 CPU has this register.
        unsafe {
            let value = base.read();
            base.write(value | BASE_ENABLE);
        }
        self.write(TASK_PRIORITY, 0);
        self.write(LOCAL_PERFORMANCE, MASKED);
        self.write(LOCAL_ERROR, MASKED);
        self.write(LOCAL_PIN_0, EXTERNAL);
        self.write(LOCAL_PIN_1, NON_MASKABLE);
        self.write(INITIAL_COUNT, 0);
        self.write(DIVIDE, DIVIDE_BY_16);
        self.write(LOCAL_TIMER, MASKED | u32::from(vector::TIMER));
        self.write(SPURIOUS, ENABLED | u32::from(vector::SPURIOUS));
    }

    /// Lets the timer count down once without raising anything.
    pub fn count_silently(&self, counts: u32) {
        self.write(LOCAL_TIMER, MASKED | u32::from(vector::TIMER));
        self.write(INITIAL_COUNT, counts);
    }

    /// What the timer still has to count.
    pub fn left(&self) -> u32 {
        self.read(CURRENT_COUNT)
    }

    /// Raises the timer's vector after `counts`; 0 stops it.
    pub fn timer(&self, counts: u32) {
        self.write(LOCAL_TIMER, u32::from(vector::TIMER));
        self.write(INITIAL_COUNT, counts);
    }

    /// Ends the service of what the controller delivered last.
    pub fn end_of_interrupt(&self) {
        self.write(END_OF_INTERRUPT, 0);
    }
}
