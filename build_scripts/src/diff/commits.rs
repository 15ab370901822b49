//! What a migration's `commit` may do, checked on its object: it moves values while nothing else runs, so it asks for no
//! memory and cannot panic.
//!
//! Followed are the branches of compiled code, from the function in which the author's `commit` lies, through every cell. What
//! is called by way of a pointer is not seen. Giving memory back is allowed. `state_db` itself may panic: it converts a table
//! into the room that was made for it, and checks that.

use super::side::Side;
use linker::RelocationKind;
use std::collections::HashSet;

/// The function that holds the author's `commit`, for each type.
const MOVED: &str = "state_db::migration::moved::<";
/// What may panic in a commit: the database, and what it calls.
const DATABASE: &str = "state_db::";
const BELOW_IT: [&str; 3] = ["state_db::", "core::", "alloc::"];
/// What begins a panic.
const PANICS: [&str; 4] =
    ["core::panicking::", "core::option::expect_failed", "core::option::unwrap_failed", "core::result::unwrap_failed"];

/// Locks, which panic only where a holder has died.
const LOCKS: &str = "sync::";
/// What ends values: most of it stands where a panic would be unwound.
const DROPS: [&str; 3] = ["::Drop>::drop", "::drop_in_place", "::drop_glue"];
/// What only a panic that is under way comes to.
const SECOND: [&str; 2] = ["core::panicking::panic_in_cleanup", "core::panicking::panic_cannot_unwind"];

/// What a function is to this search.
enum Kind {
    /// It asks for memory.
    Allocates,
    /// It begins a panic.
    Panics,
    /// It ends a value, gives memory back, locks, or ends a panic: that is not looked into.
    Passed,
    Other,
}

fn kind(path: &str, symbol: &str) -> Kind {
    let drops = DROPS.iter().any(|part| path.contains(part));
    let slice_fails = path.starts_with("core::slice::index::") && path.contains("fail");
    if ["__rust_alloc", "__rust_realloc"].iter().any(|name| symbol.contains(name)) && !symbol.contains("no_alloc_shim")
    {
        Kind::Allocates
    } else if symbol.contains("__rust_dealloc")
        || SECOND.contains(&path)
        || drops
        || path.trim_start_matches(['<', '&']).starts_with(LOCKS)
    {
        Kind::Passed
    } else if PANICS.iter().any(|prefix| path.starts_with(prefix)) || slice_fails {
        Kind::Panics
    } else {
        Kind::Other
    }
}

/// What the commit to a type does that it may not, as the end of a sentence.
pub fn obstacle(target: &Side<'_>, ty: &str) -> Option<String> {
    let root = format!("{MOVED}{ty}>");
    let all = target.units.iter().enumerate().flat_map(|(cell, unit)| {
        let here = unit.functions.iter().enumerate().filter(|(_, function)| function.path == root);
        here.map(move |(function, _)| (cell as u32, function as u32))
    });
    // Each with whether it may panic.
    let mut todo: Vec<((u32, u32), bool)> = all.map(|found| (found, false)).collect();
    if todo.is_empty() {
        return Some("is not in any object, and cannot be looked at".to_owned());
    }
    let mut seen: HashSet<((u32, u32), bool)> = todo.iter().copied().collect();
    while let Some(((cell, function), may_panic)) = todo.pop() {
        let unit = &target.units[cell as usize];
        let caller = &unit.functions[function as usize];
        let inside = caller.value..caller.value + caller.size;
        let section = &unit.object.sections[caller.section as usize];
        for relocation in
            section.relocations().filter(|at| at.kind == RelocationKind::Branch32 && inside.contains(&at.offset))
        {
            let Some(called) = target.function(cell, &relocation) else { continue };
            let callee = &target.units[called.0 as usize].functions[called.1 as usize];
            let by = if caller.path == root { String::new() } else { format!(" (in {})", caller.path) };
            match kind(&callee.path, callee.symbol) {
                Kind::Allocates => return Some(format!("may ask for memory{by}")),
                Kind::Panics if !may_panic => return Some(format!("may panic{by}")),
                Kind::Panics | Kind::Passed => {}
                Kind::Other => {
                    let of = callee.path.trim_start_matches(['<', '&']);
                    let begins = of.starts_with(DATABASE);
                    let goes_on = may_panic && BELOW_IT.iter().any(|below| of.starts_with(below));
                    let next = (called, begins || goes_on);
                    if seen.insert(next) {
                        todo.push(next);
                    }
                }
            }
        }
    }
    None
}
