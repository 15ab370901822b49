//! `run count [N] [--print]`: ticks once a second, N times or until it is killed, and shows the ticks only if asked to.
//!
//! Between two ticks it sleeps, so that there is always a task whose stack lies inside this cell and inside `task`
//! while cells are replaced.
#![no_std]

const NS_PER_S: u64 = 1_000_000_000;

/// What the arguments ask for.
struct Options {
    /// How many ticks; none: without end.
    ticks: Option<u64>,
    print: bool,
}

/// The options, or the argument that is none.
fn options<'a>(args: &[&'a str]) -> Result<Options, &'a str> {
    let mut options = Options { ticks: None, print: false };
    for arg in args {
        match arg.parse() {
            _ if *arg == "--print" => options.print = true,
            Ok(ticks) if options.ticks.is_none() => options.ticks = Some(ticks),
            _ => return Err(arg),
        }
    }
    Ok(options)
}

/// Counts. Status 0 when it has counted to the end, 2 for arguments that are wrong, 130 if it was ended from outside.
#[allow(unsafe_code, reason = "an app is found by the name of this symbol")]
#[unsafe(no_mangle)]
pub extern "Rust" fn delias_app_count(args: &[&str]) -> i32 {
    let options = match options(args) {
        Ok(options) => options,
        Err(wrong) => {
            console::println!("count: `{wrong}` is not understood: expected [N] [--print]");
            return 2;
        }
    };
    let mut due_ns = time::now_ns();
    let mut ticks = 0_u64;
    while options.ticks.is_none_or(|end| ticks < end) {
        due_ns = due_ns.saturating_add(NS_PER_S);
        if task::sleep_ns(due_ns.saturating_sub(time::now_ns())).is_err() {
            return 130;
        }
        ticks += 1;
        if options.print {
            console::println!("{ticks}");
        }
    }
    0
}
