//! The shell: lines from the console, or from the boot command line (`exec=LINES`), run one after another.
//!
//! ```text
//! bytes ─▶ editor ─▶ line ─▶ syntax ─▶ commands to come ─▶ one command ─▶ its text on the console
//!                                                             └─▶ an app in front, a sleep: the next steps wait for it
//! ```
//!
//! It is a step: all that it knows lies in the entry `shell`, nothing on a stack, so it can be replaced between any two
//! steps, also while an app runs in front. Its memory is of fixed size: lines are kept in a ring of bytes.
#![no_std]
#![allow(unsafe_code, reason = "exports the symbol by which the starter binds this service")]

extern crate alloc;

mod input;
mod jobs;
mod state;

use alloc::string::{String, ToString};
use commands::Done;
use editor::Outcome;
use platform::Leave;
use state::{Front, Shell};
use state_db::{Slot, State, cached};
use step::{Next, Step};
use sync::Exclusive;
use task::Tokens;

/// What stands before each line.
const PROMPT: &str = "delias> ";

/// The shell's state behind its door.
#[derive(State)]
pub struct ShellEntry {
    shell: Exclusive<Shell>,
}

cached!(SHELL: ShellEntry = "shell");

/// The shell's steps.
pub struct ShellLoop;

impl Step for ShellLoop {
    fn step(&self) -> Next {
        let Ok(entry) = SHELL.with(core::ptr::from_ref) else { return Next::Stop(1) };
        // SAFETY: the entry is never withdrawn, and no update moves its value while a function that handles it has a frame.
        let entry = unsafe { &*entry };
        match entry.shell.try_take() {
            Some(mut shell) => step_once(&mut shell),
            None => Next::Stop(1),
        }
    }
}

fn step_once(shell: &mut Shell) -> Next {
    let more = shell.announce();
    if let Some(next) = shell.wait_for_front() {
        return next;
    }
    if shell.question.is_some() {
        return read(shell, more);
    }
    if let Some(command) = shell.next_command() {
        run(shell, command);
        return Next::Again;
    }
    if shell.script {
        platform::leave(Leave::PowerOff { status: shell.status });
    }
    read(shell, more)
}

/// Takes what was typed, up to the end of a line; waits for that, or for what the system has to say.
fn read(shell: &mut Shell, more: Tokens) -> Next {
    let prompt = shell.prompt();
    if !shell.prompted {
        shell.prompted = true;
        let Shell { editor, .. } = shell;
        editor.start(prompt, &mut |bytes| show_raw(bytes));
    }
    if shell.input.is_empty()
        && let Some(tokens) = shell.input.fill()
    {
        return Next::Wait(tokens.and(more));
    }
    let mut echo = input::Echo::default();
    while let Some(byte) = shell.input.next() {
        let Shell { editor, history, .. } = shell;
        match editor.feed(byte, prompt, history, &mut |bytes| echo.push(bytes)) {
            Outcome::Typing => {}
            Outcome::Line => {
                echo.flush();
                shell.prompted = false;
                match shell.question.take() {
                    Some(question) => shell.answered(&question),
                    None => accept(shell),
                }
                return Next::Again;
            }
            Outcome::Interrupt => {
                echo.flush();
                shell.prompted = false;
                shell.interrupt_question();
                return Next::Again;
            }
            Outcome::EndOfInput => {}
        }
    }
    echo.flush();
    Next::Again
}

/// Takes a typed line.
fn accept(shell: &mut Shell) {
    if shell.editor.is_cut() {
        shell.fail(&alloc::format!("the line is longer than {} bytes", editor::LINE_BYTES));
        return;
    }
    let line = shell.editor.line().to_string();
    if !line.trim().is_empty() {
        shell.history.push(&line);
    }
    shell.take_lines(&line);
}

/// Runs one command as far as it goes at once.
fn run(shell: &mut Shell, command: syntax::Command) {
    let words: alloc::vec::Vec<&str> = command.words.iter().map(String::as_str).collect();
    let mut out = String::new();
    let history = &shell.history;
    let each_line = |each: &mut dyn FnMut(&str)| history.iter().for_each(each);
    let done =
        if command.background { start_in_background(&words) } else { commands::run(&words, &each_line, &mut out) };
    if !out.is_empty() {
        console::print!("{out}");
    }
    match done {
        Ok(Done::Now) => shell.status = 0,
        Ok(Done::At(ns)) => shell.front = Some(Front::Until(ns)),
        Ok(Done::Ask { question, line }) => shell.ask(question, line),
        Ok(Done::When(task)) if command.background => shell.add_job(task, words.get(1).copied().unwrap_or_default()),
        Ok(Done::When(task)) => {
            shell.front = Some(Front::App { task, name: words.get(1).copied().unwrap_or_default().to_string() })
        }
        Ok(Done::PowerOff) => platform::leave(Leave::PowerOff { status: 0 }),
        Ok(Done::Reboot) => platform::leave(Leave::Reboot),
        Err(failure) => shell.fail(&failure.to_string()),
    }
}

/// Only apps run in the background: other commands are over before one could miss them.
fn start_in_background(words: &[&str]) -> Result<Done, commands::Failure> {
    match words {
        ["run", name, rest @ ..] => commands::start_app(name, rest).map(Done::When),
        _ => Err(commands::Failure::new(format_args!("only `run APP` can stand before `&`"))),
    }
}

/// Shows bytes as they are.
fn show_raw(bytes: &[u8]) {
    if let Ok(console) = console::find() {
        // Without a console there is nobody to tell.
        let _ = console::write_all(&console, bytes);
    }
}

/// Starts the shell. `parameters` are not used: lines to run come with the boot command line.
///
/// # Errors
/// A sentence, if its state or its task cannot be made.
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_service_shell(_: &str) -> Result<(), String> {
    let script = state_db::find::<starter::Boot>("boot")
        .and_then(|boot| Ok(boot.with(|boot| exec_lines(&boot.command_line).map(String::from))?))
        .map_err(|error| error.to_string())?;
    let mut shell = Shell::new(script.is_some());
    match script {
        Some(lines) => shell.take_lines(&lines),
        None => shell.greet(),
    }
    state_db::publish("shell", ShellEntry { shell: Exclusive::new(shell) }).map_err(|error| error.to_string())?;
    let slot = Slot::<dyn Step>::bind("shell", &ShellLoop).map_err(|error| error.to_string())?;
    step::drive("shell", slot).map_err(|error| error.to_string())?;
    Ok(())
}

/// What stands behind `exec=` on the boot command line, to its end.
fn exec_lines(command_line: &str) -> Option<&str> {
    command_line.split_once("exec=").map(|(_, lines)| lines)
}
