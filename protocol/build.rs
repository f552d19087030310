//! Compiles the `.proto` files with `protox`, so that no `protoc` is needed on the machine.

use std::error::Error;

const FILES: [&str; 5] = [
    "proto/lattice/v1/health.proto",
    "proto/lattice/v1/components.proto",
    "proto/lattice/v1/telemetry.proto",
    "proto/lattice/v1/identity.proto",
    "proto/lattice/v1/version.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(FILES, ["proto"])?;
    tonic_prost_build::configure().bytes(".").compile_fds(descriptors)?;
    Ok(())
}
