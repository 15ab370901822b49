//! Which types changed between two builds.
//!
//! Types are brought together by path. Where several share one (functions of two impls may each have a type of the same
//! name inside), their layouts are compared as sets. A type that only one build mentions is no evidence: debug information
//! leaves out what inlining made unnecessary.

use super::debug::{Debug, Routine, Word};
use super::names;
use super::types::{Layout, Part, What};
use std::collections::{BTreeMap, HashMap, HashSet};

/// A type that changed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Changed {
    /// Its path; `dyn PATH` for the objects of a trait.
    pub path: String,
    /// What is different, for people.
    pub how: String,
    /// Nothing is different but sizes and places, because of another changed type that it holds.
    pub follows: bool,
}

/// The layouts of one build's types: of each path, every layout it stands for.
fn by_path<'t>(cells: &[&'t Debug]) -> HashMap<&'t str, HashSet<&'t Layout>> {
    let mut found: HashMap<&str, HashSet<&Layout>> = HashMap::new();
    for (path, layout) in cells.iter().flat_map(|debug| &debug.types.all) {
        if !layout.parts.is_empty() {
            found.entry(path).or_default().insert(layout);
        }
    }
    found
}

/// The types with another layout. What is said of a closure, or of a type that has one as a parameter, is left out: such
/// a value lives and ends with its old code.
pub fn changed(base: &[&Debug], target: &[&Debug]) -> Vec<Changed> {
    let (base, target) = (by_path(base), by_path(target));
    let mut changed = Vec::new();
    for (path, old) in &base {
        let Some(new) = target.get(path) else { continue };
        let (gone, come): (Vec<&&Layout>, Vec<&&Layout>) =
            (old.difference(new).collect(), new.difference(old).collect());
        // A vtable's own type repeats what its trait's objects say.
        if let (Some(gone), Some(come)) = (gone.first(), come.first())
            && !path.ends_with("::{vtable_type}")
        {
            let follows = shape(gone) == shape(come);
            changed.push(Changed { path: (*path).to_owned(), how: difference(gone, come), follows });
        }
    }
    changed.sort();
    let paths: HashSet<String> = changed.iter().map(|changed| changed.path.clone()).collect();
    let parts =
        |changed: &Changed| target.get(changed.path.as_str()).into_iter().flatten().flat_map(|layout| &layout.parts);
    for changed in &mut changed {
        changed.follows &= parts(changed).any(|part| *part.ty != *changed.path && paths.contains(&*part.ty));
    }
    let variants = target.iter().flat_map(|(path, layouts)| layouts.iter().map(move |layout| (*path, *layout)));
    let mut enums: HashMap<&str, &str> = HashMap::new();
    for (path, layout) in variants {
        enums.extend(layout.parts.iter().filter(|part| part.what == What::Variant).map(|part| (&*part.ty, path)));
    }
    name_enums(&mut changed, &enums);
    changed
}

/// What changed inside a variant is said of its enum: a variant is no type that anybody writes.
fn name_enums(changed: &mut Vec<Changed>, enums: &HashMap<&str, &str>) {
    let mut notes: BTreeMap<&str, String> = BTreeMap::new();
    for variant in changed.iter_mut().filter(|changed| !changed.follows) {
        let Some(of) = enums.get(variant.path.as_str()) else { continue };
        variant.follows = true;
        let all = notes.entry(of).or_default();
        let separator = if all.is_empty() { "" } else { "; " };
        *all += &format!("{separator}in `{}`: {}", names::last_segment(&variant.path), variant.how);
    }
    for (path, note) in notes {
        match changed.iter_mut().find(|changed| changed.path == path) {
            Some(known) => {
                known.follows = false;
                known.how += &format!("; {note}");
            }
            None => changed.push(Changed { path: path.to_owned(), how: note, follows: false }),
        }
    }
    changed.sort();
}

/// What a layout has, without where and how large.
fn shape(layout: &Layout) -> Vec<(What, &str, &str)> {
    let has = |part: &&Part| part.what != What::Size && part.what != What::Alignment;
    layout.parts.iter().filter(has).map(|part| (part.what, &*part.name, &*part.ty)).collect()
}

/// Closures whose captures changed, and types made with them. Not a type that is declared inside a closure.
pub fn is_exempt(changed: &Changed) -> bool {
    changed.path.contains("{closure_env#") && !names::is_coroutine(&changed.path)
}

/// What differs between two layouts, in words.
fn difference(old: &Layout, new: &Layout) -> String {
    let key = |part: &Part| (part.what, part.name.clone());
    let of = |layout: &Layout| layout.parts.iter().map(|part| (key(part), part.clone())).collect::<BTreeMap<_, _>>();
    let (old, new) = (of(old), of(new));
    // What came and went says more than what moved because of it; the size comes before both.
    let (mut notes, mut moved) = (Vec::new(), Vec::new());
    for (key, was) in &old {
        match new.get(key) {
            Some(is) if is == was => {}
            Some(is) if was.what == What::Size || was.ty != is.ty => notes.push(changed_part(was, is)),
            Some(is) => moved.push(changed_part(was, is)),
            None => notes.push(format!("{} gone", noun(was))),
        }
    }
    for (key, is) in &new {
        if !old.contains_key(key) {
            let at = if is.what == What::Member { " at " } else { " = " };
            let place = if is.place.is_empty() { String::new() } else { format!("{at}{}", is.place) };
            notes.push(format!("{} new{place}", noun(is)));
        }
    }
    notes.extend(moved);
    const MOST: usize = 5;
    if notes.len() > MOST {
        let more = notes.len() - MOST;
        notes.truncate(MOST);
        notes.push(format!("and {more} more"));
    }
    match notes.is_empty() {
        true => "parts with one name differ".to_owned(),
        false => notes.join(", "),
    }
}

fn noun(part: &Part) -> String {
    let kind = match part.what {
        What::Size => return "size".to_owned(),
        What::Alignment => return "alignment".to_owned(),
        What::Discriminant => return "discriminant".to_owned(),
        What::Slots => return "words of its vtables".to_owned(),
        What::Member => "member",
        What::Variant | What::Enumerator => "variant",
        What::Parameter => "parameter",
    };
    match part.ty.is_empty() {
        true => format!("{kind} `{}`", part.name),
        false => format!("{kind} `{}: {}`", part.name, part.ty),
    }
}

fn changed_part(was: &Part, is: &Part) -> String {
    let name = noun(&Part { ty: "".into(), ..was.clone() });
    let mut notes = Vec::new();
    if was.place != is.place {
        let of = |place: &str| if place.is_empty() { "none".to_owned() } else { place.to_owned() };
        let word = if was.what == What::Member { " from" } else { "" };
        notes.push(format!("{name}{word} {} → {}", of(&was.place), of(&is.place)));
    }
    if was.ty != is.ty {
        notes.push(format!("{name}: {} → {}", was.ty, is.ty));
    }
    notes.join(", ")
}

/// A method of a trait's objects: its name, and its signature without the object, if debug information has it.
type Method = (String, Option<String>);

/// The shape of a trait's objects as one vtable shows it.
type Shape = Vec<Method>;

/// The signatures of every compiled function of a build, by symbol.
fn signatures<'d>(cells: &[&'d Debug]) -> HashMap<&'d str, &'d Routine> {
    cells.iter().flat_map(|debug| &debug.routines).map(|(symbol, routine)| (symbol.as_str(), routine)).collect()
}

/// The shapes of a build: by trait, then by type.
fn shapes(cells: &[&Debug]) -> BTreeMap<String, BTreeMap<String, Shape>> {
    let signatures = signatures(cells);
    let mut found: BTreeMap<String, BTreeMap<String, Shape>> = BTreeMap::new();
    for vtable in cells.iter().flat_map(|debug| &debug.vtables) {
        // What runs a closure or a coroutine has no method's name, and the traits in question are the compiler's.
        if vtable.of.starts_with("core::ops::function::Fn") || vtable.ty.contains("_env#") {
            continue;
        }
        let methods = vtable.words.iter().map(|word| match word {
            Word::Method(symbol) => {
                let signature = signatures.get(symbol.as_str()).map(|routine| routine.signature(1));
                (names::method(&names::path(symbol)).to_owned(), signature)
            }
            Word::Supertrait => ("vtable of a supertrait".to_owned(), None),
            Word::Absent => ("no method".to_owned(), None),
        });
        found.entry(vtable.of.clone()).or_default().insert(vtable.ty.clone(), methods.collect());
    }
    found
}

/// The traits whose objects have another shape: methods, their order, or a signature.
pub fn changed_objects(base: &[&Debug], target: &[&Debug]) -> Vec<Changed> {
    let (base, target) = (shapes(base), shapes(target));
    let mut changed = Vec::new();
    for (of, old) in &base {
        let Some(new) = target.get(of) else { continue };
        // A type that both builds know is compared with itself; if there is none, any with any.
        let mut pairs: Vec<(&Shape, &Shape)> =
            old.iter().filter_map(|(ty, shape)| Some((shape, new.get(ty)?))).collect();
        if pairs.is_empty() {
            pairs.extend(old.values().zip(new.values()));
        }
        if let Some(how) = pairs.into_iter().find_map(|(old, new)| reshaped(old, new)) {
            changed.push(Changed { path: format!("dyn {of}"), how, follows: false });
        }
    }
    changed
}

/// What is different between two shapes, if anything is.
fn reshaped(old: &Shape, new: &Shape) -> Option<String> {
    let names = |shape: &Shape| shape.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
    if names(old) != names(new) {
        return Some(format!("methods [{}] → [{}]", names(old), names(new)));
    }
    old.iter().zip(new).find_map(|((name, was), (_, is))| match (was, is) {
        (Some(was), Some(is)) if was != is => Some(format!("method `{name}`: {was} → {is}")),
        _ => None,
    })
}

/// Whether a cell mentions a changed type.
pub fn mentions(debug: &Debug, changed: &Changed) -> bool {
    let object = changed.path.strip_prefix("dyn ");
    debug
        .types
        .all
        .iter()
        .any(|(path, _)| **path == *changed.path || object.is_some_and(|object| names::mentions_object(path, object)))
}

/// Paths of changed types, prepared for look-up.
pub struct Set<'c> {
    paths: HashSet<&'c str>,
    /// Traits whose objects changed.
    objects: Vec<&'c str>,
}

impl<'c> Set<'c> {
    /// The set of these types.
    pub fn new(changed: impl IntoIterator<Item = &'c Changed>) -> Set<'c> {
        let paths: HashSet<&str> = changed.into_iter().map(|changed| changed.path.as_str()).collect();
        let objects = paths.iter().filter_map(|path| path.strip_prefix("dyn ")).collect();
        Set { paths, objects }
    }

    /// Whether a type is one of them.
    pub fn contains(&self, path: &str) -> bool {
        self.paths.contains(path) || self.objects.iter().any(|object| names::mentions_object(path, object))
    }

    /// The types of a cell from which one of them can be reached: as a member, behind a pointer, as a parameter.
    pub fn reached_from(&self, debug: &Debug) -> HashSet<u32> {
        self.reached_by(debug, &debug.types.refers)
    }

    /// The types of a cell whose values hold one of them, or point to one, directly or by way of others.
    pub fn held_by(&self, debug: &Debug) -> HashSet<u32> {
        self.reached_by(debug, &debug.types.holds)
    }

    fn reached_by(&self, debug: &Debug, edges: &[Vec<u32>]) -> HashSet<u32> {
        let types = &debug.types;
        let mut from: Vec<Vec<u32>> = vec![Vec::new(); types.all.len()];
        for (index, refers) in edges.iter().enumerate() {
            refers.iter().for_each(|&to| from[to as usize].push(index as u32));
        }
        let start = types.all.iter().enumerate().filter(|(_, (path, _))| self.contains(path));
        let mut todo: Vec<u32> = start.map(|(index, _)| index as u32).collect();
        let mut reached: HashSet<u32> = todo.iter().copied().collect();
        while let Some(next) = todo.pop() {
            todo.extend(from[next as usize].iter().copied().filter(|&ty| reached.insert(ty)));
        }
        reached
    }
}
