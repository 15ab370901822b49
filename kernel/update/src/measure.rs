//! What an exchange costs, part by part: measured on reseats, which go through everything that an update goes through.

use crate::{
    Data, Error, Stage,
    retire::{look_once, retire},
    transaction::{BLOB_BYTES, perform, place_blob},
};
use alloc::vec::Vec;
use linker::CellId;
use loader::World;

/// What one exchange cost. Times are in nanoseconds; with `-icount shift=0` one is one instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    /// Cells that got a new copy.
    pub cells: usize,
    /// Words that were written, frames included.
    pub patches: usize,
    /// Frames that were moved.
    pub frames: usize,
    /// To place and link the new copies.
    pub stage_ns: u64,
    /// From before the rendezvous to when the books are in order again and the old copies are given back.
    pub apply_ns: u64,
    /// Of that, while no task ran.
    pub pause_ns: u64,
}

/// The pause of a rendezvous that changes nothing.
///
/// # Errors
/// [`Error`].
pub fn empty_rendezvous(world: &World) -> Result<u64, Error> {
    let blob = place_blob(world.room_for_text(BLOB_BYTES)?)?;
    let (_, met) = perform(world, Vec::new(), &world.map, &[], &[], blob, Data::default())?;
    Ok(met.pause_ns)
}

/// Gives second copies to some cells.
///
/// # Errors
/// [`Error`].
pub fn exchange(world: &mut World, cells: &[CellId]) -> Result<Cost, Error> {
    let started_ns = time::now_ns();
    let stage = Stage::new(world, Vec::new(), &|_, _| None, cells)?;
    let staged_ns = time::now_ns();
    let done = stage.apply(world)?;
    Ok(Cost {
        cells: done.cells,
        patches: done.words,
        frames: done.frames,
        stage_ns: staged_ns - started_ns,
        apply_ns: time::now_ns() - staged_ns,
        pause_ns: done.pause_ns,
    })
}

/// How long a look through memory takes, while which no task runs; and the whole of retiring with it.
///
/// # Errors
/// [`Error`].
pub fn look(world: &mut World) -> Result<(u64, u64), Error> {
    let pause_ns = look_once(world)?;
    let started_ns = time::now_ns();
    retire(world)?;
    Ok((pause_ns, time::now_ns() - started_ns))
}
