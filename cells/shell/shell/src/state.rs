//! What the shell knows between two steps.

use crate::{input::Input, jobs::Jobs};
use alloc::{boxed::Box, collections::VecDeque, string::String};
use editor::{Editor, History};
use step::Next;
use syntax::{Command, Then};
use task::{TaskRef, Tokens};

/// What the shell waits for before it goes on.
pub(crate) enum Front {
    /// A time, in nanoseconds since boot.
    Until(u64),
    /// An app.
    App { task: TaskRef, name: String },
}

/// What the person is asked before the next command.
pub(crate) struct Question {
    pub text: &'static str,
    /// What runs if the answer is yes.
    line: String,
}

/// The state.
pub(crate) struct Shell {
    pub editor: Box<Editor>,
    pub history: Box<History>,
    pub input: Input,
    pub front: Option<Front>,
    pub question: Option<Question>,
    pub jobs: Jobs,
    /// Whether the prompt of the line that is being typed has been shown.
    pub prompted: bool,
    /// Lines come from the boot command line; the machine is left at their end.
    pub script: bool,
    /// Of the last command; 0 is success.
    pub status: u8,
    to_come: VecDeque<Command>,
}

/// Status of a command that failed, and of one that was interrupted.
const FAILED: u8 = 1;
const INTERRUPTED: u8 = 130;

impl Shell {
    pub fn new(script: bool) -> Shell {
        Shell {
            editor: Box::new(Editor::new()),
            history: Box::new(History::new()),
            input: Input::new(),
            front: None,
            question: None,
            jobs: Jobs::new(),
            prompted: false,
            script,
            status: 0,
            to_come: VecDeque::new(),
        }
    }

    /// Says where one is.
    pub fn greet(&self) {
        console::println!("Delias. `help` lists the commands.");
    }

    /// Takes commands to run, all or none.
    pub fn take_lines(&mut self, line: &str) {
        match syntax::parse(line) {
            Ok(commands) => self.to_come = commands.into(),
            Err(error) => self.fail(&alloc::format!("{error}")),
        }
    }

    /// What stands before the line that is being typed.
    pub fn prompt(&self) -> &'static str {
        self.question.as_ref().map_or(crate::PROMPT, |question| question.text)
    }

    /// Asks before a line runs. A script has nobody who could answer.
    pub fn ask(&mut self, text: &'static str, line: String) {
        if self.script {
            console::println!("`{line}` does it");
            self.status = 0;
        } else {
            self.question = Some(Question { text, line });
        }
    }

    /// Takes the line that was typed as the answer.
    pub fn answered(&mut self, question: &Question) {
        if !matches!(self.editor.line().trim(), "y" | "Y" | "yes") {
            self.fail("nothing was changed");
            return;
        }
        match syntax::parse(&question.line) {
            Ok(commands) => commands.into_iter().rev().for_each(|command| self.to_come.push_front(command)),
            Err(error) => self.fail(&alloc::format!("{error}")),
        }
    }

    /// Ctrl-C is an answer, too.
    pub fn interrupt_question(&mut self) {
        if self.question.take().is_some() {
            self.status = INTERRUPTED;
            self.to_come = VecDeque::new();
        }
    }

    /// The next command that is to run; those that stand behind `&&` of one that failed are left out.
    pub fn next_command(&mut self) -> Option<Command> {
        while let Some(command) = self.to_come.pop_front() {
            if command.when == Then::Always || self.status == 0 {
                return Some(command);
            }
        }
        self.to_come = VecDeque::new();
        None
    }

    /// Says why a command failed.
    pub fn fail(&mut self, sentence: &str) {
        console::println!("{sentence}");
        self.status = FAILED;
    }

    /// What to wait for, while something stands in front of the next command. Ctrl-C ends it.
    pub fn wait_for_front(&mut self) -> Option<Next> {
        let front = self.front.take()?;
        let interrupted = !self.script && self.input.interrupted();
        let tokens = match front {
            Front::Until(ns) => {
                if interrupted || time::now_ns() >= ns {
                    self.end_front(if interrupted { INTERRUPTED } else { 0 });
                    return Some(Next::Again);
                }
                self.front = Some(Front::Until(ns));
                Tokens::at(ns)
            }
            Front::App { task, name } => {
                let ended = task::exit_event(task);
                let token = ended.map(|event| event.token(event.sequence()));
                match task::collect(task) {
                    Ok(None) => {}
                    Ok(Some(exit)) => {
                        let mut text = String::new();
                        let status = commands::report(task, &name, &exit, &mut text);
                        console::print!("{text}");
                        self.end_front(u8::try_from(status).unwrap_or(FAILED));
                        return Some(Next::Again);
                    }
                    Err(_) => {
                        self.end_front(FAILED);
                        return Some(Next::Again);
                    }
                }
                if interrupted {
                    // It may have ended just now, which the next step sees.
                    let _ = task::kill(task);
                }
                self.front = Some(Front::App { task, name });
                token.unwrap_or_default()
            }
        };
        let console = if self.script { Tokens::default() } else { self.input.tokens() };
        Some(Next::Wait(tokens.and(console)))
    }

    fn end_front(&mut self, status: u8) {
        self.status = status;
        if status == INTERRUPTED {
            self.to_come = VecDeque::new();
            console::println!("^C");
        }
    }

    /// Remembers an app in the background.
    pub fn add_job(&mut self, task: TaskRef, name: &str) {
        console::println!("[{}] {name}", task.bits() & 0xffff_ffff);
        self.jobs.add(task, name);
        self.status = 0;
    }

    /// Says which apps in the background have ended, and what the system has to say of itself. What to wait for until
    /// there is more of that.
    pub fn announce(&mut self) -> Tokens {
        let mut text = String::new();
        self.jobs.collect(&mut text);
        let (notice, more) = offers::notice();
        let typing = self.prompted && notice.is_some();
        if let Some(notice) = notice {
            if typing {
                text.push('\n');
            }
            text.push_str(&notice);
            text.push('\n');
        }
        if !text.is_empty() {
            console::print!("{text}");
        }
        if typing {
            let prompt = self.prompt();
            self.editor.redraw(prompt, &mut |bytes| crate::show_raw(bytes));
        }
        more
    }
}
