//! A workload cluster: the embedded API server, what a pod would mount, and the agent itself.

use std::path::Path;
use std::sync::Arc;

use clap::Parser as _;
use k8s_openapi::api::core::v1::{Namespace, Node, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::Api;
use kube::api::PostParams;
use lattice_agent::app;
use lattice_agent::cli::{Cli, Command, Run};
use lattice_apiserver::{ApiServer, Config, Serving};
use lattice_protocol::task::{self, Kind};
use lattice_protocol::telemetry::Exporter;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::parent::{Parent, UID};

pub(crate) struct Child {
    pub(crate) server: Arc<ApiServer>,
    pub(crate) client: kube::Client,
    serving: Serving,
    folder: tempfile::TempDir,
}

/// A running agent. Dropped, it is cut off as a kill would.
pub(crate) struct Agent {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Child {
    pub(crate) async fn start(parent: &Parent) -> Self {
        lattice_protocol::tls::install_provider();
        let server = ApiServer::new(Config { controllers: true, ..Config::default() }).unwrap();
        let serving = server.serve("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let client = server.client();
        let namespaces = Api::<Namespace>::all(client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": "lattice-system"}})).unwrap();
        namespaces.create(&PostParams::default(), &namespace).await.unwrap();
        let accounts = Api::<ServiceAccount>::namespaced(client.clone(), "lattice-system");
        let account = serde_json::from_value(json!({"metadata": {"name": "lattice-agent"}})).unwrap();
        accounts.create(&PostParams::default(), &account).await.unwrap();
        let bindings = Api::<ClusterRoleBinding>::all(client.clone());
        let binding = json!({
            "metadata": {"name": "lattice-agent"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "lattice-agent", "namespace": "lattice-system"}],
        });
        bindings.create(&PostParams::default(), &serde_json::from_value(binding).unwrap()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let account = "var/run/secrets/kubernetes.io/serviceaccount";
        put(&format!("{account}/ca.crt"), server.ca_pem());
        put(&format!("{account}/token"), &server.service_account_token("lattice-system", "lattice-agent").unwrap());
        put("etc/lattice/enrol/ca.crt", &parent.ca_pem);
        put("etc/lattice/enrol/token", &parent.token.expose());
        Self { server, client, serving, folder }
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn options(&self, parent: &Parent) -> Run {
        let addr = self.serving.addr();
        let endpoint = parent.gateway.local_addr().unwrap().to_string();
        let bootstrap = format!("https://{}", parent.bootstrap);
        let (pin, port) = (parent.pin.to_string(), addr.port().to_string());
        let (host, root) = (addr.ip().to_string(), self.folder.path().display().to_string());
        let line = [
            "lattice-agent",
            "run",
            "--cluster",
            "backend",
            "--cluster-uid",
            UID,
            "--trust-domain",
            parent.fleet.as_str(),
            "--endpoint",
            &endpoint,
            "--bootstrap-url",
            &bootstrap,
            "--ca-pin",
            &pin,
            "--kubernetes-host",
            &host,
            "--kubernetes-port",
            &port,
            "--health-port",
            "0",
            "--volume-root",
            &root,
        ];
        let Command::Run(run) = Cli::parse_from(line).command;
        *run
    }

    pub(crate) fn agent(&self, parent: &Parent) -> Agent {
        let (options, stop) = (self.options(parent), CancellationToken::new());
        let stopped = stop.clone();
        let task = task::spawn("test.agent", Kind::Service, async move {
            app::serve(&options, &Exporter::off(), &stopped).await.unwrap();
        });
        Agent { stop, task }
    }

    pub(crate) async fn node(&self, name: &str, ready: bool) {
        let nodes = Api::<Node>::all(self.client.clone());
        let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}});
        nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
        let status = if ready { "True" } else { "False" };
        let condition = json!({"type": "Ready", "status": status, "reason": "Kubelet", "message": "m"});
        let status = json!({"status": {"conditions": [condition]}});
        let merge = kube::api::Patch::Merge(status);
        nodes.patch_status(name, &kube::api::PatchParams::default(), &merge).await.unwrap();
    }
}

impl Agent {
    /// Ends it as SIGTERM does.
    pub(crate) async fn stop(mut self) {
        self.stop.cancel();
        (&mut self.task).await.unwrap();
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.task.abort();
    }
}
