//! Serves an empty API server and writes the kubeconfig of its administrator to the file that is named first.
//!
//! `cargo run -p lattice-apiserver --example serve -- KUBECONFIG [ADDRESS] [--controllers] [--state DIR]`

use lattice_apiserver::{ApiServer, Config};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut words = std::env::args().skip(1);
    let mut plain = Vec::new();
    let mut config = Config::default();
    while let Some(word) = words.next() {
        match word.as_str() {
            "--controllers" => config.controllers = true,
            "--state" => config.state = words.next().map(Into::into),
            _ => plain.push(word),
        }
    }
    let file = plain.first().ok_or("name the file for the kubeconfig")?;
    let address = plain.get(1).map_or("127.0.0.1:0", String::as_str).parse()?;
    let server = ApiServer::new(config)?;
    let serving = server.serve(address).await?;
    std::fs::write(file, server.kubeconfig(&serving.addr())?)?;
    tokio::signal::ctrl_c().await?;
    Ok(())
}
