//! Why an object differs, for people: which functions and constants, and in what way.

use super::code::{Code, Reader};
use super::debug::Debug;
use super::names;
use super::side::{Function, Side, Unit};
use std::collections::BTreeSet;

/// The most reasons that are given of one kind.
const MOST: usize = 40;

/// One build of a cell.
pub struct Place<'s, 'a> {
    /// The build.
    pub side: &'s Side<'a>,
    /// The cell.
    pub cell: u32,
}

impl<'s, 'a> Place<'s, 'a> {
    fn unit(&self) -> &'s Unit<'a> {
        &self.side.units[self.cell as usize]
    }
}

/// Reasons by kind; the order is the one in which they are given.
#[derive(Default)]
struct Found {
    bodies: BTreeSet<String>,
    inlined: BTreeSet<String>,
    constants: BTreeSet<String>,
    unwinding: BTreeSet<String>,
    new: BTreeSet<String>,
    gone: BTreeSet<String>,
    renamed: BTreeSet<String>,
    /// New and removed functions that other crates' generics and the compiler brought along.
    instances: usize,
}

/// The reasons why the two builds of a cell differ; `debug` is the target's.
pub fn reasons<'s, 'a>(
    base: &Place<'s, 'a>,
    target: &Place<'s, 'a>,
    readers: (&mut Reader<'s, 'a>, &mut Reader<'s, 'a>),
    debug: Option<&Debug>,
) -> Vec<String> {
    let (old_unit, new_unit) = (base.unit(), target.unit());
    let mut found = Found::default();
    let mut matched: BTreeSet<u32> = BTreeSet::new();
    for (number, old) in old_unit.functions.iter().enumerate() {
        let new = match (old_unit.with_path(&old.path), new_unit.with_path(&old.path)) {
            ([_], [new]) => Some(*new),
            _ => new_unit.with_symbol(old.symbol),
        };
        let Some(new) = new else {
            found.vanished(old, new_unit);
            continue;
        };
        matched.insert(new);
        let was = readers.0.code(base.cell, number as u32);
        let is = readers.1.code(target.cell, new);
        let new = &new_unit.functions[new as usize];
        found.compare((old, new), (was, is), (base, target), debug);
    }
    for (number, new) in new_unit.functions.iter().enumerate() {
        if !matched.contains(&(number as u32)) {
            if is_own(new, new_unit) {
                found.new.insert(format!("new function {}", new.path));
            } else {
                found.instances += 1;
            }
        }
    }
    found.statics(base, target, readers);
    found.list()
}

fn is_own(function: &Function<'_>, unit: &Unit<'_>) -> bool {
    names::home(function.symbol).is_none_or(|home| home == unit.cell.name) && !function.path.contains("{shim:")
}

impl Found {
    fn vanished(&mut self, old: &Function<'_>, unit: &Unit<'_>) {
        if is_own(old, unit) {
            self.gone.insert(format!("function {} gone", old.path));
        } else {
            self.instances += 1;
        }
    }

    fn compare(
        &mut self,
        (old, new): (&Function<'_>, &Function<'_>),
        (was, is): (Code, Code),
        places: (&Place<'_, '_>, &Place<'_, '_>),
        debug: Option<&Debug>,
    ) {
        let path = &new.path;
        if was.body != is.body {
            if is_own(new, places.1.unit()) {
                self.bodies.insert(changed_body(new, places, debug));
            } else {
                self.inlined.insert(format!("inlined body of {path}"));
            }
        } else if was.constants != is.constants {
            self.constants.insert(format!("constant in {path}"));
        } else if was.unwinding != is.unwinding {
            self.unwinding.insert(format!("unwind table of {path}"));
        } else if old.symbol != new.symbol {
            self.renamed.insert(format!("renamed symbol of {path}"));
        }
    }

    /// Named values: whether they are there, and their contents.
    fn statics<'s, 'a>(
        &mut self,
        base: &Place<'s, 'a>,
        target: &Place<'s, 'a>,
        readers: (&mut Reader<'s, 'a>, &mut Reader<'s, 'a>),
    ) {
        let (old_unit, new_unit) = (base.unit(), target.unit());
        for old in &old_unit.statics {
            let Some(new) = new_unit.statics.iter().find(|new| new.key() == old.key()) else {
                self.gone.insert(format!("constant {} gone", old.path));
                continue;
            };
            if old.size != new.size {
                self.constants.insert(format!("constant {}: {} → {} bytes", new.path, old.size, new.size));
            } else if readers.0.value(base.cell, old.section, old.value, old.value + old.size)
                != readers.1.value(target.cell, new.section, new.value, new.value + new.size)
            {
                self.constants.insert(format!("constant {}", new.path));
            }
        }
        for new in &new_unit.statics {
            if !old_unit.statics.iter().any(|old| old.key() == new.key()) {
                self.new.insert(format!("new constant {}", new.path));
            }
        }
    }

    fn list(self) -> Vec<String> {
        let mut list = Vec::new();
        for kind in [self.bodies, self.inlined, self.constants, self.unwinding, self.new, self.gone, self.renamed] {
            let more = kind.len().saturating_sub(MOST);
            let first =
                kind.iter().next().and_then(|reason| reason.split_whitespace().next()).unwrap_or_default().to_owned();
            list.extend(kind.into_iter().take(MOST));
            if more > 0 {
                list.push(format!("and {more} more like `{first} …`"));
            }
        }
        if self.instances > 0 {
            list.push(format!("{} instances of other crates' generic functions come or go", self.instances));
        }
        if list.is_empty() {
            list.push("order of its parts".to_owned());
        }
        list
    }
}

/// Says that a function's body differs. If the cell's own source is the same, it is because of what was inlined.
fn changed_body(function: &Function<'_>, places: (&Place<'_, '_>, &Place<'_, '_>), debug: Option<&Debug>) -> String {
    let (base, target) = (places.0.side.files, places.1.side.files);
    let own = &places.1.unit().cell.name;
    if base.same_source(target, own) != Some(true) {
        return format!("body of {}", function.path);
    }
    let routine = debug.and_then(|debug| debug.routines.get(function.symbol));
    let mut inlined = routine.into_iter().flat_map(|routine| &routine.inlined);
    let is_changed =
        |home: &Option<String>| home.as_ref().is_some_and(|home| base.same_source(target, home) == Some(false));
    match inlined.find(|(_, home)| is_changed(home)) {
        Some((inlined, _)) => format!("inlined body of {inlined} in {}", function.path),
        None => format!("inlined body in {}", function.path),
    }
}
