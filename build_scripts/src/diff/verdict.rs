//! What the difference may do to a running system.

use super::layouts::{self, Changed};
use super::names;
use super::side::{Side, Static, Unit};
use super::{Pair, debug::Debug};
use bundle::Verdict;
use linker::Kind;
use manifest::{Guest, Policy};
use std::collections::BTreeSet;

/// What was found to have changed in data.
#[derive(Debug, Default)]
pub struct Data {
    /// Types whose values may live across the update, each with the cells that mention it.
    pub types: Vec<(Changed, BTreeSet<String>)>,
    /// Sentences about statics and caches that outlive their cells.
    pub statics: Vec<String>,
}

impl Data {
    /// A line for each type, those that only follow from others last.
    pub fn lines(&self) -> Vec<String> {
        let mut types: Vec<_> = self.types.iter().collect();
        types.sort_by_key(|(changed, _)| changed.follows);
        let line = |(changed, holders): &(Changed, BTreeSet<String>)| {
            format!("{}: {}; mentioned by {}", changed.path, changed.how, list(holders))
        };
        types.into_iter().map(line).collect()
    }

    /// The types that did not change only because of others; all, if each did because of another.
    pub fn roots(&self) -> impl Iterator<Item = &(Changed, BTreeSet<String>)> {
        let all = self.types.iter().all(|(changed, _)| changed.follows);
        self.types.iter().filter(move |(changed, _)| all || !changed.follows)
    }

    /// The verdict over an update to a world with these guests. `obstacle` says what keeps a type from being claimed by a
    /// migration. Types that changed only because of others need no sentence of their own: whoever holds one holds what it
    /// follows from.
    pub fn verdict(&self, guests: &[Guest], obstacle: impl Fn(&Changed) -> Option<String>) -> Verdict {
        let mut sentences = self.statics.clone();
        sentences.extend(guests.iter().filter_map(|guest| self.bars(guest)));
        for (changed, holders) in self.roots() {
            if let Some(why) = obstacle(changed) {
                sentences.push(format!(
                    "{} changed ({}) and {why}; it is mentioned by {}",
                    changed.path,
                    changed.how,
                    list(holders)
                ));
            }
        }
        match (sentences.is_empty(), self.types.is_empty()) {
            (false, _) => Verdict::Refused(sentences),
            (true, true) => Verdict::Code,
            (true, false) => Verdict::Data,
        }
    }
}

impl Data {
    /// Why a guest bars it: pinned, it knows a type as it was.
    fn bars(&self, guest: &Guest) -> Option<String> {
        let knows = |(_, holders): &&(Changed, BTreeSet<String>)| guest.cells.iter().any(|cell| holders.contains(cell));
        let (changed, _) = self.types.iter().filter(|_| guest.pinned).find(knows)?;
        let (path, how, name) = (&changed.path, &changed.how, &guest.name);
        Some(format!(
            "{path} changed ({how}), which guest {name} is pinned to as it was: `make update DROP={name}` unloads it"
        ))
    }
}

fn list(names: &BTreeSet<String>) -> String {
    match names.is_empty() {
        true => "no cell by itself".to_owned(),
        false => names.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    }
}

/// Values that outlive the copies of their cells and would not fit the new ones.
pub fn statics(pair: Pair<'_, '_>) -> Vec<String> {
    let mut sentences = Vec::new();
    for (old_index, old) in pair.base.units.iter().enumerate() {
        let Some(new_index) = pair.target.files.find(&old.cell.name) else { continue };
        let new = &pair.target.units[new_index];
        if old.cell.object_hash == new.cell.object_hash {
            continue;
        }
        for was in &old.statics {
            let kind = old.object.sections[was.section as usize].kind;
            let Some(is) = new.statics.iter().find(|is| is.symbol == was.symbol) else { continue };
            if !matches!(kind, Kind::Cache | Kind::PerCpu | Kind::Writable) {
                continue;
            }
            let section =
                |side: &Side<'_>, cell: usize, section: u32| side.units[cell].object.sections[section as usize].align;
            let (align, new_align) =
                (section(pair.base, old_index, was.section), section(pair.target, new_index, is.section));
            if (was.size, align) != (is.size, new_align) {
                sentences.push(format!(
                    "{} of cell {} outlives its cell and has {} bytes aligned to {}, before it had {} aligned to {}",
                    was.path, old.cell.name, is.size, new_align, was.size, align
                ));
                continue;
            }
            let hosted = pair
                .base
                .files
                .manifest
                .hosted
                .iter()
                .find(|row| row.cell == old.cell.name && row.symbol == was.symbol);
            if hosted.is_some_and(|row| row.policy == Policy::Keep) {
                let (mut old_reader, mut new_reader) =
                    (super::code::Reader::new(pair.base), super::code::Reader::new(pair.target));
                let old_value = old_reader.value(old_index as u32, was.section, was.value, was.value + was.size);
                let new_value = new_reader.value(new_index as u32, is.section, is.value, is.value + is.size);
                if old_value != new_value {
                    sentences.push(format!(
                        "{} of cell {} is kept, but its initial value is another",
                        was.path, old.cell.name
                    ));
                }
            }
        }
    }
    sentences.extend(renamed_entries(pair));
    sentences.sort();
    sentences
}

/// What `state_db::cached!` leaves in an object.
const ENTRY_NAME: &str = "ENTRY_NAME";

/// Entries that a cell looks for under another name: the value that is there would not be found any more.
fn renamed_entries(pair: Pair<'_, '_>) -> Vec<String> {
    let name = |unit: &Unit<'_>, found: &Static<'_>| -> String {
        let bytes = unit.object.sections[found.section as usize].bytes;
        let bytes = bytes.get(found.value as usize..(found.value + found.size) as usize).unwrap_or_default();
        String::from_utf8_lossy(bytes).into_owned()
    };
    let mut sentences = Vec::new();
    for old in &pair.base.units {
        let Some(new) = pair.target.files.find(&old.cell.name).map(|at| &pair.target.units[at]) else { continue };
        for was in old.statics.iter().filter(|found| names::last_segment(&found.path) == ENTRY_NAME) {
            let Some(is) = new.statics.iter().find(|is| is.path == was.path) else { continue };
            let (old_name, new_name) = (name(old, was), name(new, is));
            if old_name != new_name {
                let by = was.path.trim_end_matches(ENTRY_NAME).trim_end_matches("::");
                sentences.push(format!("{by} looks for the entry `{new_name}`, before for `{old_name}`: the value that is there would be lost"));
            }
        }
    }
    sentences
}

/// Closures that changed are left to their old code, but not in values of the database: those are what lasts.
pub fn kept_closures<'c>(exempt: &'c [Changed], base: &[&Debug]) -> Vec<&'c Changed> {
    let lasting = |path: &str| path.starts_with("state_db::");
    let is_kept = |changed: &&Changed| {
        base.iter().any(|debug| debug.types.all.iter().any(|(path, _)| lasting(path) && path.contains(&changed.path)))
    };
    exempt.iter().filter(is_kept).collect()
}

/// The cells that mention a type.
pub fn holders<'n>(changed: &Changed, cells: impl IntoIterator<Item = (&'n str, &'n Debug)>) -> BTreeSet<String> {
    let mentioning = cells.into_iter().filter(|(_, debug)| layouts::mentions(debug, changed));
    mentioning.map(|(name, _)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_do_not_change_under_what_is_pinned() {
        let changed = Changed { path: "task::Task".to_owned(), how: "size".to_owned(), follows: false };
        let holders = BTreeSet::from(["task".to_owned(), "greeter::task".to_owned()]);
        let data = Data { types: vec![(changed, holders)], ..Data::default() };
        let guest = |pinned, cell: &str| Guest {
            name: "greeter".to_owned(),
            cells: vec!["greeter".to_owned(), cell.to_owned()],
            pinned,
            ..Guest::default()
        };
        let verdict = |guest| data.verdict(&[guest], |_| None);
        assert_eq!(verdict(guest(false, "greeter::task")), Verdict::Data);
        assert_eq!(verdict(guest(true, "greeter::console")), Verdict::Data);
        let Verdict::Refused(why) = verdict(guest(true, "greeter::task")) else { panic!("it is not refused") };
        assert!(why[0].contains("task::Task") && why[0].contains("DROP=greeter"), "{why:?}");
    }
}
