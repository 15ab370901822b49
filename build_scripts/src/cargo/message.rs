//! What cargo says of what it compiles: one JSON value a line (Cargo Book, "External tools").

use crate::project::TARGET;
use anyhow::{Context, Result};
use serde::Deserialize;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Runs a build of cargo's, and gives what it says of everything that was compiled or was so already; nothing, if something does
/// not compile.
///
/// # Errors
/// cargo cannot be run.
pub fn collect(command: &mut Command) -> Result<Option<Vec<Message>>> {
    let (compiles, mut messages) = listen(command)?;
    messages.retain(|message| message.reason == "compiler-artifact");
    Ok(compiles.then_some(messages))
}

/// Runs a build of cargo's: whether everything compiles, and all that is said. What the compiler says goes to standard error too.
///
/// # Errors
/// cargo cannot be run.
pub fn listen(command: &mut Command) -> Result<(bool, Vec<Message>)> {
    let form = if std::io::stderr().is_terminal() { "json-diagnostic-rendered-ansi" } else { "json" };
    command.arg(format!("--message-format={form}")).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut messages = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("cargo's messages cannot be read")?;
        let Ok(message) = serde_json::from_str::<Message>(&line) else { continue };
        if let Some(text) = message.message.as_ref().and_then(|said| said.rendered.as_ref()) {
            eprint!("{text}");
        }
        messages.push(message);
    }
    let status = child.wait().context("cannot wait for cargo")?;
    Ok((status.success(), messages))
}

/// One compiled crate of the target.
#[derive(Clone, Debug)]
pub struct Library {
    /// Crate name.
    pub name: String,
    /// Its package's name, which may have dashes where the crate's has underscores.
    pub package: String,
    /// Version, in full.
    pub version: String,
    /// A member of the workspace.
    pub own: bool,
    /// The rlib.
    pub rlib: PathBuf,
    /// What other crates are compiled against.
    pub rmeta: PathBuf,
    /// The compiler's list of the source files it read.
    pub dep_info: PathBuf,
    /// Its first source file.
    pub source: PathBuf,
    /// The edition of its language.
    pub edition: String,
    /// Its features.
    pub features: Vec<String>,
}

impl Library {
    /// The files that it was compiled from, in the compiler's words: most are relative to the folder in which cargo ran.
    ///
    /// # Errors
    /// The compiler's list cannot be read.
    pub fn files(&self) -> Result<Vec<String>> {
        let path = self.dep_info.display();
        let list = std::fs::read_to_string(&self.dep_info).with_context(|| format!("cannot read {path}"))?;
        let rule = list.lines().next().and_then(|line| line.split_once(": "));
        let (_, files) = rule.with_context(|| format!("{path} is no list of files"))?;
        // A blank in a name has a backslash in front.
        let files = files.replace("\\ ", "\0");
        Ok(files.split_whitespace().map(|file| file.replace('\0', " ")).collect())
    }
}

/// What cargo says of something that it compiled.
#[derive(Deserialize)]
pub struct Message {
    reason: String,
    package_id: Option<String>,
    target: Option<Target>,
    filenames: Option<Vec<PathBuf>>,
    executable: Option<PathBuf>,
    #[serde(default)]
    features: Vec<String>,
    /// What the compiler has to say.
    message: Option<Diagnostic>,
    /// Libraries that a build script wants to be linked, and where it writes to.
    linked_libs: Option<Vec<String>>,
    out_dir: Option<PathBuf>,
    /// What else it sets for the crate.
    #[serde(default)]
    cfgs: Vec<String>,
    #[serde(default)]
    env: Vec<(String, String)>,
}

#[derive(Debug, Deserialize)]
struct Diagnostic {
    message: String,
    code: Option<Code>,
    rendered: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Code {
    code: String,
}

/// What a build script leaves for its crate.
#[derive(Clone, Copy)]
pub struct Script<'m> {
    /// Where it has written.
    pub out: &'m Path,
    /// What `cfg` knows besides.
    pub cfgs: &'m [String],
    /// What `env!` knows besides.
    pub env: &'m [(String, String)],
}

/// "Can't find crate", in the compiler's list of errors.
const NO_CRATE: &str = "E0463";

impl Message {
    /// What it says that no cell can have, as the end of a sentence about a package; `own` is the guest's id.
    pub fn impossible(&self, own: &str) -> Option<String> {
        let id = self.package_id.as_deref()?;
        let who = || match id == own {
            true => "the guest".to_owned(),
            false => format!("{} {}", package_name(id), package_version(id).unwrap_or_default()),
        };
        // What a macro links runs in the compiler, on the host.
        let linked = self.linked_libs.as_ref().filter(|_| self.out_dir.as_deref().is_some_and(is_ours));
        if let Some(library) = linked.and_then(|libraries| libraries.first()) {
            return Some(format!("{} has code in C (library {library}), which no cell can link", who()));
        }
        let said = self.message.as_ref()?;
        let missing = said.code.as_ref().is_some_and(|code| code.code == NO_CRATE);
        (missing && said.message.contains("`std`")).then(|| {
            let way = if id == own {
                "it is `#![no_std]`"
            } else {
                "ask for it without, if it can be had so (mostly `default-features = false`)"
            };
            format!("{} needs `std`, which no cell has: {way}", who())
        })
    }

    /// The id of the package that it is about.
    pub fn package(&self) -> Option<&str> {
        self.package_id.as_deref()
    }

    /// The program of that name, if it is about that.
    pub fn program(&self, name: &str) -> Option<&Path> {
        self.target.as_ref().filter(|target| target.name == name && target.kind == ["bin"])?;
        self.executable.as_deref()
    }

    /// The macro that it is about, as the compiler loads it, with its package's id.
    pub fn macros(&self) -> Option<(&str, &Path)> {
        self.target.as_ref().filter(|target| target.is_macro())?;
        let mut files = self.filenames.iter().flatten();
        let file = files.find(|file| file.extension().is_some_and(|extension| extension == "so"))?;
        Some((self.package_id.as_deref()?, file))
    }

    /// What a build script has set, with its package's id.
    pub fn script(&self) -> Option<(&str, Script<'_>)> {
        let out = self.out_dir.as_deref()?;
        Some((self.package_id.as_deref()?, Script { out, cfgs: &self.cfgs, env: &self.env }))
    }

    /// The crate of our target that it is about, if it is about one; `own` says whose is ours, by its package id.
    pub fn library(&self, own: impl Fn(&str) -> bool) -> Option<Result<Library>> {
        let (id, target) = (self.package_id.as_ref()?, self.target.as_ref()?);
        let with = |wanted: &str| {
            let files = self.filenames.iter().flatten();
            files
                .into_iter()
                .find(|path| is_ours(path) && path.extension().is_some_and(|extension| extension == wanted))
                .cloned()
        };
        let (true, Some(rlib), Some(rmeta)) = (target.is_library(), with("rlib"), with("rmeta")) else { return None };
        // Beside the metadata, which, other than the rlib, is never copied anywhere else.
        let stem = rmeta.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let dep_info = rmeta.with_file_name(format!("{}.d", stem.strip_prefix("lib").unwrap_or(&stem)));
        let version = package_version(id).with_context(|| format!("the package id {id} has no version"));
        let library = |version: &str| Library {
            name: target.crate_name(),
            package: package_name(id).to_owned(),
            version: version.to_owned(),
            own: own(id),
            rlib,
            rmeta,
            dep_info,
            source: target.src_path.clone(),
            edition: target.edition.clone(),
            features: self.features.clone(),
        };
        Some(version.map(library))
    }
}

/// Whether a file is one of our target's, not of the host's.
fn is_ours(path: &Path) -> bool {
    path.components().any(|part| part.as_os_str() == TARGET)
}

/// A crate as cargo describes it.
#[derive(Clone, Debug, Deserialize)]
pub struct Target {
    /// Its kinds: `lib`, `bin`, `proc-macro`, `custom-build` …
    pub kind: Vec<String>,
    /// Its name; a dash stands where the crate name has an underscore.
    pub name: String,
    /// Its first source file.
    #[serde(default)]
    pub src_path: PathBuf,
    /// The edition of its language.
    #[serde(default)]
    pub edition: String,
}

impl Target {
    /// A library that other crates link.
    pub fn is_library(&self) -> bool {
        self.kind.iter().any(|kind| kind == "lib" || kind == "rlib")
    }

    /// A macro that runs in the compiler.
    pub fn is_macro(&self) -> bool {
        self.kind.iter().any(|kind| kind == "proc-macro")
    }

    /// The name as rustc knows it.
    pub fn crate_name(&self) -> String {
        self.name.replace('-', "_")
    }
}

/// The version in a package id, `path+file:///x/y#1.2.3` or `registry+https://z#name@1.2.3`.
pub fn package_version(id: &str) -> Option<&str> {
    let tail = id.rsplit('#').next()?;
    Some(tail.rsplit('@').next().unwrap_or(tail))
}

/// The package's name in such an id.
fn package_name(id: &str) -> &str {
    let (place, tail) = id.rsplit_once('#').unwrap_or((id, ""));
    let place = place.split('?').next().unwrap_or(place).trim_end_matches('/');
    tail.rsplit_once('@').map_or_else(|| place.rsplit('/').next().unwrap_or(place), |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use super::{package_name, package_version};

    #[test]
    fn ids_have_a_name_and_a_version() {
        for (id, name, version) in [
            ("path+file:///x/state_db#0.1.0", "state_db", "0.1.0"),
            ("path+file:///x/hello#app_hello@0.1.0", "app_hello", "0.1.0"),
            ("registry+https://example.org/index#tar-no-std@0.5.0", "tar-no-std", "0.5.0"),
        ] {
            assert_eq!((package_name(id), package_version(id)), (name, Some(version)));
        }
    }
}
