//! What the system changes of itself, without a host: a guest goes, a guest's service starts or ends, a namespace is made or removed.
//!
//! Each is an update like any other: the world has another id afterwards, the list has it, and it can be taken back.

use crate::{
    apply::{Aim, Granted, Wanted, begin, remember, transact},
    data::Way,
    error::Error,
    history::Applied,
    offer::id_with,
    services::Turn,
    store::{Store, owned, take},
    users,
};
use alloc::{string::String, sync::Arc, vec::Vec};
use bundle::{Change, What};
use loader::{World, with_world};
use manifest::{BINDS, Guest, Service};
use namespace::{Namespace, Namespaces};

/// What is to be, besides the cells that stay.
struct Next {
    /// Cells that go.
    goes: Vec<String>,
    services: Vec<Service>,
    namespaces: Namespaces,
    guests: Vec<Guest>,
}

impl Next {
    /// As it is.
    fn of(world: &World) -> Next {
        Next {
            goes: Vec::new(),
            services: world.services.iter().map(|listed| listed.service.clone()).collect(),
            namespaces: world.graph.namespaces().clone(),
            guests: world.guests.clone(),
        }
    }
}

/// Takes a guest's cells out; how many those were. Crates that came along stay for as long as another guest has them.
///
/// # Errors
/// [`Error::NoGuest`]; [`Error::Stands`], for one that stands in for a cell of the image; [`Error::Used`], while a cell, a
/// service, a slot or a value needs it. Nothing has changed then.
pub fn unload(name: &str) -> Result<usize, Error> {
    change(|world, next| {
        let (gone, guests): (Vec<Guest>, Vec<Guest>) =
            next.guests.iter().cloned().partition(|guest| guest.name == name);
        let guest = gone.into_iter().next().ok_or_else(|| Error::NoGuest(owned(name)))?;
        if let Some(cell) = &guest.replaces {
            return Err(Error::Stands { guest: owned(name), cell: cell.name.clone() });
        }
        let kept = |cell: &String| guests.iter().any(|other| other.cells.contains(cell));
        next.goes = guest.cells.iter().filter(|cell| !kept(cell)).cloned().collect();
        let used = users::caller(world, &next.goes, &next.services).or_else(|| users::holder(world, &next.goes, false));
        if let Some(by) = used {
            return Err(Error::Used { guest: owned(name), by });
        }
        for cell in &next.goes {
            next.namespaces.place(cell, None)?;
        }
        next.guests = guests;
        Ok(())
    })
}

/// Starts a guest's service, which has the guest's name.
///
/// # Errors
/// [`Error::NoGuest`], [`Error::NoService`], [`Error::Started`]; [`Error::NotBound`], if it does not start. Nothing has changed then.
pub fn start(name: &str, parameters: &str) -> Result<(), Error> {
    change(|world, next| {
        let guest = next.guests.iter().find(|guest| guest.name == name).ok_or_else(|| Error::NoGuest(owned(name)))?;
        if let Some(cell) = &guest.replaces {
            return Err(Error::Stands { guest: owned(name), cell: cell.name.clone() });
        }
        let service =
            Service { name: owned(name), implementation: [BINDS, name].concat(), parameters: owned(parameters) };
        let definer = world.graph.definer(&service.implementation).map(|id| world.graph.cell(id).name);
        if !definer.is_some_and(|cell| guest.cells.iter().any(|own| own == cell)) {
            return Err(Error::NoService { guest: owned(name), symbol: service.implementation });
        }
        if next.services.iter().any(|known| known.name == name) {
            return Err(Error::Started(owned(name)));
        }
        next.services.push(service);
        Ok(())
    })
    .map(drop)
}

/// Ends a guest's service. What a start that failed has left of one that is not on the list goes too.
///
/// # Errors
/// [`Error::NotStarted`]; [`Error::Stays`], if it does not end. Nothing has changed then.
pub fn stop(name: &str) -> Result<(), Error> {
    let listed = with_world(|world| world.services.iter().any(|listed| listed.service.name == name))?;
    let is_guest = with_world(|world| world.guests.iter().any(|guest| guest.name == name && guest.replaces.is_none()))?;
    if !listed && is_guest {
        let service = Service { name: owned(name), implementation: [BINDS, name].concat(), parameters: String::new() };
        return services::clear(&service).map_err(|_| Error::NotStarted(owned(name)));
    }
    change(|_, next| {
        let at = next
            .services
            .iter()
            .position(|service| service.name == name && next.guests.iter().any(|guest| guest.serves(service)));
        let at = at.ok_or_else(|| Error::NotStarted(owned(name)))?;
        next.services.remove(at);
        Ok(())
    })
    .map(drop)
}

/// Makes a namespace without cells, which allows cells and symbols that are there.
///
/// # Errors
/// [`Error::Namespaces`], [`Error::Unknown`]. Nothing has changed then.
pub fn make_namespace(name: &str, allows: &[&str]) -> Result<(), Error> {
    change(|world, next| {
        if let Some(unknown) =
            allows.iter().find(|allowed| world.graph.find(allowed).is_none() && world.graph.definer(allowed).is_none())
        {
            return Err(Error::Unknown(owned(unknown)));
        }
        if world.graph.find(name).is_some() {
            return Err(Error::IsCell(owned(name)));
        }
        let mut once: Vec<String> = Vec::new();
        for allowed in allows {
            if !once.iter().any(|known| known == allowed) {
                once.push(owned(allowed));
            }
        }
        Ok(next.namespaces.add(Namespace { name: owned(name), cells: Vec::new(), allows: once, made: true })?)
    })
    .map(drop)
}

/// Removes a namespace that was made and has no cells any more.
///
/// # Errors
/// [`Error::Namespaces`]. Nothing has changed then.
pub fn remove_namespace(name: &str) -> Result<(), Error> {
    change(|_, next| Ok(next.namespaces.remove(name)?)).map(drop)
}

/// Makes the change that `decide` decides on; how many cells went.
fn change(decide: impl FnOnce(&World, &mut Next) -> Result<(), Error>) -> Result<usize, Error> {
    let mut store = take()?;
    let (next, mut turn) = with_world(|world| {
        let mut next = Next::of(world);
        decide(world, &mut next)?;
        let turn = Turn::new(world, &next.services);
        Ok::<_, Error>((next, turn))
    })??;
    turn.end()?;
    let applied = with_world(|world| become_next(world, &mut store, next, &mut turn))??;
    let cells = applied.cells.len();
    remember(&mut store, applied);
    begin(&mut store, &turn)?;
    Ok(cells)
}

fn become_next(world: &mut World, store: &mut Store, next: Next, turn: &mut Turn) -> Result<Applied, Error> {
    let Next { goes, services, namespaces, guests } = next;
    let changes: Vec<Change> = goes.iter().map(|cell| removal(world, cell)).collect();
    let target = id_with(world, &changes, &services, namespaces.iter(), &guests)?;
    let wanted = goes.into_iter().map(|name| Wanted { name, to: None, follow: Vec::new() }).collect();
    let aim = Aim { target, data: Arc::default(), way: Way::There, guests };
    let mut granted = Granted::with(world, Arc::new(namespaces));
    let (_, applied) = transact(granted.world, store, wanted, aim, turn)?;
    Ok(Applied { namespaces: granted.keep(), ..applied })
}

fn removal(world: &World, cell: &str) -> Change {
    let hash = world.graph.find(cell).and_then(|id| world.hashes.get(id.0 as usize).copied());
    Change { base_hash: hash.unwrap_or_default(), own: true, ..Change::new(What::Remove, cell) }
}
