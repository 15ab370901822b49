//! Panic handler and personality.

use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    unwind::panicked(info)
}

#[lang = "eh_personality"]
unsafe extern "C" fn rust_eh_personality(
    version: i32,
    actions: i32,
    class: u64,
    exception: *mut (),
    context: *mut (),
) -> i32 {
    // SAFETY: called by the unwinder only, with what the personality is to be given.
    unsafe { unwind::personality(version, actions, class, exception, context) }
}
