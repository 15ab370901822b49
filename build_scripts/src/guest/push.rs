//! `delias push`: a guest becomes a cell of the running system, or a newer version of one.
//!
//! To the system it is an update like any other: the difference between the world that runs and the same world with this guest. So
//! whatever is right or wrong with an update is so here: layouts, live values, symbols, the id afterwards.

use super::world::World;
use super::{Built, Guest, Place, source};
use crate::ask;
use crate::builds::hex;
use crate::diff::{self, report};
use crate::qemu;
use crate::sdk::Sdk;
use anyhow::{Context, Result, bail, ensure};
use bundle::Verdict;
use linker::Object;
use std::process::ExitCode;

/// How a guest is pushed.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Push {
    /// Then start it: an app runs in the background with these words, a service gets them as parameters, a scheduler decides
    #[arg(long, value_name = "WORDS", allow_hyphen_values = true)]
    pub run: Option<String>,
    /// Put it into this namespace, which `ns new` has made; without it, it stays where it is, and a new one is in the base
    #[arg(long, value_name = "NAME")]
    pub ns: Option<String>,
    /// Put it in the place of the image's cell of its name
    #[arg(long, value_name = "CELL")]
    pub replace: Option<String>,
}

/// Builds a guest, puts it into the system that runs, and starts it if that is asked for.
///
/// # Errors
/// It does not build, no system runs, the SDK is of another image, or the system refuses it; then nothing has changed.
pub fn push(guest: &Guest, sdk: &Sdk, how: &Push) -> Result<ExitCode> {
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
    channel.release();
    let name = guest.name(sdk)?;
    if let Some(cell) = how.replace.as_ref().filter(|cell| **cell != name) {
        bail!(
            "the guest is called {name}, and a cell is replaced by one of its own name: expected --replace {name}, or a guest called {cell}"
        );
    }
    let replaces = how.replace.is_some() || before.guest(&name).is_some_and(|guest| guest.replaces.is_some());
    if let Some(namespace) = how.ns.as_ref().filter(|_| replaces) {
        bail!(
            "{name} stands in for a cell of the image and is in that one's namespace: it cannot be put into {namespace}"
        );
    }
    let place = Place {
        namespace: namespace(&before, &name, how.ns.as_deref())?,
        namespaces: Some(before.manifest.namespaces.clone()),
        replaces,
        tests: false,
    };
    let built = super::build(guest, sdk, &place)?;
    let start = how.run.as_ref().map(|words| start(&built, words)).transpose()?;
    let objects = guest.objects(&place);
    let after = before.with(&built, &objects, source::pack(guest, &built.crates)?)?;
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
        if let Some(waiting) = channel.state()?.offered {
            println!("what was offered before, to {}, makes way; `make update` offers it anew", &hex(waiting)[..16]);
        }
        let running = channel.state()?.running_id;
        ensure!(
            running == before.manifest.image_id,
            "the system has become {} while {} was built, so it is not pushed: push it again",
            &hex(running)[..16],
            built.name
        );
        channel.offer(&bundle.write()?)?;
        let ran = channel.run("update --yes")?;
        if ran.status != 0 {
            channel.withdraw()?;
            bail!("{}", ran.text.trim_end());
        }
        print!("{}", ran.text);
    }
    let Some(line) = start else { return Ok(ExitCode::SUCCESS) };
    let ran = channel.run(&line)?;
    if ran.status == 0 {
        print!("{}", ran.text)
    } else {
        eprint!("{}", ran.text)
    }
    Ok(ExitCode::from(ran.status))
}

/// The namespace that a guest is to be in: what is asked for, or where it is.
fn namespace(world: &World, guest: &str, asked: Option<&str>) -> Result<Option<String>> {
    let Some(asked) = asked else { return Ok(world.namespace_of(guest).map(str::to_owned)) };
    if asked == namespace::BASE {
        return Ok(None);
    }
    let mut known = world.manifest.namespaces.iter().map(|namespace| namespace.name.as_str());
    ensure!(
        known.clone().any(|name| name == asked),
        "there is no namespace {asked}, but {}, {}; `delias ns new {asked} --allow CELL…` makes one",
        namespace::BASE,
        known.by_ref().collect::<Vec<_>>().join(", ")
    );
    Ok(Some(asked.to_owned()))
}

/// The line of the shell that starts a guest, by what it exports; an app gets its words as a shell would part them.
fn start(built: &Built, words: &str) -> Result<String> {
    let name = &built.name;
    let own = built.cells.iter().find(|cell| cell.cell.name == *name).context("the guest has no cell of its own")?;
    let object = Object::parse(own.object.bytes()).with_context(|| format!("cell {name}"))?;
    let exports = |prefix: &str| object.defined().any(|symbol| symbol.strip_prefix(prefix) == Some(name));
    Ok(match () {
        () if exports("delias_guest_") || exports("delias_app_") => {
            let words: String = qemu::split(words)
                .context("the words of --run")?
                .iter()
                .map(|word| format!(" {}", ask::quoted(word)))
                .collect();
            format!("run {name}{words} &")
        }
        () if exports(manifest::BINDS) && words.is_empty() => format!("services start {name}"),
        () if exports(manifest::BINDS) => format!("services start {name} {}", ask::quoted(words)),
        () if exports("delias_scheduler_") => format!("sched use {name}"),
        () => bail!(
            "{name} cannot be started: it defines none of delias_guest_{name}, delias_service_{name} and delias_scheduler_{name}"
        ),
    })
}
