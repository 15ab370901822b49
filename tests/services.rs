//! Services that come and go with `cfg/boot.toml` while the system runs.

use crate::bench::{Bench, Test, contains, equal, nothing_old, soon};
use crate::updates::Voyage;
use crate::workbench::Workbench;
use anyhow::{Context, Result, ensure};
use bundle::Verdict;
use serde_json::{Value, json};
use std::path::PathBuf;

pub const TESTS: &[Test] = &[Test { name: "update-services", limit_s: 600, run: services }];

const BOOT: &str = "cfg/boot.toml";
const BEACON: &str = "cells/drivers/beacon/src/lib.rs";

fn row(parameters: &str) -> String {
    format!(
        "[[service]]\nname = \"beacon\"\nimplementation = \"delias_service_beacon\"\nparameters = \"{parameters}\"\n\n"
    )
}

/// Puts a row in front of the shell's, which stays the last.
fn list(workbench: &mut Workbench, parameters: &str) -> Result<()> {
    let shell = "[[service]]\nname = \"shell\"";
    workbench.edit(BOOT, shell, &format!("{}{shell}", row(parameters)))
}

fn beacon(voyage: &mut Voyage) -> Result<Option<Value>> {
    let list = voyage.session.json("services --json")?;
    let rows = list.as_array().context("`services --json` gives no list")?;
    Ok(rows.iter().find(|row| row["name"] == "beacon").cloned())
}

/// Whether its task is there.
fn runs(voyage: &mut Voyage) -> Result<bool> {
    Ok(voyage.session.run("ps")?.lines().any(|line| line.split_whitespace().nth(1) == Some("beacon")))
}

fn bound(voyage: &mut Voyage, parameters: &str) -> Result<()> {
    let row = beacon(voyage)?.context("the service is not on the list")?;
    equal("whether it is bound", &row["bound"], &json!(true))?;
    equal("its parameters", &row["parameters"], &json!(parameters))?;
    equal("its cell", &row["cell"], &json!("beacon"))?;
    soon("its task runs", || runs(voyage))
}

fn absent(voyage: &mut Voyage) -> Result<()> {
    ensure!(beacon(voyage)?.is_none(), "the service is still on the list");
    soon("its task is gone", || Ok(!runs(voyage)?))
}

/// Builds and offers; the build and the verdict's reasons.
fn offer(voyage: &mut Voyage, workbench: &Workbench) -> Result<((String, PathBuf), String)> {
    let (image, folder) = workbench.build()?;
    let bundle = voyage.offer(&folder)?;
    let reasons = match bundle.verdict {
        Verdict::Refused(reasons) => reasons.join("; "),
        Verdict::Code | Verdict::Data => String::new(),
    };
    Ok(((image.id, folder), reasons))
}

fn apply(voyage: &mut Voyage, workbench: &Workbench) -> Result<String> {
    let (build, reasons) = offer(voyage, workbench)?;
    ensure!(reasons.is_empty(), "it is refused: {reasons}");
    let plan = voyage.session.run("update --dry-run")?;
    contains(&voyage.session.run("update --yes")?, "applied")?;
    voyage.builds.push(build);
    voyage.check_id()?;
    Ok(plan)
}

/// Offers what must not come about, and sees that it says why and changes nothing.
fn refused(voyage: &mut Voyage, workbench: &Workbench, why: &str) -> Result<()> {
    offer(voyage, workbench)?;
    contains(&voyage.session.run("update --yes")?, why)?;
    voyage.check_id()
}

fn services(bench: &Bench) -> Result<()> {
    let mut workbench = Workbench::open(&bench.project)?;
    let mut voyage = Voyage::boot(bench, &workbench)?;

    // It comes, goes with the rollback, and comes again.
    workbench.begin();
    workbench.write("cells/drivers/beacon/Cargo.toml", include_str!("cells/beacon/Cargo.toml"))?;
    workbench.write(BEACON, include_str!("cells/beacon/src/lib.rs"))?;
    list(&mut workbench, "20")?;
    contains(&apply(&mut voyage, &workbench)?, "starts service beacon")?;
    bound(&mut voyage, "20")?;
    voyage.back()?;
    absent(&mut voyage)?;
    apply(&mut voyage, &workbench)?;
    bound(&mut voyage, "20")?;

    // Other parameters alone: no cell changes.
    workbench.begin();
    workbench.edit(BOOT, "parameters = \"20\"", "parameters = \"30\"")?;
    contains(&apply(&mut voyage, &workbench)?, "0 cells change")?;
    bound(&mut voyage, "30")?;
    voyage.back()?;
    bound(&mut voyage, "20")?;
    workbench.undo()?;

    // One that does not start takes its update with it.
    workbench.begin();
    workbench.edit(BOOT, "parameters = \"20\"", "parameters = \"soon\"")?;
    refused(&mut voyage, &workbench, "service beacon cannot be started: the pause is \"soon\"")?;
    bound(&mut voyage, "20")?;
    workbench.undo()?;

    // The cell alone cannot go, and the row alone can.
    workbench.begin();
    workbench.edit(BOOT, &row("20"), "")?;
    contains(&apply(&mut voyage, &workbench)?, "ends service beacon")?;
    absent(&mut voyage)?;
    voyage.back()?;
    bound(&mut voyage, "20")?;
    workbench.undo()?;

    // One that will not be ended stays, and so does everything else.
    workbench.begin();
    workbench.edit(BEACON, "    let sentence = |error: state_db::Error| format!(\"{error}\");\n    Slot::", "    if core::hint::black_box(true) {\n        return Err(\"not now\".into());\n    }\n    let sentence = |error: state_db::Error| format!(\"{error}\");\n    Slot::")?;
    apply(&mut voyage, &workbench)?;
    workbench.begin();
    workbench.edit(BOOT, &row("20"), "")?;
    refused(&mut voyage, &workbench, "service beacon cannot be ended: not now")?;
    bound(&mut voyage, "20")?;
    workbench.undo()?;
    workbench.undo()?;
    voyage.back()?;

    // Neither one that has no way to be ended goes, nor does one come.
    workbench.begin();
    workbench.edit(BOOT, "parameters = \"port=0x3f8 baud=115200\"", "parameters = \"port=0x3f8 baud=9600\"")?;
    let (_, reasons) = offer(&mut voyage, &workbench)?;
    contains(&reasons, "service serial line cannot be ended: no cell defines delias_revoke_uart")?;
    contains(&voyage.session.run("update --yes")?, &reasons)?;
    workbench.undo()?;
    workbench.begin();
    workbench.edit(BOOT, &row("20"), &row("20").replace("delias_service_beacon", "delias_service_pci"))?;
    contains(&offer(&mut voyage, &workbench)?.1, "no cell defines delias_revoke_pci")?;
    workbench.undo()?;

    // The cell and its service go together.
    workbench.undo()?;
    apply(&mut voyage, &workbench)?;
    absent(&mut voyage)?;
    ensure!(!voyage.session.run("cells")?.contains("beacon"), "the cell is still there");
    nothing_old(&mut voyage.session)
}
