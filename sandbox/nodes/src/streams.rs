//! What only a kubelet can answer about a pod: logs, commands in containers, and its ports.
//!
//! The API server hands a request for a pod's `log`, `exec`, `attach` or `portforward` over, after it has decided who
//! may; the answer is ready to be sent, upgrades to WebSocket and SPDY included. Real containers answer with their own
//! output and ports; simulated ones with what a small simulated process would say, and commands run in a small simulated
//! shell with files of its own (enough for `kubectl cp`).

use std::sync::{Arc, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::{Api, Client};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::nodes::Shared;
use crate::pace::Pace;
use crate::runtime::Runtime;

mod exec;
mod files;
mod forward;
mod log;
mod options;
mod port;
mod remote;
pub(crate) mod shell;
mod spdy;
mod stdio;
mod upgrade;
mod websocket;

use options::Options;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;

/// A subresource of a pod that its kubelet answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCall {
    /// Namespace of the pod.
    pub namespace: String,
    /// Its name.
    pub pod: String,
    /// `log`, `exec`, `attach` or `portforward`.
    pub subresource: String,
}

/// Answers for the kubelets of one cluster; a clone is another handle on the same.
#[derive(Clone)]
pub struct Streams {
    client: Client,
    shared: Arc<Shared>,
    pace: Pace,
    stop: CancellationToken,
    files: Arc<files::Files>,
    runtime: Option<Arc<dyn Runtime>>,
}

impl std::fmt::Debug for Streams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Streams").finish_non_exhaustive()
    }
}

/// A refusal, in the words of the API.
#[derive(Debug, PartialEq, Eq)]
struct Refusal {
    code: u16,
    reason: &'static str,
    message: String,
}

impl Refusal {
    fn bad_request(message: impl Into<String>) -> Self {
        Self { code: 400, reason: "BadRequest", message: message.into() }
    }

    fn internal(message: impl Into<String>) -> Self {
        Self { code: 500, reason: "InternalError", message: message.into() }
    }

    fn response(&self) -> Response<Body> {
        let status = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "reason": self.reason, "code": self.code,
        });
        respond(self.code, "application/json", status.to_string())
    }
}

impl Streams {
    pub(crate) fn new(
        client: Client,
        shared: Arc<Shared>,
        pace: Pace,
        runtime: Option<Arc<dyn Runtime>>,
        stop: CancellationToken,
    ) -> Self {
        Self { client, shared, pace, stop, files: Arc::default(), runtime }
    }

    /// Answers one request. Upgrades need a transport that offers them (`hyper::upgrade`).
    pub async fn answer<B: Send>(&self, call: PodCall, request: Request<B>) -> Response<Body> {
        match self.try_answer(&call, request).await {
            Ok(response) => response,
            Err(refusal) => refusal.response(),
        }
    }

    async fn try_answer<B: Send>(&self, call: &PodCall, request: Request<B>) -> Result<Response<Body>, Refusal> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), &call.namespace);
        let found = pods.get_opt(&call.pod).await.map_err(|error| Refusal::internal(error.to_string()))?;
        let pod = found.ok_or_else(|| Refusal {
            code: 404,
            reason: "NotFound",
            message: format!("pods \"{}\" not found", call.pod),
        })?;
        let options = Options::parse(request.uri().query().unwrap_or_default());
        if call.subresource == "portforward" {
            return forward::answer(self, &pod, request);
        }
        let container = Target::choose(&pod, &options)?;
        match call.subresource.as_str() {
            "log" => log::answer(self, &pod, &container, &options),
            "exec" | "attach" => exec::answer(self, &pod, &container, &options, call, request),
            other => Err(Refusal::bad_request(format!("simulated pods do not answer {other}"))),
        }
    }

    /// Says whether the containers of a pod are real processes.
    fn is_real(&self, pod: &Pod) -> bool {
        self.machine(pod).is_some() && self.runtime.as_ref().is_some_and(|runtime| runtime.runs(pod))
    }

    /// Folder of the machine that a pod is on, if it has one.
    fn machine(&self, pod: &Pod) -> Option<std::path::PathBuf> {
        let node = pod.spec.as_ref()?.node_name.as_ref()?;
        let machines = self.shared.machines.lock().unwrap_or_else(PoisonError::into_inner);
        machines.get(node)?.spec.folder.clone()
    }
}

/// The container that a request means.
#[derive(Clone, Debug)]
struct Target {
    name: String,
    image: String,
    status: Option<ContainerStatus>,
}

impl Target {
    fn choose(pod: &Pod, options: &Options) -> Result<Self, Refusal> {
        let spec = pod.spec.clone().unwrap_or_default();
        let pod_name = crate::meta::name(&pod.metadata);
        let named = options.text("container").map(str::to_owned);
        let name = match (named, &spec.containers[..]) {
            (Some(name), _) => name,
            (None, [only]) if spec.init_containers.as_ref().is_none_or(Vec::is_empty) => only.name.clone(),
            (None, all) => {
                let names: Vec<&str> = all.iter().map(|one| one.name.as_str()).collect();
                let init: Vec<&str> = spec.init_containers.iter().flatten().map(|one| one.name.as_str()).collect();
                let init = if init.is_empty() {
                    String::new()
                } else {
                    format!(" or one of the init containers: [{}]", init.join(" "))
                };
                return Err(Refusal::bad_request(format!(
                    "a container name must be specified for pod {pod_name}, choose one of: [{}]{init}",
                    names.join(" ")
                )));
            }
        };
        let mut all = spec.init_containers.iter().flatten().chain(&spec.containers);
        let Some(container) = all.find(|one| one.name == name) else {
            return Err(Refusal::bad_request(format!("container {name} is not valid for pod {pod_name}")));
        };
        let status = pod.status.as_ref().and_then(|status| {
            let lists = [&status.init_container_statuses, &status.container_statuses];
            lists.into_iter().flatten().flatten().find(|status| status.name == name).cloned()
        });
        Ok(Self { name, image: container.image.clone().unwrap_or_default(), status })
    }

    fn running_since(&self) -> Option<jiff::Timestamp> {
        let running = self.status.as_ref()?.state.as_ref()?.running.as_ref()?;
        running.started_at.as_ref().map(|time| time.0)
    }
}

fn respond(code: u16, media: &'static str, text: impl Into<Bytes>) -> Response<Body> {
    let body = Full::new(text.into()).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media));
    response
}
