//! Guests in the difference: an update of the base carries along every guest that runs, built again for the target.
//!
//! A guest holds inlined code and layouts of the base it was built for. So each is built from the source that the system keeps,
//! against the target, and what differs goes into the same update. One that does not build stops it, with its name.

use super::{Place, source};
use super::world::World;
use crate::channel::Channel;
use crate::image::Image;
use crate::project::Project;
use crate::sdk::{self, Sdk};
use anyhow::{Context, Result};
use std::path::Path;

/// The world that runs, whose base lies in the folder `base`, and the world that it is to become: the image that was built
/// last, with all guests but those of `drop`.
///
/// # Errors
/// A guest does not build for the target; the sentence has its name, and says what to do.
pub fn carry(project: &Project, channel: &mut Channel, state: &wire::State, base: &Path, target: (&Image, &Path), drop: &[String]) -> Result<(World, World)> {
    let before = World::running(base, channel)?;
    let (image, folder) = target;
    let mut after = World::of(folder)?;
    after.take_namespaces(&before)?;
    let sdk = Sdk::open(&sdk::unpacked(project, image)?)?;
    for name in state.guests.iter().filter(|name| !drop.contains(name)) {
        let bytes = channel.source(name)?;
        let guest = source::unpack(&bytes, &project.build("guests").join(name))?;
        eprintln!("building guest {name} for the target");
        let place = Place {
            namespace: before.namespace_of(name).map(str::to_owned),
            namespaces: Some(after.manifest.namespaces.clone()),
            replaces: before.guest(name).is_some_and(|guest| guest.replaces.is_some()),
            tests: false,
        };
        let built = super::build(&guest, &sdk, &place).with_context(|| {
            format!("guest {name} cannot be carried along; `make update DROP={name}` unloads it in the same update, and nothing was changed")
        })?;
        after = after.with(&built, &guest.objects(&place), bytes)?;
    }
    after.take_services(&before);
    Ok((before, after))
}
