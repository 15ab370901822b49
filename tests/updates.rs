//! Updates of a running system by differences of real builds.

use crate::bench::{Bench, Test, contains, equal, memory_at_rest, nothing_old, soon};
use crate::edits::{self, Edit, Expected, Random};
use crate::migrations;
use crate::workbench::Workbench;
use anyhow::{Context, Result, bail, ensure};
use bundle::{Bundle, Verdict};
use delias::diff;
use delias::guest::Wishes;
use delias::qemu::{Machine, variable};
use delias::session::Session;
use delias::update;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::time::Instant;

pub const TESTS: &[Test] = &[
    Test { name: "update-campaign", limit_s: 1500, run: campaign },
    Test { name: "update-data", limit_s: 900, run: data },
    Test { name: "update-without-memory", limit_s: 600, run: without_memory },
    Test { name: "update-keeps-memory", limit_s: 1500, run: keeps_memory },
    Test { name: "update-bundles", limit_s: 1500, run: bundles },
    Test { name: "update-one-cell", limit_s: 1500, run: one_cell },
    Test { name: "update-probation", limit_s: 1500, run: probation },
];

/// What runs beside the updates and would notice.
const LOAD: [&str; 7] = ["load send", "load receive", "load timer", "subject", "keeper", "count", "spin"];

/// How many edits a campaign makes at least.
const EDITS: usize = 42;

/// A system that was booted from a build of the workbench, and the builds it has run.
pub struct Voyage {
    pub session: Session,
    /// Id and folder of what runs, and of what ran before each update that was applied.
    pub builds: Vec<(String, PathBuf)>,
}

impl Voyage {
    pub fn boot(bench: &Bench, workbench: &Workbench) -> Result<Voyage> {
        let (image, folder) = workbench.build()?;
        let session = Session::boot(&bench.project, &folder, &Machine::default())?;
        Ok(Voyage { session, builds: vec![(image.id, folder)] })
    }

    fn id(&self) -> Result<&str> {
        Ok(&self.builds.last().context("nothing runs")?.0)
    }

    pub fn check_id(&mut self) -> Result<()> {
        let expected = self.id()?.to_owned();
        equal("the running id", &self.session.json("cells --json")?["running_id"], &json!(expected))?;
        ensure!(self.session.succeeds("cells --verify")?, "cells --verify failed: {}", self.session.transcript());
        Ok(())
    }

    /// Offers the difference to a build, and gives it.
    pub fn offer(&mut self, folder: &Path) -> Result<Bundle> {
        let bundle = diff::between(&self.builds.last().context("nothing runs")?.1, folder)?;
        self.session.channel()?.offer(&bundle.write()?)?;
        Ok(bundle)
    }

    /// Builds an edit and does what must be done with it. Whether it runs.
    fn sail(&mut self, workbench: &Workbench, edit: &Edit) -> Result<bool> {
        // The guest stands still while the host compiles: its load would take one processor of the compiler's.
        self.session.monitor("stop")?;
        let built = workbench.build();
        self.session.monitor("cont")?;
        if edit.expected == Expected::NoBuild {
            ensure!(built.is_err(), "it was built");
            return Ok(false);
        }
        let (image, folder) = built?;
        let same = image.id == self.id()?;
        ensure!(
            same == (edit.expected == Expected::Same),
            "the build {} the same, expected {:?}",
            if same { "is" } else { "is not" },
            edit.expected
        );
        if same {
            return Ok(false);
        }
        let bundle = self.offer(&folder)?;
        self.session.run("update --dry-run")?;
        self.check_id()?;
        let said = self.session.run("update --yes")?;
        match (edit.expected, &bundle.verdict) {
            (Expected::Applied, Verdict::Code | Verdict::Data) => {
                contains(&said, "applied")?;
                self.builds.push((image.id, folder));
            }
            (Expected::Refused(words), Verdict::Refused(reasons)) => {
                let reasons = reasons.join("; ");
                words.iter().try_for_each(|word| contains(&reasons, word))?;
                words.iter().try_for_each(|word| contains(&said, word))?;
            }
            // What stands in the way is seen only in the running system.
            (Expected::Refused(words), Verdict::Data) => words.iter().try_for_each(|word| contains(&said, word))?,
            (expected, verdict) => bail!("expected {expected:?}, found {verdict:?}"),
        }
        self.check_id()?;
        Ok(matches!(edit.expected, Expected::Applied))
    }

    /// Takes the last update back.
    pub fn back(&mut self) -> Result<()> {
        let said = self.session.run("rollback")?;
        contains(&said, "taken back")?;
        self.builds.pop();
        self.check_id()
    }
}

/// At least 40 edits of all kinds on one running system, in an order that `SEED` decides; half of those that are applied
/// are taken back.
fn campaign(bench: &Bench) -> Result<()> {
    let seed = variable("SEED").map_or(Ok(1), |text| text.parse().context("SEED is no number"))?;
    sail_through(bench, seed).with_context(|| format!("SEED={seed}"))
}

fn sail_through(bench: &Bench, seed: u64) -> Result<()> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let mut workbench = Workbench::open(&bench.project)?;
    let mut voyage = Voyage::boot(bench, &workbench)?;
    for app in LOAD {
        contains(&voyage.session.run(&format!("run {app} &"))?, app.split(' ').next().unwrap_or_default())?;
    }
    // Every kind once, and then those for which little is compiled.
    let mut order = edits::every_kind(&mut random);
    while order.len() < EDITS {
        order.extend(edits::shuffled(edits::quick().collect(), &mut random));
    }
    order.truncate(EDITS);
    order.push(&edits::LIBRARY);
    for (number, edit) in order.into_iter().enumerate() {
        workbench.begin();
        let begun = Instant::now();
        let made = (edit.make)(&mut workbench, &mut random).and_then(|()| voyage.sail(&workbench, edit));
        // Read by whoever runs this test alone, or sees it fail.
        eprintln!("edit {}, {}: {:.1} s", number + 1, edit.name, begun.elapsed().as_secs_f64());
        let applied = made.with_context(|| format!("edit {}, {}", number + 1, edit.name))?;
        if !applied {
            workbench.undo()?;
        } else if edits::is_data(edit) || random.below(2) == 0 {
            workbench.undo()?;
            voyage.back().with_context(|| format!("edit {}, {}, taken back", number + 1, edit.name))?;
        }
    }
    let tasks = voyage.session.run("ps")?;
    for app in ["load", "subject", "keeper", "count", "spin"] {
        let wanted = LOAD.iter().filter(|line| line.split(' ').next() == Some(app)).count();
        let found = tasks.lines().filter(|line| line.split_whitespace().nth(1) == Some(app)).count();
        ensure!(found == wanted, "of {wanted} tasks {app} {found} are left: {tasks}\n{}", voyage.session.transcript());
    }
    for line in tasks.lines().filter(|line| {
        line.split_whitespace()
            .nth(1)
            .is_some_and(|name| ["load", "subject", "keeper", "count", "spin"].contains(&name))
    }) {
        let number = line.split_whitespace().next().unwrap_or_default().to_owned();
        voyage.session.run(&format!("kill {number}"))?;
    }
    nothing_old(&mut voyage.session)
}

/// Values of changed types are migrated there and back while tasks run, wait, and are used by what is migrated; a migration
/// that fails changes nothing.
fn data(bench: &Bench) -> Result<()> {
    let mut workbench = Workbench::open(&bench.project)?;
    let mut voyage = Voyage::boot(bench, &workbench)?;
    // 50 that are blocked most of the time, and 4 that run.
    let apps = [("count", 46), ("keeper", 2), ("load send", 1), ("load receive", 1), ("spin", 4)];
    let apps = apps.into_iter().flat_map(|(line, times)| std::iter::repeat_n(line, times));
    for app in apps.clone() {
        voyage.session.run(&format!("run {app} &"))?;
    }
    let running = |session: &mut Session| -> Result<Vec<String>> {
        let tasks = session.run("ps")?;
        let names = tasks
            .lines()
            .filter_map(|line| line.split_whitespace().nth(1))
            .filter(|name| apps.clone().any(|app| app.starts_with(name)));
        Ok(names.map(str::to_owned).collect())
    };
    let all = running(&mut voyage.session)?;
    equal("tasks", all.len(), apps.clone().count())?;
    for change in &migrations::ALL {
        change_data(&mut workbench, &mut voyage, change).with_context(|| change.name)?;
        equal("tasks that run on", running(&mut voyage.session)?, all.clone())?;
    }
    // One after another, each with its migration still in the source: what is taken back is what that update did.
    for change in [&migrations::ALL[0], &migrations::ALL[3]] {
        workbench.begin();
        (change.make)(&mut workbench)?;
        let (image, folder) = workbench.build()?;
        voyage.offer(&folder)?;
        let said = voyage.session.run("update --yes")?;
        contains(&said, "migrated").with_context(|| format!("{}, upon another", change.name))?;
        voyage.builds.push((image.id, folder));
        voyage.check_id()?;
    }
    for _ in 0..2 {
        workbench.undo()?;
        voyage.back()?;
        equal("tasks that run on", running(&mut voyage.session)?, all.clone())?;
    }
    for (what, make, words) in migrations::WRONG {
        workbench.begin();
        make(&mut workbench).context(what)?;
        let (_, folder) = workbench.build()?;
        voyage.offer(&folder)?;
        contains(&voyage.session.run("update --yes")?, words).context(what)?;
        voyage.check_id()?;
        workbench.undo()?;
    }
    for (what, words) in [
        ("Err(state_db::Error::Migration { reason: \"the wind is wrong\" })", "the wind is wrong"),
        ("panic!(\"the mast breaks\")", "the mast breaks"),
    ] {
        workbench.begin();
        migrations::refusing(&mut workbench, what)?;
        let (_, folder) = workbench.build()?;
        voyage.offer(&folder)?;
        let said = voyage.session.run("update --yes")?;
        contains(&said, "uart/com1 cannot be migrated")?;
        contains(&said, words)?;
        voyage.check_id()?;
        workbench.undo()?;
    }
    nothing_old(&mut voyage.session)
}

fn change_data(workbench: &mut Workbench, voyage: &mut Voyage, change: &migrations::Change) -> Result<()> {
    workbench.begin();
    (change.make)(workbench)?;
    let (image, folder) = workbench.build()?;
    let bundle = voyage.offer(&folder)?;
    equal("the verdict", &bundle.verdict, &Verdict::Data)?;
    contains(&voyage.session.run("update --dry-run")?, &format!("migrates {}", change.claims))?;
    contains(&voyage.session.run("update --yes")?, "applied")?;
    voyage.builds.push((image.id, folder));
    voyage.check_id()?;
    let updates = voyage.session.json("updates --json")?;
    let last = updates.as_array().and_then(|all| all.last()).context("no update is on the list")?;
    ensure!(
        last["migrated"].as_u64() >= Some(change.values as u64),
        "{} values migrated, expected {}",
        last["migrated"],
        change.values
    );
    workbench.undo()?;
    voyage.back()
}

/// Wherever memory runs out while something is staged, nothing has changed; once there is some again, it goes through.
fn without_memory(bench: &Bench) -> Result<()> {
    let mut workbench = Workbench::open(&bench.project)?;
    let (image, folder) = workbench.build()?;
    let machine = Machine { memory: Some("48M".to_owned()), ..Machine::default() };
    let session = Session::boot(&bench.project, &folder, &machine)?;
    let mut voyage = Voyage { session, builds: vec![(image.id, folder)] };
    workbench.begin();
    (edits::named("a body of the shell, while it updates")?.make)(&mut workbench, &mut Random(5))?;
    let (image, folder) = workbench.build()?;
    voyage.offer(&folder)?;
    let (mut refused, mut applied) = (0, 0);
    for leave_kib in [256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192] {
        let started = voyage.session.run(&format!("run hoard {leave_kib} &"))?;
        contains(&started, "hoard")?;
        std::thread::sleep(std::time::Duration::from_millis(500));
        for line in ["reseat --all", "update --yes"] {
            if line == "update --yes" && applied > 0 {
                continue;
            }
            let said = voyage.session.run(line)?;
            match said.contains("words written") {
                true if line == "update --yes" => {
                    applied += 1;
                    voyage.builds.push((image.id.clone(), folder.clone()));
                }
                true => {}
                false => {
                    contains(&said, "memory").with_context(|| format!("{line} with {leave_kib} KiB"))?;
                    refused += 1;
                }
            }
            voyage.check_id().with_context(|| format!("{line} with {leave_kib} KiB"))?;
        }
        let tasks = voyage.session.run("ps")?;
        let hoard =
            tasks.lines().find(|line| line.split_whitespace().nth(1) == Some("hoard")).context("the hoard has gone")?;
        let number = hoard.split_whitespace().next().unwrap_or_default().to_owned();
        voyage.session.run(&format!("kill {number}"))?;
        nothing_old(&mut voyage.session)?;
    }
    ensure!(
        refused >= 2 && applied == 1,
        "{refused} refused and {applied} applied: memory was not short enough, or too short"
    );
    ensure!(voyage.session.succeeds("reseat --all")?, "reseat --all failed afterwards");
    voyage.check_id()
}

/// After 200 updates there and back memory is where it was.
fn keeps_memory(bench: &Bench) -> Result<()> {
    let mut workbench = Workbench::open(&bench.project)?;
    let mut voyage = Voyage::boot(bench, &workbench)?;
    let base = voyage.builds[0].1.clone();
    workbench.begin();
    let mut random = Random(77);
    for name in [
        "a constant",
        "a static that others refer to",
        "a closure above live ones",
        "a body of the shell, while it updates",
        "a body of the heap",
    ] {
        let edit = edits::named(name)?;
        (edit.make)(&mut workbench, &mut random)?;
    }
    let (image, target) = workbench.build()?;
    let (there, back) = (diff::between(&base, &target)?.write()?, diff::between(&target, &base)?.write()?);
    let mut after = Vec::new();
    for round in 0..100 {
        for bundle in [&there, &back] {
            voyage.session.channel()?.offer(bundle)?;
            contains(&voyage.session.run("update --yes")?, "applied").with_context(|| format!("round {round}"))?;
        }
        // The list of updates has an end, which must have been reached.
        if round == 39 || round == 99 {
            nothing_old(&mut voyage.session)?;
            after.push(memory_at_rest(&mut voyage.session)?);
        }
    }
    equal("the id", &voyage.session.json("cells --json")?["running_id"], &json!(voyage.builds[0].0))?;
    ensure!(image.id != voyage.builds[0].0, "the edits changed nothing");
    equal("memory after 200 updates, beside after 80", &after[1], &after[0])
}

/// 2,000 bundles that are cut, changed, replayed or meant for another system: all are refused and nothing changes.
fn bundles(bench: &Bench) -> Result<()> {
    let mut workbench = Workbench::open(&bench.project)?;
    let mut voyage = Voyage::boot(bench, &workbench)?;
    let base = voyage.builds[0].1.clone();
    let mut random = Random(4711);
    workbench.begin();
    let edit = edits::named("a function's body")?;
    (edit.make)(&mut workbench, &mut random)?;
    let target = workbench.build()?.1;
    let good = diff::between(&base, &target)?.write()?;
    let mut channel = voyage.session.channel()?;
    channel.offer(&good)?;
    channel.withdraw()?;
    let before = (voyage.session.json("cells --json")?["running_id"].clone(), memory_at_rest(&mut voyage.session)?);
    for round in 0..2000 {
        let mut bad = good.clone();
        match random.below(4) {
            0 => bad.truncate(random.below(good.len() as u64) as usize),
            1 => bad.extend((0..=random.below(40)).map(|_| random.below(256) as u8)),
            2 => {
                let at = random.below(bad.len() as u64) as usize;
                bad[at] ^= 1 << random.below(8);
            }
            _ => {
                let (from, to) = (random.below(bad.len() as u64) as usize, random.below(bad.len() as u64) as usize);
                let part = bad[from..(from + 64).min(bad.len())].to_vec();
                bad.splice(to..(to + part.len()).min(bad.len()), part);
            }
        }
        if bad != good {
            ensure!(channel.offer(&bad).is_err(), "round {round}: a damaged bundle was taken");
        }
    }
    let away = diff::between(&target, &base)?.write()?;
    let error = channel.offer(&away).err().context("an offer with another base was taken")?;
    contains(&format!("{error:#}"), "starts from")?;
    soon("memory is as it was", || Ok(voyage.session.json("mem --json")? == before.1))?;
    equal("the id", voyage.session.json("cells --json")?["running_id"].clone(), before.0)?;
    // The right one, replayed after it was applied, has another base.
    channel.offer(&good)?;
    contains(&voyage.session.run("update --yes")?, "applied")?;
    let error = channel.offer(&good).err().context("a replayed offer was taken")?;
    contains(&format!("{error:#}"), "starts from")
}

/// Of an offer one cell can be taken alone if nothing that changes depends on it or it on that; the rest comes later.
fn one_cell(bench: &Bench) -> Result<()> {
    let mut workbench = Workbench::open(&bench.project)?;
    let mut voyage = Voyage::boot(bench, &workbench)?;
    workbench.begin();
    let mut random = Random(99);
    for name in ["a function's body", "a closure above live ones", "a body of the scheduler"] {
        let edit = edits::named(name)?;
        (edit.make)(&mut workbench, &mut random)?;
    }
    let (image, folder) = workbench.build()?;
    voyage.offer(&folder)?;
    contains(
        &voyage.session.run("update measure --yes")?,
        "cell measure cannot be updated alone: with it must come app_subject",
    )?;
    contains(&voyage.session.run("update core --yes")?, "the offer has nothing for cell core")?;
    voyage.check_id()?;
    let plan = voyage.session.run("update round-robin --dry-run")?;
    contains(&plan, "replace round_robin")?;
    ensure!(!plan.contains("measure"), "the plan for one cell has others: {plan}");
    contains(&voyage.session.run("update round-robin --yes")?, "applied: 1 cell changed")?;
    ensure!(voyage.session.succeeds("cells --verify")?, "cells --verify failed");
    // What runs now was never built as a whole: the host puts it together, and the rest is the difference.
    let mut channel = voyage.session.channel()?;
    let bundle =
        update::difference(&workbench.project, &mut channel, &image, &Wishes::default())?.context("nothing differs")?;
    let names: Vec<&str> = bundle.changes.iter().map(|change| change.name.as_str()).collect();
    equal("what is left", names, vec!["app_subject", "measure"])?;
    let offer = bundle.write()?;
    channel.offer(&offer)?;
    contains(&voyage.session.run("update --yes")?, "applied: 2 cells changed")?;
    equal("the id", &voyage.session.json("cells --json")?["running_id"], &json!(image.id))?;
    // Whoever asks for the list meanwhile waits a moment, and is not sent away.
    std::thread::scope(|scope| {
        let other = scope.spawn(move || -> Result<()> {
            for _ in 0..5 {
                contains(&channel.run("rollback")?.text, "1 update taken back")?;
                channel.offer(&offer)?;
                contains(&channel.run("update --yes")?.text, "applied: 2 cells changed")?;
            }
            Ok(())
        });
        while !other.is_finished() {
            let listed = voyage.session.run("updates")?;
            ensure!(listed.contains("1 cell "), "the first update is not on the list: {listed}");
        }
        other.join().map_err(|_| anyhow::anyhow!("the other one panics"))?
    })
}

/// New code that panics or faults is taken back by itself, whether it is an app's, the shell's own, or runs in the event kernel.
fn probation(bench: &Bench) -> Result<()> {
    let mut workbench = Workbench::open(&bench.project)?;
    let mut voyage = Voyage::boot(bench, &workbench)?;
    let base = voyage.builds[0].0.clone();
    let panic = "if core::hint::black_box(true) { panic!(\"new code\") }";
    let fault = "// SAFETY: none, on purpose.\n    unsafe { core::ptr::without_provenance::<u64>(8).read_volatile() };";
    let cases = [
        (
            "cells/shell/commands/src/system.rs",
            "let text = call.words.join(\" \");",
            panic,
            "echo boom",
            "commands::system::echo",
        ),
        (
            "cells/apps/hello/src/lib.rs",
            "console::println!(\"Hello from a cell.\");",
            panic,
            "run hello",
            "delias_app_hello",
        ),
        (
            "cells/drivers/uart/src/driver.rs",
            "    fn handle(&self, _vector: u8) {",
            panic,
            "echo typed",
            "uart::driver",
        ),
        (
            "cells/sched/round_robin/src/lib.rs",
            "    fn pick(&self, cpu: u32) -> Option<TaskRef> {",
            panic,
            "echo picked",
            "round_robin",
        ),
        (
            "kernel/task/src/schedule.rs",
            "pub(crate) fn pick(&self, now_ns: u64) -> TaskRef {",
            panic,
            "echo chosen",
            "task::",
        ),
        (
            "kernel/task/src/schedule.rs",
            "pub(crate) fn make_ready(&self, task: TaskRef, record: &Task, from: Status, why: Why) -> bool {",
            panic,
            "echo woken",
            "task::",
        ),
        (
            "kernel/task/src/kernel.rs",
            "fn resume(&self, task: TaskRef, now_ns: u64) -> *mut RegisterBlock {",
            fault,
            "echo resumed",
            "task::",
        ),
        (
            "kernel/task/src/kernel.rs",
            "fn wait(&self, task: TaskRef, tokens: Tokens) -> Option<u64> {",
            panic,
            "echo waited",
            "task::",
        ),
        (
            "cells/drivers/virtio_console/src/lib.rs",
            "    fn handle(&self, _vector: u8) {",
            panic,
            "echo over the channel",
            "virtio_console",
        ),
        (
            "kernel/interrupts/src/lib.rs",
            "pub fn dispatch(vector: u8) {",
            fault,
            "echo entered",
            "interrupts::dispatch",
        ),
    ];
    for (file, at, bad, line, function) in cases {
        workbench.begin();
        workbench.edit(file, at, &format!("{at}\n    {bad}"))?;
        let (_, folder) = workbench.build()?;
        voyage.offer(&folder)?;
        contains(&voyage.session.run("update --yes")?, "applied")?;
        match line {
            // The line that the device is on is level-triggered: it asks until it is served.
            "echo over the channel" => drop(voyage.session.channel()?.state()?),
            line => drop(voyage.session.run(line)?),
        }
        soon("the update is taken back", || Ok(voyage.session.json("cells --json")?["running_id"] == json!(base)))?;
        let updates = voyage.session.run("updates")?;
        contains(&updates, "taken back")?;
        contains(&updates, function)?;
        ensure!(voyage.session.succeeds(line)?, "`{line}` does not work again");
        workbench.undo()?;
    }
    voyage.check_id()
}
