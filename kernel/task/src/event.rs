//! Events and tokens: what a task waits for.

use crate::table::{Error, TASKS};
use core::sync::atomic::{AtomicU64, Ordering};
use state_db::Ref;

/// What happened, how often.
#[derive(Debug, Default)]
pub struct EventRecord {
    sequence: AtomicU64,
}

/// A handle on an event: something that can happen again and again. Whoever made it removes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event(Ref<EventRecord>);

impl Event {
    /// Makes an event that has not happened yet.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`], or [`Error::State`] before tasks have been started.
    pub fn new() -> Result<Event, Error> {
        TASKS.with(|tasks| tasks.events.insert(EventRecord::default()))?.map(Event).map_err(Error::from)
    }

    /// How often it has happened. To be read *before* the test that decides whether to wait.
    pub fn sequence(&self) -> u64 {
        self.moved().unwrap_or(u64::MAX)
    }

    fn moved(&self) -> Option<u64> {
        TASKS.with(|tasks| tasks.events.with(self.0, |event| event.sequence.load(Ordering::Acquire))).ok()?.ok()
    }

    /// It happens: every task that waits for it becomes ready. For tasks and for interrupt handlers.
    pub fn bump(&self) {
        let woken = TASKS.with(|tasks| {
            let counted = tasks.events.with(self.0, |event| event.sequence.fetch_add(1, Ordering::AcqRel));
            counted.is_ok() && tasks.wake_waiters(*self)
        });
        if woken == Ok(true) {
            sync::yield_hook();
        }
    }

    /// The token of a test that was made when `seen` was the sequence number.
    pub fn token(&self, seen: u64) -> Tokens {
        let mut tokens = Tokens::default();
        tokens.list[0] = Token { event: self.0.bits(), seen };
        tokens
    }

    /// Removes the event; whoever waits for it is woken.
    pub fn remove(self) {
        self.bump();
        // A second removal finds nothing, which is as good.
        let _ = TASKS.with(|tasks| tasks.events.remove(self.0).is_ok());
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Token {
    event: u64,
    seen: u64,
}

/// What a task waits for: the first of up to [`Tokens::MOST`] events to move, or a time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tokens {
    list: [Token; Tokens::MOST],
    /// Nanoseconds since boot; 0: never.
    deadline_ns: u64,
}

impl Tokens {
    /// The most events that one wait can name.
    pub const MOST: usize = 4;

    /// A time alone, in nanoseconds since boot.
    pub fn at(deadline_ns: u64) -> Tokens {
        Tokens::default().until(deadline_ns)
    }

    /// These or the others, whichever moves first. Events beyond [`Tokens::MOST`] would be forgotten: then the wait ends
    /// at once, and the caller tests again.
    #[must_use]
    pub fn and(mut self, other: Tokens) -> Tokens {
        for token in other.list.into_iter().filter(|token| token.event != 0) {
            match self.list.iter_mut().find(|mine| mine.event == 0) {
                Some(free) => *free = token,
                None => self.deadline_ns = 1,
            }
        }
        if other.deadline_ns != 0 {
            self = self.until(other.deadline_ns);
        }
        self
    }

    /// These, but no longer than until a time, in nanoseconds since boot.
    #[must_use]
    pub fn until(mut self, deadline_ns: u64) -> Tokens {
        let deadline_ns = deadline_ns.max(1);
        self.deadline_ns = if self.deadline_ns == 0 { deadline_ns } else { self.deadline_ns.min(deadline_ns) };
        self
    }

    pub(crate) fn deadline_ns(&self) -> Option<u64> {
        (self.deadline_ns != 0).then_some(self.deadline_ns)
    }

    pub(crate) fn names(&self, event: Event) -> bool {
        self.list.iter().any(|token| token.event == event.0.bits())
    }

    /// Whether one of the events has moved, or the time has come.
    pub(crate) fn are_due(&self, now_ns: u64) -> bool {
        let moved = |token: &Token| token.event != 0 && Event(Ref::from_bits(token.event)).moved() != Some(token.seen);
        self.deadline_ns().is_some_and(|deadline_ns| deadline_ns <= now_ns) || self.list.iter().any(moved)
    }
}

/// What a server answers to a call that may have to wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply<T> {
    /// It is done.
    Ready(T),
    /// Not yet: call again when the tokens say so.
    Pending(Tokens),
}
