//! What the channel knows between two steps, and how it serves a request.

use crate::{PATIENCE_NS, line, transfer::Transfer};
use alloc::{
    string::{String, ToString},
    sync::Arc,
    vec::Vec,
};
use platform::Leave;
use task::{TaskRef, Tokens};
use wire::{Answer, Decoder, PART_BYTES, Request};

/// Bytes of text in one answer, at most.
const TEXT_BYTES: usize = 16 << 10;

/// Apps whose ends are waited for at a time.
const ENDS: usize = 2;

/// The state.
pub(crate) struct Channel {
    decoder: Decoder,
    /// Whose requests came last.
    session: Option<u32>,
    transfer: Option<Transfer>,
    /// When the last byte came, in nanoseconds since boot.
    heard_ns: u64,
    out: Vec<u8>,
    /// Bytes of `out` that have left.
    gone: usize,
    /// The machine is left as soon as `out` has left.
    leave: Option<Leave>,
    /// Apps that were started from here and have not ended, as far as is known.
    apps: Vec<TaskRef>,
}

impl Channel {
    pub fn new() -> Channel {
        Channel {
            decoder: Decoder::new(),
            session: None,
            transfer: None,
            heard_ns: 0,
            out: Vec::new(),
            gone: 0,
            leave: None,
            apps: Vec::new(),
        }
    }

    /// Whether something has to leave before the next request.
    pub fn has_to_send(&self) -> bool {
        self.gone < self.out.len()
    }

    pub fn to_send(&self) -> &[u8] {
        &self.out[self.gone..]
    }

    /// So many bytes have left.
    pub fn sent(&mut self, count: usize) {
        self.gone += count;
        if !self.has_to_send() {
            // Answers may be long once and are short otherwise: their memory is not kept.
            (self.out, self.gone) = (Vec::new(), 0);
            if let Some(how) = self.leave {
                platform::leave(how);
            }
        }
    }

    /// Gives up the records of apps that have ended; when there may be another.
    pub fn collect(&mut self) -> Tokens {
        // Before the tests, so that no end is overlooked. Whoever is not waited for is found when another one ends.
        let ends = self.apps.iter().take(ENDS).filter_map(|app| task::exit_event(*app).ok());
        let tokens = ends.map(|end| end.token(end.sequence())).fold(Tokens::default(), Tokens::and);
        let before = self.apps.len();
        self.apps.retain(|app| matches!(task::collect(*app), Ok(None)));
        if self.apps.len() < before { tokens.until(time::now_ns()) } else { tokens }
    }

    /// When half of a transfer is given up, in nanoseconds since boot.
    pub fn gives_up_at(&mut self) -> Option<u64> {
        let until_ns = self.heard_ns.saturating_add(PATIENCE_NS);
        if self.transfer.is_some() && until_ns <= time::now_ns() {
            self.transfer = None;
            log::info!("the host has gone in the middle of an offer, which is forgotten");
        }
        self.transfer.is_some().then_some(until_ns)
    }

    /// Takes bytes that have come.
    pub fn take(&mut self, mut bytes: &[u8]) {
        self.heard_ns = time::now_ns();
        let mut decoder = core::mem::take(&mut self.decoder);
        while !bytes.is_empty() {
            let (taken, payload) = decoder.take(bytes);
            bytes = &bytes[taken..];
            let Some(payload) = payload else { continue };
            match wire::request(payload) {
                Ok((session, request)) => self.serve(session, request),
                Err(error) => self.answer(0, &Answer::Refused(error.to_string())),
            }
        }
        self.decoder = decoder;
    }

    fn answer(&mut self, session: u32, answer: &Answer) {
        let frame = wire::encode(&wire::write_answer(session, answer));
        self.out.extend_from_slice(&frame);
    }

    fn serve(&mut self, session: u32, request: Request<'_>) {
        if self.session != Some(session) {
            self.session = Some(session);
            self.transfer = None;
        }
        let answer = match request {
            Request::State => state().map(Answer::State),
            Request::Offer { bytes, hash } => Transfer::begin(bytes, hash).map(|transfer| {
                self.transfer = Some(transfer);
                Answer::Go
            }),
            Request::Part(part) => match self.part(part) {
                Ok(Some(sentence)) => {
                    self.text(session, &sentence);
                    Ok(Answer::Ended { status: 0 })
                }
                Ok(None) => return,
                Err(why) => {
                    self.transfer = None;
                    Err(why)
                }
            },
            Request::Withdraw => {
                offers::withdraw().map(|()| Answer::Ended { status: 0 }).map_err(|error| error.to_string())
            }
            Request::Source { guest, from } => source(guest).map(|source| {
                let rest = source.get(from as usize..).unwrap_or_default();
                Answer::Bytes(rest[..rest.len().min(PART_BYTES)].into())
            }),
            Request::Run(line) => {
                let ran = line::run(line);
                self.leave = ran.leave;
                self.apps.extend(ran.apps);
                self.text(session, &ran.text);
                Ok(Answer::Ended { status: ran.status })
            }
        };
        self.answer(session, &answer.unwrap_or_else(Answer::Refused));
    }

    /// Shows text to the host, in pieces.
    fn text(&mut self, session: u32, mut text: &str) {
        while !text.is_empty() {
            let (piece, rest) = text.split_at(text.floor_char_boundary(TEXT_BYTES));
            self.answer(session, &Answer::Text(piece.into()));
            text = rest;
        }
    }

    /// Takes a part of an offer; after the last, what is to be said of it. Parts of what has been refused are passed over.
    fn part(&mut self, part: &[u8]) -> Result<Option<String>, String> {
        let Some(transfer) = &mut self.transfer else { return Ok(None) };
        if !transfer.take(part)? {
            return Ok(None);
        }
        let Some(transfer) = self.transfer.take() else { return Ok(None) };
        let mut sentence = offers::offer(&transfer.finish()?).map_err(|error| error.to_string())?;
        sentence.push('\n');
        Ok(Some(sentence))
    }
}

fn source(name: &str) -> Result<Arc<[u8]>, String> {
    let found = loader::with_world(|world| {
        world.guests.iter().find(|guest| guest.name == name).map(|guest| guest.source.clone())
    });
    found.map_err(|error| error.to_string())?.ok_or_else(|| alloc::format!("there is no guest {name}"))
}

fn state() -> Result<wire::State, String> {
    let offered = offers::offered(|bundle| bundle.map(|bundle| bundle.target_id)).map_err(|error| error.to_string())?;
    let state = loader::with_world(|world| wire::State {
        running_id: world.running_id,
        boot_id: world.archive.manifest.image_id,
        base_id: identity::known(world).base,
        guests: world.guests.iter().map(|guest| guest.name.clone()).collect(),
        toolchain: world.archive.manifest.toolchain.clone(),
        offered,
    });
    state.map_err(|error| error.to_string())
}
