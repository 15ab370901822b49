//! What states say of themselves: `derive(State)` leaves version and layout id in the object, as the constants
//! `STATE_VERSION_OF_` and `STATE_LAYOUT_OF_` and the type's name. The layout id has all by which a value is found again:
//! path, version, and the numbers, names, places and types of its fields.

use super::Pair;
use super::layouts::Changed;
use super::names;
use super::side::{Side, Static, Unit};
use std::collections::BTreeMap;

/// What such a constant's name begins with.
const VERSION: &str = "STATE_VERSION_OF_";
const LAYOUT: &str = "STATE_LAYOUT_OF_";

/// What a state says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Its version.
    pub version: u32,
    /// Its layout id; none of a generic type.
    pub layout: Option<u64>,
}

/// The type's path, if the value is a constant whose name begins with `mark`, and its bytes.
fn constant<'u>(unit: &Unit<'u>, found: &Static<'_>, mark: &str) -> Option<(String, &'u [u8])> {
    let name = names::last_segment(&found.path);
    let ty = name.strip_prefix(mark)?;
    // It stands in a constant without a name beside the type.
    let module = found.path[..found.path.len() - name.len()].trim_end_matches("_::");
    let bytes = unit.object.sections[found.section as usize].bytes;
    Some((format!("{module}{ty}"), bytes.get(found.value as usize..)?))
}

/// The states of a build, by path.
pub fn all(side: &Side<'_>) -> BTreeMap<String, State> {
    let mut states: BTreeMap<String, State> = BTreeMap::new();
    for unit in &side.units {
        for found in &unit.statics {
            if let Some((path, bytes)) = constant(unit, found, VERSION) {
                states.entry(path).or_default().version =
                    bytes.first_chunk().map_or(0, |word| u32::from_le_bytes(*word));
            } else if let Some((path, bytes)) = constant(unit, found, LAYOUT) {
                states.entry(path).or_default().layout = bytes.first_chunk().map(|word| u64::from_le_bytes(*word));
            }
        }
    }
    states
}

/// The types with another version, or with other names or numbers of fields; `known` says which of them are known to have
/// changed.
pub fn changed(pair: Pair<'_, '_>, known: impl Fn(&str) -> bool) -> Vec<Changed> {
    let (base, target) = (all(pair.base), all(pair.target));
    let mut changed = Vec::new();
    for (path, old) in base {
        let Some(new) = target.get(&path) else { continue };
        let layouts_differ = old.layout.zip(new.layout).is_some_and(|(old, new)| old != new);
        let how = if old.version != new.version {
            format!("version {} → {}", old.version, new.version)
        } else if layouts_differ && !known(&path) {
            "its name as a state, or names or numbers of its fields".to_owned()
        } else {
            continue;
        };
        changed.push(Changed { path, how, follows: false });
    }
    changed
}

/// The states that the target has no more, with their layout ids.
pub fn gone(pair: Pair<'_, '_>) -> Vec<(String, u64)> {
    let target = all(pair.target);
    let gone = all(pair.base).into_iter().filter(|(path, _)| !target.contains_key(path));
    gone.filter_map(|(path, state)| Some((path, state.layout?))).collect()
}
