//! Types that say themselves that their meaning changed: a state has a version, which `derive(State)` leaves in the object
//! as a constant, `STATE_VERSION_OF_` and the type's name.

use super::Pair;
use super::layouts::Changed;
use super::names;
use super::side::{Side, Static, Unit};
use std::collections::BTreeMap;

/// What such a constant's name begins with.
const MARK: &str = "STATE_VERSION_OF_";

/// The type's path and version, if the value is such a constant.
fn version(unit: &Unit<'_>, found: &Static<'_>) -> Option<(String, u32)> {
    let name = names::last_segment(&found.path);
    let ty = name.strip_prefix(MARK)?;
    // It stands in a constant without a name beside the type.
    let module = found.path[..found.path.len() - name.len()].trim_end_matches("_::");
    let bytes = unit.object.sections[found.section as usize].bytes;
    let at = found.value as usize;
    let word: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
    Some((format!("{module}{ty}"), u32::from_le_bytes(word)))
}

fn versions(side: &Side<'_>) -> BTreeMap<String, u32> {
    side.units.iter().flat_map(|unit| unit.statics.iter().filter_map(move |found| version(unit, found))).collect()
}

/// The paths of a build's states.
pub fn all(side: &Side<'_>) -> Vec<String> {
    versions(side).into_keys().collect()
}

/// The types with another version.
pub fn changed(pair: Pair<'_, '_>) -> Vec<Changed> {
    let (base, target) = (versions(pair.base), versions(pair.target));
    let both = base.into_iter().filter_map(|(path, old)| Some((target.get(&path).copied()?, old, path)));
    let other = both.filter(|(new, old, _)| new != old);
    other.map(|(new, old, path)| Changed { path, how: format!("version {old} → {new}"), follows: false }).collect()
}
