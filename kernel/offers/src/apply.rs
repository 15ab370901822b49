//! Applying an offer, and taking updates back: one transaction each.

use crate::{
    data::{Way, find, refuse_gone},
    error::Error,
    history::{Applied, Before, Outcome},
    offer::{check, refusals},
    part::part,
    plan::rehearse,
    probation,
    services::{self, Turn},
    store::{Bytes, REMEMBERED, Store, owned, take},
    users,
};
use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use bundle::{Bundle, Follow, What};
use linker::{CellId, Change};
use loader::{World, with_world};
use manifest::Guest;
use namespace::Namespaces;
use update::{Done, Stage};

/// A cell as it is to be.
pub(crate) struct Wanted {
    pub name: String,
    /// Version, hash and bytes; nothing if the cell goes.
    pub to: Option<(String, [u8; 32], Bytes)>,
    /// Functions of the running object that are led on, from old to new.
    pub follow: Vec<Follow>,
}

/// Changes in the linker's form, with what belongs to them.
pub(crate) struct Prepared {
    pub changes: Vec<Change<'static>>,
    follow: BTreeMap<u32, BTreeMap<String, String>>,
}

/// Applies the offer that waits, or of it `only` one cell; how many cells changed, and what that did.
///
/// # Errors
/// [`Error`]; then nothing has changed, and the offer still waits.
pub fn apply(only: Option<&str>) -> Result<(usize, Done), Error> {
    let mut store = take()?;
    let offer = store.offer.clone().ok_or(Error::Nothing)?;
    probation::begin();
    let (bundle, mut turn) = with_world(|world| {
        check(world, &offer)?;
        let bundle =
            only.map(|cell| part(world, &offer, cell).map(Arc::new)).transpose()?.unwrap_or_else(|| offer.clone());
        if !refusals(&bundle).is_empty() {
            return Err(Error::Refused(refusals(&bundle).join("; ")));
        }
        let turn = Turn::new(world, &bundle.services);
        if turn.ends_something() {
            // Nothing is ended for an update that would be refused.
            rehearse(world, &mut store, &bundle, &turn)?;
        }
        Ok((bundle, turn))
    })??;
    // What needs memory is had before anything is ended.
    let aim = Aim {
        target: bundle.target_id,
        data: Arc::new(bundle.data.clone()),
        way: Way::There,
        guests: bundle.guests.clone(),
    };
    turn.end()?;
    let changed = with_world(|world| {
        let wanted = wanted(&store, &bundle)?;
        let mut granted = Granted::new(world, &bundle)?;
        let (done, applied) = transact(granted.world, &mut store, wanted, aim, &mut turn)?;
        Ok((done, Applied { namespaces: granted.keep(), ..applied }))
    });
    let (done, applied) = changed.map_err(Error::from).flatten()?;
    let cells = applied.cells.len();
    remember(&mut store, applied);
    begin(&mut store, &turn)?;
    // Whatever failed until here, it still waits.
    store.offer = None;
    probation::extend();
    Ok((cells, done))
}

/// Binds what comes with the update that was remembered last. If something of it does not start, that update is taken back.
///
/// # Errors
/// [`Error::NotBound`]; [`Error::Stuck`], if there is no way back either: then the update stays.
pub(crate) fn begin(store: &mut Store, turn: &Turn) -> Result<(), Error> {
    let Err(error) = turn.begin() else { return Ok(()) };
    let last = store.applied.len() - 1;
    take_back(store, last, Outcome::Failed(error.to_string())).map_err(|back| {
        store.offer = None;
        probation::extend();
        Error::Stuck { why: error.to_string(), back: back.to_string() }
    })?;
    Err(error)
}

/// A world in which more is granted than before. What was granted is taken back when this is dropped, unless it is to be kept.
pub(crate) struct Granted<'w> {
    pub world: &'w mut World,
    /// Writable statics that were not allowed before.
    statics: Vec<String>,
    /// The namespaces before.
    before: Arc<Namespaces>,
    kept: bool,
}

impl<'w> Granted<'w> {
    /// Puts a bundle's namespaces in place and allows the writable statics that it brings.
    ///
    /// # Errors
    /// [`Error::Namespaces`]; nothing has changed then.
    pub fn new(world: &'w mut World, bundle: &Bundle) -> Result<Granted<'w>, Error> {
        let namespaces = Arc::new(Namespaces::new(&bundle.namespaces)?);
        let new = bundle.hosted.iter().map(|hosted| &hosted.symbol).filter(|symbol| !world.graph.allows_hosted(symbol));
        let statics: Vec<String> = new.cloned().collect();
        let before = world.graph.set_namespaces(namespaces);
        let granted = Granted { world, statics, before, kept: false };
        granted.statics.iter().for_each(|symbol| granted.world.graph.allow_hosted(symbol));
        Ok(granted)
    }

    /// Puts namespaces in place.
    pub fn with(world: &'w mut World, namespaces: Arc<Namespaces>) -> Granted<'w> {
        let before = world.graph.set_namespaces(namespaces);
        Granted { world, statics: Vec::new(), before, kept: false }
    }

    /// Keeps what was granted; the namespaces before.
    pub fn keep(&mut self) -> Arc<Namespaces> {
        self.kept = true;
        self.before.clone()
    }
}

impl Drop for Granted<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.statics.iter().for_each(|symbol| self.world.graph.forbid_hosted(symbol));
            self.world.graph.set_namespaces(self.before.clone());
        }
    }
}

/// Takes the last `count` updates back, the last first; how many that were.
///
/// # Errors
/// [`Error`]; [`Error::Half`] if some were taken back before, which stay so.
pub fn rollback(count: usize) -> Result<usize, Error> {
    let mut store = take()?;
    let there = store.applied.iter().filter(|applied| applied.outcome == Outcome::Applied).count();
    if count > there {
        return Err(Error::TooFew { asked: count, there });
    }
    for done in 0..count {
        let last = store.applied.iter().rposition(|applied| applied.outcome == Outcome::Applied).unwrap_or(0);
        take_back(&mut store, last, Outcome::RolledBack).map_err(|error| match done {
            0 => error,
            _ => Error::Half { done, asked: count, why: error.to_string() },
        })?;
    }
    Ok(count)
}

/// Takes the update back that is the last applied one, and says in the list how it ended.
pub(crate) fn take_back(store: &mut Store, last: usize, outcome: Outcome) -> Result<(), Error> {
    let applied = &store.applied[last];
    let base = applied.base;
    let wanted: Vec<Wanted> = applied
        .before
        .iter()
        .map(|before| Wanted {
            name: before.name.clone(),
            to: before.was.clone(),
            follow: before.follow.iter().map(|pair| Follow { old: pair.new.clone(), new: pair.old.clone() }).collect(),
        })
        .collect();
    let (namespaces, data, services) = (applied.namespaces.clone(), applied.data.clone(), applied.services.clone());
    let guests = applied.guests.clone();
    let mut turn = with_world(|world| Turn::new(world, &services))?;
    if turn.ends_something() {
        // Nothing is ended for what would be refused.
        with_world(|world| {
            let granted = Granted::with(world, namespaces.clone());
            prepare(granted.world, store, &wanted)?.stage(granted.world).map(drop)
        })??;
    }
    turn.end()?;
    let changed = with_world(|world| {
        let mut granted = Granted::with(world, namespaces);
        transact(granted.world, store, wanted, Aim { target: base, data, way: Way::Back, guests }, &mut turn)?;
        granted.keep();
        Ok(())
    });
    changed.map_err(Error::from).flatten()?;
    turn.begin_what_can();
    store.applied[last].outcome = outcome;
    store.applied[last].before = Vec::new();
    store.sweep();
    Ok(())
}

/// What an offer wants.
pub(crate) fn wanted(store: &Store, bundle: &Bundle) -> Result<Vec<Wanted>, Error> {
    let want = |change: &bundle::Change| {
        let to = match change.what {
            What::Remove => None,
            What::Add | What::Replace => {
                Some((change.version.clone(), change.object_hash, store.keep(change.object_hash, &change.object)?))
            }
        };
        Ok(Wanted { name: change.name.clone(), to, follow: change.follow.clone() })
    };
    bundle.changes.iter().map(want).collect()
}

/// Brings what is wanted into the linker's form.
pub(crate) fn prepare(world: &World, store: &mut Store, wanted: &[Wanted]) -> Result<Prepared, Error> {
    let mut changes = Vec::new();
    let mut follow: BTreeMap<u32, BTreeMap<String, String>> = BTreeMap::new();
    for want in wanted {
        let running = world.graph.find(&want.name);
        if let Some(cell) = running {
            let pairs = want.follow.iter().map(|pair| (pair.old.clone(), pair.new.clone()));
            follow.insert(cell.0, pairs.collect());
        }
        changes.push(match (&want.to, running) {
            (None, Some(cell)) => Change::Remove { cell },
            (None, None) => continue,
            (Some((version, _, bytes)), running) => {
                let object = Store::object(bytes).map_err(|error| Error::Object { cell: want.name.clone(), error })?;
                let version = store.name(version);
                match running {
                    Some(cell) => Change::Replace { cell, version, object },
                    None => Change::Add { name: store.name(&want.name), version, object },
                }
            }
        });
    }
    Ok(Prepared { changes, follow })
}

impl Prepared {
    /// Stages the changes.
    pub fn stage(self, world: &World) -> Result<Stage, Error> {
        let Prepared { changes, follow } = self;
        let lookup = |cell: CellId, old: &str| follow.get(&cell.0)?.get(old).map(String::as_str);
        Ok(Stage::new(world, changes, &lookup, &[])?)
    }
}

/// Where a transaction leads, besides its cells.
pub(crate) struct Aim {
    /// The id afterwards.
    pub target: [u8; 32],
    /// What happens to data.
    pub data: Arc<bundle::Data>,
    /// There, or back.
    pub way: Way,
    /// The guests afterwards.
    pub guests: Vec<Guest>,
}

/// Makes a change as one transaction.
pub(crate) fn transact(
    world: &mut World,
    store: &mut Store,
    wanted: Vec<Wanted>,
    aim: Aim,
    turn: &mut Turn,
) -> Result<(Done, Applied), Error> {
    let Aim { target, data, way, mut guests } = aim;
    let base = world.running_id;
    let before: Vec<Before> = wanted
        .iter()
        .map(|want| {
            let was = world.graph.find(&want.name).map(|cell| {
                let running = world.graph.cell(cell);
                let hash = world.hashes.get(cell.0 as usize).copied().unwrap_or_default();
                (owned(running.version), hash, store.bytes_of(&running.unit))
            });
            Before { name: want.name.clone(), was, follow: want.follow.clone() }
        })
        .collect();
    let mut stage = prepare(world, store, &wanted)?.stage(world)?;
    services::check(stage.staged().next(), turn.target())?;
    let goes: Vec<String> = wanted.iter().filter(|want| want.to.is_none()).map(|want| want.name.clone()).collect();
    if let Some(by) = users::holder(world, &goes, !data.claims.is_empty()) {
        return Err(Error::Needed { cells: goes.join(", "), by });
    }
    if way == Way::There {
        refuse_gone(&data)?;
    }
    let found = find(world, &stage, &data, way)?;
    stage.set_data(found);
    // Once it is applied nothing may fail any more: room for what is noted then is found before.
    let numbers = stage.staged().next().numbers();
    world.hashes.reserve(numbers.saturating_sub(world.hashes.len()));
    store.lent.reserve(wanted.len());
    store.applied.reserve(1);
    let done = stage.apply(world)?;
    world.running_id = target;
    let services = turn.list(world);
    core::mem::swap(&mut world.guests, &mut guests);
    world.hashes.resize(world.graph.numbers(), [0; 32]);
    for want in &wanted {
        if let (Some((_, hash, bytes)), Some(cell)) = (&want.to, world.graph.find(&want.name)) {
            world.hashes[cell.0 as usize] = *hash;
            store.lend(&world.graph.cell(cell).unit, *hash, bytes);
        }
    }
    store.sweep();
    let of = |want: &Wanted| world.graph.find(&want.name).map(|cell| (cell.0, world.graph.cell(cell).since));
    let copies = wanted.iter().filter_map(of).collect();
    let number = store.applied.back().map_or(1, |last| last.number + 1);
    let cells = wanted.into_iter().map(|want| want.name).collect();
    let Done { words, frames, pause_ns, migrated, .. } = done;
    let at_ns = time::now_ns();
    store.settled_ns = at_ns;
    let applied = Applied {
        at_ns,
        copies,
        number,
        base,
        target,
        cells,
        words,
        frames,
        pause_ns,
        migrated,
        outcome: Outcome::Applied,
        before,
        data,
        services,
        guests,
        namespaces: Arc::default(),
    };
    Ok((done, applied))
}

/// Puts an update on the list.
pub(crate) fn remember(store: &mut Store, applied: Applied) {
    // What was taken back is told until something new is applied.
    store.applied.retain(|old| old.outcome == Outcome::Applied);
    store.applied.push_back(applied);
    if store.applied.len() > REMEMBERED {
        store.applied.pop_front();
    }
}
