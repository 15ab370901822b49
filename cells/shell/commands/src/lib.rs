//! The shell's commands: each a function from words to text.
//!
//! A command checks all its words before it does anything, writes to [`Call::out`], and either succeeds or returns a
//! [`Failure`], one sentence that the shell shows. What takes long (sleeping, an app in front) is not done here: the command
//! says so with [`Done`], and the shell waits.
#![no_std]

extern crate alloc;

mod apps;
mod bench;
mod call;
mod cells;
mod failure;
mod identify;
mod log;
mod memory;
mod namespaces;
mod reseat;
mod sched;
mod services;
mod system;
mod tasks;
mod test;
mod update;
mod usage;

pub use apps::{report, start_app};
pub use call::{Call, Done, History};
pub use failure::Failure;

use usage::Usage;

/// A command.
pub struct Command {
    /// What is typed.
    pub name: &'static str,
    /// What may follow.
    usage: Usage,
    /// What it does, in a line.
    pub about: &'static str,
    run: fn(&mut Call<'_>) -> Result<Done, Failure>,
}

/// All commands, sorted by name.
pub const COMMANDS: &[Command] = &[
    cells::ADDR,
    bench::BENCH,
    cells::CELLS,
    cells::DEPS,
    system::ECHO,
    system::HELP,
    system::HISTORY,
    tasks::KILL,
    log::LOG,
    memory::MEM,
    namespaces::NS,
    memory::PEEK,
    system::POWEROFF,
    tasks::PS,
    system::REBOOT,
    reseat::RESEAT,
    update::ROLLBACK,
    apps::RUN,
    sched::SCHED,
    services::SERVICES,
    update::SHIP,
    system::SLEEP,
    test::TEST,
    update::UNLOAD,
    update::UPDATE,
    update::UPDATES,
    system::UPTIME,
    cells::WHO_USES,
];

/// Runs the command that the first word names. `history` is the shell's list of lines, newest first.
///
/// # Errors
/// [`Failure`], from the command or because there is none of that name.
pub fn run(words: &[&str], history: &History<'_>, out: &mut alloc::string::String) -> Result<Done, Failure> {
    let Some((name, words)) = words.split_first() else { return Ok(Done::Now) };
    let Some(command) = COMMANDS.iter().find(|command| command.name == *name) else {
        return Err(Failure::new(format_args!(
            "there is no command `{}`; `help` lists them",
            syntax::value::Shown(name)
        )));
    };
    if words.contains(&"--help") {
        return system::help_for(command, out).map(|()| Done::Now);
    }
    let mut call = command.usage.check(command.name, words, history, out)?;
    // A command that panics or faults, as when memory runs out, is a command that fails: the shell goes on.
    unwind::catch(|| (command.run)(&mut call)).unwrap_or_else(|caught| {
        task::tell_of_own_failure(&caught);
        Err(Failure::new(format_args!("`{}` failed: {caught}", command.name)))
    })
}
