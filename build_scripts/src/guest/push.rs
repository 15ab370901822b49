//! `delias push`: a guest becomes a cell of the running system, or a newer version of one.
//!
//! To the system it is an update like any other: the difference between the world that runs and the same world with this guest. So
//! whatever is right or wrong with an update is so here: layouts, live values, symbols, the id afterwards.

use super::world::{World, hex};
use super::{Guest, source};
use crate::diff::{self, report};
use crate::sdk::Sdk;
use crate::ask;
use anyhow::{Result, bail, ensure};
use bundle::Verdict;
use std::process::ExitCode;

/// Builds a guest and puts it into the system that runs; runs it in the background with the words of `run`, if there are any.
///
/// # Errors
/// It does not build, no system runs, the SDK is of another image, or the system refuses it; then nothing has changed.
pub fn push(guest: &Guest, sdk: &Sdk, run: Option<&str>) -> Result<ExitCode> {
    let mut channel = ask::connect(None)?;
    let state = channel.state()?;
    let base = hex(state.base_id);
    ensure!(
        base == sdk.description.id,
        "this SDK is of image {}, but {} runs: use the SDK of that image (`make sdk` in the tree that it comes from)",
        sdk.short(),
        base.get(..16).unwrap_or(&base)
    );
    let before = World::running(&sdk.path("image"), &mut channel)?;
    let built = super::build(guest, sdk)?;
    let objects = guest.folder.join("target/delias");
    let after = before.with(&built, &objects, source::pack(guest)?)?;
    if after.manifest.image_id == before.manifest.image_id {
        println!("nothing differs: {} runs as it is", built.name);
    } else {
        let (old, new) = (objects.join("before"), objects.join("after"));
        before.lay_out(&old)?;
        after.lay_out(&new)?;
        let bundle = diff::between(&old, &new)?;
        println!("{}", report::Summary(&bundle));
        if let Verdict::Refused(_) = bundle.verdict {
            bail!("{} is not pushed, and nothing was changed", built.name);
        }
        // The next difference starts from there, whatever becomes of this tool meanwhile.
        after.keep()?;
        channel.offer(&bundle.write()?)?;
        let ran = channel.run("update --yes")?;
        if ran.status != 0 {
            channel.withdraw()?;
            bail!("{}", ran.text.trim_end());
        }
        print!("{}", ran.text);
    }
    let Some(words) = run else { return Ok(ExitCode::SUCCESS) };
    let ran = channel.run(&format!("run {} {words} &", built.name))?;
    print!("{}", ran.text);
    Ok(ExitCode::from(ran.status))
}
