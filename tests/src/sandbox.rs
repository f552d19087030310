//! One run of `lattice-manager sandbox` with the built binaries, and what a user can see of it from outside.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use kube::api::{Api, ApiResource, DynamicObject, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Client, Config};
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};

/// How many sandboxes one test binary runs at the same time: each is five processes on a machine of two cores.
const SANDBOXES_MAX: usize = 2;

/// Longest wait for anything that a test waits for.
pub const PATIENCE: Duration = Duration::from_secs(480);

static PLACES: Semaphore = Semaphore::const_new(SANDBOXES_MAX);

/// A running sandbox; all that it started ends when it is dropped.
#[derive(Debug)]
pub struct Sandbox {
    process: Child,
    args: Vec<String>,
    state: PathBuf,
    _folder: tempfile::TempDir,
    _place: SemaphorePermit<'static>,
}

/// How a sandbox is started.
#[derive(Debug, Default)]
pub struct Builder {
    args: Vec<String>,
    files: Vec<(String, String)>,
    env: Vec<(String, String)>,
    binaries: Option<PathBuf>,
}

/// The folder that holds the built binaries: the one above the test's own.
pub fn binaries() -> Result<PathBuf> {
    let own = std::env::current_exe().context("where am I")?;
    let folder = own.parent().and_then(Path::parent).context("a test lies in target/<profile>/deps")?;
    for name in ["lattice-manager", "lattice-agent"] {
        if !folder.join(name).exists() {
            bail!("{} is not built: run `cargo build --bins` first", folder.join(name).display());
        }
    }
    Ok(folder.to_path_buf())
}

impl Builder {
    /// Adds an argument of `lattice-manager sandbox`.
    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds a fault from the start.
    pub fn fault(self, spec: &str) -> Self {
        self.arg("--fault").arg(spec)
    }

    /// Adds a FILE with `text`.
    pub fn file(mut self, name: &str, text: impl Into<String>) -> Self {
        self.files.push((name.to_owned(), text.into()));
        self
    }

    /// Runs the programs of `folder` instead of those beside the test.
    pub fn binaries(mut self, folder: &Path) -> Self {
        self.binaries = Some(folder.to_owned());
        self
    }

    /// Sets a variable of the sandbox's environment, which its daemons inherit.
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Starts the sandbox at twenty times the default speed and waits until its parent's API answers.
    pub async fn start(self) -> Result<Sandbox> {
        let place = PLACES.acquire().await.context("places are never closed")?;
        let folder = tempfile::tempdir()?;
        let state = folder.path().join("state");
        let mut command = Command::new(self.binaries.clone().map_or_else(binaries, Ok)?.join("lattice-manager"));
        command.arg("sandbox");
        let mut args = self.args;
        for (name, text) in &self.files {
            let path = folder.path().join(name);
            std::fs::write(&path, text)?;
            command.arg(path);
        }
        if !args.iter().any(|arg| arg == "--speed") {
            args.extend(["--speed".to_owned(), "20".to_owned()]);
        }
        let output = std::fs::File::create(folder.path().join("output"))?;
        command
            .arg("--plain")
            .arg("--state")
            .arg(&state)
            .args(&args)
            .env_remove("LATTICE_CRDS_DIR")
            .envs(self.env)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true);
        let process = command.spawn().context("lattice-manager sandbox")?;
        let mut sandbox = Sandbox { process, args, state, _folder: folder, _place: place };
        sandbox.until_it_answers().await?;
        Ok(sandbox)
    }
}

impl Sandbox {
    /// A sandbox with the built-in example.
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Ends the sandbox by a signal, and starts it again on the same state folder, without its files.
    pub async fn start_again(&mut self, signal: &str) -> Result<()> {
        let pid = self.process.id().context("the sandbox has ended by itself")?;
        send(pid, signal).await?;
        self.ended().await?;
        // One that was killed leaves it behind, and `until_it_answers` must not find it.
        let _ = std::fs::remove_file(self.state.join("parent.kubeconfig"));
        let output = std::fs::OpenOptions::new().append(true).open(self.state.with_file_name("output"))?;
        self.process = Command::new(binaries()?.join("lattice-manager"))
            .args(["sandbox", "--plain", "--state"])
            .arg(&self.state)
            .args(&self.args)
            .env_remove("LATTICE_CRDS_DIR")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true)
            .spawn()
            .context("lattice-manager sandbox")?;
        self.until_it_answers().await
    }

    async fn until_it_answers(&mut self) -> Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let file = self.state.join("parent.kubeconfig");
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        loop {
            tick.tick().await;
            if file.exists() && self.parent().await.is_ok() {
                return Ok(());
            }
            if let Some(status) = self.process.try_wait()? {
                bail!("the sandbox ended with {status}:\n{}", self.output());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("no parent API after {PATIENCE:?}:\n{}", self.output());
            }
        }
    }

    /// The state folder.
    pub fn state(&self) -> &Path {
        &self.state
    }

    /// What the sandbox has printed.
    pub fn output(&self) -> String {
        let file = self.state.parent().map(|folder| folder.join("output"));
        file.and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default()
    }

    /// A client for the parent's API.
    pub async fn parent(&self) -> Result<Client> {
        client(&self.state.join("parent.kubeconfig")).await
    }

    /// A client for a workload cluster's API, straight, not through the tunnel.
    pub async fn child(&self, cluster: &str) -> Result<Client> {
        client(&self.state.join(format!("{cluster}.kubeconfig"))).await
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&mut self) -> Result<std::process::ExitStatus> {
        Ok(tokio::time::timeout(PATIENCE, self.process.wait()).await.context("the sandbox goes on")??)
    }

    /// The process id of the running manager.
    pub fn manager_pid(&self) -> Result<u32> {
        self.pid("manager")
    }

    /// The process id in `pids/<name>`.
    pub fn pid(&self, name: &str) -> Result<u32> {
        let file = self.state.join("pids").join(name);
        std::fs::read_to_string(&file)
            .with_context(|| file.display().to_string())?
            .trim()
            .parse()
            .with_context(|| format!("{} holds no process id", file.display()))
    }

    /// Sends `signal` to the process of `pids/<name>` and waits until another one has taken its place.
    pub async fn replace(&self, name: &str, signal: &str) -> Result<u32> {
        let old = self.pid(name)?;
        send(old, signal).await?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            match self.pid(name) {
                Ok(new) if new != old => return Ok(new),
                _ if tokio::time::Instant::now() > deadline => bail!("{name} was not restarted"),
                _ => {}
            }
        }
    }

    /// Runs `lattice-manager sandbox fault …` against this sandbox.
    pub async fn fault(&self, args: &[&str]) -> Result<()> {
        let output = Command::new(binaries()?.join("lattice-manager"))
            .args(["sandbox", "fault"])
            .args(args)
            .arg("--state")
            .arg(&self.state)
            .output()
            .await?;
        if output.status.success() { Ok(()) } else { bail!("{}", String::from_utf8_lossy(&output.stderr)) }
    }

    /// Reads a `LatticeCluster`.
    pub async fn cluster(&self, name: &str) -> Result<DynamicObject> {
        Ok(lattice_clusters(self.parent().await?).get(name).await?)
    }

    /// Watches a `LatticeCluster` until `seen` says yes; every state on the way is shown to it.
    pub async fn cluster_until(&self, name: &str, mut seen: impl FnMut(&Value) -> bool) -> Result<Value> {
        let api = lattice_clusters(self.parent().await?);
        let mut events = std::pin::pin!(
            watcher(api, watcher::Config::default().fields(&format!("metadata.name={name}"))).default_backoff()
        );
        let (mut last, mut found) = (Value::Null, false);
        let watching = async {
            while let Some(event) = events.try_next().await? {
                let object = match event {
                    watcher::Event::Apply(object) | watcher::Event::InitApply(object) => {
                        found = true;
                        object
                    }
                    // An object that was gone before the watch began is told of by its absence.
                    watcher::Event::InitDone if found => continue,
                    watcher::Event::Delete(_) | watcher::Event::InitDone => {
                        last = Value::Null;
                        if seen(&Value::Null) {
                            return Ok(Value::Null);
                        }
                        continue;
                    }
                    watcher::Event::Init => {
                        found = false;
                        continue;
                    }
                };
                last = serde_json::to_value(object)?;
                if seen(&last) {
                    return Ok(last.clone());
                }
            }
            bail!("the watch ended")
        };
        match tokio::time::timeout(PATIENCE, watching).await {
            Ok(result) => result,
            Err(_) => bail!(
                "waited {PATIENCE:?} in vain; last seen of {name}:\n{}\n{}",
                serde_json::to_string_pretty(&last["status"])?,
                self.output()
            ),
        }
    }

    /// The kubeconfig that Cluster API uses: through the manager's proxy.
    pub async fn cluster_kubeconfig(&self, name: &str) -> Result<String> {
        let secrets: Api<k8s_openapi::api::core::v1::Secret> =
            Api::namespaced(self.parent().await?, &format!("lattice-{name}"));
        let secret = secrets.get(&format!("{name}-kubeconfig")).await?;
        let text = secret.data.and_then(|mut data| data.remove("value")).context("the Secret has a key \"value\"")?;
        Ok(String::from_utf8(text.0)?)
    }

    /// Waits until the cluster's agent can be reached through the manager's proxy, with Cluster API's own credential.
    pub async fn connected(&self, name: &str) -> Result<()> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut tick = tokio::time::interval(Duration::from_millis(200));
        loop {
            tick.tick().await;
            // Read anew: its token may be replaced while this waits.
            let kubeconfig = Kubeconfig::from_yaml(&self.cluster_kubeconfig(name).await?)?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            let client = Client::try_from(config)?;
            let answer = tokio::time::timeout(Duration::from_secs(5), client.apiserver_version()).await;
            if matches!(answer, Ok(Ok(_))) {
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                bail!("no way through the tunnel to {name}: {answer:?}");
            }
        }
    }

    /// Waits until the cluster's phase is `phase`.
    pub async fn phase(&self, name: &str, phase: &str) -> Result<Value> {
        self.cluster_until(name, |object| object["status"]["phase"] == phase).await
    }

    /// Waits until the manager has been started and gives its process id.
    pub async fn manager_pid_soon(&self) -> Result<u32> {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        let mut tick = tokio::time::interval(Duration::from_millis(20));
        loop {
            tick.tick().await;
            match self.manager_pid() {
                Ok(pid) => return Ok(pid),
                Err(error) if tokio::time::Instant::now() > deadline => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Counts the writes that the parent's API has seen, those of Leases and reviews apart.
    pub async fn writes(&self) -> Result<u64> {
        Ok(self.written().await?.values().sum())
    }

    /// The writes that the parent's API has seen, by what they were; those of Leases and reviews apart.
    pub async fn written(&self) -> Result<BTreeMap<String, u64>> {
        let mut all = self.counted().await?;
        all.retain(|labels, _| {
            let write = ["POST", "PUT", "PATCH", "DELETE", "DELETECOLLECTION", "APPLY"]
                .iter()
                .any(|verb| labels.contains(&format!("verb=\"{verb}\"")));
            let apart = ["leases", "tokenreviews", "subjectaccessreviews", "selfsubjectaccessreviews"]
                .iter()
                .any(|resource| labels.contains(&format!("resource=\"{resource}\"")));
            write && !apart
        });
        Ok(all)
    }

    /// Counts all requests that the parent's API has seen.
    pub async fn requests(&self) -> Result<u64> {
        Ok(self.counted().await?.values().sum())
    }

    async fn counted(&self) -> Result<BTreeMap<String, u64>> {
        let text = self.parent().await?.request_text(http::Request::get("/metrics").body(Vec::new())?).await?;
        let lines = text.lines().filter_map(|line| line.strip_prefix("apiserver_request_total{")?.split_once("} "));
        lines
            .map(|(labels, count)| {
                #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a counter of requests")]
                let count = count.parse::<f64>().with_context(|| labels.to_owned())? as u64;
                Ok((labels.to_owned(), count))
            })
            .collect()
    }

    /// Lists every object of a kind in the parent, all namespaces.
    pub async fn list(&self, api_version: &str, kind: &str, plural: &str) -> Result<Vec<DynamicObject>> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let resource = ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(group, version, kind), plural);
        Ok(Api::<DynamicObject>::all_with(self.parent().await?, &resource).list(&ListParams::default()).await?.items)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        // SIGTERM first: the sandbox ends what it started; `kill_on_drop` comes after.
        if let Some(pid) = self.process.id() {
            let _ = std::process::Command::new("kill").args(["-TERM", &pid.to_string()]).status();
            let mut turns = 0;
            while matches!(self.process.try_wait(), Ok(None)) && turns < 200 {
                turns += 1;
                let _ = std::process::Command::new("sleep").arg("0.05").status();
            }
        }
    }
}

/// The API of `LatticeCluster`s, untyped: tests see what a user sees.
pub fn lattice_clusters(client: Client) -> Api<DynamicObject> {
    Api::all_with(
        client,
        &ApiResource::from_gvk_with_plural(
            &GroupVersionKind::gvk("lattice.dev", "v1alpha1", "LatticeCluster"),
            "latticeclusters",
        ),
    )
}

/// Sends a signal by name, as `kill -9` does.
pub async fn send(pid: u32, signal: &str) -> Result<()> {
    let status = Command::new("kill").args([&format!("-{signal}"), &pid.to_string()]).status().await?;
    if status.success() { Ok(()) } else { bail!("kill -{signal} {pid}: {status}") }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let file = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
    config.read_timeout = None;
    Ok(Client::try_from(config)?)
}

/// The status of a condition of a `LatticeCluster`: "True", "False", "Unknown", or "" when it is absent.
pub fn condition<'a>(object: &'a Value, kind: &str) -> &'a Value {
    object["status"]["conditions"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["type"] == kind))
        .unwrap_or(&Value::Null)
}
