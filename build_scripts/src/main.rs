//! The command line of the host tool; what each command does is in the library.

use anyhow::{Context, Result, bail, ensure};
use clap::{Parser, Subcommand};
use delias::guest::{self, Guest};
use delias::project::{Project, Toolchain};
use delias::report::Tally;
use delias::sdk::{self, Sdk};
use delias::{ask, audit, boot, cargo, diff, doctor, gdb, image, qemu, sabotage, update, voyage, watch, wrapper};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

/// Builds, checks, boots and tests Delias.
#[derive(Parser)]
#[command(
    name = "delias",
    after_help = "Every other word is one of the shell's, for the system that runs: addr, cells, deps, kill, log [-f], mem, ns, peek, poweroff, ps, reboot, reseat, rollback, sched, services, ship, unload, update, updates, who-uses"
)]
struct Arguments {
    #[command(subcommand)]
    command: Commands,
}

#[derive(Subcommand)]
enum Commands {
    /// Compile the cells, link them all on the host, and pack what boots
    Image,
    /// Boot from the disk, with the shell on this terminal
    Run,
    /// Boot without a screen, run shell lines, exit with the last status
    Headless {
        /// The lines; without it, the variable CMD
        #[arg(long)]
        cmd: Option<String>,
        /// Boot the image in this folder instead of the project's own
        #[arg(long)]
        image: Option<PathBuf>,
    },
    /// Measure in a booted system what parts of an update cost, in instructions
    Bench,
    /// Build, and offer what differs to the system that runs
    Offer {
        /// Apply it at once; the variable APPLY=1 says the same
        #[arg(long)]
        apply: bool,
        #[command(flatten)]
        wishes: guest::Wishes,
    },
    /// Build, offer and apply whenever a source is saved
    Watch,
    /// Boot an earlier commit and sail to this tree by updates
    Voyage {
        /// The commit; without it, the variable FROM, or HEAD~1
        #[arg(long)]
        from: Option<String>,
    },
    /// In a tree, run every test; the variables ONLY and JOBS choose. In a cell's folder, boot the SDK's image with the cell, and run the cell's tests
    Test,
    /// Damage an image on purpose
    Sabotage {
        /// Which way; without it, the ways are listed
        name: Option<String>,
        /// The folder for the damaged image
        #[arg(short)]
        output: Option<PathBuf>,
    },
    /// Say what differs between two builds, and what that means for a system that runs the first; without folders, between the system that
    /// runs, with its guests, and the tree
    Diff {
        /// The build folder of what runs
        #[arg(requires = "new")]
        old: Option<PathBuf>,
        /// The build folder of what is to run
        new: Option<PathBuf>,
        #[command(flatten)]
        wishes: guest::Wishes,
        /// Print one JSON value
        #[arg(long)]
        json: bool,
        /// Write the difference to this file, as it is offered to a running system
        #[arg(short)]
        output: Option<PathBuf>,
    },
    /// Check every rule that can be read off objects and sources
    Audit {
        /// Audit the archive in this folder instead of the project's own
        #[arg(long)]
        image: Option<PathBuf>,
    },
    /// Look over every source file with clippy
    Lint,
    /// Make the documentation of the cells
    Doc,
    /// Look over this machine, step by step, and say what to do
    Doctor,
    /// Debug the system that runs: gdb, with the symbols of every cell where it lies now
    Gdb {
        /// Arguments of gdb
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<OsString>,
    },
    /// Make the SDK of this tree's image: build/delias-sdk-ID.tar.gz
    Sdk,
    /// Make a folder with a small crate in it that runs as a cell
    New {
        /// The cell's name
        name: String,
        /// What it is
        #[arg(long, value_enum, default_value = "app")]
        kind: guest::Kind,
    },
    /// Compile the cell in this folder, and see that it fits the SDK's image
    Build {
        /// Only compile, and say what the compiler says as one JSON value a line, for an editor
        #[arg(long, value_parser = ["json"])]
        message_format: Option<String>,
    },
    /// Run a line of the shell in the system that runs
    Exec {
        /// The line
        line: String,
        /// Print its status and what it shows as one JSON value
        #[arg(long)]
        json: bool,
    },
    /// Any command of the shell, in the system that runs: ps, cells, mem, log -f …
    #[command(external_subcommand)]
    Shell(Vec<OsString>),
    /// Build the cell in this folder, and put it into the system that runs: a new one, or a new version of it
    Push(guest::Push),
    /// Run a program that ends with its parent
    #[command(hide = true)]
    Attend {
        /// Process id of the parent
        parent: i32,
        /// The program and its arguments
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        program: Vec<OsString>,
    },
}

fn main() -> ExitCode {
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let result = if std::env::var_os(wrapper::SWITCH).is_some() && arguments.len() > 1 {
        wrapper::become_rustc(&arguments[1..]).map(|()| ExitCode::SUCCESS)
    } else {
        run(Arguments::parse())
    };
    result.unwrap_or_else(|error| {
        eprintln!("delias: {error:#}");
        ExitCode::FAILURE
    })
}

fn run(arguments: Arguments) -> Result<ExitCode> {
    if let Commands::Attend { parent, program } = &arguments.command {
        qemu::attend(*parent, program)?;
    }
    if let Commands::Diff { old: Some(old), new: Some(new), json, output, .. } = &arguments.command {
        return diff::run(old, new, *json, output.as_deref());
    }
    match &arguments.command {
        Commands::Shell(words) => return ask::say(Project::find().ok().as_ref(), words),
        Commands::Exec { line, json } => return ask::exec(Project::find().ok().as_ref(), line, *json),
        Commands::Doctor if Sdk::is_around() => return doctor::of_sdk(&Sdk::find()?),
        Commands::Doctor => return doctor::of_tree(&Project::find()?),
        Commands::Gdb { arguments } => return gdb::run(Project::find().ok().as_ref(), arguments),
        Commands::New { name, kind } => {
            let here = std::env::current_dir().context("the current folder cannot be told")?;
            let made = guest::create(&Sdk::find()?, &here, name, *kind)?;
            println!("{}: `cd {name}`, then `delias build`", made.folder.display());
            return Ok(ExitCode::SUCCESS);
        }
        Commands::Build { message_format: Some(_) } => {
            let clean = guest::diagnose(&Guest::find()?, &Sdk::find()?)?;
            return Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        Commands::Push(how) => return guest::push(&Guest::find()?, &Sdk::find()?, how),
        Commands::Test if Sdk::is_around() => return guest::test(&Guest::find()?, &Sdk::find()?),
        Commands::Build { message_format: None } => {
            let sdk = Sdk::find()?;
            let built = guest::build(&Guest::find()?, &sdk, &guest::Place::default())?;
            for cell in &built.cells {
                println!("{} {}: {} bytes", cell.cell.name, cell.cell.version, cell.object.bytes().len());
            }
            println!("{} fits the image {}", built.name, sdk.short());
            return Ok(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let project = Project::find()?;
    match arguments.command {
        Commands::Image => {
            println!("{}", image::build(&project)?.summary());
            Ok(ExitCode::SUCCESS)
        }
        Commands::Run => {
            eprintln!("{}", image::build(&project)?.summary());
            boot::run(&project)
        }
        Commands::Headless { cmd, image: folder } => {
            let folder = match folder {
                Some(folder) => folder,
                None => {
                    image::build(&project)?;
                    project.build("")
                }
            };
            boot::exec(&project.build("delias"), &folder, cmd, false)
        }
        Commands::Bench => {
            image::build(&project)?;
            boot::exec(&project.build("delias"), &project.build(""), Some("bench update".to_owned()), true)
        }
        Commands::Diff { json, output, wishes, .. } => update::show(&project, &wishes, json, output.as_deref()),
        Commands::Offer { apply, wishes } => {
            let asked = qemu::variable("APPLY");
            ensure!(
                matches!(asked.as_deref(), None | Some("0" | "1")),
                "APPLY is {}, expected 0 or 1",
                asked.unwrap_or_default()
            );
            update::run(&project, &wishes, apply || asked.as_deref() == Some("1"))
        }
        Commands::Watch => watch::run(&project),
        Commands::Voyage { from } => voyage::run(&project, from),
        Commands::Test => test(&project),
        Commands::Sabotage { name: Some(name), output: Some(folder) } => {
            let sabotage = sabotage::apply(&project, &name, &folder)?;
            println!("{}: {}", folder.display(), sabotage.what);
            Ok(ExitCode::SUCCESS)
        }
        Commands::Sabotage { name: Some(_), output: None } => bail!("say where the damaged image goes: -o DIR"),
        Commands::Sabotage { name: None, .. } => {
            for sabotage in sabotage::ALL {
                println!("{:18} {} ({:?})", sabotage.name, sabotage.what, sabotage.caught_by);
            }
            Ok(ExitCode::SUCCESS)
        }
        Commands::Audit { image } => {
            let tally = Tally::default();
            match image {
                Some(folder) => audit::run(&project, &folder, &tally)?,
                None => audit::own(&project, &tally)?,
            }
            Ok(tally.close())
        }
        Commands::Lint => {
            cargo::lint(&project, &Toolchain::find(&project)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Commands::Doc => {
            println!("{}", cargo::document(&project, &Toolchain::find(&project)?)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Commands::Sdk => {
            println!("{}", sdk::make(&project)?.display());
            Ok(ExitCode::SUCCESS)
        }
        Commands::Attend { .. }
        | Commands::Doctor
        | Commands::Gdb { .. }
        | Commands::Shell(_)
        | Commands::Exec { .. }
        | Commands::New { .. }
        | Commands::Build { .. }
        | Commands::Push(_) => unreachable!("it never gets here"),
    }
}

/// Builds the program that runs the tests, which is a package of its own, and becomes it.
fn test(project: &Project) -> Result<ExitCode> {
    let mut cargo = Toolchain::find(project)?.cargo(project);
    let status = cargo.args(["build", "-p", "system_tests"]).status().context("cannot start cargo")?;
    ensure!(status.success(), "the tests do not compile; the compiler's messages stand above");
    let program = project.build("cargo/debug/system_tests");
    let error = Command::new(&program).current_dir(&project.root).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}
