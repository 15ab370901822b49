//! Scheduling policies: which cells give one, which one decides, and another in its place.
//!
//! A policy is two symbols of its cell:
//! ```text
//! delias_scheduler_NAME() -> Result<&'static dyn Scheduler, String>     gives it, with its state, which is made if it is not there
//! delias_relieve_NAME()   -> Result<(), String>                         takes the state back: another one decides
//! ```

use crate::apart;
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use linker::CellId;
use loader::{World, with_world};
use manifest::Service;
use task::Scheduler;

/// How the symbols begin.
const GIVES: &str = "delias_scheduler_";
const RELIEVES: &str = "delias_relieve_";
/// The service that puts a policy in place at boot.
const SERVICE: &str = "scheduler";

type Give = extern "Rust" fn() -> Result<&'static dyn Scheduler, String>;
type Relieve = extern "Rust" fn() -> Result<(), String>;

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Policy {
    /// Its name.
    pub name: String,
    /// The cell that gives it.
    pub cell: String,
}

/// All policies, sorted by name.
pub fn policies(world: &World) -> Vec<Policy> {
    let of = |(_, cell): (CellId, &linker::Cell<'static>)| {
        let names = cell.object.defined().filter_map(|symbol| symbol.strip_prefix(GIVES));
        names.map(|name| Policy { name: name.into(), cell: cell.name.into() }).collect::<Vec<_>>()
    };
    let mut all: Vec<Policy> = world.graph.cells().flat_map(of).collect();
    all.sort_unstable();
    all
}

/// The cell whose policy decides.
pub fn deciding(world: &World) -> Option<String> {
    let method = task::scheduler_method()?;
    let located = world.graph.locate(world.graph.behind_thunk(method))?;
    Some(world.graph.cell(located.cell).name.into())
}

/// The policy of the cell that puts one in place at boot.
pub fn first(world: &World) -> Option<Policy> {
    let is_it = |service: &&Service| service.name == SERVICE;
    let service = world.services.iter().map(|listed| &listed.service).find(is_it)?;
    let cell = world.graph.cell(world.graph.definer(&service.implementation)?).name;
    policies(world).into_iter().find(|policy| policy.cell == cell)
}

/// Lets a policy decide, which is given all tasks that are ready; how many those are. Each step is taken in a task of its own.
///
/// # Errors
/// A sentence; the policy before decides on.
pub fn use_policy(name: &str) -> Result<usize, String> {
    let symbol = loader::symbol(&format!("{GIVES}{name}")).map_err(|error| error.to_string())?;
    // SAFETY: the symbol's name says that it is a `Give`; the address is its thunk.
    let give = unsafe { core::mem::transmute::<usize, Give>(symbol) };
    take_over(name, || apart(name, give))
}

/// The same for a policy of the base, in the task that asks: where nobody else may come to run.
///
/// # Errors
/// As [`use_policy`].
pub fn use_now(policy: &Policy) -> Result<usize, String> {
    let symbol = loader::symbol(&format!("{GIVES}{}", policy.name)).map_err(|error| error.to_string())?;
    // SAFETY: as above.
    let give = unsafe { core::mem::transmute::<usize, Give>(symbol) };
    take_over(&policy.name, || unwind::catch(give).unwrap_or_else(|caught| Err(caught.to_string())))
}

fn take_over(name: &str, give: impl FnOnce() -> Result<&'static dyn Scheduler, String>) -> Result<usize, String> {
    let (all, before) = with_world(|world| (policies(world), deciding(world))).map_err(|error| error.to_string())?;
    let policy = give().map_err(|why| {
        // What it had made before it failed, if anything.
        let _ = take_back(name);
        format!("{name} gives no policy: {why}")
    })?;
    let moved = task::use_scheduler(policy).map_err(|why| {
        relieve(name);
        format!("{name} does not take over: {why}")
    })?;
    // Whoever decided before has nothing to decide on any more.
    if let Some(old) = all.iter().find(|policy| before.as_ref() == Some(&policy.cell) && policy.name != name) {
        relieve(&old.name);
    }
    Ok(moved)
}

/// Lets a policy that decides no more give its state back, if it can.
fn relieve(name: &str) {
    if let Err(why) = take_back(name) {
        log::warn!("scheduling policy {name} keeps its state: {why}");
    }
}

fn take_back(name: &str) -> Result<(), String> {
    let Ok(address) = loader::symbol(&format!("{RELIEVES}{name}")) else { return Ok(()) };
    // SAFETY: the symbol's name says that it is a `Relieve`; the address is its thunk.
    let relieve = unsafe { core::mem::transmute::<usize, Relieve>(address) };
    apart(name, relieve)
}
