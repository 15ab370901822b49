//! The shell over its console.

use crate::bench::{Bench, Test, contains, equal, soon};
use anyhow::{Result, ensure};
use delias::qemu::{Boot, End, Machine};
use delias::session::Session;

pub const TESTS: &[Test] = &[
    Test { name: "shell-prompt-by-grub", limit_s: 180, run: prompt_by_grub },
    Test { name: "shell-echo", limit_s: 120, run: echo },
    Test { name: "shell-line-editing", limit_s: 120, run: line_editing },
    Test { name: "shell-help", limit_s: 180, run: help },
    Test { name: "shell-json", limit_s: 120, run: json },
    Test { name: "shell-interrupt", limit_s: 120, run: interrupt },
    Test { name: "shell-background", limit_s: 120, run: background },
    Test { name: "shell-sleep", limit_s: 120, run: sleep },
    Test { name: "shell-poweroff", limit_s: 120, run: poweroff },
];

fn prompt_by_grub(bench: &Bench) -> Result<()> {
    let mut session =
        Session::start(&bench.project, &Boot::Disk(bench.project.build("delias.iso")), &Machine::default())?;
    session.until_prompt()?;
    equal("echo", session.run("echo by-grub")?.as_str(), "by-grub")
}

fn echo(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    equal("words", session.run("echo one  two")?.as_str(), "one two")?;
    equal("quoted words", session.run("echo 'one  two'; echo three")?.as_str(), "one  two\nthree")?;
    equal("no line", session.run("")?.as_str(), "")
}

fn line_editing(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    // Backspace, then left and insert, then up for the line before.
    equal("backspace", session.run("echo abcx\x7fd")?.as_str(), "abcd")?;
    equal("insertion", session.run("echo ac\x1b[Db")?.as_str(), "abc")?;
    equal("history", session.run("\x1b[A\x1b[A")?.as_str(), "abcd")
}

fn help(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    let list = session.run("help")?;
    for command in
        "help cells deps who-uses addr peek reseat ps kill mem log uptime sleep echo run poweroff reboot".split(' ')
    {
        ensure!(
            list.lines().any(|line| line.split_whitespace().next() == Some(command)),
            "help does not list {command}"
        );
        let text = session.run(&format!("{command} --help"))?;
        contains(&text, command)?;
    }
    Ok(())
}

fn json(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    for line in
        ["cells --json", "mem --json", "ps --json", "deps shell --json", "who-uses core --json", "uptime --json"]
    {
        let value = session.json(line)?;
        ensure!(value.is_object() || value.is_array(), "`{line}` printed {value}");
    }
    let memory = session.json("mem --json")?;
    for field in ["frames_total", "frames_free", "heap_in_use", "text", "rodata", "thunks", "old"] {
        ensure!(memory[field].is_u64(), "mem --json has no number {field}: {memory}");
    }
    equal("old cells", session.json("cells --old --json")?, serde_json::json!([]))
}

fn interrupt(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    session.send(b"sleep 1000\n")?;
    std::thread::sleep(std::time::Duration::from_millis(500));
    session.send(b"\x03")?;
    session.until_prompt()?;
    equal("the shell afterwards", session.run("echo awake")?.as_str(), "awake")
}

fn background(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    session.run("run spin &")?;
    equal("the shell beside a task that never yields", session.run("echo beside")?.as_str(), "beside")?;
    let tasks = session.run("ps")?;
    let line = tasks.lines().find(|line| line.contains("spin"));
    let id = line.and_then(|line| line.split_whitespace().next()).map(String::from);
    ensure!(id.is_some(), "ps does not list spin: {tasks}");
    ensure!(session.succeeds(&format!("kill {}", id.unwrap_or_default()))?, "kill failed");
    soon("spin has ended", || Ok(!session.run("ps")?.contains("spin")))
}

fn sleep(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    let start = std::time::Instant::now();
    ensure!(session.succeeds("sleep 1.5")?, "sleep failed");
    let took = start.elapsed().as_secs_f64();
    ensure!((1.4..10.0).contains(&took), "sleep 1.5 took {took} s");
    Ok(())
}

fn poweroff(bench: &Bench) -> Result<()> {
    let mut session = bench.boot()?;
    equal("the machine's end", session.power_off()?, End::Status(0))
}
