//! Guarded stacks: each in a slot of its own, with a page below it that is never mapped, and below that a reserve on which
//! a task that overflowed is unwound, guarded in the same way.

use crate::error::Error;
use crate::region::Region;
use crate::root::{Origin, root};
use core::ops::Range;
use handoff::layout::{PAGE, STACK_SLOT, STACK_SLOTS, STACKS, stack};

/// A task's stack, owned, zeroed when made. Dropping it gives slot and frames back.
/// ```compile_fail,E0382
/// let stack = paging::stack().unwrap();
/// drop(stack);
/// let _ = stack.top();
/// ```
#[derive(Debug)]
#[must_use]
pub struct Stack {
    // Fields are dropped in this order: the slot is free only after its pages are unmapped.
    _reserve: Region,
    _stack: Region,
    slot: Slot,
}

/// A number below [`STACK_SLOTS`] that nobody else has.
#[derive(Debug)]
struct Slot(u64);

impl Slot {
    fn take() -> Result<Slot, Error> {
        let mut state = root().lock();
        let word = state.slots.iter().position(|word| *word != u64::MAX).ok_or(Error::Stacks(STACK_SLOTS))?;
        let bit = state.slots[word].trailing_ones();
        state.slots[word] |= 1 << bit;
        Ok(Slot(word as u64 * 64 + u64::from(bit)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        root().lock().slots[(self.0 / 64) as usize] &= !(1 << (self.0 % 64));
    }
}

fn part(slot: u64, part: Range<u64>) -> Range<u64> {
    let base = STACKS + slot * STACK_SLOT;
    base + part.start..base + part.end
}

fn map(range: Range<u64>) -> Result<Region, Error> {
    Region::new(range.start, ((range.end - range.start) / PAGE) as usize, Origin::Memory, true)
}

/// Makes a stack in the lowest free slot.
///
/// # Errors
/// If memory is short or all slots are taken.
pub fn stack() -> Result<Stack, Error> {
    let slot = Slot::take()?;
    let reserve = map(part(slot.0, stack::RESERVE))?;
    let stack = map(part(slot.0, stack::STACK))?;
    Ok(Stack { _reserve: reserve, _stack: stack, slot })
}

impl Stack {
    /// The slot's number.
    pub fn slot(&self) -> u64 {
        self.slot.0
    }

    /// The address just above the stack, where it begins.
    pub fn top(&self) -> u64 {
        self.bounds().end
    }

    /// The stack's addresses.
    pub fn bounds(&self) -> Range<u64> {
        part(self.slot.0, stack::STACK)
    }

    /// The reserve's addresses.
    pub fn reserve(&self) -> Range<u64> {
        part(self.slot.0, stack::RESERVE)
    }
}
