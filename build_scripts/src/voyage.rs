//! `delias voyage`: a system that was booted from an earlier commit sails to the tree as it is now, by live updates alone.
//!
//! ```text
//! build/voyage/tree   a clone, checked out at the earlier commit and built there
//! boot it ─▶ load ─▶ offer the difference to today's build ─▶ update ─▶ id, memory, load as they should be
//! ```
//! One update is tried first. If that is refused (a layout changed), the commits between are sailed to one after another,
//! as far as each can be reached.

use crate::cargo;
use crate::diff;
use crate::image;
use crate::project::Project;
use crate::qemu::{Machine, variable};
use crate::session::Session;
use anyhow::{Context, Result, bail, ensure};
use bundle::{Bundle, Verdict};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

/// What runs while it sails: it counts, computes and sleeps.
const LOAD: [&str; 3] = ["count", "spin", "count"];

/// Sails from the commit `from`, or the one that `FROM` names, or the last one.
///
/// # Errors
/// A build fails, or the voyage does not end where it should.
pub fn run(project: &Project, from: Option<String>) -> Result<ExitCode> {
    let from = from.or_else(|| variable("FROM")).unwrap_or_else(|| "HEAD~1".to_owned());
    let start = commit(project, &from)?;
    let target = image::build(project)?;
    let harbour = Harbour::open(project)?;
    eprintln!("delias: building {} in {}", &start[..12], harbour.tree.display());
    let first = harbour.build(&start)?;
    let mut session = Session::boot(project, &first, &Machine::from_environment()?)?;
    for (number, app) in LOAD.iter().enumerate() {
        let said = session.run(&format!("run {app} &"))?;
        ensure!(said.contains(app), "load {number} could not be started: {said}");
    }
    let mut ship = Ship { session, at: first };
    let here = project.build("");
    match ship.sail(&here, &format!("{} to this tree", &start[..12]))? {
        Reached::There => {}
        Reached::Refused(reasons) => {
            eprintln!("delias: not in one update: {}", reasons.join("; "));
            for next in between(project, &start)? {
                let build = harbour.build(&next)?;
                if let Reached::Refused(reasons) = ship.sail(&build, &format!("on to {}", &next[..12]))? {
                    bail!("{} cannot be reached: {}", &next[..12], reasons.join("; "));
                }
            }
            if let Reached::Refused(reasons) = ship.sail(&here, "on to this tree")? {
                bail!("the tree cannot be reached: {}", reasons.join("; "));
            }
        }
    }
    ship.arrive(&target.id)?;
    println!("arrived at {}: verified, and the load still runs", target.id.get(..16).unwrap_or(&target.id));
    Ok(ExitCode::SUCCESS)
}

enum Reached {
    There,
    Refused(Vec<String>),
}

/// The system that sails.
struct Ship {
    session: Session,
    /// The build that runs.
    at: PathBuf,
}

impl Ship {
    /// Updates to a build, unless that is refused.
    fn sail(&mut self, to: &Path, what: &str) -> Result<Reached> {
        let bundle: Bundle = diff::between(&self.at, to)?;
        if let Verdict::Refused(reasons) = bundle.verdict {
            return Ok(Reached::Refused(reasons));
        }
        if bundle.base_id != bundle.target_id {
            self.session.channel()?.offer(&bundle.write()?).with_context(|| what.to_owned())?;
            let said = self.session.run("update --yes")?;
            ensure!(said.contains("applied"), "{what}: {said}");
            println!("{what}: {} cells; {said}", bundle.changes.len());
        }
        self.at = to.to_path_buf();
        Ok(Reached::There)
    }

    /// Whether everything is as if this image had been booted.
    fn arrive(&mut self, id: &str) -> Result<()> {
        let running = self.session.json("cells --json")?["running_id"].clone();
        ensure!(running == *id, "{running} runs, expected {id}");
        ensure!(
            self.session.succeeds("cells --verify")?,
            "what runs is not what it says: {}",
            self.session.transcript()
        );
        let tasks = self.session.run("ps")?;
        for app in LOAD {
            ensure!(tasks.contains(app), "{app} did not survive: {tasks}");
        }
        ensure!(self.session.run("echo aboard")? == "aboard", "the shell does not answer");
        Ok(())
    }
}

/// Where earlier commits are built.
struct Harbour {
    tree: PathBuf,
}

impl Harbour {
    fn open(project: &Project) -> Result<Harbour> {
        let tree = project.build("voyage").join("tree");
        if !tree.join(".git").exists() {
            let clone = Command::new("git")
                .args(["clone", "--quiet", "--no-checkout", "--"])
                .arg(&project.root)
                .arg(&tree)
                .status();
            ensure!(clone.context("cannot start git")?.success(), "the tree cannot be cloned into {}", tree.display());
        }
        let tree = Project { root: tree };
        cargo::share(project, &tree)?;
        Ok(Harbour { tree: tree.root })
    }

    /// Builds a commit, with its own tool; the folder that a difference can start from.
    fn build(&self, commit: &str) -> Result<PathBuf> {
        self.git(&["fetch", "--quiet", "origin", commit])?;
        self.git(&["checkout", "--quiet", "--force", "--detach", commit])?;
        let mut make = Command::new("make");
        for name in ["MAKEFLAGS", "MFLAGS", "MAKELEVEL", "FROM"] {
            make.env_remove(name);
        }
        let status = make.args(["--silent", "image"]).current_dir(&self.tree).stdout(Stdio::null()).status();
        ensure!(status.context("cannot start make")?.success(), "{commit} cannot be built");
        // The next commit is built in the same place: what was built is kept under its own name.
        let kept = self.tree.join("build/kept").join(commit);
        if !kept.is_dir() {
            std::fs::create_dir_all(&kept).with_context(|| format!("cannot create {}", kept.display()))?;
            let mut copy = Command::new("cp");
            copy.args(["-al", "build/cells", "build/cells.tar", "build/nano_core", "build/image.json"]).arg(&kept);
            let status = copy.current_dir(&self.tree).status().context("cannot start cp")?;
            ensure!(status.success(), "{commit} cannot be kept");
        }
        Ok(kept)
    }

    fn git(&self, words: &[&str]) -> Result<()> {
        let status = Command::new("git").args(words).current_dir(&self.tree).status().context("cannot start git")?;
        ensure!(status.success(), "git {} failed", words.join(" "));
        Ok(())
    }
}

/// The commit that a name stands for.
fn commit(project: &Project, name: &str) -> Result<String> {
    let found =
        git_lines(project, &["rev-parse", "--verify", "--quiet", "--end-of-options", &format!("{name}^{{commit}}")])?;
    found.into_iter().next().with_context(|| format!("FROM is {name}, expected a commit of this tree"))
}

/// The commits after one, oldest first.
fn between(project: &Project, from: &str) -> Result<Vec<String>> {
    git_lines(project, &["rev-list", "--reverse", "--first-parent", &format!("{from}..HEAD")])
}

fn git_lines(project: &Project, words: &[&str]) -> Result<Vec<String>> {
    let output = Command::new("git").args(words).current_dir(&project.root).output().context("cannot start git")?;
    Ok(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect())
}
