//! `delias doctor`: looks over a person's machine, step by step, and says of each step what to do if it is not as it should be.

use crate::builds::hex;
use crate::channel::Channel;
use crate::project::{Project, Toolchain};
use crate::sdk::Sdk;
use crate::{qemu, running};
use anyhow::Result;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

/// Bytes that a first build needs in `build/`, about.
const ROOM_BYTES: u64 = 3 << 30;

/// The part of `cfg/toolchain.toml` that is read here.
#[derive(Deserialize)]
struct Pins {
    release: String,
    programs: BTreeMap<String, String>,
    files: BTreeMap<String, String>,
}

/// One step: what is looked at, and what was found, or what to do.
struct Step {
    what: String,
    found: Result<String, String>,
}

fn step(what: impl Into<String>, found: Result<String, String>) -> Step {
    Step { what: what.into(), found }
}

/// Looks at everything that building cells with an SDK needs. Its status is 1 if something is missing.
///
/// # Errors
/// The SDK cannot be read.
pub fn of_sdk(sdk: &Sdk) -> Result<ExitCode> {
    let compiler =
        sdk.toolchain().map(|toolchain| toolchain.rustc.display().to_string()).map_err(|error| format!("{error:#}"));
    let mut steps = vec![
        step("SDK", Ok(format!("of image {} at {}", sdk.short(), sdk.root.display()))),
        step("compiler", compiler),
    ];
    for (program, package, what) in [
        ("cc", "gcc libc6-dev", "macros are compiled with it"),
        ("tar", "tar", "`delias push` packs sources with it"),
        ("gzip", "gzip", "`delias push` packs sources with it"),
        (qemu::QEMU, "qemu-system-x86", "`delias test` boots with it"),
        ("gdb", "gdb", "`delias gdb` is it"),
    ] {
        steps.push(step(
            program,
            on_path(program).ok_or_else(|| format!("not on PATH; {what} (on Debian: apt-get install {package})")),
        ));
    }
    steps.push(step(
        "system",
        match running::find(None) {
            Ok(Some(socket)) => matching(sdk, &socket),
            Ok(None) => Ok("none runs; `make run` in a tree of Delias starts one".to_owned()),
            Err(error) => Err(format!("{error:#}")),
        },
    ));
    Ok(tell(&steps))
}

/// Whether the system that runs is of the SDK's image.
fn matching(sdk: &Sdk, socket: &Path) -> Result<String, String> {
    let state =
        Channel::connect(socket).and_then(|mut channel| channel.state()).map_err(|error| format!("{error:#}"))?;
    let base = hex(state.base_id);
    match base == sdk.description.id {
        true if state.guests.is_empty() => Ok("one of this image runs, without guests".to_owned()),
        true => Ok(format!("one of this image runs, with {}", state.guests.join(", "))),
        false => Err(format!(
            "{} runs, so what this SDK builds does not fit it; use the SDK of that image (`make sdk` in its tree)",
            &base[..16]
        )),
    }
}

/// Looks at everything that a tree needs. Its status is 1 if something is missing.
///
/// # Errors
/// The tree's own lists cannot be read.
pub fn of_tree(project: &Project) -> Result<ExitCode> {
    let pins: Pins = project.read_cfg("toolchain.toml")?;
    let mut steps = vec![
        step("tree", Ok(project.root.display().to_string())),
        compiler(project, &pins.release),
        cargo_home(project),
    ];
    for (program, package) in &pins.programs {
        let found =
            on_path(program).ok_or_else(|| format!("not on PATH; `make setup` installs it (on Debian in {package})"));
        steps.push(step(program.as_str(), found));
    }
    for (file, package) in &pins.files {
        let found = Path::new(file).exists().then(|| "there".to_owned());
        steps.push(step(
            file.as_str(),
            found.ok_or_else(|| format!("not there; `make setup` installs it (on Debian in {package})")),
        ));
    }
    steps.push(step("room", room(project)));
    steps.push(step("accelerator", Ok(accelerator())));
    let image = project.build("image.json");
    steps.push(step(
        "image",
        image.exists().then(|| "built".to_owned()).ok_or_else(|| "not built yet; `make image` builds it".to_owned()),
    ));
    let system = match running::find(Some(project)) {
        Ok(Some(socket)) => Ok(format!("runs; its channel is {}", socket.display())),
        Ok(None) => Ok("none runs; `make run` starts one".to_owned()),
        Err(error) => Err(format!("{error:#}")),
    };
    steps.push(step("system", system));
    Ok(tell(&steps))
}

/// Prints a line for each step; 1 if something is missing.
fn tell(steps: &[Step]) -> ExitCode {
    let mut missing = 0;
    for Step { what, found } in steps {
        match found {
            Ok(found) => println!("ok      {what}: {found}"),
            Err(todo) => {
                missing += 1;
                println!("MISSING {what}: {todo}");
            }
        }
    }
    println!("{}", if missing == 0 { "everything is there".to_owned() } else { format!("missing: {missing}") });
    ExitCode::from(u8::from(missing > 0))
}

fn compiler(project: &Project, release: &str) -> Step {
    let found = Toolchain::find(project).map_err(|error| format!("{error:#}")).and_then(|toolchain| {
        let identity = toolchain.identity().map_err(|error| format!("{error:#}"))?;
        let right = identity.lines().any(|line| line == format!("release: {release}"));
        let first = identity.lines().next().unwrap_or_default().to_owned();
        if !right {
            return Err(format!("{first}, expected release {release}: delete build/toolchain and run `make setup`"));
        }
        let source = toolchain.sysroot.join("lib/rustlib/src/rust/library/core");
        match source.is_dir() {
            true => Ok(format!("{first} at {}", toolchain.rustc.display())),
            false => Err(format!(
                "{first} without the source of its library at {}; `make setup` installs it",
                source.display()
            )),
        }
    });
    step("compiler", found)
}

/// Whether crates can be fetched, or are there.
fn cargo_home(project: &Project) -> Step {
    let done = Toolchain::find(project).map_err(|error| format!("{error:#}")).and_then(|toolchain| {
        let host = toolchain.identity().unwrap_or_default();
        let host =
            host.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or("x86_64-unknown-linux-gnu").to_owned();
        let output = toolchain
            .cargo(project)
            .args(["metadata", "--format-version", "1", "--offline", "--locked", "--filter-platform", &host])
            .output();
        match output {
            Ok(output) if output.status.success() => Ok("all fetched".to_owned()),
            Ok(_) => {
                Err("not all are here; `cargo fetch` in the tree gets them, which needs a way to the registry"
                    .to_owned())
            }
            Err(error) => Err(format!("cargo cannot be started: {error}")),
        }
    });
    step("crates of others", done)
}

/// Where a program lies.
pub fn on_path(program: &str) -> Option<String> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|path| path.is_file())
        .map(|path| path.display().to_string())
}

/// Room on the disk that `build/` lies on, as `df` has it.
fn room(project: &Project) -> Result<String, String> {
    let output = Command::new("df")
        .args(["--output=avail", "-B1"])
        .arg(&project.root)
        .output()
        .map_err(|error| format!("df cannot be started: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let bytes: u64 = text.lines().last().and_then(|line| line.trim().parse().ok()).ok_or("df does not say")?;
    match bytes >= ROOM_BYTES {
        true => Ok(format!("{} MiB are free", bytes >> 20)),
        false => Err(format!("{} MiB are free, a build needs about {} MiB", bytes >> 20, ROOM_BYTES >> 20)),
    }
}

/// What QEMU will run code with.
fn accelerator() -> String {
    let information = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let has = |flag: &str| {
        information.lines().any(|line| line.starts_with("flags") && line.split(' ').any(|word| word == flag))
    };
    match (has("vmx") || has("svm"), Path::new("/dev/kvm").exists()) {
        (true, true) => "KVM".to_owned(),
        (true, false) => "TCG, since there is no /dev/kvm; with it the system runs faster".to_owned(),
        (false, _) => "TCG, since this processor has no virtualisation of its own".to_owned(),
    }
}
