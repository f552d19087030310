//! The decision core against a simulated world: what an operator would see, at every step.
#![expect(
    clippy::wildcard_enum_match_arm,
    clippy::needless_for_each,
    clippy::unused_self,
    reason = "the simulated world changes what it names and leaves the rest"
)]

mod deletion;
mod identity;
mod life;
mod simulation;
mod world;
