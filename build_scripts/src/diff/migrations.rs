//! What a data update has to do: which changed types are claimed by migrations, the functions in which no task may stand
//! while values change, and the vtables of objects in slots.
//!
//! A changed type is claimed if every value of it that outlasts a call is part of a value that is migrated: some state with a
//! migration holds it, every state that holds it has one, and no object without a type (behind `dyn`) can. What lies on stacks
//! is left to the running system: it waits until no task stands in a function that handles such a type. For the objects of a
//! trait that changed, `dyn X`, the slots stand for the migration: each object's vtable must have a counterpart.

use super::debug::{self, Debug};
use super::layouts::{Changed, Set};
use super::states;
use super::{Pair, commits, side_by_side};
use anyhow::{Context, Result};
use bundle::{Data, Holder, Place};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// What the table of a migration's functions has for the type it makes.
const COMMIT: &str = "state_db::migration::commit::<";
/// The static that [`state_db::migrates!`] makes.
const TABLE: &str = "MIGRATIONS";
/// Traits whose objects are borrowed for the length of a call.
const BORROWED: [&str; 3] = ["core::fmt::", "core::error::", "core::any::"];

/// The migrations of the target, by the type that they make of values of the base.
pub type Tables = BTreeMap<String, Table>;

/// One of them.
pub struct Table {
    /// Where its table of functions lies.
    place: Place,
    /// Layout id of the values that it takes.
    from: u64,
    /// The type that the way back makes, if there is one.
    back: Option<String>,
}

/// Finds the migrations of the target.
pub fn tables(pair: Pair<'_, '_>) -> Tables {
    let mut tables = Tables::new();
    for (number, unit) in pair.target.units.iter().enumerate() {
        for found in unit.statics.iter().filter(|found| found.path.rsplit("::").next() == Some(TABLE)) {
            let section = &unit.object.sections[found.section as usize];
            let inside = |at: u64| (found.value..found.value + found.size).contains(&at);
            let mut functions: Vec<_> = section.relocations().filter(|relocation| inside(relocation.offset)).collect();
            // The way there stands first.
            functions.sort_by_key(|relocation| relocation.offset);
            let paths = functions.iter().filter_map(|relocation| {
                let (cell, function) = pair.target.function(number as u32, relocation)?;
                Some(pair.target.units[cell as usize].functions[function as usize].path.as_str())
            });
            let mut made = paths.filter_map(|path| path.strip_prefix(COMMIT)?.strip_suffix('>'));
            let Some(ty) = made.next() else { continue };
            let back = made.next().map(str::to_owned);
            let from = section.bytes.get(found.value as usize..).and_then(<[u8]>::first_chunk);
            let place = Place { cell: unit.cell.name.clone(), symbol: found.symbol.to_owned() };
            tables.insert(ty.to_owned(), Table { place, from: from.map_or(0, |word| u64::from_le_bytes(*word)), back });
        }
    }
    tables
}

/// The paths of a cell's types whose values hold one of a set.
fn held<'d>(set: &Set<'_>, debug: &'d Debug) -> HashSet<&'d str> {
    set.held_by(debug).iter().map(|&ty| &*debug.types.all[ty as usize].0).collect()
}

/// The states of the base.
pub type States = BTreeMap<String, states::State>;

/// Those of them whose values hold one of a set.
fn holding<'s>(states: &'s States, held: &[HashSet<&str>]) -> BTreeSet<&'s str> {
    states.keys().map(String::as_str).filter(|state| held.iter().any(|paths| paths.contains(state))).collect()
}

/// What keeps a changed type from being claimed; nothing if it is.
pub fn obstacle(
    pair: Pair<'_, '_>,
    changed: &Changed,
    base: &[(&str, &Debug)],
    states: &States,
    tables: &Tables,
) -> Option<String> {
    let set = Set::new([changed]);
    let held: Vec<HashSet<&str>> = base.iter().map(|(_, debug)| held(&set, debug)).collect();
    let (holding, mut erased) = (holding(states, &held), BTreeSet::new());
    for ((_, debug), paths) in base.iter().zip(&held) {
        let is_kept = |of: &str| !BORROWED.iter().any(|prefix| of.starts_with(prefix));
        let kept = debug.vtables.iter().filter(|vtable| is_kept(&vtable.of) && paths.contains(vtable.ty.as_str()));
        erased.extend(kept.map(|vtable| format!("{} behind dyn {}", vtable.ty, vtable.of)));
    }
    let erased = erased.first().map(|value| format!("a value of it may lie in {value}"));
    if let Some(object) = changed.path.strip_prefix("dyn ") {
        if let Some(state) = holding.first() {
            return Some(format!("{state} holds one outside of a slot"));
        }
        let gone = pairs(pair, object, base).find_map(|(ty, pair)| pair.is_none().then_some(ty));
        return gone.map(|ty| format!("the target has none of {ty}")).or(erased);
    }
    if let Some(state) = holding.iter().find(|state| !tables.contains_key(**state)) {
        return Some(match **state == *changed.path {
            true => "no migration claims it".to_owned(),
            false => format!("no migration claims it: none is for {state}, which holds it"),
        });
    }
    if holding.is_empty() {
        return Some("no migration claims it".to_owned());
    }
    let unsound = |path: &str| {
        commits::obstacle(pair.target, path)
            .map(|what| format!("the `commit` to {path} {what}, which it must not: nothing else runs then"))
    };
    // The way back is as good as the way there.
    if let Some(why) =
        holding.iter().find_map(|state| unsound(state).or_else(|| unsound(tables.get(*state)?.back.as_deref()?)))
    {
        return Some(why);
    }
    let foreign = holding.iter().find_map(|state| {
        let (layout, from) = (states.get(*state)?.layout?, tables.get(*state)?.from);
        (layout != from).then(|| {
            format!("the migration of {state} takes values laid out as {from:016x}, expected {layout:016x} as they are: compare its old type, with its version, with the one that runs")
        })
    });
    foreign.or(erased)
}

/// For each type with objects of a trait in the base: where its vtable lies in both builds, if the target has one.
fn pairs<'d>(
    pair: Pair<'d, 'd>,
    object: &'d str,
    base: &'d [(&'d str, &'d Debug)],
) -> impl Iterator<Item = (String, Option<bundle::Vtable>)> + 'd {
    base.iter().flat_map(move |(cell, debug)| {
        let of = debug.vtables.iter().filter(move |vtable| vtable.of == object);
        of.map(move |vtable| {
            let new = pair.target.files.companion(cell).ok().and_then(|bytes| Debug::read(&bytes).ok());
            let new =
                new.and_then(|new| new.vtables.into_iter().find(|new| new.of == object && new.ty == vtable.ty)?.place);
            let both = vtable.place.zip(new).map(|(old, new)| bundle::Vtable { cell: (*cell).to_owned(), old, new });
            (vtable.ty.clone(), both)
        })
    })
}

/// What to do about the claimed types.
///
/// # Errors
/// Debug information cannot be read.
pub fn data(
    pair: Pair<'_, '_>,
    types: &[&Changed],
    claims: Vec<String>,
    base: &[(&str, &Debug)],
    (states, tables): (&States, &Tables),
) -> Result<Data> {
    let set = Set::new(types.iter().copied());
    let mut data = Data { claims, ..Data::default() };
    // Others than those that are needed now are of updates before: their values have moved already.
    let held: Vec<HashSet<&str>> = base.iter().map(|(_, debug)| held(&set, debug)).collect();
    data.migrations =
        holding(states, &held).iter().filter_map(|state| Some(tables.get(*state)?.place.clone())).collect();
    for object in types.iter().filter_map(|changed| changed.path.strip_prefix("dyn ")) {
        data.vtables.extend(pairs(pair, object, base).filter_map(|(_, vtable)| vtable));
    }
    data.holders = holders(pair.base, &set)?;
    data.holders_back = holders(pair.target, &set)?;
    Ok(data)
}

/// The functions of a build that handle one of the types.
fn holders(side: &super::side::Side<'_>, set: &Set<'_>) -> Result<Vec<Holder>> {
    let names: Vec<&str> = side.files.manifest.cells.iter().map(|cell| cell.name.as_str()).collect();
    let read = side_by_side(&names, |name| -> Result<Vec<Holder>> {
        let bytes = side.files.companion(name)?;
        let (types, functions) = debug::handled(&bytes).with_context(|| format!("cell {name}"))?;
        let debug = Debug { types, ..Debug::default() };
        let held = set.held_by(&debug);
        let mut found = BTreeMap::new();
        for (symbol, handled) in functions {
            if let Some(&ty) = handled.iter().find(|ty| held.contains(ty)) {
                let handles = debug.types.all[ty as usize].0.to_string();
                found.insert(symbol, handles);
            }
        }
        let place = |symbol| Place { cell: name.to_owned(), symbol };
        Ok(found.into_iter().map(|(symbol, handles)| Holder { place: place(symbol), handles }).collect())
    });
    let mut all = Vec::new();
    for holders in read {
        all.extend(holders?);
    }
    Ok(all)
}
