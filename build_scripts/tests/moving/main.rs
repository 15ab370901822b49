//! Frames are moved from one copy of everything to another at every instruction of a workload.
//!
//! ```text
//! trap ─▶ walk the stack ─▶ lead every frame to the other copy, write every word that leads there
//!      ─▶ forbid the copy that was left ─▶ go on with the next instruction
//! ```
//! The workload, `core`, `alloc` and `compiler_builtins` are linked by the system's linker into this process; the other copy
//! is made from objects whose functions lie in another, random order. What decides where a frame goes is the system's own: the
//! linker's moves and patches, the walker. What is left behind is out of reach, so anything that was forgotten crashes,
//! and that is tried too.
#![allow(unsafe_code, reason = "runs linked code in this process, one instruction at a time")]

#[path = "../builds/mod.rs"]
#[allow(dead_code, reason = "the other test uses the rest")]
mod builds;
mod machine;
mod order;
mod steps;
mod world;

use steps::Forget;
use world::World;

/// What the workload computes without any move.
fn undisturbed(world: &World) -> u64 {
    let steps = steps::run(world, Forget::Everything).expect("without moves nothing can go wrong");
    assert!(steps.taken > 50_000, "the workload has {} instructions only", steps.taken);
    steps.result
}

/// Runs in a process of its own, since a crash is one of the outcomes; whether it came to its end.
fn survives(world: &World, forget: Forget, expected: u64) -> bool {
    // SAFETY: the child has this thread alone and prints nothing; what it allocates it may, since the C library's allocator is
    // whole on both sides of a fork.
    let child = unsafe { libc::fork() };
    assert!(child >= 0, "no process for the workload");
    if child == 0 {
        let right = steps::run(world, forget).is_ok_and(|steps| steps.result == expected);
        // SAFETY: the child ends here.
        unsafe { libc::_exit(i32::from(!right)) }
    }
    let mut status = 0;
    // SAFETY: the child is ours.
    assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
    libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}

#[test]
fn frames_move_at_every_instruction() {
    let mut moved = 0;
    for seed in 1..=2 {
        let world = World::new(seed);
        let expected = undisturbed(&world);
        let steps = steps::run(&world, Forget::Nothing).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        assert_eq!(steps.result, expected, "seed {seed}: another result after {} steps", steps.taken);
        assert!(
            steps.frames > 4 * steps.taken,
            "{} frames in {} steps: the workload is too flat",
            steps.frames,
            steps.taken
        );
        moved += steps.frames;
        // One thing that stays behind is enough.
        for forget in [Forget::ReturnAddress, Forget::Thunk, Forget::ProgramCounter] {
            assert!(!survives(&world, forget, expected), "seed {seed}: nothing came of leaving a {forget:?} behind");
        }
    }
    assert!(moved > 1_000_000, "{moved} frames were moved");
}
