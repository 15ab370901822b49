//! What an update does to services: those that go are ended before it, those that come are bound after it.

use crate::error::Error;
use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use linker::Graph;
use loader::{Listed, World, with_world};
use manifest::Service;

/// A change of the list of services. One whose implementation or parameters change goes and comes.
pub(crate) struct Turn {
    /// In the order in which they were bound.
    pub go: Vec<Service>,
    /// In the order in which they are to be bound.
    pub come: Vec<Service>,
    /// The list afterwards.
    next: Vec<Listed>,
    /// The list before.
    before: Vec<Service>,
    /// Something was ended, and nothing has come of the change yet.
    open: bool,
    /// What was to end and has failed in it.
    doubt: Option<Service>,
}

impl Turn {
    /// The change from what runs to `target`.
    pub fn new(world: &World, target: &[Service]) -> Turn {
        let before: Vec<Service> = world.services.iter().map(|listed| listed.service.clone()).collect();
        let go = before.iter().filter(|service| !target.contains(service)).cloned().collect();
        let come: Vec<Service> = target.iter().filter(|service| !before.contains(service)).cloned().collect();
        let next = target.iter().map(|service| {
            let running = world.services.iter().find(|listed| listed.service == *service);
            let to_be_bound = || Listed { service: service.clone(), left_out: Some("it is not bound yet".to_string()) };
            running.cloned().unwrap_or_else(to_be_bound)
        });
        Turn { next: next.collect(), go, come, before, open: false, doubt: None }
    }

    /// Ends what goes, the last first. If nothing comes of the change, what was ended is bound again when this is dropped.
    ///
    /// # Errors
    /// [`Error::Stays`].
    pub fn end(&mut self) -> Result<(), Error> {
        self.open = true;
        for service in self.go.iter().rev() {
            if let Err(why) = services::revoke(service) {
                self.doubt = Some(service.clone());
                return Err(Error::Stays { name: service.name.clone(), why });
            }
        }
        Ok(())
    }

    /// Binds again what was ended and is still on the list: nothing has come of the update.
    fn resume(&self) {
        for service in &self.go {
            let ended = with_world(|world| {
                world.services.iter().any(|listed| listed.service == *service && listed.left_out.is_some())
            });
            if !matches!(ended, Ok(true)) {
                continue;
            }
            if self.doubt.as_ref() == Some(service) {
                if let Err(why) = services::restore(service) {
                    log::warn!("service {} is taken to be there still: it does not start anew ({why})", service.name);
                }
            } else if let Err(why) = services::bind_apart(service) {
                log::error!("service {} is left out: {why}", service.name);
            }
        }
    }

    /// Whether a service goes.
    pub fn ends_something(&self) -> bool {
        !self.go.is_empty()
    }

    /// The services afterwards.
    pub fn target(&self) -> impl Iterator<Item = &Service> {
        self.next.iter().map(|listed| &listed.service)
    }

    /// Puts the list in place; the one before. It needs no memory.
    pub fn list(&mut self, world: &mut World) -> Vec<Service> {
        self.open = false;
        core::mem::swap(&mut world.services, &mut self.next);
        core::mem::take(&mut self.before)
    }

    /// Binds what comes.
    ///
    /// # Errors
    /// [`Error::NotBound`]; those before it are bound.
    pub fn begin(&self) -> Result<(), Error> {
        self.come.iter().try_for_each(|service| {
            services::bind_apart(service).map_err(|why| Error::NotBound { name: service.name.clone(), why })
        })
    }

    /// Binds what comes; one that fails is told and left out.
    pub fn begin_what_can(&self) {
        for service in &self.come {
            if let Err(why) = services::bind_apart(service) {
                log::error!("service {} is left out: {why}", service.name);
            }
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if self.open {
            self.resume();
        }
    }
}

/// Whether `graph` has the implementation of each service.
///
/// # Errors
/// [`Error::NoImplementation`].
pub(crate) fn check<'s>(graph: &Graph<'static>, services: impl IntoIterator<Item = &'s Service>) -> Result<(), Error> {
    match services.into_iter().find(|service| graph.definer(&service.implementation).is_none()) {
        Some(service) => {
            Err(Error::NoImplementation { name: service.name.clone(), symbol: String::from(&*service.implementation) })
        }
        None => Ok(()),
    }
}
