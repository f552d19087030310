//! `lattice-manager sandbox api`, the embedded API server alone: faults through its real port, and its state folder.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use futures::{StreamExt as _, TryStreamExt as _};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config, ResourceExt as _};
use lattice_protocol::task::{self, Kind};
use lattice_tests::sandbox::{binaries, send};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// The running program; it ends when this is dropped.
struct Alone {
    process: Child,
    /// Kept open, so that the program can go on talking.
    _said: Lines<BufReader<ChildStdout>>,
    client: Client,
}

impl Alone {
    async fn start(state: &Path) -> Result<Self> {
        let mut command = Command::new(binaries()?.join("lattice-manager"));
        command.args(["sandbox", "api", "--state"]).arg(state).stdout(Stdio::piped()).kill_on_drop(true);
        let mut process = command.spawn().context("lattice-manager sandbox api")?;
        let mut said = BufReader::new(process.stdout.take().context("it was piped")?).lines();
        while let Some(line) = said.next_line().await? {
            if line.contains("serving https://") {
                let client = client(&state.join("parent.kubeconfig")).await?;
                return Ok(Self { process, _said: said, client });
            }
        }
        bail!("it ended without serving anything")
    }

    async fn end(mut self, signal: &str) -> Result<()> {
        send(self.process.id().context("it ended by itself")?, signal).await?;
        self.process.wait().await?;
        Ok(())
    }

    fn maps(&self) -> Api<ConfigMap> {
        Api::namespaced(self.client.clone(), "default")
    }

    async fn ask(&self, method: Method, path: &str, body: Value) -> Result<Response<Body>, kube::Error> {
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = Request::builder().method(method).uri(path).header("content-type", "application/json");
        self.client.send(request.body(Body::from(body)).expect("a request")).await
    }

    /// Sets a fault as a user does, for as many requests as it says.
    async fn fault(&self, fault: Value) -> Result<()> {
        let answer = self.ask(Method::POST, "/faults", fault.clone()).await?;
        anyhow::ensure!(answer.status() == StatusCode::OK, "{fault}: {}", text(answer).await?);
        Ok(())
    }

    async fn clear(&self) -> Result<()> {
        self.ask(Method::DELETE, "/faults", Value::Null).await?;
        Ok(())
    }

    async fn code(&self, path: &str) -> Result<u16> {
        Ok(self.ask(Method::GET, path, Value::Null).await?.status().as_u16())
    }
}

async fn client(path: &PathBuf) -> Result<Client> {
    let mut config =
        Config::from_custom_kubeconfig(Kubeconfig::read_from(path)?, &KubeConfigOptions::default()).await?;
    // Each answer is looked at, refusals too.
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}

async fn text(answer: Response<Body>) -> Result<String> {
    Ok(String::from_utf8_lossy(&answer.into_body().collect().await?.to_bytes()).into_owned())
}

fn map(name: &str, value: &str) -> ConfigMap {
    let map = json!({"metadata": {"name": name}, "data": {"k": value}});
    serde_json::from_value(map).expect("a ConfigMap")
}

fn number(object: &ConfigMap) -> Result<u64> {
    Ok(object.resource_version().context("a revision")?.parse()?)
}

#[tokio::test]
async fn every_kind_of_fault_is_set_through_the_port_and_strikes_what_it_names() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Alone::start(folder.path()).await?;
    let maps = server.maps();
    maps.create(&PostParams::default(), &map("a", "1")).await?;
    maps.create(&PostParams::default(), &map("b", "1")).await?;
    let a = format!("{MAPS}/a");

    for code in [429, 500, 503, 409, 410] {
        let effect = json!({"type": "refuse", "code": code, "retryAfterSeconds": 1});
        server.fault(json!({"verb": "get", "kind": "ConfigMap", "name": "a", "times": 1, "effect": effect})).await?;
        let answer = server.ask(Method::GET, &a, Value::Null).await?;
        assert_eq!(answer.status().as_u16(), code);
        assert_eq!(answer.headers()["retry-after"], "1");
        assert_eq!(server.code(&a).await?, 200, "it strikes once");
    }

    let refuse = json!({"type": "refuse", "code": 503});
    server.fault(json!({"kind": "configmaps", "name": "a", "effect": refuse})).await?;
    server.fault(json!({"verb": "list", "user": "jane", "effect": refuse})).await?;
    server.fault(json!({"verb": "list", "probability": 0.0, "effect": refuse})).await?;
    let codes = (server.code(&a).await?, server.code(&format!("{MAPS}/b")).await?, server.code(MAPS).await?);
    assert_eq!(codes, (503, 200, 200), "by name, by user, by chance");
    server.clear().await?;

    let mut runs = Vec::new();
    for _ in 0..2 {
        server.ask(Method::PUT, "/faults/seed", json!({"seed": 7})).await?;
        server.fault(json!({"verb": "list", "probability": 0.5, "effect": refuse})).await?;
        let mut run = Vec::new();
        for _ in 0..16 {
            run.push(server.code(MAPS).await?);
        }
        server.clear().await?;
        runs.push(run);
    }
    assert!(runs[0] == runs[1] && runs[0].contains(&200) && runs[0].contains(&503), "{runs:?}");

    server.fault(json!({"verb": "create", "times": 1, "effect": {"type": "loseAnswer"}})).await?;
    maps.create(&PostParams::default(), &map("lost", "1")).await.expect_err("no answer");
    assert!(maps.get_opt("lost").await?.is_some(), "what was not answered was done");

    let old = maps.get("a").await?;
    maps.replace("a", &PostParams::default(), &ConfigMap { data: map("a", "2").data, ..old.clone() }).await?;
    server.fault(json!({"effect": {"type": "stale", "revisions": 1}})).await?;
    assert_eq!(maps.get("a").await?.resource_version(), old.resource_version());
    let listed = maps.list(&ListParams::default()).await?.items;
    assert!(listed.iter().any(|one| one.resource_version() == old.resource_version()));
    server.clear().await?;

    server.fault(json!({"verb": "get", "times": 1, "effect": {"type": "cut"}})).await?;
    maps.get("a").await.expect_err("the body ends in its middle");

    server.fault(json!({"verb": "get", "times": 1, "effect": {"type": "delay", "millis": 3_600_000}})).await?;
    let mut slow = Box::pin(server.code(&a));
    // The first look sends it; it has struck when the second one is not struck.
    assert!(futures::poll!(&mut slow).is_pending());
    while server.ask(Method::GET, "/faults", Value::Null).await.map(text)?.await?.contains("\"times\":1") {
        assert!(futures::poll!(&mut slow).is_pending());
    }
    assert_eq!(server.code(&a).await?, 200);
    assert!(futures::poll!(&mut slow).is_pending());
    Ok(())
}

#[tokio::test]
async fn watches_expire_and_go_silent_and_what_is_no_fault_is_refused() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let server = Alone::start(folder.path()).await?;
    let maps = server.maps();
    let made = maps.create(&PostParams::default(), &map("a", "1")).await?;
    let from = made.resource_version().context("a revision")?;

    server.fault(json!({"verb": "watch", "times": 1, "effect": {"type": "expire"}})).await?;
    let mut watch = maps.watch(&WatchParams::default(), &from).await?.boxed();
    assert!(matches!(watch.try_next().await?, Some(WatchEvent::Error(status)) if status.code == 410));
    assert!(watch.try_next().await?.is_none(), "and it ends");

    server.fault(json!({"verb": "watch", "times": 1, "effect": {"type": "silence"}})).await?;
    let mut silent = maps.watch(&WatchParams::default(), &from).await?.boxed();
    let mut other = maps.watch(&WatchParams::default(), &from).await?.boxed();
    maps.create(&PostParams::default(), &map("b", "1")).await?;
    assert!(matches!(other.try_next().await?, Some(WatchEvent::Added(map)) if map.name_any() == "b"));
    assert!(futures::poll!(silent.next()).is_pending());

    for (wrong, told) in [
        (json!({"verb": "read", "effect": {"type": "cut"}}), "deletecollection"),
        (json!({"probability": 2.0, "effect": {"type": "cut"}}), "between 0 and 1"),
        (json!({"effect": {"type": "refuse", "code": 200}}), "400 to 599"),
        (json!({"effect": {"type": "explode"}}), "loseAnswer"),
        (json!({"nmae": "a", "effect": {"type": "cut"}}), "namespace"),
    ] {
        let answer = server.ask(Method::POST, "/faults", wrong.clone()).await?;
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST, "{wrong}");
        let text = text(answer).await?;
        assert!(text.contains(told), "{wrong}: {text}");
    }
    Ok(())
}

#[tokio::test]
async fn what_was_acknowledged_outlives_a_kill_in_the_middle_of_writes() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let mut acknowledged: Vec<ConfigMap> = Vec::new();
    for signal in ["KILL", "INT"] {
        let server = Alone::start(folder.path()).await?;
        let (api, before) = (server.maps(), acknowledged.len());
        let (told, mut acks) = tokio::sync::mpsc::channel(1024);
        let writer = task::spawn("test.writer", Kind::Request, async move {
            for number in before.. {
                let Ok(made) = api.create(&PostParams::default(), &map(&format!("m{number}"), signal)).await else {
                    return;
                };
                if told.send(made).await.is_err() {
                    return;
                }
            }
        });
        for _ in 0..100 {
            acknowledged.push(acks.recv().await.context("it writes")?);
        }
        server.end(signal).await?;
        while let Some(made) = acks.recv().await {
            acknowledged.push(made);
        }
        writer.await?;

        let server = Alone::start(folder.path()).await?;
        let maps = server.maps();
        for made in &acknowledged {
            let kept = maps.get_opt(&made.name_any()).await?;
            assert_eq!(kept.as_ref(), Some(made), "after {signal}");
        }
        let last = acknowledged.iter().map(number).collect::<Result<Vec<u64>>>()?.into_iter().max().unwrap_or_default();
        let listed = maps.list(&ListParams::default()).await?;
        let now = listed.metadata.resource_version.context("a revision")?;
        assert!(now.parse::<u64>()? >= last, "the revision goes on: {now} after {last}");

        let mut old =
            maps.watch(&WatchParams::default(), &acknowledged[0].resource_version().unwrap_or_default()).await?.boxed();
        let mut new = maps.watch(&WatchParams::default(), &now).await?.boxed();
        let next = maps.create(&PostParams::default(), &map(&format!("after-{signal}").to_lowercase(), "1")).await?;
        assert!(number(&next)? > now.parse()?);
        assert!(matches!(new.try_next().await?, Some(WatchEvent::Added(map)) if map.name_any() == next.name_any()));
        // Either every change since, or the word that there are too many.
        match old.try_next().await? {
            Some(WatchEvent::Error(status)) => assert_eq!(status.code, 410),
            Some(WatchEvent::Added(map)) => assert_eq!(map.name_any(), acknowledged[1].name_any()),
            other => bail!("a watch of old revisions told {other:?}"),
        }
        let missed = acknowledged.len();
        // What was written without anybody hearing of it keeps its name.
        acknowledged.extend(maps.get_opt(&format!("m{missed}")).await?);
        server.end("KILL").await?;
    }
    Ok(())
}
