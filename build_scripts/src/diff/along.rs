//! Which changes belong together: code of a crate may be inlined in those that depend on it, so a cell cannot be updated
//! without the changed ones that it depends on, or that depend on it, whatever lies between.

use super::side::Files;
use bundle::Change;
use std::collections::{BTreeMap, BTreeSet};

/// By crate: those that are joined to it.
type Edges<'f> = BTreeMap<&'f str, BTreeSet<&'f str>>;

/// Who depends on whom in either build; the second maps the other way.
fn edges<'f>(files: [&'f Files; 2]) -> (Edges<'f>, Edges<'f>) {
    let (mut down, mut up) = (Edges::new(), Edges::new());
    for (from, on) in files.into_iter().flat_map(|files| &files.depends) {
        for to in on {
            down.entry(from).or_default().insert(to);
            up.entry(to).or_default().insert(from);
        }
    }
    (down, up)
}

fn reached<'f>(edges: &Edges<'f>, from: &'f str) -> BTreeSet<&'f str> {
    let (mut seen, mut todo) = (BTreeSet::new(), vec![from]);
    while let Some(next) = todo.pop() {
        if seen.insert(next) {
            todo.extend(edges.get(next).into_iter().flatten());
        }
    }
    seen
}

/// For each change, the names of the others that must come with it.
pub fn along(files: [&Files; 2], changes: &[Change]) -> Vec<Vec<String>> {
    let (down, up) = edges(files);
    let joined = |name: &str| -> BTreeSet<usize> {
        let all: BTreeSet<&str> = reached(&down, name).into_iter().chain(reached(&up, name)).collect();
        (0..changes.len()).filter(|&at| all.contains(changes[at].name.as_str())).collect()
    };
    let direct: Vec<BTreeSet<usize>> = changes.iter().map(|change| joined(&change.name)).collect();
    let together = |start: usize| {
        let (mut seen, mut todo) = (BTreeSet::new(), vec![start]);
        while let Some(next) = todo.pop() {
            if seen.insert(next) {
                todo.extend(&direct[next]);
            }
        }
        seen.remove(&start);
        seen.into_iter().map(|at| changes[at].name.clone()).collect()
    };
    (0..changes.len()).map(together).collect()
}
