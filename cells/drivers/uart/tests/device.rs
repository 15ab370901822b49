//! The ring and the use of the registers, on a device made of two queues.
#![allow(unsafe_code, reason = "the trait of the registers has unsafe methods")]

use proptest::prelude::*;
use std::collections::VecDeque;
use uart::{parameters::Parameters, port, ring::Ring};
use uart_16550::backend::Backend;

#[derive(Default)]
struct Device {
    input: VecDeque<u8>,
    sent: Vec<u8>,
    /// Bytes that may be sent before the transmitter stays busy.
    budget: usize,
    in_fifo: usize,
    overrun: bool,
    registers: [u8; 8],
}

impl Backend for Device {
    unsafe fn read(&mut self, offset: u8) -> u8 {
        match offset {
            0 => self.input.pop_front().expect("read of an empty FIFO"),
            5 => {
                let idle = self.sent.len() < self.budget;
                self.in_fifo = if idle { 0 } else { self.in_fifo };
                u8::from(!self.input.is_empty())
                    | u8::from(std::mem::take(&mut self.overrun)) << 1
                    | u8::from(idle) << 5
            }
            _ => self.registers[usize::from(offset)],
        }
    }

    unsafe fn write(&mut self, offset: u8, value: u8) {
        if offset == 0 {
            self.in_fifo += 1;
            assert!(self.in_fifo <= 16, "the FIFO was overrun");
            self.sent.push(value);
        } else {
            self.registers[usize::from(offset)] = value;
        }
    }
}

#[test]
fn receive_takes_what_is_there_and_counts_overruns() {
    let mut device = Device { input: (0..20).collect(), overrun: true, ..Device::default() };
    let mut into = [0; 16];
    assert_eq!(port::receive(&mut device, &mut into), port::Received { count: 16, overruns: 1 });
    assert_eq!(into, core::array::from_fn(|i| i as u8));
    assert_eq!(port::receive(&mut device, &mut into), port::Received { count: 4, overruns: 0 });
    assert_eq!(port::receive(&mut device, &mut into).count, 0);
}

#[test]
fn send_stops_at_a_busy_transmitter() {
    let text: Vec<u8> = (0..=255).collect();
    let mut device = Device { budget: 40, ..Device::default() };
    assert_eq!(port::send(&mut device, &text), 48);
    assert_eq!(device.sent, text[..48]);
    assert_eq!(port::send(&mut device, &text), 0);
    let mut device = Device { budget: 10_000, ..Device::default() };
    assert_eq!(port::send(&mut device, &[b'x'; 1000]), 256);
    assert_eq!(port::send(&mut device, &[]), 0);
}

#[test]
fn listening_is_switched_by_interrupt_and_request_to_send() {
    let mut device = Device::default();
    port::listen(&mut device, true);
    assert_eq!((device.registers[1], device.registers[4]), (0b0001, 0b1011));
    port::listen(&mut device, false);
    assert_eq!((device.registers[1], device.registers[4]), (0b0000, 0b1001));
}

#[test]
fn parameters() {
    assert_eq!(Parameters::parse(""), Ok(Parameters { port: 0x3f8, baud: 115_200 }));
    assert_eq!(Parameters::parse(" baud=9600  port=0x3e8"), Ok(Parameters { port: 0x3e8, baud: 9600 }));
    let refused = [
        ("port=0x60", "port `0x60`: expected 0x3f8 or 0x3e8"),
        ("port=1016", "port `1016`: expected 0x3f8 or 0x3e8"),
        ("baud=0", "baud `0`: expected 115200 or a whole fraction of it"),
        ("baud=1", "baud `1`: expected 115200 or a whole fraction of it"),
        ("baud=115201", "baud `115201`: expected 115200 or a whole fraction of it"),
        ("fast", "`fast` is not understood: expected port=0x… or baud=…"),
    ];
    for (text, sentence) in refused {
        assert_eq!(Parameters::parse(text), Err(sentence.into()));
    }
}

proptest! {
    #[test]
    fn the_ring_is_a_queue(steps in prop::collection::vec((any::<bool>(), prop::collection::vec(any::<u8>(), 0..40)), 0..60)) {
        let mut ring = Ring::<32>::new();
        let mut model = VecDeque::new();
        for (push, bytes) in steps {
            if push {
                let taken = ring.push(&bytes);
                prop_assert_eq!(taken, bytes.len().min(32 - model.len()));
                model.extend(&bytes[..taken]);
            } else {
                let mut into = bytes.clone();
                let count = ring.pop(&mut into);
                let expected: Vec<u8> = model.drain(..bytes.len().min(model.len())).collect();
                prop_assert_eq!(&into[..count], &expected);
            }
            prop_assert_eq!((ring.held(), ring.free()), (model.len(), 32 - model.len()));
        }
    }
}
