//! Services: what `cfg/boot.toml` lists is bound at boot, and comes and goes with updates.
//!
//! A service is two symbols of its implementation cell:
//! ```text
//! delias_service_NAME(parameters: &str) -> Result<(), String>     publishes its state, binds its slots, starts its tasks
//! delias_revoke_NAME()                  -> Result<(), String>     undoes that, or says why not and leaves it as it was
//! ```
//! 1. One without the second symbol is there until the machine is off.
//! 2. Neither runs under the lock of the world: they may look at cells themselves. Once tasks run, each is called in a task of its
//!    own, and is waited for no longer than ten seconds.
//! 3. The list lies in the world of cells, for it is part of what runs, and of its id.
#![no_std]
#![allow(unsafe_code, reason = "calls services by the addresses of their symbols")]

extern crate alloc;

mod apart;
mod policies;

pub use apart::apart;
pub use policies::{Policy, deciding, first, policies, use_now, use_policy};

use alloc::string::{String, ToString};
use loader::{World, with_world};
use manifest::Service;
use unwind::Caught;

type Bind = extern "Rust" fn(parameters: &str) -> Result<(), String>;
type Revoke = extern "Rust" fn() -> Result<(), String>;

/// Binds a service and notes in the list how that ended. What one that fails has left half done is undone, as far as it can do that.
///
/// # Errors
/// What the implementation says, or that there is none.
pub fn bind(service: &Service) -> Result<(), String> {
    let done = caught(|| call(service));
    if done.is_err() {
        // How that ends changes nothing about the failure.
        let _ = undo(service);
    }
    note(service, done.as_ref().err());
    done.inspect(|()| log::info!("service {} is bound", service.name))
}

/// Binds a service in a task of its own, so that one that hangs is not waited for; see [`bind`].
///
/// # Errors
/// As [`bind`], and after ten seconds.
pub fn bind_apart(service: &Service) -> Result<(), String> {
    let work = service.clone();
    let done = apart(&service.name, move || bind(&work));
    note(service, done.as_ref().err());
    done.inspect_err(|why| log::warn!("service {} cannot be started: {why}", service.name))
}

/// Binds a service again whose end has failed, nobody knows where. If that fails too, it is taken to be there still: what is
/// left of it is in the way.
///
/// # Errors
/// Why it is not bound again.
pub fn restore(service: &Service) -> Result<(), String> {
    let work = service.clone();
    let done = apart(&service.name, move || call(&work));
    note(service, None);
    done
}

/// Ends a service, in a task of its own, and notes that in the list. Of one that was left out, what may be there goes.
///
/// # Errors
/// What the implementation says, or that it cannot be ended; it is still bound then, unless nobody knows.
pub fn revoke(service: &Service) -> Result<(), String> {
    let is_bound = with_world(|world| is_bound(world, service)).map_err(|error| error.to_string())?;
    let work = service.clone();
    let done = apart(&service.name, move || Ok(undo(&work)));
    match done {
        Ok(done) if is_bound => done?,
        // It had left nothing, or what it had left is gone.
        Ok(_) => return Ok(()),
        Err(failed) => {
            log::warn!("service {} fails when it is to be ended: {failed}", service.name);
            // Nobody knows how far it came: it counts as ended, so that whoever wanted that restores it.
            note(service, Some(&failed));
            return Err(failed);
        }
    }
    note(service, Some(&"it has been ended".to_string()));
    log::info!("service {} is ended", service.name);
    Ok(())
}

/// Ends what is left of a service that is on no list.
///
/// # Errors
/// What the implementation says: mostly that nothing is left.
pub fn clear(service: &Service) -> Result<(), String> {
    let work = service.clone();
    apart(&service.name, move || undo(&work))
}

/// Calls what binds a service.
fn call(service: &Service) -> Result<(), String> {
    let address = symbol(&service.implementation)?;
    // SAFETY: the symbol's name says that it is a `Bind`; the address is its thunk.
    let bind = unsafe { core::mem::transmute::<usize, Bind>(address) };
    bind(&service.parameters)
}

/// Calls what ends a service.
fn undo(service: &Service) -> Result<(), String> {
    let address = symbol(&service.revocation())?;
    // SAFETY: the symbol's name says that it is a `Revoke`; the address is its thunk.
    let revoke = unsafe { core::mem::transmute::<usize, Revoke>(address) };
    revoke()
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

/// What has failed, and where.
pub(crate) fn told(caught: &Caught) -> String {
    let place = with_world(|world| world.place_of(caught));
    place.map_or_else(|_| caught.to_string(), |place| alloc::format!("{caught} ({place})"))
}

/// A service that panics or faults has failed, and no more than that.
fn caught(call: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    unwind::catch(call).unwrap_or_else(|caught| Err(told(&caught)))
}
