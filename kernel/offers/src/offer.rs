//! Taking an offer in.

use crate::{
    error::{Error, Short},
    store::take,
};
use alloc::{string::String, sync::Arc, vec::Vec};
use bundle::{Bundle, Change, Verdict, What};
use loader::{World, with_world};
use manifest::{Guest, Service, ids, key};
use namespace::Namespace;

/// Takes an offer in place of the one that waits, after checking all that can be checked; a sentence about it. One that the
/// host has found to be impossible is taken too: its plan says why.
///
/// # Errors
/// [`Error`]; the offer that waited still waits.
pub fn offer(bytes: &[u8]) -> Result<String, Error> {
    let bundle = Arc::new(Bundle::read(bytes)?);
    for change in bundle.changes.iter().filter(|change| change.what != What::Remove) {
        let found = *blake3::hash(&change.object).as_bytes();
        if found != change.object_hash {
            let (expected, found) = (Short(change.object_hash), Short(found));
            return Err(Error::Hash { cell: change.name.clone(), expected, found });
        }
    }
    with_world(|world| check(world, &bundle))??;
    let (cells, target, refused) = (bundle.changes.len(), Short(bundle.target_id), !refusals(&bundle).is_empty());
    take()?.offer = Some(bundle);
    let noun = if cells == 1 { "cell" } else { "cells" };
    let hint = if refused { "shows why it will be refused" } else { "shows the plan and applies it" };
    Ok(alloc::format!("offered: {cells} {noun}, to {target}; `update` {hint}"))
}

/// What the host has found against it.
pub(crate) fn refusals(bundle: &Bundle) -> &[String] {
    match &bundle.verdict {
        Verdict::Refused(reasons) => reasons,
        Verdict::Code | Verdict::Data => &[],
    }
}

/// Whether the offer leads from what runs to what it says.
pub(crate) fn check(world: &World, bundle: &Bundle) -> Result<(), Error> {
    if bundle.base_id != world.running_id {
        return Err(Error::Base { base: Short(bundle.base_id), running: Short(world.running_id) });
    }
    if bundle.toolchain != world.archive.manifest.toolchain {
        return Err(Error::Toolchain);
    }
    let found = id_with(world, &bundle.changes, &bundle.services, &bundle.namespaces, &bundle.guests)?;
    if found != bundle.target_id {
        return Err(Error::Target { target: Short(bundle.target_id), found: Short(found) });
    }
    Ok(())
}

/// The id of what would run with some changes, services, namespaces and guests.
pub(crate) fn id_with<'s, 'n>(
    world: &World,
    changes: &[Change],
    services: impl IntoIterator<Item = &'s Service>,
    namespaces: impl IntoIterator<Item = &'n Namespace>,
    guests: &[Guest],
) -> Result<[u8; 32], Error> {
    let mut cells: Vec<(String, &str, [u8; 32])> = world
        .graph
        .cells()
        .map(|(id, cell)| {
            (key(cell.name, cell.version), cell.name, world.hashes.get(id.0 as usize).copied().unwrap_or_default())
        })
        .collect();
    for (number, change) in changes.iter().enumerate() {
        let refuse = |what, why| Err(Error::Cell { cell: change.name.clone(), what, why });
        if changes[..number].iter().any(|other| other.name == change.name) {
            return refuse("changes", "it has changed already");
        }
        let at = cells.iter().position(|(_, name, _)| *name == change.name);
        match (change.what, at) {
            (What::Add, None) => cells.push((key(&change.name, &change.version), &change.name, change.object_hash)),
            (What::Add, Some(_)) => return refuse("adds", "is there already"),
            (What::Replace, None) => return refuse("replaces", "is not there"),
            (What::Remove, None) => return refuse("removes", "is not there"),
            (_, Some(at)) if cells[at].2 != change.base_hash => {
                return refuse("changes", "is not the one that it starts from");
            }
            (What::Replace, Some(at)) => {
                cells[at] = (key(&change.name, &change.version), &change.name, change.object_hash)
            }
            (What::Remove, Some(at)) => {
                cells.remove(at);
            }
        }
    }
    let cells = cells.iter().map(|(key, name, hash)| (*name, key.clone(), hash));
    let blake3 = |bytes: &[u8]| *blake3::hash(bytes).as_bytes();
    Ok(ids(blake3, cells, services, namespaces, guests, &world.archive.manifest.toolchain).world)
}

/// Shows the offer that waits.
///
/// # Errors
/// [`Error::Busy`] if an update is under way for longer than 2 s.
pub fn offered<R>(show: impl FnOnce(Option<&Bundle>) -> R) -> Result<R, Error> {
    Ok(show(take()?.offer.as_deref()))
}

/// Forgets the offer that waits.
///
/// # Errors
/// [`Error::Busy`] if an update is under way for longer than 2 s.
pub fn withdraw() -> Result<(), Error> {
    take()?.offer = None;
    Ok(())
}
