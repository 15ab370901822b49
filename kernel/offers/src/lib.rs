//! Updates by difference: what the host has offered, its plan, applying it, and the list of what was applied.
//!
//! ```text
//! host ──bundle──▶ offer() ─▶ one offer waits ─▶ plan() shows it ─▶ apply() ─▶ history ─▶ rollback()
//!                     refused: not readable, another base, wrong hashes
//! ```
//!
//! 1. A bundle is checked whole before it is kept: its base must be what runs, every object must have the hash it says,
//!    and the running cells with its changes must give exactly the target id. So after it the system *is* the target.
//! 2. Applying it is one transaction of `update`: all cells or none.
//! 3. An update is taken back by the reverse change, made of the objects that it replaced: by a person, or by itself if
//!    what it brought fails within [`PROBATION_NS`].
#![no_std]
#![allow(
    unsafe_code,
    reason = "keeps objects' bytes alive for the graph that borrows them; exports the service's symbol"
)]

extern crate alloc;

mod apply;
mod data;
mod error;
mod history;
mod offer;
mod own;
mod part;
mod plan;
mod planks;
mod probation;
mod services;
mod store;
mod users;

pub use apply::{apply, rollback};
pub use error::Error;
pub use history::{Applied, Outcome, each_applied};
pub use offer::{offer, offered, withdraw};
pub use own::{make_namespace, remove_namespace, start, stop, unload};
pub use plan::{Plan, Planned, plan};
pub use planks::{Plank, Planks, planks};
pub use probation::{PROBATION_NS, notice};
