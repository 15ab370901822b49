//! `run load send|receive|timer`: work that notices by itself when something is lost, doubled or late in order.
//!
//! `send` numbers messages and puts them into a queue in `state_db`, `receive` takes them out and fails if a number is not
//! the next one; `timer` sleeps and fails if it wakes too early. They run until they are killed.
#![no_std]

extern crate alloc;

use alloc::collections::VecDeque;
use state_db::{State, cached};
use sync::IrqLock;
use task::{Event, Interrupted};

/// Messages that may wait.
const ROOM: usize = 64;

/// The queue between the two.
#[derive(State)]
pub struct Queue {
    numbers: IrqLock<VecDeque<u64>>,
    moved: Event,
}

cached!(QUEUE: Queue = "load/queue");

fn queue() -> Option<Event> {
    if let Ok(moved) = QUEUE.with(|queue| queue.moved) {
        return Some(moved);
    }
    let numbers = IrqLock::new(VecDeque::with_capacity(ROOM));
    let moved = Event::new().ok()?;
    // Who comes second finds what the first has made.
    let _ = state_db::publish("load/queue", Queue { numbers, moved });
    QUEUE.with(|queue| queue.moved).ok()
}

fn send(moved: Event) -> Result<i32, Interrupted> {
    let mut next = 0u64;
    loop {
        let seen = moved.sequence();
        let sent = QUEUE.with(|queue| {
            let mut numbers = queue.numbers.lock();
            let room = numbers.len() < ROOM;
            if room {
                numbers.push_back(next);
            }
            room
        });
        if sent == Ok(true) {
            next += 1;
            moved.bump();
            if next.is_multiple_of(16) {
                task::sleep_ns(1_000_000)?;
            }
        } else {
            task::wait(&moved.token(seen).until(time::now_ns() + 20_000_000))?;
        }
    }
}

fn receive(moved: Event) -> Result<i32, Interrupted> {
    let mut next = 0u64;
    loop {
        let seen = moved.sequence();
        match QUEUE.with(|queue| queue.numbers.lock().pop_front()) {
            Ok(Some(number)) if number == next => {
                next += 1;
                moved.bump();
            }
            Ok(Some(number)) => {
                console::println!("load: message {number} came, expected {next}");
                return Ok(1);
            }
            _ => task::wait(&moved.token(seen).until(time::now_ns() + 20_000_000))?,
        }
    }
}

fn timer() -> Result<i32, Interrupted> {
    let mut pause_ns = 1_000_000;
    loop {
        let before_ns = time::now_ns();
        task::sleep_ns(pause_ns)?;
        let slept_ns = time::now_ns() - before_ns;
        if slept_ns < pause_ns {
            console::println!("load: slept {slept_ns} ns instead of {pause_ns}");
            return Ok(1);
        }
        pause_ns = pause_ns % 13_000_000 + 1_000_000;
    }
}

/// Runs until it is killed, or something is wrong.
#[allow(unsafe_code, reason = "an app is found by the name of this symbol")]
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_app_load(args: &[&str]) -> i32 {
    let Some(moved) = queue() else { return 2 };
    let ended = match args {
        ["send"] => send(moved),
        ["receive"] => receive(moved),
        ["timer"] => timer(),
        _ => return 2,
    };
    ended.unwrap_or(130)
}
