//! Binding the services of `cfg/boot.toml`, in their order.

use crate::Error;
use alloc::string::{String, ToString};

/// What an implementation exports: it publishes its state and binds its slots, or says why not.
type Bind = extern "Rust" fn(parameters: &str) -> Result<(), String>;

/// Binds every service. One that fails is told and left out; if the last, by which people use the system, fails, so does
/// the boot.
pub(crate) fn bind_all() -> Result<(), Error> {
    let services = loader::with_world(|world| world.archive.manifest)?.services.as_slice();
    for (index, service) in services.iter().enumerate() {
        let outcome = match loader::symbol(&service.implementation) {
            Ok(address) => {
                // SAFETY: the symbol's name says that it is a `Bind`; the address is its thunk.
                let bind = unsafe { core::mem::transmute::<usize, Bind>(address) };
                bind(&service.parameters)
            }
            Err(error) => Err(error.to_string()),
        };
        match outcome {
            Ok(()) => log::info!("service {} is bound", service.name),
            Err(why) if index + 1 == services.len() => return Err(Error::Service { name: service.name.clone(), why }),
            Err(why) => log::error!("service {} is left out: {why}", service.name),
        }
    }
    Ok(())
}
