//! `delias diff`: what is different between two builds, and what that means for a system that runs the first.
//!
//! ```text
//! side        a build: manifest, objects, things by path       dwarf, types, debug   debug information, read
//! names       paths without hashes and numbers                 layouts               types that changed
//! code        canonical code of a function                     coroutines            code that belongs to a type
//! follow      which functions lead on                          verdict               code, data, or refused
//! reasons     why an object differs                            report                for people and for scripts
//! along       which changes belong together               migrations            what a data update has to do
//! services    which of them come and go                  commits       what a migration must not do
//! ```
//! Objects that differ are the difference. Of those, and of every other cell whose debug information differs, types are
//! compared: a cell that only keeps a reference to a type has the same bytes when the type changes. If one did, the debug
//! information of all cells is searched for who mentions it.
//!
//! It proves what it says only as far as debug information goes: a change of meaning is in no layout.

pub mod along;
pub mod code;
pub mod commits;
pub mod coroutines;
pub mod debug;
pub mod dwarf;
pub mod follow;
pub mod layouts;
pub mod migrations;
pub mod names;
pub mod reasons;
pub mod report;
pub mod services;
pub mod side;
pub mod states;
pub mod types;
pub mod verdict;

use anyhow::{Context, Result};
use bundle::{Bundle, Change, Data, Gone, Verdict, What};
use code::Reader;
use debug::Debug;
use layouts::Changed;
use side::{Files, Side};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

/// `delias diff OLD NEW`: prints the difference, and writes it to `output`. The status is 1 if it is refused.
///
/// # Errors
/// As [`between`], or the file cannot be written.
pub fn run(old: &Path, new: &Path, json: bool, output: Option<&Path>) -> Result<ExitCode> {
    show(&between(old, new)?, json, output)
}

/// Prints a difference, and writes it to a file if one is named. The status is 1 if it cannot be applied.
///
/// # Errors
/// The file cannot be written.
pub fn show(bundle: &Bundle, json: bool, output: Option<&Path>) -> Result<ExitCode> {
    match json {
        true => println!("{}", report::json(bundle)),
        false => println!("{}", report::Summary(bundle)),
    }
    if let Some(output) = output {
        fs::write(output, bundle.write()?).with_context(|| format!("cannot write {}", output.display()))?;
    }
    Ok(match bundle.verdict {
        Verdict::Code | Verdict::Data => ExitCode::SUCCESS,
        Verdict::Refused(_) => ExitCode::FAILURE,
    })
}

/// Two builds.
#[derive(Clone, Copy)]
pub struct Pair<'s, 'a> {
    /// What runs.
    pub base: &'s Side<'a>,
    /// What is to run.
    pub target: &'s Side<'a>,
}

/// The debug information of both builds of each cell that was read, by name.
type Read = BTreeMap<String, Both>;
/// The debug information of both builds of one cell; nothing of a build that does not have the cell.
type Both = (Option<Debug>, Option<Debug>);

/// The difference between two build folders.
///
/// # Errors
/// A folder is not a complete build. What cannot be applied is no error but a verdict.
pub fn between(old: &Path, new: &Path) -> Result<Bundle> {
    let (base, target) = both(|| Files::read(old), || Files::read(new))?;
    let mut bundle = Bundle {
        format: bundle::FORMAT,
        base_id: base.manifest.image_id,
        target_id: target.manifest.image_id,
        toolchain: target.manifest.toolchain.clone(),
        verdict: Verdict::Code,
        changes: changes(&base, &target),
        layouts: Vec::new(),
        hosted: target.manifest.hosted.clone(),
        services: target.manifest.services.clone(),
        ends: Vec::new(),
        starts: Vec::new(),
        namespaces: target.manifest.namespaces.clone(),
        guests: target.manifest.guests.clone(),
        data: Data::default(),
        boot_pending: nano_core(old)? != nano_core(new)?,
    };
    let along = along::along([&base, &target], &bundle.changes);
    for (change, along) in bundle.changes.iter_mut().zip(along) {
        change.along = along;
    }
    if base.manifest.toolchain != target.manifest.toolchain {
        let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
        bundle.verdict = Verdict::Refused(vec![format!(
            "another compiler built the target: {}; the base was built by {}",
            first(&target.manifest.toolchain),
            first(&base.manifest.toolchain)
        )]);
        return Ok(bundle);
    }
    if !bundle.changes.is_empty() {
        let (base, target) = both(|| Side::read(&base), || Side::read(&target))?;
        examine(Pair { base: &base, target: &target }, &mut bundle)?;
    }
    let changed = services::changes(&base.manifest.services, &target.manifest.services);
    bundle.ends = changed.ends.iter().map(|service| service.name.clone()).collect();
    bundle.starts = changed.starts.iter().map(|service| service.name.clone()).collect();
    bundle.verdict = and(bundle.verdict, services::obstacles(&base, &target, &changed)?);
    Ok(bundle)
}

/// A verdict, with more sentences against it.
fn and(verdict: Verdict, more: Vec<String>) -> Verdict {
    match verdict {
        verdict if more.is_empty() => verdict,
        Verdict::Refused(sentences) => Verdict::Refused([sentences, more].concat()),
        Verdict::Code | Verdict::Data => Verdict::Refused(more),
    }
}

/// `build/nano_core`, the program that boots.
fn nano_core(folder: &Path) -> Result<Vec<u8>> {
    let path = folder.join("nano_core");
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The cells whose object or key differs, with nothing said of them yet.
fn changes(base: &Files, target: &Files) -> Vec<Change> {
    let mut changes = Vec::new();
    for (index, cell) in target.manifest.cells.iter().enumerate() {
        let old = base.find(&cell.name).map(|old| &base.manifest.cells[old]);
        if old.is_some_and(|old| old.object_hash == cell.object_hash && old.key() == cell.key()) {
            continue;
        }
        changes.push(Change {
            version: cell.version.clone(),
            base_hash: old.map_or([0; 32], |old| old.object_hash),
            object_hash: cell.object_hash,
            object: target.object(index).to_vec(),
            own: cell.own,
            ..Change::new(if old.is_some() { What::Replace } else { What::Add }, &cell.name)
        });
    }
    for cell in base.manifest.cells.iter().filter(|cell| target.find(&cell.name).is_none()) {
        changes.push(Change { base_hash: cell.object_hash, own: cell.own, ..Change::new(What::Remove, &cell.name) });
    }
    changes.sort_by(|a, b| a.name.cmp(&b.name));
    changes
}

/// Fills in verdict, layouts, reasons, and what leads on.
fn examine(pair: Pair<'_, '_>, bundle: &mut Bundle) -> Result<()> {
    let read = read_debug(pair, &bundle.changes)?;
    let (changed, exempt) = changed_types(pair, &read);
    // Where no type changed there is nobody to look for.
    let unread = if changed.is_empty() { Vec::new() } else { read_others(pair, &read)? };
    let known = |old: bool| {
        read.iter()
            .filter_map(move |(name, both)| Some((name.as_str(), if old { both.0.as_ref() } else { both.1.as_ref() }?)))
    };
    let others: Vec<(&str, &Debug)> = unread.iter().map(|(name, debug)| (name.as_str(), debug)).collect();
    let base: Vec<(&str, &Debug)> = known(true).chain(others.iter().copied()).collect();
    let all: Vec<(&str, &Debug)> = base.iter().copied().chain(known(false)).collect();
    let with_holders = |changed: Changed| {
        let holders = verdict::holders(&changed, all.iter().copied());
        (changed, holders)
    };
    let data =
        verdict::Data { statics: verdict::statics(pair), types: changed.into_iter().map(with_holders).collect() };
    let (states, tables) = (states::all(pair.base), migrations::tables(pair));
    bundle.data.gone = states::gone(pair).into_iter().map(|(path, layout)| Gone { path, layout }).collect();
    bundle.layouts = data.lines();
    bundle.verdict = data.verdict(&pair.target.files.manifest.guests, |changed| {
        migrations::obstacle(pair, changed, &base, &states, &tables)
    });
    let mut set = layouts::Set::new(data.types.iter().map(|(changed, _)| changed).chain(&exempt));
    if bundle.verdict == Verdict::Data {
        let claims = data.roots().map(|(changed, _)| format!("{}: {}", changed.path, changed.how)).collect();
        let types: Vec<&Changed> = data.types.iter().map(|(changed, _)| changed).collect();
        bundle.data = Data {
            gone: std::mem::take(&mut bundle.data.gone),
            ..migrations::data(pair, &types, claims, &base, (&states, &tables))?
        };
        // No value of the old layout is left: whoever handles the type leads on.
        set = layouts::Set::new(&exempt);
    }
    let (mut old_reader, mut new_reader) = (Reader::new(pair.base), Reader::new(pair.target));
    for change in &mut bundle.changes {
        let mentioned = data.roots().filter(|(_, holders)| holders.contains(&change.name));
        change.reasons = mentioned.map(|(changed, _)| format!("layout of {}", changed.path)).collect();
        let debug = read.get(&change.name).map_or((None, None), |pair| (pair.0.as_ref(), pair.1.as_ref()));
        explain(pair, change, (&mut old_reader, &mut new_reader), debug, &set);
    }
    Ok(())
}

/// The types that changed, and those of them that may: closures, and types made with them.
fn changed_types(pair: Pair<'_, '_>, read: &Read) -> (Vec<Changed>, Vec<Changed>) {
    let numbered = |side: &Side<'_>, debug: fn(&Both) -> Option<&Debug>| -> Vec<(u32, &Debug)> {
        read.iter().filter_map(|(name, both)| Some((side.files.find(name)? as u32, debug(both)?))).collect()
    };
    let base = numbered(pair.base, |both| both.0.as_ref());
    let target = numbered(pair.target, |both| both.1.as_ref());
    let olds: Vec<&Debug> = base.iter().map(|(_, debug)| *debug).collect();
    let news: Vec<&Debug> = target.iter().map(|(_, debug)| *debug).collect();

    let (exempt, mut changed): (Vec<Changed>, Vec<Changed>) =
        layouts::changed(&olds, &news).into_iter().partition(layouts::is_exempt);
    changed.extend(verdict::kept_closures(&exempt, &olds).into_iter().cloned());
    let mut more = layouts::changed_objects(&olds, &news);
    more.extend(coroutines::changed((pair.base, &base), (pair.target, &target)));
    more.extend(states::changed(pair, |path| changed.iter().any(|known| known.path == path)));
    // Where two ways show the same, the more telling one is said.
    changed.retain(|known| !more.iter().any(|found| found.path == known.path && found.path.starts_with("dyn ")));
    more.retain(|found| !changed.iter().any(|known| known.path == found.path));
    changed.extend(more);
    changed.sort();
    (changed, exempt)
}

/// Why a cell differs, and which of its functions lead on.
fn explain<'s, 'a>(
    pair: Pair<'s, 'a>,
    change: &mut Change,
    readers: (&mut Reader<'s, 'a>, &mut Reader<'s, 'a>),
    debug: (Option<&Debug>, Option<&Debug>),
    changed: &layouts::Set<'_>,
) {
    let number = |side: &Side<'_>| side.files.find(&change.name).map(|number| number as u32);
    let (Some(old), Some(new)) = (number(pair.base), number(pair.target)) else {
        let what = if change.what == What::Add { "new cell" } else { "no cell of the target" };
        change.reasons.push(what.to_owned());
        return;
    };
    let keys = (pair.base.units[old as usize].cell.key(), pair.target.units[new as usize].cell.key());
    if keys.0 != keys.1 {
        change.reasons.push(format!("another cell key: {} → {}", keys.0, keys.1));
        change.not_followed.push("every function (another cell key)".to_owned());
        return;
    }
    let (old_reader, new_reader) = readers;
    let base = reasons::Place { side: pair.base, cell: old };
    let target = reasons::Place { side: pair.target, cell: new };
    change.reasons.extend(reasons::reasons(&base, &target, (&mut *old_reader, &mut *new_reader), debug.1));
    let mut base = follow::Place { side: pair.base, cell: old, debug: debug.0, reader: old_reader };
    let mut target = follow::Place { side: pair.target, cell: new, debug: debug.1, reader: new_reader };
    let table = follow::table(&mut base, &mut target, changed);
    change.follow = table.follow;
    change.not_followed = table.not_followed;
}

/// Reads the debug information of every cell that differs, or whose debug information does.
fn read_debug(pair: Pair<'_, '_>, changes: &[Change]) -> Result<Read> {
    let changed: BTreeSet<&str> = changes.iter().map(|change| change.name.as_str()).collect();
    let names: BTreeSet<&str> = pair
        .base
        .files
        .manifest
        .cells
        .iter()
        .chain(&pair.target.files.manifest.cells)
        .map(|cell| cell.name.as_str())
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    let read = side_by_side(&names, |name| -> Result<Option<Both>> {
        let bytes = |side: &Side<'_>| side.files.find(name).map(|_| side.files.companion(name)).transpose();
        let (old, new) = (bytes(pair.base)?, bytes(pair.target)?);
        if old == new && !changed.contains(name) {
            return Ok(None);
        }
        let debug = |bytes: Option<Vec<u8>>| bytes.map(|bytes| Debug::read(&bytes)).transpose();
        Ok(Some((
            debug(old).with_context(|| format!("cell {name}"))?,
            debug(new).with_context(|| format!("cell {name}"))?,
        )))
    });
    let mut found = Read::new();
    for (name, debug) in names.iter().zip(read) {
        if let Some(debug) = debug? {
            found.insert((*name).to_owned(), debug);
        }
    }
    Ok(found)
}

/// The debug information of the base's cells that have not been read.
fn read_others(pair: Pair<'_, '_>, read: &Read) -> Result<Vec<(String, Debug)>> {
    let names = pair.base.files.manifest.cells.iter().map(|cell| cell.name.as_str());
    let names: Vec<&str> = names.filter(|name| !read.contains_key(*name)).collect();
    let debug = side_by_side(&names, |name| Debug::read(&pair.base.files.companion(name)?));
    let named = names
        .iter()
        .zip(debug)
        .map(|(name, debug)| Ok(((*name).to_owned(), debug.with_context(|| format!("cell {name}"))?)));
    named.collect()
}

/// Two things at once.
fn both<A: Send, B: Send>(
    first: impl FnOnce() -> Result<A> + Send,
    second: impl FnOnce() -> Result<B> + Send,
) -> Result<(A, B)> {
    thread::scope(|scope| {
        let first = scope.spawn(first);
        let second = second();
        match first.join() {
            Ok(first) => Ok((first?, second?)),
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

/// `work` for each item, on every processor; the results in the items' order.
fn side_by_side<T: Send>(items: &[&str], work: impl Fn(&str) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let mut found: Vec<(usize, T)> = thread::scope(|scope| {
        let worker = || {
            let mut done = Vec::new();
            while let Some((index, item)) =
                Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|i| Some((i, items.get(i)?)))
            {
                done.push((index, work(item)));
            }
            done
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(worker)).collect();
        let join = |worker: thread::ScopedJoinHandle<'_, Vec<(usize, T)>>| match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        workers.into_iter().flat_map(join).collect()
    });
    found.sort_by_key(|(index, _)| *index);
    found.into_iter().map(|(_, result)| result).collect()
}
