//! One object in, a Ready cluster out.

use anyhow::Result;
use lattice_tests::sandbox::{Sandbox, condition};
use serde_json::Value;

#[tokio::test(flavor = "multi_thread")]
async fn the_built_in_example_becomes_ready_phase_by_phase() -> Result<()> {
    let sandbox = Sandbox::builder().start().await?;
    let mut phases: Vec<String> = Vec::new();
    let mut healthy: Vec<String> = Vec::new();
    let ready = sandbox
        .cluster_until("backend", |object| {
            let phase = object["status"]["phase"].as_str().unwrap_or_default().to_owned();
            if !phase.is_empty() && phases.last() != Some(&phase) {
                phases.push(phase);
            }
            for kind in ["CNI", "CertManager", "Mesh", "PlatformOperator"] {
                if condition(object, kind)["status"] == "True" && !healthy.iter().any(|one| one == kind) {
                    healthy.push(kind.to_owned());
                }
            }
            condition(object, "Ready")["status"] == "True"
        })
        .await?;
    assert_eq!(phases, ["Pending", "Provisioning", "Bootstrapping", "Ready"]);
    assert_eq!(healthy, ["CNI", "CertManager", "Mesh", "PlatformOperator"], "components follow their dependencies");
    let status = &ready["status"];
    assert_eq!(status["agent"]["connected"], true);
    assert_eq!(status["agent"]["transport"], "quic");
    assert_eq!(status["nodes"]["controlPlane"]["ready"], 1);
    assert_eq!(status["nodes"]["workerPools"]["default"]["ready"], 3);
    assert_eq!(status["kubernetesVersion"], "v1.32.0");
    assert_eq!(status["observedGeneration"], ready["metadata"]["generation"]);
    for one in status["conditions"].as_array().into_iter().flatten() {
        assert_eq!(one["observedGeneration"], ready["metadata"]["generation"], "{one}");
        assert!(
            one["reason"].as_str().is_some_and(|reason| reason.parse::<lattice_protocol::reason::Reason>().is_ok()),
            "{one}"
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn until_ready_ends_with_success_and_says_so() -> Result<()> {
    let mut sandbox = Sandbox::builder().arg("--until").arg("ready").start().await?;
    let status = sandbox.ended().await?;
    let output = sandbox.output();
    assert!(status.success(), "{status}\n{output}");
    let seen: Vec<_> = ["Pending", "Provisioning", "Bootstrapping", "Ready"]
        .iter()
        .map(|phase| output.find(&format!(" -> {phase}: ")))
        .collect();
    assert!(seen.iter().all(Option::is_some) && seen.is_sorted(), "{output}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn steady_state_is_silent() -> Result<()> {
    let sandbox = Sandbox::builder().start().await?;
    sandbox.phase("backend", "Ready").await?;
    let (mut before, mut quiet) = (sandbox.writes().await?, 0);
    // The last writes of getting Ready may still be on their way: silence counts once it has begun.
    for _ in 0..40 {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
        let now = sandbox.writes().await?;
        quiet = if now == before { quiet + 1 } else { 0 };
        before = now;
        if quiet == 20 {
            return Ok(());
        }
    }
    anyhow::bail!("writes go on in steady state: {}", sandbox.output())
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_in_anything_written() -> Result<()> {
    let sandbox = Sandbox::builder().start().await?;
    let ready = sandbox.phase("backend", "Ready").await?;
    let mut secrets = Vec::new();
    for secret in sandbox.list("v1", "Secret", "secrets").await? {
        for (key, value) in secret.data["data"].as_object().into_iter().flatten() {
            let bytes: k8s_openapi::ByteString = serde_json::from_value(value.clone())?;
            if let Ok(text) = String::from_utf8(bytes.0)
                && ["token", "secret", "tls.key", "value"].contains(&key.as_str())
            {
                secrets.extend(text.lines().map(str::trim).filter(|line| line.len() >= 24).map(str::to_owned));
            }
        }
    }
    secrets.retain(|line| {
        !line.contains("BEGIN") && !line.contains("END") && !line.contains(':') || line.starts_with("token:")
    });
    assert!(!secrets.is_empty(), "there are Secrets to look for");
    let mut written = vec![("status".to_owned(), ready["status"].to_string()), ("output".to_owned(), sandbox.output())];
    for log in std::fs::read_dir(sandbox.state().join("logs"))? {
        let log = log?.path();
        written.push((log.display().to_string(), std::fs::read_to_string(&log).unwrap_or_default()));
    }
    for event in sandbox.list("v1", "Event", "events").await? {
        written.push(("event".to_owned(), serde_json::to_string(&event)?));
    }
    for (place, text) in &written {
        for secret in &secrets {
            let needle = secret.strip_prefix("token: ").unwrap_or(secret);
            assert!(!text.contains(needle), "a line of a Secret is in {place}");
        }
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn real_kubectl_sees_what_it_should() -> Result<()> {
    let Ok(path) = which("kubectl") else {
        eprintln!("SKIPPED: kubectl is not on PATH");
        return Ok(());
    };
    let sandbox = Sandbox::builder().start().await?;
    let kubeconfig = sandbox.state().join("parent.kubeconfig");
    let kubectl = async |args: &[&str]| -> Result<String> {
        let output =
            tokio::process::Command::new(&path).arg("--kubeconfig").arg(&kubeconfig).args(args).output().await?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        anyhow::ensure!(output.status.success(), "kubectl {args:?}: {text}{}", String::from_utf8_lossy(&output.stderr));
        Ok(text)
    };
    kubectl(&["wait", "lc/backend", "--for=condition=Ready", "--timeout=140s"]).await?;
    let table = kubectl(&["get", "lc"]).await?;
    let mut lines = table.lines();
    let columns: Vec<_> = lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    assert_eq!(columns, ["NAME", "PHASE", "READY", "KUBERNETES", "NODES", "PROVIDER", "AGENT", "MESSAGE", "AGE"]);
    let row = lines.next().unwrap_or_default();
    for part in ["backend", "Ready", "True", "1.32.0", "4/4", "proxmox"] {
        assert!(row.contains(part), "{part} is missing in: {table}");
    }
    let described = kubectl(&["describe", "lc", "backend"]).await?;
    assert!(described.contains("Events:") && described.contains("Bootstrapping"), "{described}");
    let objects =
        kubectl(&["get", "clusters,kubeadmcontrolplanes,machinedeployments,machines,proxmoxclusters,secrets", "-A"])
            .await?;
    for part in ["backend-cp", "backend-default", "backend-kubeconfig", "backend-enroll"] {
        assert!(objects.contains(part), "{part} is missing in:\n{objects}");
    }
    let yaml = kubectl(&["get", "lc", "backend", "-o", "json"]).await?;
    let value: Value = serde_json::from_str(&yaml)?;
    assert_eq!(value["status"]["phase"], "Ready");
    Ok(())
}

/// Where a program is on PATH.
fn which(program: &str) -> Result<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| anyhow::anyhow!("{program} is not on PATH"))
}
