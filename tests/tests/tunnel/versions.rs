//! A manager one minor newer or older than the agent works; two minors apart are refused in words on both sides. And what
//! was ever on the wire keeps its number and its type.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use prost_types::{DescriptorProto, FileDescriptorSet};

use crate::pair::{Pair, Site, until};

/// Fields by `message.field`, each with number and type; methods by `Service.Method`, each with its messages.
fn surface(folder: &Path) -> Result<BTreeMap<String, String>> {
    let mut files: Vec<_> = std::fs::read_dir(folder.join("lattice/v1"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<std::io::Result<_>>()?;
    files.sort();
    let set: FileDescriptorSet = protox::compile(&files, [folder]).with_context(|| folder.display().to_string())?;
    let mut all = BTreeMap::new();
    for file in &set.file {
        let package = file.package();
        file.message_type.iter().for_each(|message| fields(package, message, &mut all));
        for service in &file.service {
            for method in &service.method {
                let streams = (method.client_streaming(), method.server_streaming());
                let line = format!("{} -> {} {streams:?}", method.input_type(), method.output_type());
                all.insert(format!("{package}.{}/{}", service.name(), method.name()), line);
            }
        }
        for kind in &file.enum_type {
            for value in &kind.value {
                all.insert(format!("{package}.{}.{}", kind.name(), value.name()), value.number().to_string());
            }
        }
    }
    Ok(all)
}

fn fields(scope: &str, message: &DescriptorProto, all: &mut BTreeMap<String, String>) {
    let name = format!("{scope}.{}", message.name());
    for field in &message.field {
        let line = format!("{} {:?} {:?} {}", field.number(), field.r#type(), field.label(), field.type_name());
        all.insert(format!("{name}.{}", field.name()), line);
    }
    for kind in &message.enum_type {
        for value in &kind.value {
            all.insert(format!("{name}.{}.{}", kind.name(), value.name()), value.number().to_string());
        }
    }
    message.nested_type.iter().for_each(|nested| fields(&name, nested, all));
}

#[test]
fn what_was_on_the_wire_keeps_its_number_and_type() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (old, new) = (surface(&root.join("wire/v0.1"))?, surface(&root.join("../protocol/proto"))?);
    assert!(old.len() > 50, "the snapshot is there");
    for (name, before) in &old {
        let now = new.get(name);
        assert_eq!(
            now,
            Some(before),
            "{name} has changed: an agent or manager of 0.1 would misread it. Add a new field or method instead, and let the \
             other side do without."
        );
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_one_minor_apart_work_and_two_apart_are_refused_in_words() -> Result<()> {
    let manager = [("LATTICE_SIMULATED_MANAGER_VERSION", "0.5.2")];
    let mut pair = Pair::start(Site::here(), &manager).await?;
    let refused = "lattice_tunnel_disconnects_total{why=\"incompatible\"}";
    for agent in ["0.4.0", "0.6.1", "0.5.0"] {
        pair.start_agent(&[("LATTICE_SIMULATED_AGENT_VERSION", agent)]).await?;
        pair.answers().await.with_context(|| format!("agent {agent}"))?;
    }
    ensure!(pair.figure(refused).await? == 0.0, "{}", pair.log("manager"));
    for agent in ["0.3.9", "0.7.0", "1.5.2"] {
        let before = pair.figure(refused).await?;
        pair.start_agent(&[("LATTICE_SIMULATED_AGENT_VERSION", agent)]).await?;
        until("a refusal", async || pair.figure(refused).await.ok().filter(|now| *now > before)).await?;
        let words = format!("lattice-agent {agent} and lattice-manager 0.5.2 are more than one minor version apart");
        ensure!(pair.log("manager").contains(&words), "the parent says so: {}", pair.log("manager"));
        until("the agent says so", async || pair.log("agent").contains(&words).then_some(())).await?;
        let answer = pair.through().await?.apiserver_version().await;
        ensure!(matches!(&answer, Err(kube::Error::Api(status)) if status.code == 503), "not in service: {answer:?}");
    }
    let words = pair.child_event("VersionsApart").await?;
    ensure!(words.contains("0.5.2") && words.contains("upgrade the older"), "{words}");
    Ok(())
}
