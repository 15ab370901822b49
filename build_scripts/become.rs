//! A function for GNU make, `$(become PROGRAM,ARGUMENT…)`: the program takes make's place.
//!
//! make turns the status of every failing recipe into 2, and stands between the terminal and what it started. `make
//! exec` promises the status of the guest (0, 1, 124), and `make run` a terminal that belongs to QEMU, Ctrl-C included.
//! So the last act of these recipes is to replace make's process by `delias`, which the `load` directive makes possible
//! (GNU make manual, "Loading Dynamic Objects"). It comes after all prerequisites were made.
//!
//! Variables given on make's command line reach the program through its environment, each exactly as it was written:
//! `value` is asked for, which leaves `$` alone. Compiled by the Makefile with rustc alone, into a shared library.

use std::ffi::{CStr, CString, OsStr, c_char, c_int, c_uint};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// The Makefile's list of what `delias` reads from its environment.
const VARIABLES: &str = "variables";

type Function = extern "C" fn(*const c_char, c_uint, *mut *mut c_char) -> *mut c_char;

// gnumake.h of GNU make 4.0 and later.
unsafe extern "C" {
    fn gmk_expand(text: *const c_char) -> *mut c_char;
    fn gmk_free(text: *mut c_char);
    fn gmk_add_function(name: *const c_char, function: Function, min: c_uint, max: c_uint, flags: c_uint);
}

// From the C library, which make and rustc's own library use anyway. The set of signals is larger than any real one.
const SIG_SETMASK: c_int = 2;
unsafe extern "C" {
    fn sigprocmask(how: c_int, set: *const [u64; 16], old: *mut [u64; 16]) -> c_int;
}

/// make loads nothing that does not define this.
#[unsafe(no_mangle)]
#[allow(non_upper_case_globals, reason = "make looks for this name")]
pub static plugin_is_GPL_compatible: c_int = 1;

/// Called by make when it has loaded `become.so`. Not 0 means success.
#[unsafe(no_mangle)]
pub extern "C" fn become_gmk_setup() -> c_int {
    // SAFETY: the name is a constant, and the function has the signature that make asks for. It takes from 1 to 255
    // arguments (0 would mean no limit); flag 0 lets make expand them first.
    unsafe { gmk_add_function(c"become".as_ptr(), become_program, 1, 255, 0) };
    1
}

extern "C" fn become_program(_: *const c_char, count: c_uint, arguments: *mut *mut c_char) -> *mut c_char {
    let word = |index: c_uint| {
        // SAFETY: make passes `count` pointers to strings that end with a zero, valid during the call.
        let text = unsafe { CStr::from_ptr(*arguments.add(index as usize)) };
        OsStr::from_bytes(text.to_bytes()).to_owned()
    };
    let mut command = Command::new(word(0));
    command.args((1..count).map(word));
    for name in String::from_utf8_lossy(&make_variable(VARIABLES)).split_whitespace() {
        let value = make_variable(name);
        if value.is_empty() {
            command.env_remove(name);
        } else {
            command.env(name, OsStr::from_bytes(&value));
        }
    }
    // SAFETY: an empty set is valid, and the old one is not asked for. make may have blocked SIGCHLD, which the program
    // would inherit.
    unsafe { sigprocmask(SIG_SETMASK, &[0; 16], std::ptr::null_mut()) };
    let error = command.exec();
    eprintln!("make: cannot start {}: {error}", word(0).display());
    std::process::exit(2)
}

/// A variable of make as it was written, with nothing in it expanded.
fn make_variable(name: &str) -> Vec<u8> {
    let Ok(text) = CString::new(format!("$(value {name})")) else { return Vec::new() };
    // SAFETY: the text ends with a zero; make returns such a text, or null, which is to be given back to it.
    unsafe {
        let value = gmk_expand(text.as_ptr());
        if value.is_null() {
            return Vec::new();
        }
        let bytes = CStr::from_ptr(value).to_bytes().to_vec();
        gmk_free(value);
        bytes
    }
}
