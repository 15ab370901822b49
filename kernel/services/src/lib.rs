//! Services: what `cfg/boot.toml` lists is bound at boot, and comes and goes with updates.
//!
//! A service is two symbols of its implementation cell:
//! ```text
//! delias_service_NAME(parameters: &str) -> Result<(), String>     publishes its state, binds its slots, starts its tasks
//! delias_revoke_NAME()                  -> Result<(), String>     undoes that, or says why not and leaves it as it was
//! ```
//! 1. One without the second symbol is there until the machine is off.
//! 2. Both run in the task that asks, and never under the lock of the world: they may look at cells themselves.
//! 3. The list lies in the world of cells, for it is part of what runs, and of its id.
#![no_std]
#![allow(unsafe_code, reason = "calls services by the addresses of their symbols")]

extern crate alloc;

use alloc::string::{String, ToString};
use loader::{World, with_world};
use manifest::Service;

type Bind = extern "Rust" fn(parameters: &str) -> Result<(), String>;
type Revoke = extern "Rust" fn() -> Result<(), String>;

/// Binds a service and notes in the list how that ended.
///
/// # Errors
/// What the implementation says, or that there is none.
pub fn bind(service: &Service) -> Result<(), String> {
    let done = symbol(&service.implementation).and_then(|address| {
        // SAFETY: the symbol's name says that it is a `Bind`; the address is its thunk.
        let bind = unsafe { core::mem::transmute::<usize, Bind>(address) };
        caught(|| bind(&service.parameters))
    });
    note(service, done.as_ref().err());
    done.inspect(|()| log::info!("service {} is bound", service.name))
}

/// Ends a service and notes that in the list; one that was left out is ended already.
///
/// # Errors
/// What the implementation says, or that it cannot be ended; it is still bound then.
pub fn revoke(service: &Service) -> Result<(), String> {
    if !with_world(|world| is_bound(world, service)).map_err(|error| error.to_string())? {
        return Ok(());
    }
    let address = symbol(&service.revocation())?;
    // SAFETY: the symbol's name says that it is a `Revoke`; the address is its thunk.
    let revoke = unsafe { core::mem::transmute::<usize, Revoke>(address) };
    unwind::catch(revoke).unwrap_or_else(|failed| {
        // Nobody knows how far it came: it counts as ended, so that whoever wanted that binds it again.
        note(service, Some(&failed.to_string()));
        Err(failed.to_string())
    })?;
    note(service, Some(&"it has been ended".to_string()));
    log::info!("service {} is ended", service.name);
    Ok(())
}

fn is_bound(world: &World, service: &Service) -> bool {
    world.services.iter().any(|listed| listed.service == *service && listed.left_out.is_none())
}

fn note(service: &Service, left_out: Option<&String>) {
    // Nobody but the boot and an update changes the list; without the world there is nobody to read it.
    let _ = with_world(|world| {
        if let Some(listed) = world.services.iter_mut().find(|listed| listed.service == *service) {
            listed.left_out = left_out.cloned();
        }
    });
}

fn symbol(name: &str) -> Result<usize, String> {
    loader::symbol(name).map_err(|error| error.to_string())
}

/// A service that panics or faults has failed, and no more than that.
fn caught(call: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    unwind::catch(call).unwrap_or_else(|caught| Err(caught.to_string()))
}
