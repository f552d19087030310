//! `exec` and `attach`: a command in a simulated container, or its main process.

use bytes::Bytes;
use http::{Request, Response};
use k8s_openapi::api::core::v1::Pod;
use lattice_protocol::clock;

use super::shell::{self, Surroundings};
use super::websocket::{self, Stdio};
use super::{Body, Options, PodCall, Refusal, Streams, Target};
use crate::meta;

pub(super) fn answer<B: Send>(
    streams: &Streams,
    pod: &Pod,
    target: &Target,
    options: &Options,
    call: &PodCall,
    request: Request<B>,
) -> Result<Response<Body>, Refusal> {
    if target.running_since().is_none() {
        return Err(not_running(pod, target));
    }
    let tty = options.flag("tty");
    if call.subresource == "attach" {
        let name = target.name.clone();
        return websocket::accept(request, move |stdio| attach(name, stdio));
    }
    let command: Vec<String> = options.all("command").map(str::to_owned).collect();
    if command.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command for the container"));
    }
    let folder = streams.files.folder(meta::uid(&pod.metadata), &target.name);
    let folder = folder.map_err(|error| Refusal::internal(format!("no room for files: {error}")))?;
    let surroundings = Surroundings::new(pod, &target.name, folder, tty && options.flag("stdin"));
    websocket::accept(request, move |stdio| async move { shell::run(&command, &surroundings, stdio).await })
}

fn not_running(pod: &Pod, target: &Target) -> Refusal {
    if meta::ended(pod) {
        return Refusal::bad_request(
            "cannot exec into a container in a completed pod; current phase is ".to_owned() + meta::phase(pod),
        );
    }
    Refusal::internal(format!("unable to upgrade connection: container not found (\"{}\")", target.name))
}

/// The main process of a simulated container: says that somebody came, then sends back what it gets.
async fn attach(name: String, mut stdio: Stdio) -> i32 {
    let hello = format!("{:.0} simulated container {name}: attached\n", clock::now());
    if stdio.stdout.send(Bytes::from(hello)).await.is_err() {
        return 0;
    }
    while let Some(chunk) = stdio.stdin.recv().await {
        if stdio.stdout.send(chunk).await.is_err() {
            return 0;
        }
    }
    // Without input it runs on, as a server does; the client ends it by leaving.
    std::future::pending().await
}
