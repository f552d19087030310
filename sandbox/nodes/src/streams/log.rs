//! Logs: a real container's output, or what a simulated process would have written.

use std::collections::VecDeque;
use std::io::{self, BufRead as _};
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use http::{HeaderValue, Response, header};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::Api;
use kube::runtime::watcher;
use lattice_protocol::{clock, task};
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio_stream::wrappers::ReceiverStream;

use super::{Body, BoxError, Options, Refusal, Streams, Target};
use crate::kubelet::real::log_file;
use crate::kubelet::script;
use crate::meta;

/// A simulated process says something about this often.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// But never more often than this, so that a following client is not flooded at high speed.
const HEARTBEAT_MIN: Duration = Duration::from_millis(500);
/// Most lines of a log that are kept: older ones count as rotated away.
const LINES_MAX: usize = 10_000;
/// How often a followed file is looked at for more.
const FOLLOW: Duration = Duration::from_millis(250);
/// Chunks that may wait for a slow reader.
const CHUNKS_MAX: usize = 16;

/// One line, and when it was written where that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Line {
    at: Option<Timestamp>,
    text: String,
}

/// What the reader wants to see.
#[derive(Clone, Copy, Debug)]
struct Shown {
    timestamps: bool,
    tail: Option<u64>,
    since: Option<Timestamp>,
    limit: Option<u64>,
}

/// The life of a simulated process whose lines are wanted.
#[derive(Clone, Debug)]
struct Life {
    name: String,
    image: String,
    from: Timestamp,
    to: Option<(Timestamp, i32)>,
    every: Duration,
    /// What its command says, and when; without that it tells of its heartbeat.
    said: Option<Vec<(Duration, String)>>,
}

pub(super) fn answer(
    streams: &Streams,
    pod: &Pod,
    target: &Target,
    options: &Options,
) -> Result<Response<Body>, Refusal> {
    if pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).is_none() {
        return Ok(super::respond(200, "text/plain", ""));
    }
    let life = life(streams, pod, target, options)?;
    let shown = Shown {
        timestamps: options.flag("timestamps"),
        tail: options.number("tailLines"),
        since: since(options),
        limit: options.number("limitBytes"),
    };
    let follow = options.flag("follow") && life.to.is_none();
    let receiver = spawn(streams, pod, target, life, shown, follow);
    let frames = ReceiverStream::new(receiver).map(|chunk| Ok::<_, BoxError>(Frame::data(chunk)));
    let mut response = Response::new(StreamBody::new(frames.into_stream()).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}

/// What a container says from now on, until it ends.
pub(super) fn live(streams: &Streams, pod: &Pod, target: &Target) -> Receiver<Bytes> {
    let shown = Shown { timestamps: false, tail: Some(0), since: None, limit: None };
    match life(streams, pod, target, &Options::default()) {
        Ok(life) => spawn(streams, pod, target, life, shown, true),
        Err(_) => mpsc::channel(1).1,
    }
}

fn spawn(streams: &Streams, pod: &Pod, target: &Target, life: Life, shown: Shown, follow: bool) -> Receiver<Bytes> {
    let file = streams.machine(pod).map(|machine| log_file(&machine, pod, &target.name)).filter(|file| file.exists());
    let (sender, receiver) = mpsc::channel(CHUNKS_MAX);
    let writing = write(streams.clone(), pod.clone(), life, file, shown, follow, sender);
    task::spawn("kubelet.log", task::Kind::Request, writing);
    receiver
}

/// Finds the life that is asked for, or says why there is none.
fn life(streams: &Streams, pod: &Pod, target: &Target, options: &Options) -> Result<Life, Refusal> {
    let pod_name = meta::name(&pod.metadata);
    let spec = pod.spec.as_ref();
    let mut containers =
        spec.into_iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    let said = containers.find(|one| one.name == target.name).and_then(script::of).map(|known| known.lines);
    let make = |from, to| Life {
        name: target.name.clone(),
        image: target.image.clone(),
        from,
        to,
        every: streams.pace.delay(HEARTBEAT).max(HEARTBEAT_MIN),
        said: said.clone(),
    };
    let ended = |end: &ContainerStateTerminated| {
        let to = end.finished_at.as_ref().map_or_else(clock::now, |time| time.0);
        make(end.started_at.as_ref().map_or(to, |time| time.0), Some((to, end.exit_code)))
    };
    let status = target.status.as_ref();
    let last = status.and_then(|status| status.last_state.as_ref()?.terminated.as_ref());
    if options.flag("previous") {
        let message = || format!("previous terminated container \"{}\" in pod \"{pod_name}\" not found", target.name);
        return last.map(ended).ok_or_else(|| Refusal::bad_request(message()));
    }
    if let Some(from) = target.running_since() {
        return Ok(make(from, None));
    }
    let state = status.and_then(|status| status.state.as_ref());
    if let Some(end) = state.and_then(|state| state.terminated.as_ref()).or(last) {
        return Ok(ended(end));
    }
    let waiting = state.and_then(|state| state.waiting.as_ref()?.reason.clone());
    let waiting = waiting.unwrap_or_else(|| "ContainerCreating".to_owned());
    Err(Refusal::bad_request(format!(
        "container \"{}\" in pod \"{pod_name}\" is waiting to start: {}",
        target.name,
        match waiting.as_str() {
            "ErrImagePull" | "ImagePullBackOff" => "trying and failing to pull image",
            other => other,
        }
    )))
}

fn since(options: &Options) -> Option<Timestamp> {
    let seconds = options.number("sinceSeconds").and_then(|seconds| i64::try_from(seconds).ok());
    let relative = seconds.map(|seconds| clock::now() - SignedDuration::from_secs(seconds));
    relative.or_else(|| options.text("sinceTime")?.parse().ok())
}

async fn write(
    streams: Streams,
    pod: Pod,
    life: Life,
    file: Option<PathBuf>,
    shown: Shown,
    follow: bool,
    out: Sender<Bytes>,
) {
    let writing = async {
        match file {
            Some(file) => follow_file(file, shown, follow, &out).await,
            None => simulate(&life, shown, follow, &out).await,
        }
    };
    tokio::select! {
        biased;
        () = streams.stop.cancelled() => {}
        () = out.closed() => {}
        () = writing => {}
        () = ended(&streams, &pod, &life), if follow => {}
    }
}

/// Writes the lines so far, then each new one when its time comes.
async fn simulate(life: &Life, shown: Shown, follow: bool, out: &Sender<Bytes>) {
    let now = clock::now();
    let mut next = life.count(now);
    if send(out, shown.render(life.lines(now))).await.is_err() || !follow {
        return;
    }
    while life.said.as_ref().is_none_or(|said| said.get(index(next)).is_some()) {
        let at = life.at(next);
        let wait = at.duration_since(clock::now()).try_into().unwrap_or_default();
        tokio::time::sleep(wait).await;
        if send(out, vec![shown.line(&life.line(next))]).await.is_err() {
            return;
        }
        next += 1;
    }
    // It says no more, and runs on: the reader waits for its end.
    std::future::pending::<()>().await;
}

fn index(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

/// Writes what a file holds, then what is appended to it.
async fn follow_file(file: PathBuf, shown: Shown, follow: bool, out: &Sender<Bytes>) {
    let Ok((lines, mut offset)) = read_file(&file) else { return };
    if send(out, shown.render(lines)).await.is_err() {
        return;
    }
    if !follow {
        return;
    }
    loop {
        tokio::time::sleep(FOLLOW).await;
        let Ok((text, end)) = read_from(&file, offset) else { return };
        offset = end;
        if !text.is_empty() && send(out, vec![text]).await.is_err() {
            return;
        }
    }
}

/// Waits until the run that a life belongs to is over.
async fn ended(streams: &Streams, pod: &Pod, life: &Life) {
    let pods: Api<Pod> = Api::namespaced(streams.client.clone(), meta::namespace(&pod.metadata));
    let mut events = std::pin::pin!(watcher::watch_object(pods, meta::name(&pod.metadata)));
    while let Some(event) = events.next().await {
        let Ok(now) = event else { continue };
        let Some(now) = now.filter(|now| now.metadata.uid == pod.metadata.uid) else { return };
        let same = Target::choose(&now, &Options::parse(&format!("container={}", life.name)));
        if same.map(|target| target.running_since()) != Ok(Some(life.from)) {
            return;
        }
    }
}

async fn send(out: &Sender<Bytes>, lines: Vec<String>) -> Result<(), mpsc::error::SendError<Bytes>> {
    for chunk in lines.chunks(256) {
        out.send(Bytes::from(chunk.concat())).await?;
    }
    Ok(())
}

impl Life {
    fn at(&self, number: u64) -> Timestamp {
        if let Some(said) = &self.said {
            let after = said.get(index(number)).map_or(Duration::MAX, |(after, _)| *after);
            return SignedDuration::try_from(after)
                .ok()
                .and_then(|after| self.from.checked_add(after).ok())
                .unwrap_or(Timestamp::MAX);
        }
        let after = u32::try_from(number).map_or(Duration::MAX, |number| self.every.saturating_mul(number));
        let after = SignedDuration::try_from(after).unwrap_or(SignedDuration::MAX);
        self.from.checked_add(after).unwrap_or(Timestamp::MAX)
    }

    /// How many lines there are at a time.
    fn count(&self, now: Timestamp) -> u64 {
        let end = self.to.map_or(now, |(to, _)| to);
        let age: Duration = end.duration_since(self.from).try_into().unwrap_or_default();
        if let Some(said) = &self.said {
            let all = self.to.is_some();
            return u64::try_from(said.iter().filter(|(at, _)| all || *at <= age).count()).unwrap_or(u64::MAX);
        }
        u64::try_from(age.as_millis() / self.every.as_millis().max(1)).unwrap_or(u64::MAX).saturating_add(1)
    }

    fn line(&self, number: u64) -> Line {
        let own = self.said.as_ref().and_then(|said| said.get(index(number)));
        let text = match number {
            _ if own.is_some() => own.map(|(_, text)| text.clone()).unwrap_or_default(),
            0 => format!("simulated container {} of image {} started", self.name, self.image),
            number => format!("simulated heartbeat {number}"),
        };
        Line { at: Some(self.at(number)), text }
    }

    fn lines(&self, now: Timestamp) -> VecDeque<Line> {
        let count = self.count(now);
        let first = count.saturating_sub(u64::try_from(LINES_MAX).unwrap_or(u64::MAX));
        let mut lines: VecDeque<Line> = (first..count).map(|number| self.line(number)).collect();
        if let Some((to, code)) = self.to.filter(|_| self.said.is_none()) {
            lines
                .push_back(Line { at: Some(to), text: format!("simulated container {} ended with {code}", self.name) });
        }
        lines
    }
}

impl Shown {
    fn render(self, mut lines: VecDeque<Line>) -> Vec<String> {
        lines.retain(|line| self.since.is_none_or(|since| line.at.is_none_or(|at| at >= since)));
        let tail = self.tail.and_then(|tail| usize::try_from(tail).ok()).unwrap_or(usize::MAX);
        let skip = lines.len().saturating_sub(tail);
        let mut left = self.limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(usize::MAX);
        let mut out = Vec::new();
        for line in lines.iter().skip(skip) {
            let mut text = self.line(line);
            while text.len() > left {
                text.pop();
            }
            left -= text.len();
            out.push(text);
            if left == 0 {
                break;
            }
        }
        out
    }

    fn line(self, line: &Line) -> String {
        match line.at.filter(|_| self.timestamps) {
            Some(at) => format!("{at:.9} {}\n", line.text),
            None => format!("{}\n", line.text),
        }
    }
}

fn read_file(file: &PathBuf) -> io::Result<(VecDeque<Line>, u64)> {
    let mut reader = io::BufReader::new(std::fs::File::open(file)?);
    let (mut lines, mut offset) = (VecDeque::new(), 0);
    let mut raw = Vec::new();
    loop {
        raw.clear();
        let count = reader.read_until(b'\n', &mut raw)?;
        if count == 0 {
            return Ok((lines, offset));
        }
        offset += u64::try_from(count).unwrap_or(0);
        if lines.len() >= LINES_MAX {
            lines.pop_front();
        }
        let text = String::from_utf8_lossy(&raw).trim_end_matches('\n').to_owned();
        // Real processes mostly write the time first.
        let at = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
        lines.push_back(Line { at, text });
    }
}

fn read_from(file: &PathBuf, offset: u64) -> io::Result<(String, u64)> {
    use std::io::{Read as _, Seek as _};
    /// Most that one look reads.
    const READ_MAX: u64 = 1 << 20;
    let mut file = std::fs::File::open(file)?;
    file.seek(io::SeekFrom::Start(offset))?;
    let mut raw = Vec::new();
    let count = file.take(READ_MAX).read_to_end(&mut raw)?;
    Ok((String::from_utf8_lossy(&raw).into_owned(), offset + u64::try_from(count).unwrap_or(0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn life() -> Life {
        Life {
            name: "main".to_owned(),
            image: "x:1".to_owned(),
            from: "2026-01-01T00:00:00Z".parse().expect("a time"),
            to: None,
            every: HEARTBEAT,
            said: None,
        }
    }

    fn shown() -> Shown {
        Shown { timestamps: false, tail: None, since: None, limit: None }
    }

    #[test]
    fn a_log_only_grows() {
        let life = life();
        let early = life.lines(life.from + SignedDuration::from_secs(25));
        let late = life.lines(life.from + SignedDuration::from_secs(35));
        assert_eq!(early.len(), 3);
        assert_eq!(late.iter().take(3).collect::<Vec<_>>(), early.iter().collect::<Vec<_>>());
    }

    #[test]
    fn readers_get_the_part_that_they_ask_for() {
        let life = life();
        let lines = || life.lines(life.from + SignedDuration::from_secs(30));
        let tail = Shown { tail: Some(1), ..shown() };
        assert_eq!(tail.render(lines()), ["simulated heartbeat 3\n"]);
        let since = Shown { since: Some(life.at(2)), ..shown() };
        assert_eq!(since.render(lines()).len(), 2);
        let limit = Shown { limit: Some(9), ..shown() };
        assert_eq!(limit.render(lines()).concat(), "simulated");
        let stamped = Shown { timestamps: true, tail: Some(1), ..shown() };
        assert_eq!(stamped.render(lines()), ["2026-01-01T00:00:30.000000000Z simulated heartbeat 3\n"]);
    }
}
