//! The decision core against a simulated world: what an operator would see, at every step.

mod deletion;
mod life;
mod simulation;
mod world;
