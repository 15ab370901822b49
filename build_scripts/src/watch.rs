//! `delias watch`: whenever a source is saved, the tree is built, and what differs is offered and applied.
//!
//! It says how long each part took. The time from save to running has the compiler's own in it, which is shown apart.

use crate::guest::Wishes;
use crate::image;
use crate::project::Project;
use crate::update;
use anyhow::{Context, Result, bail, ensure};
use bundle::Verdict;
use notify::{Event, RecursiveMode, Watcher};
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Folders and files that a build is made from.
const SOURCES: [&str; 7] = ["cells", "kernel", "nano_core", "state_db", "cfg", "Cargo.toml", "Cargo.lock"];
/// After a save others may follow: editors write in several steps.
const SETTLE: Duration = Duration::from_millis(30);

/// Watches until it is interrupted, or the system ends.
///
/// # Errors
/// No system runs, or the sources cannot be watched.
pub fn run(project: &Project) -> Result<ExitCode> {
    // What was saved before it is watched is made to run first.
    let mut saved = Instant::now();
    let (sender, events) = channel();
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        // The other end is gone only when nobody watches any more.
        let _ = sender.send(event);
    })
    .context("sources cannot be watched")?;
    for source in SOURCES {
        let path = project.root.join(source);
        watcher
            .watch(&path, RecursiveMode::Recursive)
            .with_context(|| format!("{} cannot be watched", path.display()))?;
    }
    update::connect(project)?;
    println!("watching; every source that is saved becomes running code, Ctrl-C ends it");
    loop {
        match turn(project, saved) {
            Ok(()) => {}
            // The person sees why and saves again.
            Err(error) => println!("{error:#}"),
        }
        saved = next_save(&events)?;
        update::connect(project)?;
    }
}

/// Builds, offers and applies once.
fn turn(project: &Project, saved: Instant) -> Result<()> {
    let image = image::build(project)?;
    let built = saved.elapsed();
    let mut channel = update::connect(project)?;
    let Some(bundle) = update::difference(project, &mut channel, &image, &Wishes::default())? else {
        println!("nothing differs");
        return Ok(());
    };
    if let Verdict::Refused(reasons) = &bundle.verdict {
        bail!("refused: {}", reasons.join("; "));
    }
    channel.offer(&bundle.write()?)?;
    let ran = channel.run("update --yes")?;
    let names: Vec<&str> = bundle.changes.iter().map(|change| change.name.as_str()).collect();
    let all = saved.elapsed();
    ensure!(ran.status == 0, "{}", ran.text.trim_end());
    print!("{}: {}", names.join(", "), ran.text);
    println!("running {} ms after the save, {} ms of it to compile and link", all.as_millis(), built.as_millis());
    Ok(())
}

/// Waits until a source has been saved, and nothing more follows; when the first was.
fn next_save(events: &Receiver<notify::Result<Event>>) -> Result<Instant> {
    loop {
        let event = events.recv().context("sources are watched no more")??;
        if !is_save(&event) {
            continue;
        }
        let saved = Instant::now();
        loop {
            match events.recv_timeout(SETTLE) {
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => return Ok(saved),
                Err(RecvTimeoutError::Disconnected) => bail!("sources are watched no more"),
            }
        }
    }
}

/// Whether a file may have other contents than before; editors' own files do not count.
fn is_save(event: &Event) -> bool {
    let ours = |path: &Path| {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        !name.starts_with('.') && !name.ends_with('~') && !name.ends_with(".swp")
    };
    !event.kind.is_access() && event.paths.iter().any(|path| ours(path))
}
