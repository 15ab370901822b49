//! A part of an offer: one cell of it, if it can go without the others.

use crate::{error::Error, offer::id_with};
use alloc::{string::String, vec::Vec};
use bundle::{Bundle, Change};
use loader::World;
use manifest::Service;
use namespace::Namespace;

/// The cell's part of a bundle, as a bundle that leads to what will run then; services and namespaces stay as they are.
///
/// # Errors
/// [`Error::NotOffered`], [`Error::Along`] if others must come with it, [`Error::Whole`] if data changes, [`Error::WithGuests`].
pub(crate) fn part(world: &World, bundle: &Bundle, cell: &str) -> Result<Bundle, Error> {
    let same = |name: &str| {
        name.bytes()
            .map(|b| if b == b'-' { b'_' } else { b })
            .eq(cell.bytes().map(|b| if b == b'-' { b'_' } else { b }))
    };
    let change: &Change =
        bundle.changes.iter().find(|change| same(&change.name)).ok_or_else(|| Error::NotOffered(String::from(cell)))?;
    if !bundle.guests.is_empty() || !world.guests.is_empty() {
        return Err(Error::WithGuests);
    }
    if let Some(claim) = bundle.data.claims.first() {
        return Err(Error::Whole(claim.clone()));
    }
    if !change.along.is_empty() {
        return Err(Error::Along { cell: change.name.clone(), others: change.along.join(", ") });
    }
    let changes: Vec<Change> = [change.clone()].into();
    let services: Vec<Service> = world.services.iter().map(|listed| listed.service.clone()).collect();
    let namespaces: Vec<Namespace> = world.graph.namespaces().iter().cloned().collect();
    let target_id = id_with(world, &changes, &services, &namespaces, &world.guests)?;
    Ok(Bundle { changes, target_id, services, namespaces, ..bundle.clone() })
}
