//! The daemon as a process, against an embedded API: what it needs to start, who leads, what it applies, and what is left
//! of it after `kill -9`. Nothing plays Cluster API here, so no cluster gets past Provisioning.

mod daemon {
    mod harness;
    mod life;
    mod start;
    mod supervision;
    mod trace;
}
