//! What happens, in order.

use crate::arena::Arena;
use crate::error::Error;
use crate::info::BootInfo;
use crate::leave::{self, Outcome};
use crate::link::{self, Archive};
use crate::tables::Tables;
use crate::{memory, serial};
use core::arch::{global_asm, x86_64::_rdtsc};
use core::convert::Infallible;

global_asm!(include_str!("boot.s"));

/// Where `boot.s` goes on: in long mode, the first 4 GiB mapped one to one, interrupts off. `protocol` says by which
/// entry, `information` is the address the boot loader passed, `tsc` the time-stamp counter at the first instruction.
#[unsafe(no_mangle)]
extern "sysv64" fn nano_main(protocol: u32, information: u32, tsc: u64) -> ! {
    match boot(protocol, information, tsc) {
        Err(error) => serial::fail(format_args!("{error}")),
    }
}

fn boot(protocol: u32, information: u32, tsc_first: u64) -> Result<Infallible, Error> {
    let info = BootInfo::read(protocol, information)?;
    let archive = memory::start(&info.memory, info.archive)?;
    let cells = Archive::open(archive)?;

    let mut tables = Tables::new(&info.memory, archive)?;
    let mut arena = Arena::new(&mut tables)?;
    let tsc_before = now();
    let linked = link::link(&cells, &mut arena)?;
    let tsc_link = [tsc_before, now()];
    let (code, code_frames) = (arena.blocks(), arena.frames());

    leave::leave(tables, &Outcome { info, archive, linked, code, code_frames, tsc_first, tsc_link })
}

/// The time-stamp counter.
fn now() -> u64 {
    // SAFETY: reads a register that every CPU with long mode has.
    unsafe { _rdtsc() }
}

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    match info.location() {
        Some(place) => serial::fail(format_args!("{} ({}:{})", info.message(), place.file(), place.line())),
        None => serial::fail(format_args!("{}", info.message())),
    }
}

/// Named by unwind tables, which the linker script leaves out.
#[lang = "eh_personality"]
extern "C" fn rust_eh_personality() {}

/// Called by landing pads, which are reached only by unwinding.
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    serial::fail(format_args!("unwinding was begun, which is never"))
}
