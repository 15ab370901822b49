//! Lines of the shell that come from the host.

use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};
use commands::Done;
use platform::Leave;
use syntax::Then;
use task::TaskRef;

/// What a line left.
pub(crate) struct Ran {
    /// What it showed.
    pub text: String,
    /// 0 is success.
    pub status: u8,
    /// The machine is to be left, once the host knows.
    pub leave: Option<Leave>,
    /// Apps that it has started.
    pub apps: Vec<TaskRef>,
}

/// Runs a line. What stands in front for a while (an app, a sleep) belongs to a console, and is refused here.
pub(crate) fn run(line: &str) -> Ran {
    let mut ran = Ran { text: String::new(), status: 0, leave: None, apps: Vec::new() };
    let commands = match syntax::parse(line) {
        Ok(commands) => commands,
        Err(error) => {
            ran.fail(&error.to_string());
            return ran;
        }
    };
    for command in commands {
        if command.when != Then::Always && ran.status != 0 {
            continue;
        }
        let words: Vec<&str> = command.words.iter().map(String::as_str).collect();
        let first = words.first().copied().unwrap_or_default();
        if let (true, ["run", name, rest @ ..]) = (command.background, words.as_slice()) {
            match commands::start_app(name, rest) {
                Ok(app) => {
                    ran.apps.push(app);
                    ran.text.push_str(&format!("{name} runs; what it shows is at the system's console\n"));
                }
                Err(failure) => ran.fail(&failure.to_string()),
            }
            continue;
        }
        if command.background || matches!(first, "run" | "sleep" | "test") {
            ran.fail(&format!("`{first}` needs a console: type it at the system's own, or let it run in the background with `run APP &`"));
            continue;
        }
        match commands::run(&words, &|_| {}, &mut ran.text) {
            Ok(Done::PowerOff) => ran.leave = Some(Leave::PowerOff { status: 0 }),
            Ok(Done::Reboot) => ran.leave = Some(Leave::Reboot),
            Ok(Done::Ask { line, .. }) => {
                ran.text.push_str(&format!("`{line}` does it\n"));
                ran.status = 0;
            }
            Ok(Done::Now | Done::At(_) | Done::When(_)) => ran.status = 0,
            Err(failure) => ran.fail(&failure.to_string()),
        }
        if ran.leave.is_some() {
            break;
        }
    }
    ran
}

impl Ran {
    fn fail(&mut self, sentence: &str) {
        self.text.push_str(sentence);
        self.text.push('\n');
        self.status = 1;
    }
}
