//! Commands about the system as a whole, and the smallest ones.

use crate::{
    COMMANDS, Call, Command, Done, Failure,
    usage::{Usage, flag},
};
use alloc::string::String;
use core::fmt::Write;

pub(crate) const HELP: Command = Command {
    name: "help",
    usage: Usage { words: &["[COMMAND]"], ..Usage::NOTHING },
    about: "lists the commands, or explains one",
    run: help,
};

fn help(call: &mut Call<'_>) -> Result<Done, Failure> {
    if let Some(name) = call.words.first() {
        let Some(command) = COMMANDS.iter().find(|command| command.name == *name) else {
            return Err(Failure::new(format_args!("there is no command `{}`", syntax::value::Shown(name))));
        };
        return help_for(command, call.out).map(|()| Done::Now);
    }
    for command in COMMANDS {
        writeln!(call.out, "{:9} {}", command.name, command.about)?;
    }
    writeln!(
        call.out,
        "`COMMAND --help` says more. A line may hold several: `a; b`, `a && b`, `a &` in the background."
    )?;
    Ok(Done::Now)
}

pub(crate) fn help_for(command: &Command, out: &mut String) -> Result<(), Failure> {
    writeln!(out, "{}: {}", command.name, command.about)?;
    writeln!(out, "usage: {}{}", command.name, command.usage)?;
    Ok(())
}

pub(crate) const ECHO: Command =
    Command { name: "echo", usage: Usage { rest: true, ..Usage::NOTHING }, about: "shows its words", run: echo };

fn echo(call: &mut Call<'_>) -> Result<Done, Failure> {
    let text = call.words.join(" ");
    writeln!(call.out, "{text}")?;
    Ok(Done::Now)
}

pub(crate) const SLEEP: Command = Command {
    name: "sleep",
    usage: Usage { words: &["TIME"], ..Usage::NOTHING },
    about: "waits: `2`, `0.5`, `200ms`",
    run: sleep,
};

fn sleep(call: &mut Call<'_>) -> Result<Done, Failure> {
    let ns = syntax::value::parse_duration(call.first())?;
    Ok(Done::At(time::now_ns().saturating_add(ns)))
}

pub(crate) const UPTIME: Command = Command {
    name: "uptime",
    usage: Usage { flags: &[flag("--json")], ..Usage::NOTHING },
    about: "how long the system has run",
    run: uptime,
};

fn uptime(call: &mut Call<'_>) -> Result<Done, Failure> {
    let ns = time::now_ns();
    if call.has("--json") {
        let ticks = state_db::find::<starter::Boot>("boot")?.with(|boot| boot.ticks).map_err(state_db::Error::from)?;
        json::object(call.out, |o| {
            o.field("ns", ns)?;
            o.field("link_ticks", ticks[2].wrapping_sub(ticks[1]))?;
            o.field("ticks", platform::ticks().wrapping_sub(ticks[0]))
        })?;
        writeln!(call.out)?;
    } else {
        writeln!(call.out, "up {}.{:03} s", ns / 1_000_000_000, ns / 1_000_000 % 1000)?;
    }
    Ok(Done::Now)
}

pub(crate) const HISTORY: Command =
    Command { name: "history", usage: Usage::NOTHING, about: "the lines that were typed, oldest first", run: history };

fn history(call: &mut Call<'_>) -> Result<Done, Failure> {
    let mut lines = alloc::vec::Vec::new();
    (call.history)(&mut |line| lines.push(String::from(line)));
    for line in lines.iter().rev() {
        writeln!(call.out, "{line}")?;
    }
    Ok(Done::Now)
}

pub(crate) const POWEROFF: Command =
    Command { name: "poweroff", usage: Usage::NOTHING, about: "turns the machine off", run: |_| Ok(Done::PowerOff) };

pub(crate) const REBOOT: Command =
    Command { name: "reboot", usage: Usage::NOTHING, about: "starts the machine again", run: |_| Ok(Done::Reboot) };
