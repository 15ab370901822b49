//! Guests in the difference: an update of the base carries along every guest that runs, built again for the target.
//!
//! A guest holds inlined code and layouts of the base it was built for. So each is built from the source that the system keeps,
//! against the target, and what differs goes into the same update. One that does not build stops it, with its name.

use super::world::World;
use super::{Built, Place, build, command, pin, source};
use crate::channel::Channel;
use crate::image::Image;
use crate::project::Project;
use crate::qemu;
use crate::sdk::{self, Sdk};
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};

/// What a person wants of guests that are in the way.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Wishes {
    /// Unload this guest in the same update; the variable DROP names some
    #[arg(long, value_name = "GUEST", value_delimiter = ',')]
    pub drop: Vec<String>,
    /// Keep for this guest what it uses of the base as it is; the variable PIN names some
    #[arg(long, value_name = "GUEST", value_delimiter = ',')]
    pub pin: Vec<String>,
}

impl Wishes {
    /// These, and those of the variables `DROP` and `PIN`.
    ///
    /// # Errors
    /// There is no such guest.
    pub fn with_variables(&self, state: &wire::State) -> Result<Wishes> {
        let names = |variable: &str, option: &str, given: &[String]| -> Result<Vec<String>> {
            let text = qemu::variable(variable).unwrap_or_default();
            let more = text.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned);
            let names: Vec<String> = given.iter().cloned().chain(more).collect();
            if let Some(unknown) = names.iter().find(|name| !state.guests.contains(name)) {
                let there = if state.guests.is_empty() { "none".to_owned() } else { state.guests.join(", ") };
                let by = if given.contains(unknown) { option } else { variable };
                bail!("{by} names guest {unknown}, which is not there; there are: {there}");
            }
            Ok(names)
        };
        let wishes = Wishes { drop: names("DROP", "--drop", &self.drop)?, pin: names("PIN", "--pin", &self.pin)? };
        if let Some(both) = wishes.pin.iter().find(|name| wishes.drop.contains(name)) {
            bail!("guest {both} is to be dropped and to be pinned; one of them can be");
        }
        Ok(wishes)
    }
}

/// The world that runs, whose base lies in the folder `base`, and the world that it is to become: the image that was built
/// last, with all guests but those that are to be dropped.
///
/// # Errors
/// A guest does not build for the target; the sentence has its name, and says what to do.
pub fn carry(
    project: &Project,
    channel: &mut Channel,
    state: &wire::State,
    base: &Path,
    target: (&Image, &Path),
    wishes: &Wishes,
) -> Result<(World, World)> {
    let before = World::running(base, channel)?;
    let (image, folder) = target;
    let mut after = World::of(folder)?;
    after.take_namespaces(&before)?;
    let base = World::of(folder)?;
    let sdk = Sdk::open(&sdk::unpacked(project, image)?)?;
    let mut left: Vec<(&str, anyhow::Error)> = Vec::new();
    if state.guests.iter().any(|name| !wishes.drop.contains(name)) {
        command::check()?;
    }
    for name in state.guests.iter().filter(|name| !wishes.drop.contains(name)) {
        let folder = project.build("guests").join(name);
        let got = channel.source(name).and_then(|bytes| Ok((source::unpack(&bytes, &folder)?, bytes)));
        channel.release();
        let (guest, bytes) = match got {
            Ok(got) => got,
            Err(error) => {
                left.push((name, error));
                continue;
            }
        };
        let place = Place {
            namespace: before.namespace_of(name).map(str::to_owned),
            namespaces: Some(after.manifest.namespaces.clone()),
            replaces: before.guest(name).is_some_and(|guest| guest.replaces.is_some()),
            tests: false,
        };
        let pin = || -> Result<(Built, PathBuf)> {
            let objects = folder.join("pinned");
            eprintln!("keeping for guest {name} what it uses of the base");
            let built =
                pin::pin(&before, &base, name, &objects).with_context(|| format!("guest {name} cannot be pinned"))?;
            build::fits(&sdk, &built, &place)
                .with_context(|| format!("guest {name} with what is kept for it does not fit the target"))?;
            Ok((built, objects))
        };
        let (built, objects) = if wishes.pin.contains(name) {
            pin()?
        } else {
            eprintln!("building guest {name} for the target");
            match super::build(&guest, &sdk, &place) {
                Ok(built) => (built, guest.objects(&place)),
                // Somebody has decided that before.
                Err(_) if before.guest(name).is_some_and(|guest| guest.pinned) => pin()?,
                // The others are looked at first, so that all are known at once.
                Err(error) => {
                    left.push((name, error));
                    continue;
                }
            }
        };
        after = after.with(&built, &objects, bytes)?;
    }
    if !left.is_empty() {
        let names: Vec<&str> = left.iter().map(|(name, _)| *name).collect();
        let (all, list) = (names.join(","), names.join(", "));
        let whys: String = left.iter().map(|(name, why)| format!("\n{name}: {why:#}")).collect();
        bail!(
            "guest {list} cannot be carried along, and nothing was changed; `make update PIN={all}` keeps for it what it uses of the base, `make update DROP={all}` unloads it in the same update{whys}"
        );
    }
    after.take_services(&before);
    Ok((before, after))
}
