//! CPU, memory and the number of pods: what a pod asks for and what a node has left.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Node, Pod};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

/// Requests of one pod, or of many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    cpu_milli: i64,
    memory_bytes: i64,
}

impl Usage {
    /// What a pod asks for: the sum of its containers, or its largest init container.
    pub(super) fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::default() };
        let sum = spec.containers.iter().map(Self::of_container).fold(Self::default(), Self::plus);
        spec.init_containers.iter().flatten().map(Self::of_container).fold(sum, |most, one| Self {
            cpu_milli: most.cpu_milli.max(one.cpu_milli),
            memory_bytes: most.memory_bytes.max(one.memory_bytes),
        })
    }

    fn of_container(container: &Container) -> Self {
        let requests = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
        Self { cpu_milli: milli(requests, "cpu"), memory_bytes: milli(requests, "memory") / 1000 }
    }

    fn plus(self, other: Self) -> Self {
        Self { cpu_milli: self.cpu_milli + other.cpu_milli, memory_bytes: self.memory_bytes + other.memory_bytes }
    }

    fn used(there: &[&Pod]) -> Self {
        there.iter().map(|pod| Self::of(pod)).fold(Self::default(), Self::plus)
    }

    fn has(node: &Node) -> Self {
        let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
        Self { cpu_milli: milli(allocatable, "cpu"), memory_bytes: milli(allocatable, "memory") / 1000 }
    }
}

/// Says what the node has too little of.
pub(super) fn shortage(node: &Node, there: &[&Pod], need: &Usage) -> Option<String> {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref());
    let has = Usage::has(node);
    let used = Usage::used(there);
    let pods = milli(allocatable, "pods") / 1000;
    if i64::try_from(there.len()).is_ok_and(|count| count >= pods) {
        return Some("Too many pods".to_owned());
    }
    if need.cpu_milli > 0 && used.cpu_milli + need.cpu_milli > has.cpu_milli {
        return Some("Insufficient cpu".to_owned());
    }
    if need.memory_bytes > 0 && used.memory_bytes + need.memory_bytes > has.memory_bytes {
        return Some("Insufficient memory".to_owned());
    }
    None
}

/// The mean share of CPU and memory that would be used with the pod there.
#[expect(clippy::cast_precision_loss, reason = "a score needs no 53 bits")]
pub(super) fn load(node: &Node, there: &[&Pod], need: &Usage) -> f64 {
    let has = Usage::has(node);
    let used = Usage::used(there).plus(*need);
    let share = |used: i64, has: i64| if has > 0 { used as f64 / has as f64 } else { 1.0 };
    f64::midpoint(share(used.cpu_milli, has.cpu_milli), share(used.memory_bytes, has.memory_bytes))
}

fn milli(quantities: Option<&BTreeMap<String, Quantity>>, key: &str) -> i64 {
    quantities.and_then(|all| all.get(key)).map_or(0, |quantity| parse_milli(&quantity.0).unwrap_or(0))
}

/// Reads a quantity in thousandths; exact for all that people write, roughly for the rest.
#[expect(clippy::cast_possible_truncation, reason = "a quantity past 2^63 thousandths is no machine's")]
fn parse_milli(text: &str) -> Option<i64> {
    let split = text.find(|c: char| !(c.is_ascii_digit() || matches!(c, '.' | '-' | '+'))).unwrap_or(text.len());
    let (number, suffix) = text.split_at(split);
    let number: f64 = number.parse().ok()?;
    let factor = match suffix {
        "" => 1e3,
        "m" => 1.0,
        "k" => 1e6,
        "M" => 1e9,
        "G" => 1e12,
        "T" => 1e15,
        "Ki" => 1e3 * 1024.0,
        "Mi" => 1e3 * 1024.0 * 1024.0,
        "Gi" => 1e3 * 1024.0 * 1024.0 * 1024.0,
        "Ti" => 1e3 * 1024.0 * 1024.0 * 1024.0 * 1024.0,
        exponent => 1e3 * 10f64.powi(exponent.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    Some((number * factor).round() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_read_as_people_write_them() {
        for (text, expected) in [
            ("1", Some(1000)),
            ("250m", Some(250)),
            ("0.5", Some(500)),
            ("2Gi", Some(2 * 1024 * 1024 * 1024 * 1000)),
            ("1e3", Some(1_000_000)),
            ("1500M", Some(1_500_000_000_000)),
            ("lots", None),
        ] {
            assert_eq!(parse_milli(text), expected, "{text}");
        }
    }
}
