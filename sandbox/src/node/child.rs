//! A workload cluster: an embedded API that comes up with `kubeadm init`, simulated nodes, and the line to its parent.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Node, Secret};
use kube::Client;
use kube::api::{Api, PostParams};
use lattice_apiserver::{ApiServer, Serving};
use lattice_nodes::{CniRule, NodeSpec, Nodes, NodesConfig};
use serde_json::json;
use tokio::sync::OnceCell;

use super::address::{API_PORT, Block};
use super::agents::Agents;
use super::kubeadm::{self, Config};
use super::record::{ClusterRecord, Records};
use super::relay::Line;

/// Longest wait for a kubelet to register.
const REGISTER_MAX: Duration = Duration::from_mins(1);

/// Why a workload cluster did not come up, or a machine did not join.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the API server of {cluster} could not be started")]
    Server {
        cluster: String,
        #[source]
        source: lattice_apiserver::Error,
    },
    #[error("{what} of {cluster} could not be written")]
    Write {
        cluster: String,
        what: &'static str,
        #[source]
        source: Box<kube::Error>,
    },
    #[error("the kubeconfig of {cluster} could not be written")]
    Kubeconfig {
        cluster: String,
        #[source]
        source: std::io::Error,
    },
    #[error("no API server of {0} answers: kubeadm init has not run")]
    NotUp(String),
    #[error("the bootstrap token is unknown to {0}")]
    Token(String),
    #[error("the kubelet of {0} did not register in time")]
    NotRegistered(String),
}

/// How children are made.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) speed: f64,
    /// Folder for kubeconfigs, pids and logs.
    pub(crate) state: PathBuf,
    pub(crate) agent_exe: PathBuf,
    /// Where clusters and machines are written down.
    pub(crate) records: Records,
}

/// A workload cluster.
pub(crate) struct Child {
    namespace: String,
    name: String,
    settings: Settings,
    pub(crate) block: Block,
    pub(crate) line: Arc<Line>,
    pub(crate) agents: Arc<Agents>,
    up: OnceCell<Up>,
    servings: Mutex<Vec<(String, Serving)>>,
}

/// What exists once `kubeadm init` has run.
struct Up {
    server: Arc<ApiServer>,
    nodes: Nodes,
}

/// A machine that becomes a node.
pub(crate) struct Joining<'a> {
    pub(crate) name: &'a str,
    pub(crate) ip: IpAddr,
    pub(crate) folder: PathBuf,
    pub(crate) version: &'a str,
    pub(crate) provider_id: Option<String>,
    pub(crate) cpus: u32,
    pub(crate) memory_mib: u64,
    pub(crate) control_plane: bool,
}

impl Child {
    /// Claims addresses for a cluster that does not run yet, and writes them down.
    pub(crate) fn new(namespace: &str, name: &str, settings: Settings, uplink_down: bool) -> std::io::Result<Self> {
        let child = Self::at(Block::claim()?, namespace, name, settings, uplink_down);
        child.settings.records.write_cluster(&ClusterRecord {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            addresses: child.block.prefix(),
        });
        Ok(child)
    }

    /// A cluster at addresses that were claimed.
    pub(crate) fn at(block: Block, namespace: &str, name: &str, settings: Settings, uplink_down: bool) -> Self {
        let line = Arc::new(Line::new(uplink_down));
        let pid_file = settings.state.join("pids").join(format!("agent-{name}"));
        let log = settings.state.join("logs").join(format!("agent-{name}.log"));
        let agents = Arc::new(Agents::new(settings.agent_exe.clone(), Arc::clone(&line), pid_file, log));
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            settings,
            block,
            line,
            agents,
            up: OnceCell::new(),
            servings: Mutex::default(),
        }
    }

    /// Lets a machine go on that was a node before the sandbox was stopped.
    pub(crate) async fn go_on(&self, machine: &str, node: NodeSpec, api_server: bool) -> Result<(), Error> {
        let up = self.up.get_or_try_init(|| self.start()).await?;
        if api_server {
            self.serve(up, machine, node.ip).await?;
        }
        up.nodes.join(node);
        Ok(())
    }

    /// Brings the API up on a machine, as `kubeadm init` does; returns the administrator's kubeconfig, and the node.
    pub(crate) async fn init(&self, machine: &Joining<'_>, config: &Config) -> Result<(String, NodeSpec), Error> {
        let up = self.up.get_or_try_init(|| self.start()).await?;
        let kubeconfig = self.serve(up, machine.name, machine.ip).await?;
        for (namespace, name, data) in kubeadm::config_maps(config, &kubeconfig) {
            self.config_map(&up.server.client(), namespace, name, data).await?;
        }
        let node = self.register(up, machine, config).await?;
        Ok((kubeconfig, node))
    }

    /// Lets a machine in, as `kubeadm join` does; returns the administrator's kubeconfig to a control plane, and the node.
    pub(crate) async fn join(&self, machine: &Joining<'_>, config: &Config) -> Result<(String, NodeSpec), Error> {
        let up = self.up.get().ok_or_else(|| Error::NotUp(self.name.clone()))?;
        let (id, secret) = config.token.as_ref().ok_or_else(|| Error::Token(self.name.clone()))?;
        let secrets: Api<Secret> = Api::namespaced(up.server.client(), "kube-system");
        let stored =
            secrets.get_opt(&format!("bootstrap-token-{id}")).await.map_err(|source| self.fail("the token", source))?;
        let known = stored.and_then(|stored| stored.data).and_then(|mut data| data.remove("token-secret"));
        if known.is_none_or(|known| known.0 != secret.as_bytes()) {
            return Err(Error::Token(self.name.clone()));
        }
        let kubeconfig =
            if machine.control_plane { self.serve(up, machine.name, machine.ip).await? } else { String::new() };
        let node = self.register(up, machine, config).await?;
        Ok((kubeconfig, node))
    }

    /// Switches a machine off for good.
    pub(crate) fn remove(&self, machine: &str) {
        if let Some(up) = self.up.get() {
            up.nodes.remove(machine);
        }
        self.servings.lock().unwrap_or_else(PoisonError::into_inner).retain(|(name, _)| name != machine);
    }

    /// Faults of the workloads, once the cluster is up.
    pub(crate) fn faults(&self) -> Option<lattice_nodes::Faults> {
        self.up.get().map(|up| up.nodes.faults())
    }

    /// Asks the cluster's processes to end and waits for it.
    pub(crate) async fn stop(mut self) {
        if let Some(up) = self.up.take() {
            up.nodes.stop().await;
        }
        let _ = std::fs::remove_file(self.kubeconfig_path());
    }

    async fn start(&self) -> Result<Up, Error> {
        let fail = |source| Error::Server { cluster: self.name.clone(), source };
        let state = self.settings.records.api(&self.namespace, &self.name);
        let config = lattice_apiserver::Config { controllers: true, state, ..Default::default() };
        let server = ApiServer::new(config).map_err(fail)?;
        let api = self.block.api();
        let serving = server.serve(api).await.map_err(fail)?;
        self.keep(String::new(), serving);
        let kubeconfig = server.kubeconfig(&api).map_err(fail)?;
        crate::node::folder::write_mode(&self.kubeconfig_path(), kubeconfig.as_bytes(), 0o600)
            .map_err(|source| Error::Kubeconfig { cluster: self.name.clone(), source })?;
        let runtime: Arc<dyn lattice_nodes::Runtime> = Arc::clone(&self.agents) as _;
        let config = NodesConfig {
            speed: self.settings.speed,
            cni: Some(CniRule::default()),
            runtime: Some(runtime),
            ..NodesConfig::default()
        };
        let nodes = Nodes::start(server.client(), config);
        super::answer_for_pods(&server, &nodes);
        Ok(Up { server, nodes })
    }

    /// Serves the API on a control-plane machine's own address; the kubeconfig names that.
    async fn serve(&self, up: &Up, machine: &str, ip: IpAddr) -> Result<String, Error> {
        let fail = |source| Error::Server { cluster: self.name.clone(), source };
        let at = SocketAddr::new(ip, API_PORT);
        let there = {
            let servings = self.servings.lock().unwrap_or_else(PoisonError::into_inner);
            servings.iter().any(|(name, _)| name == machine)
        };
        if !there {
            let serving = up.server.serve(at).await.map_err(fail)?;
            self.keep(machine.to_owned(), serving);
        }
        up.server.kubeconfig(&at).map_err(fail)
    }

    fn keep(&self, machine: String, serving: Serving) {
        self.servings.lock().unwrap_or_else(PoisonError::into_inner).push((machine, serving));
    }

    /// Starts the machine's kubelet and waits until its Node is there.
    async fn register(&self, up: &Up, machine: &Joining<'_>, config: &Config) -> Result<NodeSpec, Error> {
        let name = config.node.name.clone().unwrap_or_else(|| machine.name.to_owned());
        let mut spec = NodeSpec::new(name.clone(), machine.ip);
        if machine.control_plane {
            spec = spec.control_plane();
            if config.node.taints.is_some() {
                spec.taints.clear();
            }
        }
        spec.taints.extend(config.node.taints.iter().flatten().cloned());
        spec.labels.extend(config.node.labels.iter().cloned());
        machine.version.clone_into(&mut spec.kubelet_version);
        spec.provider_id = config.node.provider_id.clone().or_else(|| machine.provider_id.clone());
        spec.folder = Some(machine.folder.clone());
        spec.cpus = machine.cpus;
        spec.memory_mib = machine.memory_mib;
        up.nodes.join(spec.clone());
        let nodes: Api<Node> = Api::all(up.server.client());
        let there = kube::runtime::wait::await_condition(nodes, &name, |node: Option<&Node>| node.is_some());
        match tokio::time::timeout(REGISTER_MAX, there).await {
            Ok(Ok(_)) => Ok(spec),
            _ => Err(Error::NotRegistered(name)),
        }
    }

    async fn config_map(
        &self,
        client: &Client,
        namespace: &str,
        name: &str,
        data: serde_json::Value,
    ) -> Result<(), Error> {
        let spaces: Api<Namespace> = Api::all(client.clone());
        let space = Namespace {
            metadata: kube::api::ObjectMeta { name: Some(namespace.to_owned()), ..Default::default() },
            ..Default::default()
        };
        ignore_existing(spaces.create(&PostParams::default(), &space).await)
            .map_err(|source| self.fail("a namespace", source))?;
        let value = json!({"metadata": {"name": name, "namespace": namespace}, "data": data});
        let Ok(map) = serde_json::from_value::<ConfigMap>(value) else { return Ok(()) };
        let maps: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        ignore_existing(maps.create(&PostParams::default(), &map).await)
            .map_err(|source| self.fail("a ConfigMap", source))
    }

    fn fail(&self, what: &'static str, source: kube::Error) -> Error {
        Error::Write { cluster: self.name.clone(), what, source: Box::new(source) }
    }

    fn kubeconfig_path(&self) -> PathBuf {
        self.settings.state.join(format!("{}.kubeconfig", self.name))
    }
}

fn ignore_existing<T>(result: Result<T, kube::Error>) -> Result<(), kube::Error> {
    match result {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error),
    }
}
