//! The register block: all that entry and switch stubs leave on a task's stack.
//!
//! It begins with its kind, so that a later layout can be told from this one, and is what a task is resumed from. Its
//! upper part is what the CPU pushes when it is interrupted (Intel SDM volume 3, 6.14.2).

/// `RegisterBlock::kind`: the task was interrupted; `rip` is the instruction that runs next.
pub const INTERRUPTED: u64 = 0;
/// `RegisterBlock::kind`: the task gave the CPU up by a call; `rip` is that call's return address, and only `rbx`,
/// `rbp`, `r12` to `r15` and `rsp` hold values.
pub const CALLED: u64 = 1;

/// A stopped task's registers. Lowest address first, as pushes leave them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the fields are the registers of these names")]
pub struct RegisterBlock {
    /// [`INTERRUPTED`] or [`CALLED`].
    pub kind: u64,
    pub r15: u64,
    pub r14: u64,
    pub r13: u64,
    pub r12: u64,
    pub r11: u64,
    pub r10: u64,
    pub r9: u64,
    pub r8: u64,
    pub rbp: u64,
    pub rdi: u64,
    pub rsi: u64,
    pub rdx: u64,
    pub rcx: u64,
    pub rbx: u64,
    pub rax: u64,
    /// The vector that interrupted the task.
    pub vector: u64,
    /// The error code that the CPU pushed, or 0.
    pub error: u64,
    pub rip: u64,
    pub cs: u64,
    pub rflags: u64,
    pub rsp: u64,
    pub ss: u64,
}

const _: () = assert!(size_of::<RegisterBlock>() == 184);
const _: () = assert!(core::mem::offset_of!(RegisterBlock, rbx) == 112);
const _: () = assert!(core::mem::offset_of!(RegisterBlock, rip) == 144);
const _: () = assert!(core::mem::offset_of!(RegisterBlock, rsp) == 168);

/// DWARF's numbers of the registers that the tables speak of (System V AMD64 ABI 1.0, figure 3.36).
pub(crate) mod number {
    pub const RBX: usize = 3;
    pub const RBP: usize = 6;
    pub const RSP: usize = 7;
    pub const R12: usize = 12;
    pub const RETURN_ADDRESS: u16 = 16;
}

impl RegisterBlock {
    /// The general registers by DWARF's numbers.
    pub(crate) fn by_number(&self) -> [u64; 16] {
        [
            self.rax, self.rdx, self.rcx, self.rbx, self.rsi, self.rdi, self.rbp, self.rsp, self.r8, self.r9, self.r10,
            self.r11, self.r12, self.r13, self.r14, self.r15,
        ]
    }
}
