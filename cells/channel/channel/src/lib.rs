//! The host's door: the host offers updates and runs lines of the shell, over the byte device `serial/channel`.
//!
//! ```text
//! serial/channel ─▶ wire::Decoder ─▶ Request ─▶ offers, commands ─▶ Answer ─▶ serial/channel
//! ```
//! It is a step: between two steps all that it knows lies in the entry `channel`. One request is served at a time; while
//! its answers have not left, no other is read. The host may go at any moment: what it had begun to send is forgotten when
//! another session begins, or after [`PATIENCE_NS`] without a byte.
#![no_std]
#![allow(unsafe_code, reason = "exports the symbol by which the starter binds this service")]

extern crate alloc;

mod line;
mod state;
mod transfer;

use alloc::{format, string::String};
use serial::ByteDevice;
use state::Channel;
use state_db::{Slot, State, cached, publish};
use step::{Next, Step};
use sync::Exclusive;
use task::Tokens;

/// The device, if the parameters name none.
const DEVICE: &str = "serial/channel";
/// How long half of a transfer is kept, in nanoseconds.
const PATIENCE_NS: u64 = 10_000_000_000;
/// After how long a closed or full device is tried again, in nanoseconds.
const RETRY_NS: u64 = 2_000_000;
/// Bytes read at a time.
const PIECE: usize = 4096;

/// The state behind its door.
#[derive(State)]
pub struct ChannelEntry {
    device: Slot<dyn ByteDevice>,
    channel: Exclusive<Channel>,
}

cached!(CHANNEL: ChannelEntry = "channel");

/// The steps.
pub struct ChannelLoop;

impl Step for ChannelLoop {
    fn step(&self) -> Next {
        let Ok(entry) = CHANNEL.with(core::ptr::from_ref) else { return Next::Stop(1) };
        // SAFETY: the entry is never withdrawn, and no update moves its value while a function that handles it has a frame.
        let entry: &ChannelEntry = unsafe { &*entry };
        match entry.channel.try_take() {
            Some(mut channel) => step_once(&entry.device, &mut channel),
            None => Next::Stop(1),
        }
    }
}

fn step_once(device: &Slot<dyn ByteDevice>, channel: &mut Channel) -> Next {
    let later = || Tokens::at(time::now_ns().saturating_add(RETRY_NS));
    let Ok(Ok(arrived)) = device.call(|device| device.arrived()) else { return Next::Wait(later()) };
    let moved = arrived.token(arrived.sequence()); // before the tests: no wake-up is lost
    if channel.has_to_send() {
        let sent = device.call(|device| device.write(channel.to_send())).ok().and_then(Result::ok).unwrap_or(0);
        channel.sent(sent);
        return if sent > 0 { Next::Again } else { Next::Wait(moved.and(later())) };
    }
    let mut piece = [0; PIECE];
    let count = device.call(|device| device.read(&mut piece)).ok().and_then(Result::ok).unwrap_or(0);
    if count == 0 {
        let moved = moved.and(channel.collect());
        return Next::Wait(match channel.gives_up_at() {
            Some(ns) => moved.until(ns),
            None => moved,
        });
    }
    channel.take(&piece[..count]);
    Next::Again
}

/// Starts the channel on the device that `parameters` name, or on `serial/channel`. Without the device there is nothing to
/// start.
///
/// # Errors
/// A sentence, if its state or its task cannot be made.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_service_channel(parameters: &str) -> Result<(), String> {
    let name = if parameters.is_empty() { DEVICE } else { parameters };
    let Ok(device) = Slot::<dyn ByteDevice>::find(name) else {
        log::info!("there is no device {name}: the host has no way in");
        return Ok(());
    };
    publish("channel", ChannelEntry { device, channel: Exclusive::new(Channel::new()) })
        .map_err(|error| format!("the state `channel`: {error}"))?;
    let slot =
        Slot::<dyn Step>::bind("channel", &ChannelLoop).map_err(|error| format!("the slot `channel`: {error}"))?;
    step::drive("channel", slot).map_err(|error| format!("the task of the channel: {error}"))?;
    Ok(())
}
