//! A CA whose keys are in another process: here it is the test that keeps them and signs, over a Unix socket.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lattice_protocol::task::{self, Kind};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _, SigningKey as _};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use crate::agent::Agent;
use crate::asking::cluster;
use crate::rig::Rig;
use crate::rotation::ca;
use crate::wait::until;

/// The keys, by name, and how often each has signed.
#[derive(Default)]
struct Keys(Mutex<BTreeMap<String, (KeyPair, usize)>>);

impl Keys {
    fn answer(&self, asked: &Value) -> Result<Value> {
        let mut keys = self.0.lock().expect("nobody panics meanwhile");
        let name = asked["key"].as_str().unwrap_or_default();
        match asked["do"].as_str() {
            Some("make") => {
                let name = format!("key-{}", keys.len());
                keys.insert(name.clone(), (KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?, 0));
                Ok(json!({"key": name}))
            }
            Some("find") => {
                let (key, _) = keys.get(name).context("no such key")?;
                Ok(json!({"point": STANDARD.encode(key.der_bytes())}))
            }
            Some("sign") => {
                let (key, signed) = keys.get_mut(name).context("no such key")?;
                *signed += 1;
                let message = STANDARD.decode(asked["message"].as_str().context("a message")?)?;
                Ok(json!({"signature": STANDARD.encode(key.sign(&message)?)}))
            }
            _ => anyhow::bail!("nothing that I do"),
        }
    }

    async fn serve(&self, stream: UnixStream) -> Result<()> {
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let answer = serde_json::from_str(&line).map_err(anyhow::Error::from).and_then(|asked| self.answer(&asked));
        let answer = answer.unwrap_or_else(|error| json!({"error": error.to_string()}));
        stream.write_all(format!("{answer}\n").as_bytes()).await?;
        Ok(())
    }

    fn signed(&self) -> Vec<usize> {
        self.0.lock().expect("nobody panics meanwhile").values().map(|(_, signed)| *signed).collect()
    }
}

#[tokio::test]
async fn a_ca_whose_keys_are_elsewhere_signs_renews_and_rotates() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let socket = folder.path().join("signer.sock");
    let (keys, listener) = (Arc::new(Keys::default()), UnixListener::bind(&socket)?);
    let serving = Arc::clone(&keys);
    drop(task::spawn("attack.signer", Kind::Request, async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(serving.serve(stream).await);
        }
    }));
    let socket = socket.display().to_string();
    let args = ["--ca-signer", &socket, "--certificate-lifetime", "6"];
    let rig = Rig::start(&args).await?;
    let of = rig.object("sealed").await?;
    let agent = Agent::start(&rig, &of, &rig.token(&of).await?, &[]).await?;
    agent.says("certificate renewed", 1).await?;
    for step in ["publish", "sign", "retire"] {
        // Cluster API's time to follow is the only thing that is cut short.
        let args: &[&str] = if step == "sign" { &["rotate", "--without-laggards"] } else { &["rotate"] };
        let done = async || ca(&rig, args).await.ok().filter(|(fine, _)| *fine);
        until(step, done).await.with_context(|| rig.log())?;
        rig.kill_and_start().await?;
    }
    let renewed = agent.log().matches("certificate renewed").count();
    agent.says("certificate renewed", renewed + 1).await?;
    let signed = keys.signed();
    ensure!(signed.len() == 2 && signed.iter().all(|times| *times > 1), "both keys have signed: {signed:?}");
    // Of the keys nothing but their names is on the parent.
    let secret = rig.secrets().get("lattice-ca").await?.data.context("data")?;
    ensure!(secret.values().all(|value| !String::from_utf8_lossy(&value.0).contains("PRIVATE")), "{:?}", secret.keys());
    ensure!(secret.get("tls.key-name").is_some_and(|name| name.0 == b"key-1") && !secret.contains_key("tls.key"));
    // Without its signer a manager says what it lacks and signs nothing.
    rig.restart_with(&["--certificate-lifetime", "6"]).await?;
    until("it says what it lacks", async || rig.log().contains("run with --ca-signer").then_some(())).await?;
    rig.kill_and_start_with(&args).await?;
    let (_, late) = rig.agent(&cluster(301)).await?;
    ensure!(rig.verdict(&late).await?.is_none(), "and all is well when it has it again");
    Ok(())
}
