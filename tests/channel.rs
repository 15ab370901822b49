//! The channel from the host: what it answers, and that nothing a host does or leaves undone harms the system.

use crate::bench::{Bench, Test, contains, equal, memory_at_rest, soon};
use anyhow::{Context, Result, ensure};
use std::process::Command;
use wire::{PART_BYTES, Request, encode, write_request};

pub const TESTS: &[Test] = &[
    Test { name: "channel-answers", limit_s: 180, run: answers },
    Test { name: "channel-broken-hosts", limit_s: 300, run: broken_hosts },
    Test { name: "channel-nobody-there", limit_s: 60, run: nobody_there },
];

fn answers(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    let cells = session.json("cells --json")?;
    let mut channel = session.channel()?;
    let state = channel.state()?;
    equal(
        "the running id",
        blake3::Hash::from(state.running_id).to_hex().as_str(),
        cells["running_id"].as_str().unwrap_or_default(),
    )?;
    equal("what is offered", state.offered, None)?;
    equal("a line", channel.run("echo one plank")?.text.as_str(), "one plank\n")?;
    let all = channel.run("help; cells --json")?;
    equal("its status", all.status, 0)?;
    ensure!(all.text.len() > 10_000, "a long answer has {} bytes", all.text.len());
    for (line, word) in [
        ("no-such-command", "there is no command"),
        ("run hello", "needs a console"),
        ("count &", "needs a console"),
        ("echo 'open", "is not closed"),
        ("update --yes", "nothing is offered"),
    ] {
        let ran = channel.run(line)?;
        ensure!(ran.status == 1, "`{line}` counts as a success");
        contains(&ran.text, word)?;
    }
    for bad in [&b""[..], b"no bundle", &[0; 4096]] {
        ensure!(channel.offer(bad).is_err(), "an offer of {} bytes that is none was taken", bad.len());
    }
    equal("the console afterwards", session.run("echo here")?.as_str(), "here")
}

fn broken_hosts(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    session.channel()?.state()?;
    let before = memory_at_rest(&mut session)?;
    // Half an offer, and gone.
    for part in [&[][..], &[7; PART_BYTES]] {
        let mut channel = session.channel()?;
        let number = channel.session();
        channel.send_raw(&encode(&write_request(number, &Request::Offer { bytes: 1 << 20, hash: [1; 32] })))?;
        if !part.is_empty() {
            channel.send_raw(&encode(&write_request(number, &Request::Part(part))))?;
        }
        drop(channel);
        session.channel()?.state().context("after half an offer")?;
    }
    // Half a frame, noise, and a frame without an end.
    for noise in [vec![1, 2, 3], (0..=255).cycle().take(100_000).collect(), vec![9; 300_000]] {
        session.channel()?.send_raw(&noise)?;
        session.channel()?.state().context("after noise")?;
    }
    // Much is asked, and nothing is read.
    let mut deaf = session.channel()?;
    let number = deaf.session();
    for _ in 0..50 {
        deaf.send_raw(&encode(&write_request(number, &Request::Run("cells --json"))))?;
    }
    equal("the console meanwhile", session.run("echo here")?.as_str(), "here")?;
    drop(deaf);
    session.channel()?.state().context("after a host that reads nothing")?;
    // Too much is announced.
    let mut channel = session.channel()?;
    let number = channel.session();
    channel.send_raw(&encode(&write_request(number, &Request::Offer { bytes: u32::MAX, hash: [0; 32] })))?;
    drop(channel);
    session.channel()?.state().context("after too large an offer")?;
    let mut now = before.clone();
    let same = soon("memory is as it was", || {
        now = session.json("mem --json")?;
        Ok(now["heap_in_use"] == before["heap_in_use"] && now["old"] == before["old"])
    });
    same.with_context(|| format!("before {before}, now {now}"))
}

/// Without a running system `delias offer` says so, at once.
fn nobody_there(bench: &Bench) -> Result<()> {
    let empty = std::env::temp_dir().join(format!("delias-nobody-{}", std::process::id()));
    std::fs::create_dir_all(&empty).context("cannot create a folder")?;
    let output = Command::new(bench.project.build("delias"))
        .arg("offer")
        .current_dir(&bench.project.root)
        .env("XDG_RUNTIME_DIR", &empty)
        .output()
        .context("cannot start delias")?;
    // Nothing is lost if it stays.
    let _ = std::fs::remove_dir_all(&empty);
    ensure!(!output.status.success(), "an update of no system counts as a success");
    contains(&String::from_utf8_lossy(&output.stderr), "no system runs that was started from")
}
