//! `delias push`: a guest becomes a cell of the running system, or a newer version of one.
//!
//! To the system it is an update like any other: the difference between the world that runs and the same world with this guest. So
//! whatever is right or wrong with an update is so here: layouts, live values, symbols, the id afterwards.

use super::{Built, Guest};
use crate::channel::Channel;
use crate::diff::{self, report};
use crate::sdk::Sdk;
use crate::{archive, ask};
use anyhow::{Context, Result, bail, ensure};
use bundle::Verdict;
use manifest::Manifest;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Digits of an id in a folder's name.
const DIGITS: usize = 32;
/// Lists the guests of a world that is kept.
const GUESTS: &str = "guests.json";

fn hex(id: [u8; 32]) -> String {
    blake3::Hash::from(id).to_hex().to_string()
}

fn short(id: &str) -> &str {
    id.get(..16).unwrap_or(id)
}

/// A world: an image, and guests with their objects.
struct World {
    manifest: Manifest,
    /// By guest cell that is not the image's: the folder in which its objects lie.
    homes: Vec<(String, PathBuf)>,
}

impl World {
    /// The image of an SDK, without guests.
    fn of(sdk: &Sdk) -> Result<World> {
        Ok(World { manifest: diff::side::manifest_of(&sdk.path("image"))?, homes: Vec::new() })
    }

    /// The world that runs: the SDK's image, and the guests that were pushed into it, as far as this person's tools did so.
    fn running(sdk: &Sdk, channel: &mut Channel) -> Result<World> {
        let state = channel.state()?;
        let (base, running) = (hex(state.base_id), hex(state.running_id));
        ensure!(
            base == sdk.description.id,
            "this SDK is of image {}, but {} runs: use the SDK of that image (`make sdk` in the tree that it comes from)",
            sdk.short(),
            short(&base)
        );
        let mut world = World::of(sdk)?;
        if base == running {
            return Ok(world);
        }
        let folder = kept(&running)?;
        let text = fs::read(folder.join(GUESTS))
            .with_context(|| format!("the guests that run were not pushed from here, so the difference to them cannot be told: unload them first ({})", state.guests.join(", ")))?;
        let (guests, cells): (Vec<manifest::Guest>, Vec<(String, String, String)>) = serde_json::from_slice(&text).with_context(|| format!("{} is damaged", folder.display()))?;
        for (name, version, hash) in cells {
            let object_hash = *blake3::Hash::from_hex(&hash).ok().with_context(|| format!("{} is damaged", folder.display()))?.as_bytes();
            world.manifest.cells.push(manifest::Cell { name: name.clone(), version, object_hash, boot: false, own: true });
            world.homes.push((name, folder.clone()));
        }
        world.manifest.guests = guests;
        world.settle();
        ensure!(hex(world.manifest.image_id) == running, "the guests that run are not those that were pushed from here: unload them first ({})", state.guests.join(", "));
        Ok(world)
    }

    /// The same with a guest, in place of one of its name.
    fn with(&self, built: &Built, objects: &Path) -> Result<World> {
        let mut manifest = self.manifest.clone();
        let mut homes = self.homes.clone();
        manifest.guests.retain(|guest| guest.name != built.name);
        // What only the one before had goes with it.
        let others: Vec<String> = manifest.guests.iter().flat_map(|guest| guest.cells.clone()).collect();
        let is_image = |name: &str| !homes.iter().any(|(home, _)| home == name);
        manifest.cells.retain(|cell| is_image(&cell.name) || others.contains(&cell.name));
        homes.retain(|(name, _)| others.contains(name));
        for new in &built.cells {
            if let Some(known) = manifest.cells.iter().find(|cell| cell.name == new.cell.name) {
                ensure!(
                    known.object_hash == new.cell.object_hash,
                    "another guest has {} {} already, and this one wants {}: one crate is one cell",
                    known.name,
                    known.version,
                    new.cell.version
                );
                continue;
            }
            manifest.cells.push(new.cell.clone());
            homes.push((new.cell.name.clone(), objects.to_path_buf()));
        }
        let cells = built.cells.iter().map(|cell| cell.cell.name.clone()).collect();
        manifest.guests.push(manifest::Guest { name: built.name.clone(), cells });
        let mut world = World { manifest, homes };
        world.settle();
        Ok(world)
    }

    fn settle(&mut self) {
        self.manifest.cells.sort_by(|a, b| a.name.cmp(&b.name));
        self.manifest.guests.sort_by(|a, b| a.name.cmp(&b.name));
        self.manifest.image_id = self.manifest.id(|bytes| *blake3::hash(bytes).as_bytes());
    }

    /// Lays it out as a build folder, made of links.
    fn lay_out(&self, sdk: &Sdk, folder: &Path) -> Result<()> {
        // What is left of the last time.
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder.join("cells")).with_context(|| format!("cannot create {}", folder.display()))?;
        let link = |from: PathBuf, name: &str| {
            let to = folder.join(name);
            std::os::unix::fs::symlink(&from, &to).with_context(|| format!("cannot link {} to {}", to.display(), from.display()))
        };
        for cell in &self.manifest.cells {
            let home = self.homes.iter().find(|(name, _)| *name == cell.name);
            for (file, name) in [(format!("{}.o", cell.name), archive::entry_name(&cell.name)), (format!("{}.debug.o", cell.name), format!("cells/{}.debug.o", cell.name))] {
                link(home.map_or_else(|| sdk.path("image").join(&name), |(_, folder)| folder.join(&file)), &name)?;
            }
        }
        for name in ["nano_core", "image.json"] {
            link(sdk.path("image").join(name), name)?;
        }
        let head = self.manifest.write().context("the manifest cannot be written")?;
        let packed = archive::pack(&[(manifest::FILE.to_owned(), &head)])?;
        fs::write(folder.join("cells.tar"), packed).with_context(|| format!("cannot write {}/cells.tar", folder.display()))
    }

    /// Keeps the guests' objects, so that the next difference can start from them.
    fn keep(&self) -> Result<()> {
        let folder = kept(&hex(self.manifest.image_id))?;
        fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let mut cells = Vec::new();
        for (name, home) in &self.homes {
            for file in [format!("{name}.o"), format!("{name}.debug.o")] {
                let (from, to) = (home.join(&file), folder.join(&file));
                if from != to {
                    fs::copy(&from, &to).with_context(|| format!("cannot keep {}", from.display()))?;
                }
            }
            let cell = self.manifest.cells.iter().find(|cell| cell.name == *name).context("a guest's cell is on no list")?;
            cells.push((name.clone(), cell.version.clone(), hex(cell.object_hash)));
        }
        let text = serde_json::to_vec_pretty(&(&self.manifest.guests, cells))?;
        fs::write(folder.join(GUESTS), text).with_context(|| format!("cannot write into {}", folder.display()))
    }
}

/// Where the guests of a world are kept, in a folder of the person's own.
fn kept(id: &str) -> Result<PathBuf> {
    let cache = match std::env::var_os("XDG_CACHE_HOME").filter(|path| !path.is_empty()) {
        Some(cache) => PathBuf::from(cache),
        None => PathBuf::from(std::env::var_os("HOME").context("neither XDG_CACHE_HOME nor HOME is set")?).join(".cache"),
    };
    Ok(cache.join("delias/worlds").join(id.get(..DIGITS).unwrap_or(id)))
}

/// Builds a guest and puts it into the system that runs; runs it in the background with the words of `run`, if there are any.
///
/// # Errors
/// It does not build, no system runs, the SDK is of another image, or the system refuses it; then nothing has changed.
pub fn push(guest: &Guest, sdk: &Sdk, run: Option<&str>) -> Result<ExitCode> {
    let mut channel = ask::connect(None)?;
    let before = World::running(sdk, &mut channel)?;
    let built = super::build(guest, sdk)?;
    let objects = guest.folder.join("target/delias");
    let after = before.with(&built, &objects)?;
    if after.manifest.image_id == before.manifest.image_id {
        println!("nothing differs: {} runs as it is", built.name);
    } else {
        let (old, new) = (objects.join("before"), objects.join("after"));
        before.lay_out(sdk, &old)?;
        after.lay_out(sdk, &new)?;
        let bundle = diff::between(&old, &new)?;
        println!("{}", report::Summary(&bundle));
        if let Verdict::Refused(_) = bundle.verdict {
            bail!("{} is not pushed, and nothing was changed", built.name);
        }
        channel.offer(&bundle.write()?)?;
        let ran = channel.run("update --yes")?;
        if ran.status != 0 {
            channel.withdraw()?;
            bail!("{}", ran.text.trim_end());
        }
        print!("{}", ran.text);
        after.keep()?;
    }
    let Some(words) = run else { return Ok(ExitCode::SUCCESS) };
    let ran = channel.run(&format!("run {} {words} &", built.name))?;
    print!("{}", ran.text);
    Ok(ExitCode::from(ran.status))
}
