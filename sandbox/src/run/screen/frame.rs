//! What the live view shows, as lines that fit the terminal.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::super::observe::{Change, conditions, is_ready, text};

/// Fewest rows that one cluster is shown in detail with.
const DETAIL_MIN: usize = 6;
/// Last changes that are shown below.
const RECENT_MAX: usize = 8;

/// How a piece of a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    Plain,
    Strong,
    Faint,
    Good,
    Busy,
    Bad,
}

/// A line in pieces.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Line(pub(super) Vec<(Tone, String)>);

impl Line {
    fn of(tone: Tone, text: impl Into<String>) -> Self {
        Self(vec![(tone, text.into())])
    }

    fn and(mut self, tone: Tone, text: impl Into<String>) -> Self {
        self.0.push((tone, text.into()));
        self
    }

    /// Cuts the line to a width.
    fn fit(mut self, width: usize) -> Self {
        let mut left = width;
        for (_, text) in &mut self.0 {
            let length = text.chars().count();
            if length > left {
                *text = text.chars().take(left.saturating_sub(1)).chain((left > 0).then_some('…')).collect();
                left = 0;
            } else {
                left -= length;
            }
        }
        self
    }
}

/// Draws everything.
pub(super) fn draw(
    intro: &[String],
    known: &BTreeMap<String, Arc<Value>>,
    wanted: &[String],
    recent: &[Change],
    (width, height): (u16, u16),
    now: Timestamp,
) -> Vec<Line> {
    let (width, height) = (usize::from(width), usize::from(height));
    let mut lines: Vec<Line> = Vec::new();
    for (at, text) in intro.iter().enumerate() {
        lines.push(Line::of(if at == 0 { Tone::Strong } else { Tone::Faint }, text));
    }
    lines.push(Line::of(Tone::Faint, "Ctrl-C ends everything"));
    lines.push(Line::default());
    for name in wanted.iter().filter(|name| !known.contains_key(*name)) {
        lines.push(Line::of(Tone::Strong, name).and(Tone::Faint, "  not there yet"));
    }
    let room = height.saturating_sub(lines.len()).saturating_sub(1);
    let each = room / known.len().max(1);
    if each >= DETAIL_MIN {
        for (name, cluster) in known {
            let mut block = detail(name, cluster, now);
            block.truncate(each);
            lines.extend(block);
        }
    } else {
        lines.extend(known.iter().map(|(name, cluster)| headline(name, cluster, now)));
    }
    let left = height.saturating_sub(lines.len());
    if left > 2 && !recent.is_empty() {
        lines.push(Line::of(Tone::Faint, "Last changes"));
        let rows = RECENT_MAX.min(left - 2);
        for change in &recent[recent.len().saturating_sub(rows)..] {
            lines.push(recent_line(change));
        }
    }
    lines.truncate(height.max(1));
    lines.into_iter().map(|line| line.fit(width)).collect()
}

fn recent_line(change: &Change) -> Line {
    let from = if change.from.is_empty() { "-" } else { &change.from };
    let text =
        format!("  {} {} {}: {from} -> {}", change.at.strftime("%H:%M:%S"), change.cluster, change.what, change.to);
    Line::of(Tone::Faint, text)
}

/// Name, phase and what goes on.
fn headline(name: &str, cluster: &Value, now: Timestamp) -> Line {
    let phase = text(cluster, "/status/phase").unwrap_or("-");
    let degraded = conditions(cluster).any(|one| one["type"] == "Degraded" && one["status"] == "True");
    let tone = match phase {
        "Ready" if degraded => Tone::Bad,
        "Ready" => Tone::Good,
        _ => Tone::Busy,
    };
    let since = text(cluster, "/status/operation/startedAt").map(|at| format!(" {}", ago(at, now))).unwrap_or_default();
    let since = if is_ready(cluster) { String::new() } else { since };
    let message = text(cluster, "/status/message").unwrap_or_default();
    let eta = text(cluster, "/status/operation/eta").and_then(|at| at.parse::<Timestamp>().ok());
    let left = eta.map(|at| at.duration_since(now).as_secs()).filter(|left| *left > 0);
    let left = left.map(|left| format!(", {left}s to go")).unwrap_or_default();
    Line::of(Tone::Strong, format!("{name}  "))
        .and(tone, format!("{phase}{since}{left}"))
        .and(Tone::Plain, format!("  {message}"))
}

fn detail(name: &str, cluster: &Value, now: Timestamp) -> Vec<Line> {
    let mut lines = vec![headline(name, cluster, now)];
    let nodes = super::super::observe::nodes(cluster);
    let agent = super::super::observe::agent(cluster);
    let tone = if agent.starts_with("connected") { Tone::Good } else { Tone::Busy };
    let agent = if agent.is_empty() { "not seen yet".to_owned() } else { agent };
    lines.push(
        Line::of(Tone::Plain, format!("  nodes {}  agent ", if nodes.is_empty() { "-" } else { nodes }))
            .and(tone, agent)
            .and(
                Tone::Faint,
                text(cluster, "/status/agent/lastError").map(|why| format!("  {why}")).unwrap_or_default(),
            ),
    );
    let mut parts = condition_lines(cluster, now);
    parts.extend(component_lines(cluster, now));
    lines.extend(parts);
    lines.push(Line::default());
    lines
}

/// The steps before the components: only those that do not hold.
fn condition_lines(cluster: &Value, now: Timestamp) -> Vec<Line> {
    const STEPS: [&str; 5] =
        ["Validated", "InfrastructureReady", "AgentConnected", "ControlPlaneInitialized", "NodesReady"];
    let shown = |one: &&Value| {
        let title = one["type"].as_str().unwrap_or_default();
        (STEPS.contains(&title) && one["status"] != "True") || (title == "Degraded" && one["status"] == "True")
    };
    let line = |one: &Value| {
        let at = |key: &str| one[key].as_str().unwrap_or_default();
        let tone = if at("type") == "Degraded" || at("status") == "False" { Tone::Bad } else { Tone::Busy };
        Line::of(Tone::Plain, format!("  {:<24} ", at("type")))
            .and(tone, format!("{:<22} ", at("reason")))
            .and(Tone::Faint, format!("{:>6}  {}", ago(at("lastTransitionTime"), now), at("message")))
    };
    conditions(cluster).filter(shown).map(line).collect()
}

fn component_lines(cluster: &Value, now: Timestamp) -> Vec<Line> {
    let list = cluster.pointer("/status/components").and_then(Value::as_array);
    let line = |one: &Value| {
        let at = |key: &str| one[key].as_str().unwrap_or_default();
        let tone = match at("state") {
            "Healthy" | "Ready" => Tone::Good,
            "Failed" | "Unhealthy" | "Degraded" | "Sick" => Tone::Bad,
            _ => Tone::Busy,
        };
        Line::of(Tone::Plain, format!("  {:<24} ", at("name")))
            .and(tone, format!("{:<22} ", at("state")))
            .and(Tone::Faint, format!("{:>6}  {}", ago(at("since"), now), at("message")))
    };
    list.into_iter().flatten().map(line).collect()
}

/// `5s`, `3m`, `2h`: how long ago a time was.
fn ago(at: &str, now: Timestamp) -> String {
    let Ok(at) = at.parse::<Timestamp>() else { return String::new() };
    let seconds = now.duration_since(at).as_secs().max(0);
    match seconds {
        0..=119 => format!("{seconds}s"),
        120..=7199 => format!("{}m", seconds / 60),
        _ => format!("{}h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn plain(lines: &[Line]) -> Vec<String> {
        lines.iter().map(|line| line.0.iter().map(|(_, text)| text.as_str()).collect()).collect()
    }

    fn cluster() -> Arc<Value> {
        Arc::new(json!({"status": {
            "phase": "Bootstrapping", "message": "installing components",
            "operation": {"startedAt": "2026-11-24T12:00:00Z"},
            "nodes": {"summary": "3/4"}, "agent": {"connected": true, "transport": "quic"},
            "components": [{"name": "cilium", "state": "Installing", "since": "2026-11-24T12:00:30Z", "message": "2/4 nodes"}],
        }}))
    }

    fn at(size: (u16, u16), count: usize) -> Vec<String> {
        let known = (0..count).map(|at| (format!("c{at}"), cluster())).collect();
        let now = "2026-11-24T12:01:00Z".parse().unwrap();
        plain(&draw(&["Lattice sandbox: simulated".to_owned()], &known, &[], &[], size, now))
    }

    #[test]
    fn phase_agent_nodes_and_components_are_shown_with_their_times() {
        let text = at((100, 30), 1).join("\n");
        for wanted in [
            "simulated",
            "Bootstrapping 60s",
            "nodes 3/4",
            "connected (quic)",
            "cilium",
            "Installing",
            "30s",
            "2/4 nodes",
        ] {
            assert!(text.contains(wanted), "{wanted} is missing in\n{text}");
        }
    }

    #[test]
    fn it_fits_any_terminal() {
        for size in [(100, 30), (20, 5), (1, 1), (300, 3), (0, 0)] {
            for count in [0, 1, 10, 100] {
                let lines = at(size, count);
                assert!(lines.len() <= usize::from(size.1).max(1), "{size:?} {count}");
                assert!(lines.iter().all(|line| line.chars().count() <= usize::from(size.0)), "{size:?} {count}");
            }
        }
    }

    #[test]
    fn many_clusters_get_a_line_each() {
        let lines = at((100, 30), 10);
        assert_eq!(lines.iter().filter(|line| line.contains("Bootstrapping")).count(), 10);
    }
}
