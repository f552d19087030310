//! Cluster API's kubeconfig: whatever happens to its Secret, a client that reads it when it is refused stays in.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use lattice_protocol::task::{self, Kind};
use lattice_tests::sandbox::{PATIENCE, Sandbox};
use serde_json::json;

const NAME: &str = "backend-kubeconfig";
/// Refusals in a row after which the token that the Secret holds is no good. One is how a client learns of a new token.
const REFUSALS_MAX: usize = 20;

async fn client_of(text: &str) -> Result<Client> {
    let mut config =
        Config::from_custom_kubeconfig(Kubeconfig::from_yaml(text)?, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

fn text_of(secret: &Secret) -> Result<String> {
    let value = secret.data.as_ref().and_then(|data| data.get("value")).context("a value")?;
    Ok(String::from_utf8(value.0.clone())?)
}

/// Asks for the nodes again and again as Cluster API does: with the credential that it has, until that is refused.
async fn keep_asking(secrets: Api<Secret>, stop: Arc<AtomicBool>, answers: Arc<AtomicUsize>) -> Result<()> {
    let mut client = client_of(&text_of(&secrets.get(NAME).await?)?).await?;
    let mut refused = 0;
    while !stop.load(Ordering::Relaxed) {
        match Api::<Node>::all(client.clone()).list(&ListParams::default()).await {
            Ok(list) => {
                ensure!(list.items.len() == 4, "{} nodes", list.items.len());
                answers.fetch_add(1, Ordering::Relaxed);
                refused = 0;
            }
            Err(kube::Error::Api(status)) if status.code == 401 => {
                refused += 1;
                ensure!(refused < REFUSALS_MAX, "the Secret's own token is refused");
                if let Some(secret) = secrets.get_opt(NAME).await? {
                    client = client_of(&text_of(&secret)?).await.unwrap_or(client);
                }
            }
            Err(error) => anyhow::bail!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Waits until the Secret is what it should be and its value another than `not`.
async fn good(secrets: &Api<Secret>, not: &str) -> Result<String> {
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        tick.tick().await;
        if let Some(secret) = secrets.get_opt(NAME).await?
            && let Ok(text) = text_of(&secret)
            && text != not
            && secret.type_.as_deref() == Some("Opaque")
            && text.contains("/clusters/backend")
        {
            let nodes = Api::<Node>::all(client_of(&text).await?).list(&ListParams::default()).await?;
            ensure!(nodes.items.len() == 4);
            return Ok(text);
        }
        ensure!(tokio::time::Instant::now() < deadline, "the Secret was not made good again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_done_to_the_secret_cluster_api_stays_in() -> Result<()> {
    let sandbox = Sandbox::builder().start().await?;
    sandbox.phase("backend", "Ready").await?;
    let secrets = Api::<Secret>::namespaced(sandbox.parent().await?, "lattice-backend");
    let (stop, answers) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let (told, outcome) = tokio::sync::oneshot::channel();
    let asking = keep_asking(secrets.clone(), Arc::clone(&stop), Arc::clone(&answers));
    let handle = task::spawn("test.ask", Kind::Request, async move { drop(told.send(asking.await)) });
    let first = text_of(&secrets.get(NAME).await?)?;

    secrets.delete(NAME, &DeleteParams::default()).await?;
    let second = good(&secrets, &first).await.context("deleted")?;

    let damage = json!({"stringData": {"value": "apiVersion: v1\nkind: Config\n"}});
    secrets.patch(NAME, &PatchParams::default(), &Patch::Merge(&damage)).await?;
    let third = good(&secrets, &second).await.context("damaged")?;

    // As Cluster API's own control plane writes it when ours is gone, faster than the manager puts it back.
    let own: Secret = serde_json::from_value(json!({
        "metadata": {"name": NAME, "labels": {"cluster.x-k8s.io/cluster-name": "backend"}},
        "type": "cluster.x-k8s.io/secret", "stringData": {"value": "server: https://192.0.2.1:6443"},
    }))?;
    loop {
        secrets.delete(NAME, &DeleteParams::default()).await?;
        match secrets.create(&PostParams::default(), &own).await {
            Ok(_) => break,
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
    }
    let fourth = good(&secrets, &third).await.context("of another type")?;

    // Its token is old.
    let aged = json!({"metadata": {"annotations": {"lattice.dev/issued-at": "2020-01-01T00:00:00Z"}}});
    secrets.patch(NAME, &PatchParams::default(), &Patch::Merge(&aged)).await?;
    good(&secrets, &fourth).await.context("old")?;

    let had = answers.load(Ordering::Relaxed);
    let mut tick = tokio::time::interval(Duration::from_millis(50));
    while answers.load(Ordering::Relaxed) < had + 5 && !handle.is_finished() {
        tick.tick().await;
    }
    stop.store(true, Ordering::Relaxed);
    outcome.await??;
    Ok(())
}
