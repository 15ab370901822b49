//! Finding a device on the PCI bus.

use crate::Memory;
use pci::Function;
use virtio_drivers::transport::{
    DeviceType, Transport,
    pci::{
        PciTransport, VirtioPciError,
        bus::{BarInfo, Command, ConfigurationAccess, DeviceFunction, PciRoot},
    },
};

/// The vendor of virtio devices (Virtio 1.2, 4.1.2).
const VENDOR: u16 = 0x1af4;
/// Device ids of the versions since 1.0 begin here; below it lie those that also speak the older version.
const MODERN: u16 = 0x1040;
const TRANSITIONAL: core::ops::Range<u16> = 0x1000..0x1040;

/// Why there is no device.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The bus has none.
    #[error("there is no virtio {0:?} device on the PCI bus")]
    Absent(DeviceType),
    /// Its registers cannot be mapped.
    #[error("registers of the virtio device at {start:#x}: {why}")]
    Registers {
        /// Physical address.
        start: u64,
        /// Why.
        why: paging::Error,
    },
    /// It is not as the standard wants it.
    #[error("the virtio device is refused: {0}")]
    Device(#[from] VirtioPciError),
}

/// A device that was found, not yet started.
#[derive(Debug)]
pub struct Found {
    /// Its registers.
    pub transport: PciTransport,
    /// The vector of its interrupt, if it has one.
    pub vector: Option<u8>,
}

/// Configuration space, as `virtio-drivers` asks for it.
struct Configuration;

fn function(at: DeviceFunction) -> Function {
    Function { bus: at.bus, device: at.device, function: at.function }
}

impl ConfigurationAccess for Configuration {
    fn read_word(&self, at: DeviceFunction, offset: u8) -> u32 {
        function(at).read(offset)
    }

    fn write_word(&mut self, at: DeviceFunction, offset: u8, value: u32) {
        function(at).write(offset, value);
    }

    unsafe fn unsafe_clone(&self) -> Self {
        Configuration
    }
}

/// The first device of a type that is not in use.
///
/// # Errors
/// [`Error`].
pub fn probe(wanted: DeviceType) -> Result<Found, Error> {
    let mut refused = None;
    let mut taken = None;
    pci::find(|found, identity| {
        if identity.vendor != VENDOR || !(TRANSITIONAL.contains(&identity.device) || identity.device >= MODERN) {
            return false;
        }
        match open(found) {
            Ok(transport) if transport.device_type() == wanted && transport.get_status().is_empty() => {
                taken = Some(Found { transport, vector: found.vector() });
            }
            // Dropping it would reset a device that somebody uses.
            Ok(other) => core::mem::forget(other),
            Err(error) => refused = Some(error),
        }
        taken.is_some()
    });
    taken.ok_or_else(|| refused.unwrap_or(Error::Absent(wanted)))
}

/// Maps a function's registers and lets it reach memory.
fn open(found: Function) -> Result<PciTransport, Error> {
    let at = DeviceFunction { bus: found.bus, device: found.device, function: found.function };
    let mut root = PciRoot::new(Configuration);
    for bar in root.bars(at).map_err(VirtioPciError::from)?.into_iter().flatten() {
        if let BarInfo::Memory { address, size, .. } = bar
            && address != 0
        {
            paging::device(address, size).map_err(|why| Error::Registers { start: address, why })?;
        }
    }
    let (_, command) = root.get_status_command(at);
    root.set_command(at, command | Command::MEMORY_SPACE | Command::BUS_MASTER);
    Ok(PciTransport::new::<Memory, _>(&mut root, at)?)
}
