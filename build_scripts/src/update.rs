//! `delias offer`: offers the difference between what runs and what the tree is now.
//!
//! The host only offers. The running system says what it is; the difference starts from the kept build of that id; whether
//! and when it is applied is decided at the system's prompt, or by `APPLY=1`.

use crate::builds::hex;
use crate::channel::Channel;
use crate::diff::{self, report};
use crate::guest::Wishes;
use crate::image::{self, Image};
use crate::project::Project;
use crate::session::json_lines;
use crate::{ask, builds, guest};
use anyhow::{Context, Result, bail};
use bundle::{Bundle, Verdict};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

/// The system that was started from this tree and runs.
///
/// # Errors
/// There is none.
pub fn connect(project: &Project) -> Result<Channel> {
    ask::connect(Some(project))
}

/// The difference between what runs and a build; nothing if it is what runs.
///
/// # Errors
/// What runs is no build that was kept.
pub fn difference(project: &Project, channel: &mut Channel, target: &Image, wishes: &Wishes) -> Result<Option<Bundle>> {
    let state = channel.state()?;
    let running = hex(state.base_id);
    let wishes = wishes.with_variables(&state)?;
    if running == target.id && wishes.drop.is_empty() {
        if !wishes.pin.is_empty() {
            eprintln!("delias: the base stays as it is, so nothing needs to be kept for {}", wishes.pin.join(", "));
        }
        return Ok(None);
    }
    let new =
        builds::find(project, &target.id).with_context(|| format!("the build {} was not kept", short(&target.id)))?;
    let old = build_of(project, channel, &running)?;
    if state.guests.is_empty() {
        return diff::between(&old, &new).map(Some);
    }
    let (before, after) = guest::carry(project, channel, &state, &old, (target, &new), &wishes)?;
    let (old, new) = (project.build("worlds/before"), project.build("worlds/after"));
    before.lay_out(&old)?;
    after.lay_out(&new)?;
    // Whenever it is applied, the next difference starts from there.
    after.keep()?;
    diff::between(&old, &new).map(Some)
}

/// The build of a base that runs.
///
/// # Errors
/// None is kept.
pub fn build_of(project: &Project, channel: &mut Channel, running: &str) -> Result<PathBuf> {
    if let Some(folder) = builds::find(project, running) {
        return Ok(folder);
    }
    put_together(project, channel, running).with_context(|| {
        format!("{} runs, of which no build is kept here, so nothing can be told of its objects: boot a build of this tree with `make run`", short(running))
    })
}

/// The build of what runs, made of the last one before it that was kept, and of the cells that are others since.
fn put_together(project: &Project, channel: &mut Channel, running: &str) -> Result<PathBuf> {
    let cells = cells(channel)?;
    let ran = channel.run("updates --json")?;
    let updates = json_lines(&ran.text).pop().context("the system does not list its updates")?;
    let mut at = running.to_owned();
    for update in updates.as_array().into_iter().flatten().rev() {
        if update["outcome"] != "applied" || update["target"] != *at {
            continue;
        }
        at = update["base"].as_str().unwrap_or_default().to_owned();
        if let Some(base) = builds::find(project, &at) {
            return builds::compose(project, running, &base, &cells);
        }
    }
    bail!("none of the builds that ran before it was kept")
}

/// The cells that run.
///
/// # Errors
/// The system does not list them.
pub fn cells(channel: &mut Channel) -> Result<Vec<builds::Running>> {
    let ran = channel.run("cells --json")?;
    let list = json_lines(&ran.text).pop().context("the system does not list its cells")?;
    let rows = list["cells"].as_array().context("the system does not list its cells")?;
    let text = |value: &serde_json::Value| value.as_str().map(str::to_owned);
    rows.iter()
        .map(|row| Some((text(&row["name"])?, text(&row["object"])?)))
        .collect::<Option<_>>()
        .context("a cell has no name or hash")
}

fn short(id: &str) -> &str {
    id.get(..16).unwrap_or(id)
}

/// Builds, and offers what differs from what runs; applies it if `apply` says so.
///
/// # Errors
/// The tree does not build, or the system does not take the offer; then it runs on as it is.
pub fn run(project: &Project, wishes: &Wishes, apply: bool) -> Result<ExitCode> {
    let mut channel = connect(project)?;
    channel.release();
    let image = image::build(project)?;
    offer(project, &mut channel, &image, wishes, apply)
}

/// Builds, and shows what differs from what runs; nothing is offered. The status is 1 if it would be refused.
///
/// # Errors
/// The tree does not build, no system runs, or a guest cannot be carried along.
pub fn show(project: &Project, wishes: &Wishes, json: bool, output: Option<&Path>) -> Result<ExitCode> {
    let mut channel = connect(project)?;
    channel.release();
    let image = image::build(project)?;
    match difference(project, &mut channel, &image, wishes)? {
        Some(bundle) => diff::show(&bundle, json, output),
        // For scripts and files it is a difference like any other.
        None if json || output.is_some() => {
            let folder = builds::find(project, &image.id).context("the build that runs was not kept")?;
            let id = channel.state()?.running_id;
            diff::show(&Bundle { base_id: id, target_id: id, ..diff::between(&folder, &folder)? }, json, output)
        }
        None => {
            println!("nothing differs: {} runs", short(&image.id));
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Offers what differs between what runs and an image that was built.
///
/// # Errors
/// As [`run`].
pub fn offer(
    project: &Project,
    channel: &mut Channel,
    image: &Image,
    wishes: &Wishes,
    apply: bool,
) -> Result<ExitCode> {
    let Some(bundle) = difference(project, channel, image, wishes)? else {
        channel.withdraw()?;
        println!("nothing differs: {} runs, and nothing is offered", short(&image.id));
        return Ok(ExitCode::SUCCESS);
    };
    let bytes = bundle.write()?;
    let start = Instant::now();
    println!("{}", report::Summary(&bundle));
    let sentence = channel.offer(&bytes)?;
    println!("{} bytes sent in {} ms", bytes.len(), start.elapsed().as_millis());
    print!("{sentence}");
    if !apply {
        return Ok(ExitCode::SUCCESS);
    }
    if let Verdict::Refused(_) = bundle.verdict {
        return Ok(ExitCode::FAILURE);
    }
    let ran = channel.run("update --yes")?;
    print!("{}", ran.text);
    Ok(ExitCode::from(ran.status))
}
