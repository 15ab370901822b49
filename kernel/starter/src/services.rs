//! Binding the services of `cfg/boot.toml`, in their order.

use crate::Error;
use alloc::vec::Vec;
use loader::with_world;
use manifest::Service;

/// Binds every service. One that fails is told and left out; if the last, by which people use the system, fails, so does
/// the boot.
pub(crate) fn bind_all() -> Result<(), Error> {
    let list: Vec<Service> = with_world(|world| world.services.iter().map(|listed| listed.service.clone()).collect())?;
    for (index, service) in list.iter().enumerate() {
        match services::bind(service) {
            Ok(()) => {}
            Err(why) if index + 1 == list.len() => return Err(Error::Service { name: service.name.clone(), why }),
            Err(why) => log::error!("service {} is left out: {why}", service.name),
        }
    }
    Ok(())
}
