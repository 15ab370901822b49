//! Guests in the difference: an update of the base carries along every guest that runs, built again for the target.
//!
//! A guest holds inlined code and layouts of the base it was built for. So each is built from the source that the system keeps,
//! against the target, and what differs goes into the same update. One that does not build stops it, with its name.

use super::world::World;
use super::{Built, Place, build, pin, source};
use crate::channel::Channel;
use crate::image::Image;
use crate::project::Project;
use crate::qemu;
use crate::sdk::{self, Sdk};
use anyhow::{Context, Result, bail};
use bundle::{Data, Verdict};
use std::path::{Path, PathBuf};

/// What a person wants of guests that are in the way.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Wishes {
    /// Unload this guest in the same update; the variable DROP names some
    #[arg(long, value_name = "GUEST")]
    pub drop: Vec<String>,
    /// Keep for this guest what it uses of the base as it is; the variable PIN names some
    #[arg(long, value_name = "GUEST")]
    pub pin: Vec<String>,
}

impl Wishes {
    /// These, and those of the variables `DROP` and `PIN`.
    ///
    /// # Errors
    /// There is no such guest.
    pub fn with_variables(&self, state: &wire::State) -> Result<Wishes> {
        let names = |variable: &str, given: &[String]| -> Result<Vec<String>> {
            let text = qemu::variable(variable).unwrap_or_default();
            let more = text.split([',', ' ']).filter(|name| !name.is_empty()).map(str::to_owned);
            let names: Vec<String> = given.iter().cloned().chain(more).collect();
            if let Some(unknown) = names.iter().find(|name| !state.guests.contains(name)) {
                let there = if state.guests.is_empty() { "none".to_owned() } else { state.guests.join(", ") };
                bail!("{variable} names guest {unknown}, which is not there; there are: {there}");
            }
            Ok(names)
        };
        Ok(Wishes { drop: names("DROP", &self.drop)?, pin: names("PIN", &self.pin)? })
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
    for name in state.guests.iter().filter(|name| !wishes.drop.contains(name)) {
        let bytes = channel.source(name)?;
        let guest = source::unpack(&bytes, &project.build("guests").join(name))?;
        let place = Place {
            namespace: before.namespace_of(name).map(str::to_owned),
            namespaces: Some(after.manifest.namespaces.clone()),
            replaces: before.guest(name).is_some_and(|guest| guest.replaces.is_some()),
            tests: false,
        };
        let pin = || -> Result<(Built, PathBuf)> {
            let objects = guest.folder.join("target/pinned");
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
                Err(error) => {
                    return Err(error.context(format!(
                        "guest {name} cannot be carried along, and nothing was changed; `make update PIN={name}` keeps for it what it uses of the base, `make update DROP={name}` unloads it in the same update"
                    )));
                }
            }
        };
        after = after.with(&built, &objects, bytes)?;
    }
    after.take_services(&before);
    Ok((before, after))
}

/// Refuses an update of data under a pinned guest, whose code knows the old layouts.
///
/// # Errors
/// It is one.
pub fn allow(guests: &[manifest::Guest], verdict: &Verdict, data: &Data) -> Result<()> {
    let pinned: Vec<&str> = guests.iter().filter(|guest| guest.pinned).map(|guest| guest.name.as_str()).collect();
    if pinned.is_empty() || *verdict != Verdict::Data {
        return Ok(());
    }
    bail!(
        "the update changes the layout of {}, which guest {} knows as it was: `make update DROP={}` unloads what is pinned",
        data.claims.join(", "),
        pinned.join(", "),
        pinned.join(",")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_do_not_change_under_what_is_pinned() {
        let guest = |pinned| manifest::Guest { name: "greeter".to_owned(), pinned, ..Default::default() };
        let data = Data { claims: vec!["task::Task".to_owned()], ..Data::default() };
        allow(&[guest(false)], &Verdict::Data, &data).unwrap();
        let refused = allow(&[guest(false), guest(true)], &Verdict::Data, &data).unwrap_err().to_string();
        assert!(refused.contains("task::Task") && refused.contains("greeter"), "{refused}");
        allow(&[guest(true)], &Verdict::Code, &Data::default()).unwrap();
    }
}
