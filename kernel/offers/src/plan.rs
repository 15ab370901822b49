//! The plan of an update, for people: made by staging it and letting go of what was staged.

use crate::{
    apply::{Granted, prepare, wanted},
    data::{Way, find, refuse_gone},
    error::Error,
    offer::{check, refusals},
    part::part,
    services::{self, Turn},
    store::{Store, take},
};
use alloc::{string::String, vec::Vec};
use bundle::{Bundle, What};
use loader::{World, with_world};
use manifest::Service;

/// One cell of a plan.
#[derive(Clone, Debug)]
pub struct Planned {
    /// What happens to it.
    pub what: What,
    /// Its name.
    pub name: String,
    /// Its version afterwards.
    pub version: String,
    /// Why it differs.
    pub reasons: Vec<String>,
    /// Functions whose pointers stay on old code.
    pub not_followed: Vec<String>,
}

/// What an update would do.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The id before.
    pub base: [u8; 32],
    /// The id after.
    pub target: [u8; 32],
    /// The cells whose objects change.
    pub cells: Vec<Planned>,
    /// Cells that get a new copy: those, and the ones that must be linked again because of them.
    pub copies: usize,
    /// Words outside the new copies that will be written, but for frames of tasks.
    pub words: usize,
    /// What it does to data: types that are migrated, and traits whose objects in slots change.
    pub migrates: Vec<String>,
    /// Services that are ended before it. One whose implementation or parameters change is started again.
    pub ends: Vec<String>,
    /// Services that are started after it.
    pub starts: Vec<String>,
    /// `nano_core` differs: that part waits for the next boot.
    pub boot_pending: bool,
    /// Why it will be refused; nothing if it will not.
    pub refused: Vec<String>,
}

/// Stages an offer and lets go of it: cells that would get a new copy, and words that would be written.
pub(crate) fn rehearse(
    world: &mut World,
    store: &mut Store,
    bundle: &Bundle,
    turn: &Turn,
) -> Result<(usize, usize), Error> {
    let granted = Granted::new(world, bundle)?;
    let world = &*granted.world;
    // Units made of the wanted bytes go before the bytes do.
    let wanted = wanted(store, bundle)?;
    let stage = prepare(world, store, &wanted)?.stage(world)?;
    services::check(stage.staged().next(), turn.target())?;
    let words = world.graph.patches(stage.staged()).map_err(update::Error::from)?.len();
    if !turn.ends_something() {
        // What a service holds goes when it is ended, and that is not rehearsed.
        refuse_gone(&bundle.data)?;
    }
    find(world, &stage, &bundle.data, Way::There)?;
    Ok((stage.cells(), words))
}

/// The plan of the offer that waits, or of it `only` for one cell. Everything that can be refused is refused here; nothing is changed.
///
/// # Errors
/// [`Error`].
pub fn plan(only: Option<&str>) -> Result<Plan, Error> {
    let mut store = take()?;
    let offer = store.offer.clone().ok_or(Error::Nothing)?;
    with_world(|world| -> Result<Plan, Error> {
        check(world, &offer)?;
        let part = only.map(|cell| part(world, &offer, cell)).transpose()?;
        let bundle = part.as_ref().unwrap_or(&offer);
        let refused = refusals(bundle).to_vec();
        let turn = Turn::new(world, &bundle.services);
        let names = |services: &[Service]| services.iter().map(|service| service.name.clone()).collect();
        let (copies, words) = match refused.is_empty() {
            true => rehearse(world, &mut store, bundle, &turn)?,
            false => (0, 0),
        };
        let cells = bundle.changes.iter().map(|change| Planned {
            what: change.what,
            name: change.name.clone(),
            version: change.version.clone(),
            reasons: change.reasons.clone(),
            not_followed: change.not_followed.clone(),
        });
        let plan = Plan {
            base: bundle.base_id,
            target: bundle.target_id,
            cells: cells.collect(),
            copies,
            words,
            migrates: bundle.data.claims.clone(),
            ends: names(&turn.go),
            starts: names(&turn.come),
            boot_pending: bundle.boot_pending,
            refused,
        };
        Ok(plan)
    })?
}
