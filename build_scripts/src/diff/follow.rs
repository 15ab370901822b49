//! Which functions of a replaced cell lead on to the target's: a pointer to the old one, kept in data, may from now on
//! call the new one.
//!
//! A function is the same for its callers if path, signature, and the layouts of parameters and result are. A path says
//! nothing of closures, coroutines and what the compiler makes for a type, nor of functions with parameters of such
//! types: there the code has to be equal too, and that of all such functions it refers to. If a path is not unique, the
//! symbol and the code have to be.

use super::code::Reader;
use super::debug::{Debug, Passed, Routine};
use super::layouts::Set;
use super::names;
use super::side::{Function, Side, Unit};
use bundle::Follow;
use std::collections::HashSet;

/// One build of a cell.
pub struct Place<'p, 's, 'a> {
    /// The build.
    pub side: &'s Side<'a>,
    /// The cell.
    pub cell: u32,
    /// Its debug information.
    pub debug: Option<&'p Debug>,
    /// Reads its code.
    pub reader: &'p mut Reader<'s, 'a>,
}

impl<'s, 'a> Place<'_, 's, 'a> {
    fn unit(&self) -> &'s Unit<'a> {
        &self.side.units[self.cell as usize]
    }

    fn routine(&self, function: &Function<'_>) -> Option<&Routine> {
        self.debug.and_then(|debug| debug.routines.get(function.symbol))
    }

    fn deep(&mut self, function: u32) -> [u8; 32] {
        self.reader.deep(self.cell, function)
    }
}

/// What leads on, and what does not.
#[derive(Debug, Default)]
pub struct Table {
    /// Old and new symbol.
    pub follow: Vec<Follow>,
    /// `PATH (WHY)`, sorted.
    pub not_followed: Vec<String>,
}

/// Compares the two builds of a cell. `changed` are the types with another layout, closures and coroutines included.
pub fn table(base: &mut Place<'_, '_, '_>, target: &mut Place<'_, '_, '_>, changed: &Set<'_>) -> Table {
    let mut table = Table::default();
    let reached = (reached(base, changed), reached(target, changed));
    let old_unit = base.unit();
    for (number, old) in old_unit.functions.iter().enumerate() {
        let new = counterpart(old_unit, old, target.unit());
        let is_relevant = old.taken
            || old.is_plain()
            || old.exported && new.is_some_and(|new| target.unit().functions[new as usize].taken);
        if !is_relevant {
            continue;
        }
        let verdict = match new {
            None if target.unit().with_path(&old.path).is_empty() => Err("it is gone".to_owned()),
            None => Err("its path is not unique".to_owned()),
            Some(new) => judge(base, number as u32, target, new, &reached),
        };
        match (verdict, new) {
            (Ok(()), Some(new)) => {
                let new = target.unit().functions[new as usize].symbol.to_owned();
                table.follow.push(Follow { old: old.symbol.to_owned(), new });
            }
            (Err(why), _) if old.taken || old.is_plain() => table.not_followed.push(format!("{} ({why})", old.path)),
            _ => {}
        }
    }
    table.follow.sort_by(|a, b| a.old.cmp(&b.old));
    table.not_followed.sort();
    table.not_followed.dedup();
    table
}

fn reached(place: &Place<'_, '_, '_>, changed: &Set<'_>) -> HashSet<u32> {
    place.debug.map(|debug| changed.reached_from(debug)).unwrap_or_default()
}

/// The function of the target that has the path, or, if the path is not unique, the symbol.
fn counterpart(old_unit: &Unit<'_>, old: &Function<'_>, target: &Unit<'_>) -> Option<u32> {
    match (old_unit.with_path(&old.path), target.with_path(&old.path)) {
        ([_], [new]) => Some(*new),
        _ => target.with_symbol(old.symbol),
    }
}

/// Whether the new function may be called in place of the old one; if not, why.
fn judge(
    base: &mut Place<'_, '_, '_>,
    old_number: u32,
    target: &mut Place<'_, '_, '_>,
    new_number: u32,
    reached: &(HashSet<u32>, HashSet<u32>),
) -> Result<(), String> {
    let (old, new) = (&base.unit().functions[old_number as usize], &target.unit().functions[new_number as usize]);
    if !old.is_callable() || !new.is_callable() {
        return Err("nothing takes its address any more".to_owned());
    }
    let mut is_fluid = names::is_fluid(&old.path);
    match (base.routine(old), target.routine(new)) {
        (Some(was), Some(is)) => {
            same_signature(was, is)?;
            for (routine, reached) in [(was, &reached.0), (is, &reached.1)] {
                let mut passed = routine.parameters.iter().chain([&routine.result]);
                if let Some(found) = passed.find(|passed| passed.ty.is_some_and(|ty| reached.contains(&ty))) {
                    return Err(format!("the layout of `{}` or of what it leads to", found.path));
                }
                let mut passed = routine.parameters.iter().chain([&routine.result]);
                is_fluid |= passed.any(|passed| passed.path.contains("_env#") || names::has_closure(&passed.path));
            }
        }
        // Assembly, which has no debug information: its symbol is its contract.
        (None, None) if old.symbol == new.symbol => {}
        _ => return Err("its signature is not known".to_owned()),
    }
    let is_ambiguous = !old.unique || !new.unique;
    if (is_fluid || is_ambiguous) && base.deep(old_number) != target.deep(new_number) {
        return Err(if is_ambiguous { "its path is not unique" } else { "its code differs" }.to_owned());
    }
    Ok(())
}

fn same_signature(old: &Routine, new: &Routine) -> Result<(), String> {
    let types = |routine: &Routine| routine.signature(0);
    if types(old) != types(new) {
        return Err(format!("its signature: {} → {}", types(old), types(new)));
    }
    let elsewhere =
        |(old, new): (&Passed, &Passed)| old.register.zip(new.register).is_some_and(|(old, new)| old != new);
    match old.parameters.iter().zip(&new.parameters).any(elsewhere) {
        true => Err("its parameters are passed in other registers".to_owned()),
        false => Ok(()),
    }
}
