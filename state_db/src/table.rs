//! Records with stable addresses, found by index without a lock.
//!
//! ```text
//! chunks[0] -> 16 records   chunks[1] -> 32   chunks[2] -> 64   ...     each twice the one before, never moved
//! record = gate | link | value            link: next free record, or next of the same name's hash
//! ```
//!
//! A table grows by whole chunks and gives none back before it is dropped: its memory follows the largest number of
//! values there ever were at a time, not how many came and went.

use crate::Error;
use crate::gate::{Gate, Refused};
use crate::memory;
use alloc::alloc::Layout;
use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::ptr::null_mut;
use core::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use sync::{IrqLock, PreemptGuard};

/// Records of the first chunk.
const FIRST: u32 = 16;
const CHUNKS: usize = 27;
/// No record.
pub(crate) const NONE: u32 = u32::MAX;

/// Names one value in a table for as long as it is there. All bits zero name nothing: generations begin at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Handle {
    pub(crate) generation: u32,
    pub(crate) index: u32,
}

impl Handle {
    pub(crate) const fn bits(self) -> u64 {
        (self.generation as u64) << 32 | self.index as u64
    }

    pub(crate) const fn from_bits(bits: u64) -> Handle {
        Handle { generation: (bits >> 32) as u32, index: bits as u32 }
    }
}

#[repr(C)]
pub(crate) struct Record<T> {
    gate: Gate,
    /// Free: the next free record. Filled: for the table's owner to use.
    pub(crate) link: AtomicU32,
    value: UnsafeCell<MaybeUninit<T>>,
}

struct Free {
    /// First free record.
    head: u32,
    /// Chunks there are.
    chunks: u32,
    /// Filled or reserved records.
    used: u32,
}

pub(crate) struct Table<T> {
    chunks: [AtomicPtr<Record<T>>; CHUNKS],
    free: IrqLock<Free>,
}

// SAFETY: values are moved in and out from any CPU (`Send`) and borrowed by several at once (`Sync`).
unsafe impl<T: Send + Sync> Sync for Table<T> {}
// SAFETY: the table owns its records.
unsafe impl<T: Send> Send for Table<T> {}

/// Why a value stays in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stays {
    /// It is not there, or is leaving already.
    Gone,
    /// So many still use it.
    Busy(u32),
    /// The caller's check said no.
    Unfit,
}

/// A value in use: it stays where it is until this is dropped.
pub(crate) struct Pin<'a, T>(&'a Record<T>);

impl<T> core::ops::Deref for Pin<'_, T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        // SAFETY: the gate let us in, so the record is filled, and it is not emptied while we are counted.
        unsafe { (*self.0.value.get()).assume_init_ref() }
    }
}

impl<T> Pin<'_, T> {
    pub(crate) fn gate(&self) -> &Gate {
        &self.0.gate
    }
}

impl<T> Drop for Pin<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.0.gate.leave();
    }
}

/// A record that is reserved for a value to come; it is free again if dropped.
pub(crate) struct Vacant<'a, T> {
    table: &'a Table<T>,
    index: u32,
}

impl<T> Vacant<'_, T> {
    /// Puts the value in and lets users in.
    pub(crate) fn fill(self, value: T) -> Handle {
        let Some(record) = self.table.record(self.index) else { unreachable!("a reserved record lies in a chunk") };
        // SAFETY: the record is reserved for us and sealed, so nobody reads it.
        unsafe { (*record.value.get()).write(value) };
        let handle = Handle { generation: record.gate.generation(), index: self.index };
        record.gate.fill();
        core::mem::forget(self);
        handle
    }

    pub(crate) fn index(&self) -> u32 {
        self.index
    }
}

impl<T> Drop for Vacant<'_, T> {
    fn drop(&mut self) {
        self.table.release(self.index);
    }
}

const fn records_in(chunk: u32) -> u32 {
    FIRST << chunk
}

fn layout_of<T>(chunk: u32) -> Result<Layout, Error> {
    Layout::array::<Record<T>>(records_in(chunk) as usize).map_err(|_| Error::OutOfMemory)
}

impl<T> Table<T> {
    pub(crate) const fn new() -> Self {
        Table {
            chunks: [const { AtomicPtr::new(null_mut()) }; CHUNKS],
            free: IrqLock::new(Free { head: NONE, chunks: 0, used: 0 }),
        }
    }

    #[inline]
    pub(crate) fn record(&self, index: u32) -> Option<&Record<T>> {
        let place = index.checked_add(FIRST)?;
        let chunk = place.ilog2() - FIRST.ilog2();
        let first = self.chunks.get(chunk as usize)?.load(Ordering::Acquire);
        if first.is_null() {
            return None;
        }
        // SAFETY: a chunk has `records_in(chunk)` records from its first one on, all initialised before the pointer was
        // stored, and stays until the table is dropped. `place - records_in(chunk)` is less than that number.
        Some(unsafe { &*first.add((place - records_in(chunk)) as usize) })
    }

    /// The value in use, unless its door is closed.
    #[inline]
    pub(crate) fn enter(&self, handle: Handle) -> Result<Pin<'_, T>, Refused> {
        let record = self.record(handle.index).ok_or(Refused::Gone)?;
        record.gate.enter(handle.generation)?;
        Ok(Pin(record))
    }

    /// The value in use, its door closed or not.
    pub(crate) fn hold(&self, handle: Handle) -> Result<Pin<'_, T>, Refused> {
        let record = self.record(handle.index).ok_or(Refused::Gone)?;
        record.gate.hold(handle.generation)?;
        Ok(Pin(record))
    }

    /// The value of a record that cannot go.
    ///
    /// # Safety
    /// The record must be filled and stay so as long as the borrow lives.
    pub(crate) unsafe fn peek(&self, record: &Record<T>) -> &T {
        // SAFETY: passed on to the caller; the record lives as long as the table.
        unsafe { &*(*record.value.get()).as_ptr() }
    }

    /// Finds room for one more value.
    pub(crate) fn reserve(&self) -> Result<Vacant<'_, T>, Error> {
        loop {
            let chunk = {
                let mut free = self.free.lock();
                if let Some(record) = self.record(free.head) {
                    let index = free.head;
                    free.head = record.link.load(Ordering::Relaxed);
                    free.used += 1;
                    return Ok(Vacant { table: self, index });
                }
                free.chunks
            };
            self.grow(chunk)?;
        }
    }

    /// Adds chunk number `chunk`, unless another CPU does it first. No memory is asked for under the lock.
    fn grow(&self, chunk: u32) -> Result<(), Error> {
        let place = self.chunks.get(chunk as usize).ok_or(Error::OutOfMemory)?;
        let layout = layout_of::<T>(chunk)?;
        let first = memory::allocate(layout)?.cast::<Record<T>>().as_ptr();
        let start = records_in(chunk) - FIRST;
        let last = records_in(chunk) - 1;
        for offset in 0..=last {
            let link = if offset == last { NONE } else { start + offset + 1 };
            let record = Record {
                gate: Gate::vacant(),
                link: AtomicU32::new(link),
                value: UnsafeCell::new(MaybeUninit::uninit()),
            };
            // SAFETY: within the chunk just allocated.
            unsafe { first.add(offset as usize).write(record) };
        }
        let mut free = self.free.lock();
        if free.chunks != chunk {
            drop(free);
            // SAFETY: allocated above with this layout and never shared.
            unsafe { alloc::alloc::dealloc(first.cast(), layout) };
            return Ok(());
        }
        // SAFETY: the chunk's last record; nobody else has the chunk yet.
        unsafe { (*first.add(last as usize)).link.store(free.head, Ordering::Relaxed) };
        place.store(first, Ordering::Release);
        free.head = start;
        free.chunks += 1;
        Ok(())
    }

    fn release(&self, index: u32) {
        let Some(record) = self.record(index) else { return };
        let mut free = self.free.lock();
        record.link.store(free.head, Ordering::Relaxed);
        free.head = index;
        free.used -= 1;
    }

    pub(crate) fn insert(&self, value: T) -> Result<Handle, Error> {
        Ok(self.reserve()?.fill(value))
    }

    /// Takes a value out, once nobody uses it. New users are refused at once; those inside are waited for, at most
    /// `patience` turns. `fit` sees the value while nobody else does and may still refuse; `unlink` runs when it is
    /// settled that the value goes.
    pub(crate) fn remove(
        &self,
        handle: Handle,
        patience: u32,
        fit: impl FnOnce(&T) -> bool,
        unlink: impl FnOnce(&T),
    ) -> Result<T, Stays> {
        let record = self.record(handle.index).ok_or(Stays::Gone)?;
        record.gate.seal(handle.generation).map_err(|_| Stays::Gone)?;
        let mut turns = 0;
        loop {
            let inside = record.gate.inside();
            if inside == 0 {
                break;
            }
            if turns == patience {
                record.gate.unseal();
                return Err(Stays::Busy(inside));
            }
            turns += 1;
            core::hint::spin_loop();
        }
        // SAFETY: the record was filled, and we alone have sealed it.
        let value = unsafe { (*record.value.get()).assume_init_ref() };
        if !fit(value) {
            record.gate.unseal();
            return Err(Stays::Unfit);
        }
        unlink(value);
        // SAFETY: nobody is inside and nobody comes in; after this read the record counts as empty.
        let value = unsafe { (*record.value.get()).assume_init_read() };
        // What is left would look like references to whoever looks through memory for some.
        // SAFETY: as above; zeros are as good as any bytes where no value is.
        unsafe { record.value.get().write_bytes(0, 1) };
        if record.gate.retire() {
            self.release(handle.index);
        } else {
            self.free.lock().used -= 1; // its handles are used up: it stays empty for ever
        }
        Ok(value)
    }

    /// Shows every value that is there when its turn comes, with preemption off for one at a time.
    pub(crate) fn each(&self, mut f: impl FnMut(Handle, &Pin<'_, T>)) {
        for index in 0..self.capacity() {
            let _stay = PreemptGuard::new();
            if let Some(handle) = self.current(index)
                && let Ok(pin) = self.hold(handle)
            {
                f(handle, &pin);
            }
        }
    }

    /// The handle of the value that record `index` holds now.
    pub(crate) fn current(&self, index: u32) -> Option<Handle> {
        let generation = self.record(index)?.gate.current()?;
        Some(Handle { generation, index })
    }

    /// Records there are, used and free.
    pub(crate) fn capacity(&self) -> u32 {
        let chunks = self.free.lock().chunks;
        (FIRST << chunks) - FIRST
    }

    /// Values there are.
    pub(crate) fn len(&self) -> usize {
        self.free.lock().used as usize
    }
}

/// Memory of chunks that hold nothing that must be dropped.
#[derive(Debug)]
pub(crate) struct Chunks([(*mut u8, Layout); CHUNKS]);

// SAFETY: memory without a value in it belongs to whoever has it.
unsafe impl Send for Chunks {}
// SAFETY: nothing is read through a shared reference.
unsafe impl Sync for Chunks {}

impl Drop for Chunks {
    fn drop(&mut self) {
        for (first, layout) in self.0.iter().filter(|(first, _)| !first.is_null()) {
            // SAFETY: allocated with this layout; nobody else has it.
            unsafe { alloc::alloc::dealloc(*first, *layout) };
        }
    }
}

impl<T> Table<T> {
    /// Memory for a table with as many records.
    pub(crate) fn room<U>(&self) -> Result<Chunks, Error> {
        let count = self.free.lock().chunks;
        let mut chunks = Chunks([(null_mut(), Layout::new::<()>()); CHUNKS]);
        for (number, chunk) in chunks.0.iter_mut().enumerate().take(count as usize) {
            let layout = layout_of::<U>(number as u32)?;
            *chunk = (memory::allocate(layout)?.as_ptr(), layout);
        }
        Ok(chunks)
    }

    /// Whether there are as many chunks.
    pub(crate) fn fits(&self, room: &Chunks) -> bool {
        room.0.iter().filter(|(first, _)| !first.is_null()).count() == self.free.lock().chunks as usize
    }

    /// The same table with other values: generations, doors and free records stay. The room takes the old memory.
    #[inline(never)] // what it may do is not what a migration may do
    pub(crate) fn convert<U>(self, room: &mut Chunks, mut f: impl FnMut(T) -> U) -> Table<U> {
        assert!(self.fits(room), "a table is converted into the room that was made for it");
        let table = Table::<U>::new();
        for (number, (first, layout)) in room.0.iter_mut().enumerate().filter(|(_, (first, _))| !first.is_null()) {
            let old = self.chunks[number].load(Ordering::Acquire);
            let new = first.cast::<Record<U>>();
            for at in 0..records_in(number as u32) as usize {
                // SAFETY: both chunks have `records_in(number)` records, as `fits` and `room` saw to; the old ones are
                // initialised, and nobody else uses either table.
                unsafe {
                    let (from, to) = (&*old.add(at), new.add(at));
                    let link = AtomicU32::new(from.link.load(Ordering::Relaxed));
                    to.write(Record { gate: from.gate.copy(), link, value: UnsafeCell::new(MaybeUninit::uninit()) });
                    if from.gate.current().is_some() {
                        (*(*to).value.get()).write(f((*from.value.get()).assume_init_read()));
                    }
                }
            }
            table.chunks[number].store(new, Ordering::Release);
            // The layout is that of the chunk that was allocated there.
            let old_layout = layout_of::<T>(number as u32).unwrap_or(*layout);
            (*first, *layout) = (old.cast(), old_layout);
        }
        {
            let (from, mut to) = (self.free.lock(), table.free.lock());
            *to = Free { head: from.head, chunks: from.chunks, used: from.used };
        }
        // Its values have moved, and its memory is the room's.
        core::mem::forget(self);
        table
    }
}

impl<T> Drop for Table<T> {
    fn drop(&mut self) {
        for index in 0..self.capacity() {
            if let Some(record) = self.record(index)
                && record.gate.current().is_some()
            {
                // SAFETY: filled, and nobody else can reach the table any more.
                unsafe { (*record.value.get()).assume_init_drop() };
            }
        }
        for (chunk, first) in self.chunks.iter_mut().enumerate() {
            let first = *first.get_mut();
            if let (false, Ok(layout)) = (first.is_null(), layout_of::<T>(chunk as u32)) {
                // SAFETY: allocated by `grow` with this layout; records themselves have nothing to drop.
                unsafe { alloc::alloc::dealloc(first.cast(), layout) };
            }
        }
    }
}
