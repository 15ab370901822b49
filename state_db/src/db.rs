//! The database itself, behind its root.

use crate::Error;
use crate::directory::Directory;
use crate::entry::EntryBody;
use crate::memory::boxed;
use crate::opaque::{OwnerBody, ValueBody};
use crate::slot::SlotBody;
use crate::table::Table;
use alloc::boxed::Box;
use core::ptr::null_mut;
use core::sync::atomic::Ordering;
use sync::IrqLock;

pub(crate) struct Db {
    pub(crate) entries: Directory<EntryBody>,
    pub(crate) slots: Directory<SlotBody>,
    /// Orders those who change a slot's object.
    pub(crate) rebinding: IrqLock<()>,
    pub(crate) owners: Table<OwnerBody>,
    pub(crate) opaques: Table<ValueBody>,
}

/// Makes the database. Once per boot, when the heap works.
///
/// # Errors
/// [`Error::Started`] if there is one already, [`Error::OutOfMemory`].
pub fn start() -> Result<(), Error> {
    let new = Box::into_raw(boxed(Db {
        entries: Directory::new(),
        slots: Directory::new(),
        rebinding: IrqLock::new(()),
        owners: Table::new(),
        opaques: Table::new(),
    })?);
    let root = &platform::roots().state_db;
    match root.compare_exchange(null_mut(), new.cast(), Ordering::AcqRel, Ordering::Acquire) {
        Ok(_) => Ok(()),
        Err(_) => {
            // SAFETY: made above, and nobody else has seen it.
            drop(unsafe { Box::from_raw(new) });
            Err(Error::Started)
        }
    }
}

/// The database, once it is started.
#[inline]
pub(crate) fn db() -> Result<&'static Db, Error> {
    let root = platform::roots().state_db.load(Ordering::Acquire).cast::<Db>();
    // SAFETY: the root is null or what `start` stored, which is never freed.
    unsafe { root.as_ref() }.ok_or(Error::NotStarted)
}
