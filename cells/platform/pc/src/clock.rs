//! How fast the time-stamp counter and the APIC's timer run: what the hypervisor says if it says it, otherwise measured
//! against the 8254's channel 2, which nothing else uses. The two counters are read together with the 8254's count, the
//! best of a few readings at either end, so that neither slow ports nor a pause of an emulated machine spoil the result.
//! Sources: Intel 8254 data sheet; SDM volume 3, 19.7.3; the common hypervisor leaf 0x4000_0010.

use crate::apic::{Apic, DIVISOR};
use crate::serial;
use platform::Clock;
use raw_cpuid::CpuId;
use x86_64::instructions::port::Port;

/// Counts of the 8254 in a second.
const PIT_PER_S: u64 = 1_193_182;
/// Counts to measure over, about 3 ms.
const PIT_SPAN: u16 = 3600;
/// Readings after which the 8254 is taken for absent.
const PATIENCE: u32 = 1_000_000;
/// Readings of which the quickest counts.
const READINGS: usize = 4;

const GATE: u16 = 0x61;
const CHANNEL_2: u16 = 0x42;
const CONTROL: u16 = 0x43;

/// The time-stamp counter.
pub fn ticks() -> u64 {
    // SAFETY: every x86-64 CPU has the instruction, and nothing here forbids it.
    unsafe { core::arch::x86_64::_rdtsc() }
}

struct Sample {
    pit: u16,
    ticks: u64,
    timer: u32,
    doubt: u64,
}

/// The two rates.
pub fn measure(apic: &Apic) -> Clock {
    let cpuid = CpuId::new();
    if let Some(said) = said_by_hypervisor(&cpuid) {
        return said;
    }
    start_pit();
    apic.count_silently(u32::MAX);
    let first = best(apic);
    let counting = (0..PATIENCE).any(|_| first.pit.wrapping_sub(read_pit()) >= PIT_SPAN);
    let last = best(apic);
    apic.timer(0);
    let pit = u64::from(first.pit.wrapping_sub(last.pit));
    if !counting || pit == 0 {
        serial::write(b"platform: the 8254 timer does not count; clocks are taken to run at 1 GHz\n");
        return Clock { ticks_per_s: 1_000_000_000, timer_per_s: 1_000_000_000 / DIVISOR };
    }
    let measured = (last.ticks - first.ticks) * PIT_PER_S / pit;
    let timer = u64::from(first.timer - last.timer) * PIT_PER_S / pit;
    Clock { ticks_per_s: exact(&cpuid, measured), timer_per_s: timer.max(1) }
}

fn said_by_hypervisor(cpuid: &CpuId<raw_cpuid::CpuIdReaderNative>) -> Option<Clock> {
    let hypervisor = cpuid.get_hypervisor_info()?;
    let ticks = u64::from(hypervisor.tsc_frequency().filter(|khz| *khz != 0)?) * 1000;
    let timer = u64::from(hypervisor.apic_frequency().filter(|khz| *khz != 0)?) * 1000 / DIVISOR;
    Some(Clock { ticks_per_s: ticks, timer_per_s: timer })
}

/// The CPU's own word for its time-stamp counter's rate, if it is within 1 % of what was measured.
fn exact(cpuid: &CpuId<raw_cpuid::CpuIdReaderNative>, measured: u64) -> u64 {
    let said = cpuid.get_tsc_info().and_then(|tsc| tsc.tsc_frequency());
    said.filter(|said| said.abs_diff(measured) < measured / 100).unwrap_or(measured)
}

fn best(apic: &Apic) -> Sample {
    let mut best = sample(apic);
    for _ in 1..READINGS {
        let next = sample(apic);
        if next.doubt < best.doubt {
            best = next;
        }
    }
    best
}

fn sample(apic: &Apic) -> Sample {
    let before = ticks();
    latch();
    let timer = apic.left();
    let after = ticks();
    Sample { pit: latched(), ticks: before + (after - before) / 2, timer, doubt: after - before }
}

fn start_pit() {
    // SAFETY: channel 2 of the 8254 and its gate, which this module owns; the speaker stays off.
    unsafe {
        let mut gate = Port::<u8>::new(GATE);
        let value = gate.read();
        gate.write((value & !0b10) | 0b01);
        Port::<u8>::new(CONTROL).write(0b1011_0000); // channel 2, both bytes, count down once
        Port::<u8>::new(CHANNEL_2).write(0xff);
        Port::<u8>::new(CHANNEL_2).write(0xff);
    }
}

fn latch() {
    // SAFETY: as in `start_pit`.
    unsafe { Port::<u8>::new(CONTROL).write(0b1000_0000) }
}

fn latched() -> u16 {
    // SAFETY: as in `start_pit`.
    unsafe {
        let mut port = Port::<u8>::new(CHANNEL_2);
        let low = port.read();
        u16::from_le_bytes([low, port.read()])
    }
}

fn read_pit() -> u16 {
    latch();
    latched()
}
