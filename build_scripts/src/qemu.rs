//! The machine: a q35 under QEMU, headless, with its serial line on standard input and output, and a port through which
//! the guest ends it with a status.
//!
//! Two ways to boot: PVH takes `nano_core` and the archive directly (`exec` and the tests, ten times faster to the first
//! instruction); GRUB takes them from the disk (`run`, as a real machine would).

use anyhow::{Context, Result, ensure};
use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::Command;

/// QEMU's program.
pub const QEMU: &str = "qemu-system-x86_64";
/// Ctrl-], then x, leaves QEMU while it has the terminal.
const ESCAPE: &str = "0x1d";

/// How the machine is started.
#[derive(Clone, Debug)]
pub enum Boot {
    /// From a disk image, by GRUB; the terminal is the console, and a reset starts again.
    Disk(PathBuf),
    /// By PVH, from a folder that holds `nano_core` and `cells.tar`, with a command line; a reset ends it.
    Direct {
        /// The folder.
        image: PathBuf,
        /// The guest's command line.
        command_line: String,
    },
}

/// What a person may choose of the machine; an empty value counts as none.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Memory, as QEMU reads it.
    pub memory: Option<String>,
    /// Count instructions: one guest nanosecond for each, on one thread.
    pub icount: bool,
    /// Where the host finds the system's channel: a Unix socket. Without it the machine has none.
    pub channel: Option<PathBuf>,
    /// Where a debugger finds it: another.
    pub debugger: Option<PathBuf>,
    /// Appended to the arguments.
    pub extra: Vec<String>,
}

impl Machine {
    /// From the variables `MEM`, `ICOUNT` and `QEMU_ARGS`.
    ///
    /// # Errors
    /// `QEMU_ARGS` has a quotation mark without its partner, or `ICOUNT` is neither 0 nor 1.
    pub fn from_environment() -> Result<Machine> {
        let icount = variable("ICOUNT");
        ensure!(
            matches!(icount.as_deref(), None | Some("0" | "1")),
            "ICOUNT is {}, expected 0 or 1",
            icount.unwrap_or_default()
        );
        Ok(Machine {
            memory: variable("MEM"),
            icount: icount.as_deref() == Some("1"),
            channel: None,
            debugger: None,
            extra: split(&variable("QEMU_ARGS").unwrap_or_default())?,
        })
    }

    /// The command that runs the machine; `tool` is this host tool. It ends with its parent: were it left behind, it would run for ever.
    ///
    /// # Errors
    /// A part of the image is missing.
    pub fn command(&self, tool: &Path, boot: &Boot) -> Result<Command> {
        let mut command = Command::new(tool);
        command.args(["attend", &std::process::id().to_string(), QEMU]);
        command.args(["-nodefaults", "-no-user-config", "-M", "q35", "-display", "none", "-vga", "none"]);
        command.args(["-m", self.memory.as_deref().unwrap_or("512M")]);
        command.args(self.processor());
        command.args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]);
        match boot {
            Boot::Disk(disk) => {
                command.args(["-echr", ESCAPE, "-chardev", "stdio,id=con,signal=off,mux=on", "-serial", "chardev:con"]);
                command.arg("-cdrom").arg(part(disk)?);
            }
            Boot::Direct { image, command_line } => {
                command.args(["-chardev", "stdio,id=con,signal=off", "-serial", "chardev:con", "-no-reboot"]);
                command.arg("-kernel").arg(part(&image.join("nano_core"))?);
                command.arg("-initrd").arg(part(&image.join("cells.tar"))?);
                command.args(["-append", command_line]);
            }
        }
        if let Some(socket) = &self.channel {
            let mut channel = OsString::from("socket,id=channel,server=on,wait=off,path=");
            channel.push(socket);
            command.arg("-chardev").arg(channel);
            command.args(["-device", "virtio-serial-pci,max_ports=1", "-device", "virtconsole,chardev=channel"]);
        }
        if let Some(socket) = &self.debugger {
            let mut place = OsString::from("unix:");
            place.push(socket);
            place.push(",server=on,wait=off");
            command.arg("-gdb").arg(place);
        }
        command.args(&self.extra);
        Ok(command)
    }

    /// The hypervisor where the processor has one, else the emulator with a thread for each CPU.
    fn processor(&self) -> &'static [&'static str] {
        if self.icount {
            &["-accel", "tcg,thread=single", "-cpu", "max", "-icount", "shift=0"]
        } else if has_kvm() {
            &["-accel", "kvm", "-cpu", "host"]
        } else {
            &["-accel", "tcg,thread=multi", "-cpu", "max"]
        }
    }
}

/// Whether the processor can virtualise and the kernel lets us: without `vmx` or `svm` the device may exist all the same.
fn has_kvm() -> bool {
    let able = fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| {
        text.lines().any(|line| line.starts_with("flags") && line.split_whitespace().any(|f| f == "vmx" || f == "svm"))
    });
    able && OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok()
}

/// A file that must be there. A comma in its name would end the argument it stands in, but these options take none.
fn part(path: &Path) -> Result<OsString> {
    ensure!(path.is_file(), "{} is missing: `make image` writes it", path.display());
    Ok(path.as_os_str().to_owned())
}

/// An environment variable, unless it is empty.
pub fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Splits a line into words as a shell does: blanks part words, quotation marks and backslashes keep them together.
///
/// # Errors
/// A quotation mark has no partner.
pub fn split(line: &str) -> Result<Vec<String>> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut characters = line.chars();
    while let Some(c) = characters.next() {
        match (quote, c) {
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (Some(open), c) if open == c => quote = None,
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(characters.next()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    ensure!(quote.is_none(), "a quotation mark has no partner in: {line}");
    words.extend(word);
    Ok(words)
}

/// How the machine ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// The guest gave this status.
    Status(u8),
    /// It stopped or reset without a status.
    Silent,
    /// QEMU could not start it, or was killed.
    Broken,
}

impl End {
    /// From QEMU's exit code: the port's device ends QEMU with `status * 2 + 1`. 1 is also what QEMU ends with when it
    /// refuses its arguments, but then it has said so.
    pub fn from_code(code: Option<i32>, complained: bool) -> End {
        match code.map(u8::try_from) {
            Some(Ok(0)) => End::Silent,
            Some(Ok(1)) if complained => End::Broken,
            Some(Ok(code)) if code % 2 == 1 => End::Status(code / 2),
            _ => End::Broken,
        }
    }
}

/// Whether a line that QEMU wrote to standard error says that it gave up.
pub fn is_complaint(line: &str) -> bool {
    line.strip_prefix(QEMU).and_then(|rest| rest.strip_prefix(": ")).is_some_and(|rest| !rest.starts_with("warning:"))
}

/// Runs a program that ends when `parent` does, in place of this process.
///
/// # Errors
/// It cannot be started; or the parent is gone already.
pub fn attend(parent: i32, program: &[OsString]) -> Result<()> {
    use rustix::process::{Signal, getppid, set_parent_process_death_signal};
    use std::os::unix::process::CommandExt;
    set_parent_process_death_signal(Some(Signal::KILL)).context("cannot ask to end with the parent")?;
    ensure!(getppid().is_some_and(|pid| pid.as_raw_nonzero().get() == parent), "the parent has ended");
    let (program, arguments) = program.split_first().context("no program to run")?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start {}: `make setup` installs it", program.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_as_in_a_shell() {
        assert_eq!(
            split(r#"  -qmp unix:/tmp/a,server=on  "b c"'d' e\ f "#).unwrap(),
            ["-qmp", "unix:/tmp/a,server=on", "b cd", "e f"]
        );
        assert_eq!(split("''").unwrap(), [""]);
        assert!(split("").unwrap().is_empty());
        assert!(split("'open").is_err());
    }

    #[test]
    fn endings() {
        assert_eq!(End::from_code(Some(1), false), End::Status(0));
        assert_eq!(End::from_code(Some(3), false), End::Status(1));
        assert_eq!(End::from_code(Some(249), false), End::Status(124));
        assert_eq!(End::from_code(Some(1), true), End::Broken);
        assert_eq!(End::from_code(Some(0), false), End::Silent);
        assert_eq!(End::from_code(None, false), End::Broken);
        assert!(is_complaint("qemu-system-x86_64: -foo: invalid option"));
        assert!(!is_complaint("qemu-system-x86_64: warning: TCG doesn't support requested feature"));
    }
}
