//! The two queues of port 0, each with its pages.

use core::slice;
use frames::Frames;
use handoff::layout::PAGE;
use virtio::{DeviceError, Feature, Memory, PciTransport, Transport, VirtQueue};

/// The queues' numbers (Virtio 1.2, 5.3.2).
pub const RECEIVE: u16 = 0;
pub const TRANSMIT: u16 = 1;
/// Pages, and so buffers, of each queue.
const PAGES: usize = 16;
const PAGE_BYTES: usize = PAGE as usize;

type Queue = VirtQueue<Memory, PAGES>;

/// A queue's pages, and which of them the device has under which token.
#[derive(Debug)]
struct Pages {
    frames: Frames,
    /// By token: the page.
    page_of: [u8; PAGES],
}

impl Pages {
    fn new() -> Option<Pages> {
        let mut frames = Frames::allocate(PAGES).ok()?;
        frames.clear();
        Some(Pages { frames, page_of: [0; PAGES] })
    }

    /// A page's bytes.
    fn bytes(&mut self, page: u8) -> &'static mut [u8] {
        let start = usize::from(page) * PAGE_BYTES;
        // SAFETY: the frames belong to `self`, which lies in an entry that is never withdrawn while the device runs, and
        // `page` is below PAGES. Who calls this knows that the device does not have the page, or is about to give it away.
        unsafe { slice::from_raw_parts_mut(self.frames.address().add(start), PAGE_BYTES) }
    }
}

/// A page that has been received and not read to its end.
#[derive(Debug)]
struct Received {
    page: u8,
    from: usize,
    to: usize,
}

/// Both queues.
#[derive(Debug)]
pub struct Queues {
    receive: Queue,
    receiving: Pages,
    received: Option<Received>,
    transmit: Queue,
    transmitting: Pages,
    /// Pages of the transmit queue that the device does not have, one bit each.
    free: u16,
}

/// Starts the device with every page of the receive queue in its hands.
pub fn start(mut transport: PciTransport) -> Result<(PciTransport, Queues), DeviceError> {
    transport.begin_init(Feature::VERSION_1);
    let receive = Queue::new(&mut transport, RECEIVE, false, false)?;
    let transmit = Queue::new(&mut transport, TRANSMIT, false, false)?;
    let pages = || Pages::new().ok_or(DeviceError::DmaError);
    let (receiving, transmitting) = (pages()?, pages()?);
    let mut queues = Queues { receive, receiving, received: None, transmit, transmitting, free: u16::MAX };
    transport.finish_init();
    for page in 0..PAGES as u8 {
        queues.lend(page);
    }
    transport.notify(RECEIVE);
    Ok((transport, queues))
}

impl Queues {
    /// Gives a page of the receive queue to the device.
    fn lend(&mut self, page: u8) {
        let bytes = self.receiving.bytes(page);
        // SAFETY: nobody looks at the page until its token has been taken back.
        if let Ok(token) = unsafe { self.receive.add(&[], &mut [bytes]) } {
            self.receiving.page_of[usize::from(token)] = page;
        }
    }

    /// The next page that the device has filled.
    fn take(&mut self) -> Option<Received> {
        let token = self.receive.peek_used().filter(|token| usize::from(*token) < PAGES)?;
        let page = self.receiving.page_of[usize::from(token)];
        let bytes = self.receiving.bytes(page);
        // SAFETY: the page that went in under this token.
        let count = unsafe { self.receive.pop_used(token, &[], &mut [bytes]) }.ok()?;
        Some(Received { page, from: 0, to: (count as usize).min(PAGE_BYTES) })
    }

    /// Moves received bytes; how many, and whether the device must be told of pages.
    pub fn read(&mut self, into: &mut [u8]) -> (usize, bool) {
        let (mut count, mut lent) = (0, false);
        while count < into.len() {
            if self.received.is_none() {
                self.received = self.take();
            }
            let Some(received) = &mut self.received else { break };
            let part = (received.to - received.from).min(into.len() - count);
            let page = self.receiving.bytes(received.page);
            into[count..count + part].copy_from_slice(&page[received.from..received.from + part]);
            received.from += part;
            count += part;
            if received.from == received.to {
                let page = received.page;
                self.received = None;
                self.lend(page);
                lent = true;
            }
        }
        (count, lent && self.receive.should_notify())
    }

    /// Sends bytes; how many, and whether the device must be told.
    pub fn write(&mut self, bytes: &[u8]) -> (usize, bool) {
        while let Some(token) = self.transmit.peek_used().filter(|token| usize::from(*token) < PAGES) {
            let page = self.transmitting.page_of[usize::from(token)];
            let len = PAGE_BYTES;
            let sent = &*self.transmitting.bytes(page);
            // SAFETY: the page that went in under this token; of an input the length does not matter.
            if unsafe { self.transmit.pop_used(token, &[&sent[..len]], &mut []) }.is_err() {
                break;
            }
            self.free |= 1 << page;
        }
        let mut count = 0;
        while count < bytes.len() && self.free != 0 {
            let page = self.free.trailing_zeros() as u8;
            let part = (bytes.len() - count).min(PAGE_BYTES);
            let place = self.transmitting.bytes(page);
            place[..part].copy_from_slice(&bytes[count..count + part]);
            // SAFETY: nobody writes to the page until its token has been taken back.
            let Ok(token) = (unsafe { self.transmit.add(&[&place[..part]], &mut []) }) else { break };
            self.transmitting.page_of[usize::from(token)] = page;
            self.free &= !(1 << page);
            count += part;
        }
        (count, count > 0 && self.transmit.should_notify())
    }
}
