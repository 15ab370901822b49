//! The ACPI root pointer: where the machine's own description begins (ACPI Specification 6.5, 5.2.5).

/// Where the root pointer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rsdp {
    None,
    /// At this physical address.
    At(u64),
    /// The boot loader knows its contents only.
    Copy([u8; 36]),
}

/// Where the BIOS keeps the segment of its extended data area.
const EXTENDED_AREA: u64 = 0x40e;

impl Rsdp {
    /// Looks where a PC BIOS puts it: the first KiB of the extended data area, and 0xe0000 to 0xfffff.
    pub fn search() -> Rsdp {
        let extended = u64::from(read::<u16>(EXTENDED_AREA)) << 4;
        let extended = if (0x8_0000..0xa_0000).contains(&extended) { extended..extended + 1024 } else { 0..0 };
        let places = extended.step_by(16).chain((0xe_0000..0x10_0000).step_by(16));
        places.into_iter().find(|address| is_root_pointer(*address)).map_or(Rsdp::None, Rsdp::At)
    }
}

fn is_root_pointer(address: u64) -> bool {
    // The checksum of the first 20 bytes makes their sum 0.
    read::<[u8; 8]>(address) == *b"RSD PTR "
        && read::<[u8; 20]>(address).iter().fold(0u8, |sum, byte| sum.wrapping_add(*byte)) == 0
}

/// What lies at a physical address below 1 MiB and not in the first page's start.
fn read<T: Copy>(address: u64) -> T {
    // SAFETY: the low megabyte is mapped one to one and is memory, ROM or nothing; integers take any bytes.
    unsafe { (address as *const T).read_unaligned() }
}
