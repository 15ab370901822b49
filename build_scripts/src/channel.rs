//! The host's end of the channel to a running system: a Unix socket that QEMU connects to the system's virtio console.
//!
//! The system answers one request at a time, and QEMU lets one program talk to it at a time: the next one waits. Every wait has
//! a limit: a system that has stopped is not waited for. Nothing is asked for before the system is known to listen, so what
//! somebody asked who has given up is not carried out later.

use anyhow::{Context, Result, bail, ensure};
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use wire::{Answer, Decoder, PART_BYTES, Request, State, encode};

/// How long the system may take for an answer. A large update takes seconds under an emulator.
const PATIENCE: Duration = Duration::from_secs(120);

/// After this time a person is told what is waited for.
const NOTICE: Duration = Duration::from_secs(3);

/// A connection to a running system.
#[derive(Debug)]
pub struct Channel {
    socket: PathBuf,
    /// None while others are let in.
    stream: Option<UnixStream>,
    decoder: Decoder,
    /// Bytes that came behind the last answer.
    rest: Vec<u8>,
    session: u32,
}

/// What a line of the shell did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// What it showed.
    pub text: String,
    /// 0 is success.
    pub status: u8,
}

impl Channel {
    /// Connects to the system behind a socket, and waits until it answers.
    ///
    /// # Errors
    /// Nobody listens there, or nobody answers.
    pub fn connect(socket: &Path) -> Result<Channel> {
        let session = RandomState::new().hash_one(std::process::id()) as u32;
        let (stream, decoder) = (None, Decoder::new());
        let mut channel = Channel { socket: socket.to_path_buf(), stream, decoder, rest: Vec::new(), session };
        channel.meet()?;
        Ok(channel)
    }

    /// Lets others talk to the system, until something is asked again.
    pub fn release(&mut self) {
        self.stream = None;
    }

    /// Makes the connection, and sees that the system listens to it.
    fn meet(&mut self) -> Result<()> {
        let socket = self.socket.display();
        let stream = UnixStream::connect(&self.socket).with_context(|| format!("no system answers at {socket}"))?;
        (self.stream, self.decoder, self.rest) = (Some(stream), Decoder::new(), Vec::new());
        // Whatever the last one left half sent ends here.
        self.send(&[0])?;
        self.send(&encode(&wire::write_request(self.session, &Request::State)))?;
        let answer = self.answer(true).context("does another program talk to the system? One can at a time")?;
        ensure!(matches!(answer, Answer::State(_)), "the system was asked for its state and answers {answer:?}");
        Ok(())
    }

    fn stream(&mut self) -> Result<&mut UnixStream> {
        self.stream.as_mut().context("the system has gone")
    }

    fn send(&mut self, bytes: &[u8]) -> Result<()> {
        let stream = self.stream()?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.write_all(bytes).context("the system takes nothing any more")
    }

    fn ask(&mut self, request: &Request<'_>) -> Result<()> {
        if self.stream.is_none() {
            self.meet().context("the system has gone, or answers nobody")?;
        }
        let frame = encode(&wire::write_request(self.session, request));
        self.send(&frame)
    }

    /// The next answer to this session; who waits long for it is told so, if `tell` says so.
    fn answer(&mut self, mut tell: bool) -> Result<Answer> {
        let start = Instant::now();
        loop {
            while !self.rest.is_empty() {
                let (taken, payload) = self.decoder.take(&self.rest);
                let answer = payload.map(wire::answer);
                self.rest.drain(..taken);
                match answer.transpose()? {
                    // Session 0 is nobody's: the system could not read a request.
                    Some((session, answer)) if session == self.session || session == 0 => return Ok(answer),
                    _ => {}
                }
            }
            let left = PATIENCE.saturating_sub(start.elapsed());
            ensure!(!left.is_zero(), "the system has not answered within {} s", PATIENCE.as_secs());
            let stream = self.stream()?;
            stream.set_read_timeout(Some(if tell { left.min(NOTICE) } else { left }))?;
            let mut piece = [0; 16 << 10];
            match stream.read(&mut piece) {
                Ok(0) => bail!("the system has gone"),
                Ok(count) => self.rest.extend_from_slice(&piece[..count]),
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) =>
                {
                    if std::mem::take(&mut tell) {
                        eprintln!("delias: waiting for the system; it is busy, or another program talks to it");
                    }
                }
                Err(error) => return Err(error).context("the system has gone"),
            }
        }
    }

    /// Collects what is shown, up to the end.
    fn finish(&mut self) -> Result<Ran> {
        let mut text = String::new();
        loop {
            match self.answer(false)? {
                Answer::Text(piece) => text += &piece,
                Answer::Ended { status } => return Ok(Ran { text, status }),
                Answer::Refused(why) => bail!("{why}"),
                Answer::State(_) | Answer::Go | Answer::Bytes(_) => {
                    bail!("the system answers something else than it was asked")
                }
            }
        }
    }

    /// What runs.
    ///
    /// # Errors
    /// The system does not answer.
    pub fn state(&mut self) -> Result<State> {
        self.ask(&Request::State)?;
        match self.answer(false)? {
            Answer::State(state) => Ok(state),
            Answer::Refused(why) => bail!("{why}"),
            other => bail!("the system was asked for its state and answers {other:?}"),
        }
    }

    /// Offers a bundle; the system's sentence about it.
    ///
    /// # Errors
    /// The system refuses it, or goes.
    pub fn offer(&mut self, bundle: &[u8]) -> Result<String> {
        let bytes = u32::try_from(bundle.len()).context("the offer is larger than 4 GiB")?;
        self.ask(&Request::Offer { bytes, hash: *blake3::hash(bundle).as_bytes() })?;
        match self.answer(false)? {
            Answer::Go => {}
            Answer::Refused(why) => bail!("{why}"),
            other => bail!("the system was offered something and answers {other:?}"),
        }
        for part in bundle.chunks(PART_BYTES) {
            self.ask(&Request::Part(part))?;
        }
        Ok(self.finish()?.text)
    }

    /// What a guest is built from.
    ///
    /// # Errors
    /// There is no such guest, or the system does not answer.
    pub fn source(&mut self, guest: &str) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        loop {
            // Part by part: what the system sends while nobody reads may be lost, for a console of QEMU's holds nothing back.
            let from = u32::try_from(bytes.len()).context("a guest's source is larger than 4 GiB")?;
            self.ask(&Request::Source { guest, from })?;
            match self.answer(false)? {
                Answer::Bytes(part) => {
                    bytes.extend_from_slice(&part);
                    if part.len() < PART_BYTES {
                        return Ok(bytes);
                    }
                }
                Answer::Refused(why) => bail!("{why}"),
                other => bail!("the system was asked for a guest's source and answers {other:?}"),
            }
        }
    }

    /// Takes back what is offered.
    ///
    /// # Errors
    /// The system does not answer.
    pub fn withdraw(&mut self) -> Result<()> {
        self.ask(&Request::Withdraw)?;
        self.finish().map(|_| ())
    }

    /// Runs a line of the shell.
    ///
    /// # Errors
    /// The system does not answer. A line that fails is no error.
    pub fn run(&mut self, line: &str) -> Result<Ran> {
        self.ask(&Request::Run(line))?;
        self.finish()
    }

    /// Sends bytes as they are, for tests of what a broken host does.
    ///
    /// # Errors
    /// The system takes nothing.
    pub fn send_raw(&mut self, bytes: &[u8]) -> Result<()> {
        self.send(bytes)
    }

    /// The connection's number.
    pub fn session(&self) -> u32 {
        self.session
    }
}
