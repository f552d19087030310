//! `exec` and `attach`: a command in a simulated container, or its main process.

use bytes::Bytes;
use http::{Request, Response};
use k8s_openapi::api::core::v1::Pod;
use lattice_protocol::task;

use super::shell::{self, Surroundings};
use super::stdio::{Command, End, Stdio, Wish};
use super::upgrade::{self, Offer};
use super::{Body, Options, PodCall, Refusal, Streams, Target, log, remote, respond, websocket};
use crate::meta;

pub(super) fn answer<B: Send>(
    streams: &Streams,
    pod: &Pod,
    target: &Target,
    options: &Options,
    call: &PodCall,
    request: Request<B>,
) -> Result<Response<Body>, Refusal> {
    if let Some(refusal) = not_running(pod, target) {
        return refusal;
    }
    let wish = Wish::parse(options)?;
    let command = if call.subresource == "attach" {
        let log = log::live(streams, pod, target);
        Box::new(|stdio| Box::pin(attach(log, stdio)) as _)
    } else {
        exec(streams, pod, target, options, wish)?
    };
    let offer = Offer::of(request.headers())?;
    let known = match offer {
        Offer::WebSocket { .. } => websocket::PROTOCOLS,
        Offer::Spdy { .. } => remote::PROTOCOLS,
    };
    let response = offer.accept(offer.choose(&known)?)?;
    let upgrade = upgrade::take(request)?;
    let stop = streams.stop.clone();
    task::spawn("kubelet.exec", task::Kind::Request, async move {
        let running = async {
            match offer {
                Offer::WebSocket { .. } => websocket::command(upgrade, wish, command).await,
                Offer::Spdy { .. } => remote::command(upgrade, wish, command).await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            () = running => {}
        }
    });
    Ok(response)
}

fn exec(streams: &Streams, pod: &Pod, target: &Target, options: &Options, wish: Wish) -> Result<Command, Refusal> {
    let words: Vec<String> = options.all("command").map(str::to_owned).collect();
    if words.is_empty() {
        return Err(Refusal::bad_request("you must specify at least 1 command for the container"));
    }
    let folder = streams.files.folder(pod, &target.name);
    let folder = folder.map_err(|error| Refusal::internal(format!("no room for files: {error}")))?;
    let surroundings = Surroundings::new(pod, &target.name, folder, wish.tty && wish.stdin);
    Ok(Box::new(|stdio| Box::pin(async move { shell::run(&words, surroundings, stdio).await })))
}

/// What is answered for a container that does not run.
fn not_running(pod: &Pod, target: &Target) -> Option<Result<Response<Body>, Refusal>> {
    if target.running_since().is_some() {
        return None;
    }
    let name = meta::name(&pod.metadata);
    if meta::ended(pod) {
        return Some(Err(Refusal::bad_request(
            "cannot exec into a container in a completed pod; current phase is ".to_owned() + meta::phase(pod),
        )));
    }
    if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_none() {
        return Some(Err(Refusal::bad_request(format!("pod {name} does not have a host assigned"))));
    }
    // A kubelet's own words, which are no Status.
    Some(Ok(respond(500, "text/plain", format!("container not found (\"{}\")", target.name))))
}

/// The main process of a container: shows what it logs, and sends back what it gets.
async fn attach(mut log: tokio::sync::mpsc::Receiver<Bytes>, stdio: Stdio) -> End {
    let Stdio { mut stdin, stdout, .. } = stdio;
    let mut listening = true;
    loop {
        let chunk = tokio::select! {
            biased;
            line = log.recv() => match line {
                Some(line) => line,
                // The container has ended.
                None => return End::Code(0),
            },
            chunk = stdin.recv(), if listening => match chunk {
                Some(chunk) => chunk,
                // Without input it runs on, as a server does; the client ends it by leaving.
                None => { listening = false; continue }
            },
        };
        if stdout.send(chunk).await.is_err() {
            return End::Code(0);
        }
    }
}
