//! What is kept: the offer that waits, the list of what was applied, and the bytes of objects that came with offers.

use crate::{error::Error, history::Applied};
use alloc::{
    boxed::Box,
    collections::VecDeque,
    string::String,
    sync::{Arc, Weak},
    vec::Vec,
};
use bundle::Bundle;
use linker::{Object, ObjectError, Unit};
use state_db::{State, cached};
use sync::{Exclusive, ExclusiveGuard};

/// Updates that the list remembers; an older one cannot be taken back.
pub(crate) const REMEMBERED: usize = 64;
/// How long whoever wants the store waits for it, in nanoseconds, and between two tries. It is less than an update waits for
/// the tasks that stand in what it changes: nobody who waits for an update here makes it fail.
const PATIENCE_NS: u64 = 2_000_000_000;
const TRY_NS: u64 = 1_000_000;
const _: () = assert!(PATIENCE_NS < update::DEADLINE_NS);

/// An object's bytes: of the archive, or of an offer.
#[derive(Clone, Debug)]
pub(crate) enum Bytes {
    Archive(&'static [u8]),
    Offered(Arc<[u8]>),
}

impl Bytes {
    pub fn get(&self) -> &[u8] {
        match self {
            Bytes::Archive(bytes) => bytes,
            Bytes::Offered(bytes) => bytes,
        }
    }
}

/// An object's bytes that came with an offer.
pub(crate) struct Lent {
    /// Who borrows them.
    unit: Weak<Unit<'static>>,
    hash: [u8; 32],
    bytes: Arc<[u8]>,
}

/// Everything about updates.
#[derive(Default)]
pub(crate) struct Store {
    pub offer: Option<Arc<Bundle>>,
    pub applied: VecDeque<Applied>,
    /// When the world was changed last, in nanoseconds since boot.
    pub settled_ns: u64,
    /// Bytes of offered objects, for as long as a unit borrows them.
    pub lent: Vec<Lent>,
    /// Names and versions of cells that came with offers.
    names: Vec<Box<str>>,
}

/// The store behind its door.
#[derive(State)]
pub struct Offers {
    store: Exclusive<Store>,
}

cached!(OFFERS: Offers = "offers");

/// Starts the service; it takes no parameters.
///
/// # Errors
/// A sentence, if its state cannot be published.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_service_offers(_: &str) -> Result<(), String> {
    let published = state_db::publish("offers", Offers { store: Exclusive::new(Store::default()) });
    published.map_err(|error| alloc::format!("{error}"))?;
    crate::probation::start()
}

/// Takes the store; waits for whoever has it, for a while. For tasks.
///
/// # Errors
/// [`Error::Busy`] after 2 s, [`Error::State`] before the service has been started.
pub(crate) fn take() -> Result<ExclusiveGuard<'static, Store>, Error> {
    let deadline_ns = time::now_ns() + PATIENCE_NS;
    loop {
        match try_take() {
            Err(Error::Busy) if time::now_ns() < deadline_ns => task::sleep_ns(TRY_NS).map_err(loader::Error::from)?,
            answer => return answer,
        }
    }
}

/// Takes the store, unless somebody has it.
///
/// # Errors
/// [`Error::Busy`], [`Error::State`].
pub(crate) fn try_take() -> Result<ExclusiveGuard<'static, Store>, Error> {
    let offers = OFFERS.with(core::ptr::from_ref)?;
    // SAFETY: the entry is never withdrawn, and no update moves its value while a function that handles it has a frame.
    let offers: &'static Offers = unsafe { &*offers };
    offers.store.try_take().ok_or(Error::Busy)
}

impl Store {
    /// A name that stays.
    pub fn name(&mut self, name: &str) -> &'static str {
        if !self.names.iter().any(|known| **known == *name) {
            self.names.push(Box::from(name));
        }
        let kept: &str = self.names.iter().find(|known| ***known == *name).map_or("", |known| known);
        // SAFETY: names are never taken out, and a boxed string does not move.
        unsafe { core::mem::transmute::<&str, &'static str>(kept) }
    }

    /// Reads an object whose bytes stay for as long as `lend` is told of its unit.
    pub fn object(bytes: &Bytes) -> Result<Object<'static>, ObjectError> {
        // SAFETY: the bytes are the archive's, or kept by `lend` until no unit made of them is left. Between the two the
        // caller holds them.
        let lasting: &'static [u8] = unsafe { core::mem::transmute::<&[u8], &'static [u8]>(bytes.get()) };
        Object::parse(lasting)
    }

    /// Keeps bytes for a unit.
    pub fn lend(&mut self, unit: &Arc<Unit<'static>>, hash: [u8; 32], bytes: &Bytes) {
        if let Bytes::Offered(bytes) = bytes {
            self.lent.push(Lent { unit: Arc::downgrade(unit), hash, bytes: bytes.clone() });
        }
    }

    /// An object's bytes, kept once however often it is offered.
    pub fn keep(&self, hash: [u8; 32], bytes: &[u8]) -> Result<Bytes, Error> {
        let lent = self.lent.iter().filter(|lent| lent.hash == hash).map(|lent| &lent.bytes);
        let before = self.applied.iter().flat_map(|applied| &applied.before).filter_map(|before| match &before.was {
            Some((_, known, Bytes::Offered(bytes))) if *known == hash => Some(bytes),
            _ => None,
        });
        match lent.chain(before).next() {
            Some(known) => Ok(Bytes::Offered(known.clone())),
            None => shared(bytes).map(Bytes::Offered),
        }
    }

    /// Gives bytes back that no unit borrows any more.
    pub fn sweep(&mut self) {
        self.lent.retain(|lent| lent.unit.strong_count() > 0);
        self.lent.shrink_to_fit();
    }

    /// The bytes of a running cell's object.
    pub fn bytes_of(&self, unit: &Arc<Unit<'static>>) -> Bytes {
        let lent = self.lent.iter().find(|lent| core::ptr::eq(lent.unit.as_ptr(), Arc::as_ptr(unit)));
        lent.map_or(Bytes::Archive(unit.object.bytes), |lent| Bytes::Offered(lent.bytes.clone()))
    }
}

/// A copy of bytes, or an error instead of a panic when memory is short.
fn shared(bytes: &[u8]) -> Result<Arc<[u8]>, Error> {
    // The standard library has no fallible way to make an `Arc` of a slice: the room is asked for first.
    let mut probe: Vec<u8> = Vec::new();
    probe.try_reserve_exact(bytes.len() + 64).map_err(|_| Error::OutOfMemory(bytes.len()))?;
    drop(probe);
    Ok(Arc::from(bytes))
}

/// For messages.
pub(crate) fn owned(text: &str) -> String {
    String::from(text)
}
