//! Coroutines whose code changed. What an async function does between two awaits is in no layout, and one coroutine runs
//! another without a thunk between them; so the code that runs a coroutine belongs to its type. That is its own function,
//! or, where it has none, every function it was inlined into.

use super::code::{Digest, Reader};
use super::debug::Debug;
use super::layouts::Changed;
use super::names;
use super::side::Side;
use std::collections::{BTreeMap, HashMap};

/// Of each coroutine's type: the functions that run it, by cell and key, with their code.
type Runs = BTreeMap<String, BTreeMap<(String, String), Digest>>;

/// Reads one build; `cells` are those whose debug information was read.
fn runs(side: &Side<'_>, cells: &[(u32, &Debug)]) -> Runs {
    let mut stems: HashMap<String, &str> = HashMap::new();
    for (path, _) in cells.iter().flat_map(|(_, debug)| &debug.types.all) {
        if let Some(stem) = names::coroutine_stem(path) {
            stems.insert(stem, path);
        }
    }
    let (mut reader, mut runs) = (Reader::new(side), Runs::new());
    if stems.is_empty() {
        return runs;
    }
    for &(cell, debug) in cells {
        let unit = &side.units[cell as usize];
        for (symbol, routine) in &debug.routines {
            let paths = routine.inlined.iter().map(|(path, _)| path).chain([&routine.path]);
            let types: Vec<&str> = paths.filter_map(|path| stems.get(&**path).copied()).collect();
            let (false, Some(function)) = (types.is_empty(), unit.with_symbol(symbol)) else { continue };
            let code = reader.deep(cell, function);
            let key = (unit.cell.name.clone(), unit.functions[function as usize].key().to_owned());
            for ty in types {
                runs.entry(ty.to_owned()).or_default().insert(key.clone(), code);
            }
        }
    }
    runs
}

/// The coroutines that other code runs in the target.
pub fn changed(base: (&Side<'_>, &[(u32, &Debug)]), target: (&Side<'_>, &[(u32, &Debug)])) -> Vec<Changed> {
    let (base, target) = (runs(base.0, base.1), runs(target.0, target.1));
    let mut changed = Vec::new();
    for (path, old) in &base {
        let Some(new) = target.get(path) else { continue };
        let mut common = old.iter().filter_map(|(key, code)| Some((code, new.get(key)?))).peekable();
        // With no function in common nothing is proved.
        let is_changed = common.peek().is_none() || common.any(|(old, new)| old != new);
        if is_changed {
            changed.push(Changed { path: path.clone(), how: "the code that runs it".to_owned(), follows: false });
        }
    }
    changed
}
