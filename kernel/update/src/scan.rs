//! Looking through memory for what still refers to old copies, loose constants and thunks: in the event kernel, while no
//! task runs, so that nothing moves from where has not been looked yet to where has.
//!
//! Looked at are the objects of the heap that are out, every other frame that is in use, and of stacks the part that
//! lives. Not looked at: frames that are free, the archive, code and page tables. A word that only looks like an address keeps
//! something too long; nothing that is referred to goes unseen.

use crate::plan::Obstacle;
use alloc::{vec, vec::Vec};
use arrayvec::ArrayString;
use handoff::layout::{CONSTANTS, PAGE, PHYSICAL_MAP, STACK_SLOT, STACK_SLOTS, STACKS, TABLE_WINDOW, THUNKS};
use linker::Loose;
use loader::World;
use task::Stopped;

const WORD: usize = 8;
/// Stands for "in the interrupt table".
const GATE: u64 = 1;

/// A frame of a task in an old copy.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    pub task: ArrayString<32>,
    /// Offset in the copy's text, in bytes.
    pub offset: u64,
}

/// What to look for, and what has been found.
#[derive(Debug)]
pub(crate) struct Scan {
    pub loose: Loose,
    /// By place in `loose`: where a word was found that refers to it; 0 if none was.
    pub found: Vec<u64>,
    /// Text of the old copies, in the world's order: start and length.
    old: Vec<(u64, u64)>,
    /// By old copy: a frame in it.
    pub frames: Vec<Option<Held>>,
    /// By frame of memory: whether it is to be looked at.
    look: Vec<u64>,
    /// Virtual addresses that are passed over.
    archive: (u64, u64),
    /// Why it was given up.
    pub note: Option<Obstacle>,
}

impl Scan {
    /// Prepares a look for everything loose in a world.
    pub fn new(world: &World) -> Scan {
        let loose = world.graph.loose();
        let old: Vec<(u64, u64)> =
            world.old.iter().map(|old| old.replaced.placement.text).map(|text| (text.address, text.len)).collect();
        let archive = world.archive.bytes.as_ptr_range();
        Scan {
            found: vec![0; loose.len()],
            loose,
            frames: vec![None; old.len()],
            old,
            look: vec![0; frames::bound().div_ceil(64)],
            archive: (archive.start as u64, archive.end as u64),
            note: None,
        }
    }

    /// Looks. False if it was given up, as `note` says.
    pub fn run(&mut self) -> bool {
        self.found.fill(0);
        self.frames.fill(None);
        self.look.fill(0);
        self.note = None;
        task::for_each_stopped(|stopped| {
            if self.note.is_none() {
                self.task(stopped);
            }
        });
        if self.note.is_some() {
            return false;
        }
        interrupts::each_gate(|address| self.word(address, GATE));
        self.choose_frames();
        self.memory();
        true
    }

    /// The frames of a task, and the part of its stacks that lives.
    fn task(&mut self, stopped: &Stopped) {
        if stopped.unwinding {
            self.note = Some(Obstacle::new(stopped.name, format_args!("it is being unwound")));
            return;
        }
        let walked = unwind::walk(stopped.block, &stopped.bounds, stopped.base, &mut |frame| {
            let within = if frame.exact { frame.pc } else { frame.pc - 1 };
            let at = self.old.iter().position(|(start, len)| within.wrapping_sub(*start) < *len);
            if let Some(at) = at.filter(|&at| self.frames[at].is_none()) {
                self.frames[at] = Some(Held { task: stopped.name, offset: within - self.old[at].0 });
            }
            Ok(())
        });
        if let Err(error) = walked {
            self.note = Some(Obstacle::new(stopped.name, format_args!("{error}")));
            return;
        }
        // SAFETY: the block of a task that does not run.
        let rsp = unsafe { (*stopped.block).rsp };
        let block = stopped.block as u64;
        let [stack, reserve] = &stopped.bounds;
        if reserve.contains(&rsp) || reserve.contains(&block) {
            // It has overflowed its stack, all of which lives.
            self.words(stack.start, (stack.end - stack.start) as usize);
        }
        for bounds in &stopped.bounds {
            // The lower of the two, where both lie on this stack: the block is part of what lives.
            let lowest = [rsp, block].into_iter().filter(|at| bounds.contains(at)).min();
            if let Some(lowest) = lowest {
                self.words(lowest & !(WORD as u64 - 1), (bounds.end - lowest) as usize);
            }
        }
    }

    /// Marks the frames that are to be looked at.
    fn choose_frames(&mut self) {
        let Scan { look, archive, .. } = self;
        let mut set = |first: u64, count: u64, to: bool| {
            for frame in first..first + count {
                if let Some(word) = look.get_mut(frame as usize / 64) {
                    let bit = 1 << (frame % 64);
                    if to { *word |= bit } else { *word &= !bit }
                }
            }
        };
        // Whatever memory is seen in the physical map, which code and page tables have left; not what devices are behind.
        paging::walk(&mut |leaf| {
            if (PHYSICAL_MAP..TABLE_WINDOW).contains(&leaf.address) && leaf.address - PHYSICAL_MAP == leaf.physical {
                set(leaf.physical / PAGE, leaf.bytes / PAGE, true);
            }
        });
        let stacks = STACKS..STACKS + STACK_SLOTS * STACK_SLOT;
        paging::walk(&mut |leaf| {
            if stacks.contains(&leaf.address) {
                set(leaf.physical / PAGE, leaf.bytes / PAGE, false);
            }
        });
        frames::each_free(|first, count| set(first as u64, count as u64, false));
        let whole = (archive.0.next_multiple_of(PAGE), archive.1 & !(PAGE - 1));
        set((whole.0 - PHYSICAL_MAP) / PAGE, whole.1.saturating_sub(whole.0) / PAGE, false);
    }

    /// Looks at the chosen frames.
    fn memory(&mut self) {
        let chunk = heap::CHUNK_BYTES as u64 / PAGE;
        let mut frame = 0;
        while frame < self.look.len() as u64 * 64 {
            let word = self.look[frame as usize / 64];
            if word >> (frame % 64) == 0 {
                frame = (frame / 64 + 1) * 64;
                continue;
            }
            if word >> (frame % 64) & 1 == 0 {
                frame += 1;
                continue;
            }
            let address = PHYSICAL_MAP + frame * PAGE;
            let whole = frame.is_multiple_of(chunk)
                && (frame..frame + chunk).all(|at| self.look[at as usize / 64] >> (at % 64) & 1 != 0);
            // SAFETY: these frames are RAM, in use, and seen in the physical map; nobody else runs.
            let objects =
                whole.then(|| unsafe { heap::each_out(address, |object, len| self.words(object, len)) }).flatten();
            match objects {
                Some(len) => frame += len as u64 / PAGE,
                None => {
                    self.words(address, PAGE as usize);
                    frame += 1;
                }
            }
        }
    }

    /// Looks at the words of a range, which can be read.
    fn words(&mut self, address: u64, len: usize) {
        for at in (address..address + (len / WORD * WORD) as u64).step_by(WORD) {
            // SAFETY: the caller's: mapped, aligned to a word, and nobody writes to it.
            let word = unsafe { (at as *const u64).read() };
            if word.wrapping_sub(CONSTANTS.start) <= THUNKS.end - CONSTANTS.start {
                self.word(word, at);
            }
        }
    }

    /// A word that was found at an address.
    fn word(&mut self, word: u64, address: u64) {
        for at in self.loose.at(word) {
            self.found[at] = address;
        }
    }
}
