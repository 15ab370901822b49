//! The two 8259 interrupt controllers, at vectors 32 to 47, everything masked until asked for. Their interrupts reach the
//! CPU through the local APIC's first local pin (virtual wire), so no table of the firmware has to be read.
//! Source: Intel 8259A data sheet.

use x86_64::instructions::port::Port;

const COMMAND: [u16; 2] = [0x20, 0xa0];
const DATA: [u16; 2] = [0x21, 0xa1];
const FIRST: u8 = platform::vector::EXTERNAL;
const LINES: u8 = platform::vector::LINES;
/// The first controller's line to which the second is connected.
const CASCADE: u8 = 2;

fn write(port: u16, value: u8) {
    // SAFETY: ports of the interrupt controllers, which this module owns.
    unsafe { Port::new(port).write(value) }
}

fn read(port: u16) -> u8 {
    // SAFETY: as in `write`.
    unsafe { Port::new(port).read() }
}

/// Whether `vector` comes from these controllers.
pub fn is_ours(vector: u8) -> bool {
    (FIRST..FIRST + LINES).contains(&vector)
}

/// Sets both up, all lines masked.
pub fn start() {
    let wiring = [1 << CASCADE, CASCADE];
    for (at, wiring) in wiring.into_iter().enumerate() {
        write(COMMAND[at], 0x11); // edge-triggered, cascaded, four words follow
        write(DATA[at], FIRST + 8 * at as u8);
        write(DATA[at], wiring);
        write(DATA[at], 0x01); // 8086 mode, ordinary end of interrupt
        write(DATA[at], 0xff);
    }
}

/// Keeps a line back.
pub fn mask(vector: u8) {
    let line = vector - FIRST;
    let at = usize::from(line / 8);
    write(DATA[at], read(DATA[at]) | 1 << (line % 8));
}

/// Lets a line through.
pub fn unmask(vector: u8) {
    let line = vector - FIRST;
    let at = usize::from(line / 8);
    write(DATA[at], read(DATA[at]) & !(1 << (line % 8)));
    if at == 1 {
        write(DATA[0], read(DATA[0]) & !(1 << CASCADE));
    }
}

/// Ends the service of a line. The last line of each controller also stands for interrupts that went away again, which
/// its in-service register does not show and which must not be ended.
pub fn end_of_interrupt(vector: u8) {
    let line = vector - FIRST;
    let at = usize::from(line / 8);
    let spurious = line % 8 == 7 && {
        write(COMMAND[at], 0x0b); // the next read is of the in-service register
        read(COMMAND[at]) & 0x80 == 0
    };
    if !spurious {
        write(COMMAND[at], 0x60 | (line % 8)); // end of this line's service
    }
    if at == 1 {
        write(COMMAND[0], 0x60 | CASCADE);
    }
}
