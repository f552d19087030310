//! Ends processes by number, as a shell would.

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

fn pid(number: u32) -> Option<Pid> {
    i32::try_from(number).ok().and_then(Pid::from_raw)
}

/// Kills a process at once.
pub(crate) fn kill(number: u32) {
    if let Some(pid) = pid(number) {
        // It may be gone already, which is what was wanted.
        let _ = kill_process(pid, Signal::KILL);
    }
}

/// Kills a process and all that it started in its group, at once.
pub(crate) fn kill_group(number: u32) {
    if let Some(pid) = pid(number) {
        let _ = kill_process_group(pid, Signal::KILL);
    }
}

/// Asks a process to end.
pub(crate) fn terminate(number: u32) {
    if let Some(pid) = pid(number) {
        let _ = kill_process(pid, Signal::TERM);
    }
}
