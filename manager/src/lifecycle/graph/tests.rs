//! The laws of the graph, over random graphs.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Error, Graph};
use crate::lifecycle::{Component, Need};

fn component(name: &str, enabled: bool, needs: &[(&str, bool)]) -> Component {
    Component {
        name: name.to_owned(),
        condition: format!("Condition{name}"),
        needs: needs.iter().map(|(name, policy)| Need { name: (*name).to_owned(), policy: *policy }).collect(),
        enabled,
        digest: None,
    }
}

#[track_caller]
fn refused(components: &[Component], says: &str) {
    let error = Graph::new(components).expect_err("no graph").to_string();
    assert!(error.contains(says), "{error}");
}

#[test]
fn impossible_catalogs_are_refused_with_the_path() {
    refused(&[component("a", true, &[("nowhere", false)])], "a needs nowhere");
    refused(
        &[
            component("a", true, &[("b", false)]),
            component("b", true, &[("c", true)]),
            component("c", true, &[("a", false)]),
        ],
        "a → b → c → a",
    );
    refused(&[component("a", true, &[("a", false)])], "a → a");
    refused(&[component("a", true, &[]), component("a", true, &[])], "twice");
    refused(&[component("a", true, &[("b", false)]), component("b", false, &[])], "turn b on or a off");
}

#[test]
fn a_policy_edge_to_what_is_off_vanishes() {
    let graph = Graph::new(&[component("a", true, &[("b", true)]), component("b", false, &[])]).expect("a graph");
    assert_eq!(graph.order(), ["a"]);
    assert_eq!(graph.needs("a").count(), 0);
}

#[test]
fn a_circle_of_what_is_off_hurts_nobody() {
    let graph = Graph::new(&[
        component("a", true, &[]),
        component("b", false, &[("c", false)]),
        component("c", false, &[("b", false)]),
    ]);
    assert_eq!(graph.expect("a graph").order(), ["a"]);
}

/// Random components without a circle: each may need those of lower number.
fn catalog() -> impl Strategy<Value = Vec<Component>> {
    (1_usize..14)
        .prop_flat_map(|count| {
            let edges =
                prop::collection::vec(prop::collection::vec(prop::option::weighted(0.3, any::<bool>()), count), count);
            (edges, Just(count).prop_shuffle_names())
        })
        .prop_map(|(edges, names)| {
            let component = |at: usize| {
                let needs = edges[at].iter().take(at).enumerate();
                Component {
                    name: names[at].clone(),
                    condition: names[at].clone(),
                    needs: needs
                        .filter_map(|(other, edge)| edge.map(|policy| Need { name: names[other].clone(), policy }))
                        .collect(),
                    enabled: true,
                    digest: None,
                }
            };
            (0..names.len()).map(component).collect()
        })
}

/// Shuffled names, so that order of names and order of needs say nothing about each other.
trait ShuffledNames {
    fn prop_shuffle_names(self) -> BoxedStrategy<Vec<String>>;
}

impl ShuffledNames for Just<usize> {
    fn prop_shuffle_names(self) -> BoxedStrategy<Vec<String>> {
        let names: Vec<String> = (0..self.0).map(|at| format!("c{at:02}")).collect();
        Just(names).prop_shuffle().boxed()
    }
}

/// Components that are started and those that passed, as a run goes on.
#[derive(Default)]
struct Run {
    started: BTreeSet<String>,
    passed: BTreeSet<String>,
}

impl Run {
    fn startable(&self, graph: &Graph) -> Vec<String> {
        graph.startable(|name| self.started.contains(name), |name| self.passed.contains(name))
    }
}

/// Rounds until all passed, when each takes one round: the longest chain.
fn critical_path(components: &[Component]) -> usize {
    let needs: BTreeMap<&str, Vec<&str>> =
        components.iter().map(|c| (c.name.as_str(), c.needs.iter().map(|need| need.name.as_str()).collect())).collect();
    fn depth(name: &str, needs: &BTreeMap<&str, Vec<&str>>) -> usize {
        1 + needs[name].iter().map(|need| depth(need, needs)).max().unwrap_or(0)
    }
    needs.keys().map(|name| depth(name, &needs)).max().unwrap_or(0)
}

proptest! {
    #[test]
    fn starts_only_after_all_needs_passed_and_then_at_once(catalog in catalog(), picks in prop::collection::vec(any::<prop::sample::Index>(), 64)) {
        let graph = Graph::new(&catalog).expect("a graph");
        let mut run = Run::default();
        for pick in picks {
            let startable = run.startable(&graph);
            for component in &catalog {
                let may = !run.started.contains(&component.name)
                    && component.needs.iter().all(|need| run.passed.contains(&need.name));
                prop_assert_eq!(startable.contains(&component.name), may, "{}", component.name);
            }
            run.started.extend(startable);
            let waiting: Vec<&String> = run.started.difference(&run.passed).collect();
            if waiting.is_empty() {
                break;
            }
            let passes = (*pick.get(&waiting)).clone();
            run.passed.insert(passes);
        }
    }

    #[test]
    fn takes_as_long_as_the_critical_path(catalog in catalog()) {
        let graph = Graph::new(&catalog).expect("a graph");
        let mut run = Run::default();
        let mut rounds = 0;
        while run.passed.len() < catalog.len() {
            let startable = run.startable(&graph);
            prop_assert!(!startable.is_empty(), "stuck after {rounds} rounds");
            run.started.extend(startable.iter().cloned());
            run.passed.extend(startable);
            rounds += 1;
        }
        prop_assert_eq!(rounds, critical_path(&catalog));
    }

    #[test]
    fn a_sick_component_holds_only_those_that_need_it(catalog in catalog(), sick in any::<prop::sample::Index>()) {
        let graph = Graph::new(&catalog).expect("a graph");
        let sick = sick.get(&catalog).name.clone();
        let mut run = Run::default();
        loop {
            let startable = run.startable(&graph);
            if startable.is_empty() {
                break;
            }
            run.started.extend(startable.iter().cloned());
            run.passed.extend(startable.into_iter().filter(|name| *name != sick));
        }
        let mut held: BTreeSet<String> = BTreeSet::from([sick.clone()]);
        for name in graph.order() {
            if graph.needs(name).any(|need| held.contains(need)) {
                held.insert(name.clone());
            }
        }
        for component in &catalog {
            prop_assert_eq!(run.passed.contains(&component.name), !held.contains(&component.name), "{}", component.name);
        }
    }

    #[test]
    fn removal_runs_in_reverse(catalog in catalog()) {
        let graph = Graph::new(&catalog).expect("a graph");
        let order: Vec<&str> = graph.removal_order().collect();
        let place = |name: &str| order.iter().position(|other| *other == name);
        for component in &catalog {
            for need in &component.needs {
                prop_assert!(place(&component.name) < place(&need.name), "{} before {}", component.name, need.name);
            }
        }
    }

    #[test]
    fn a_closed_circle_is_refused_with_its_path(catalog in catalog(), ends in (any::<prop::sample::Index>(), any::<prop::sample::Index>())) {
        let mut catalog = catalog;
        let (from, to) = (ends.0.index(catalog.len()), ends.1.index(catalog.len()));
        let (low, high) = (from.min(to), from.max(to));
        // An edge up and the edge down close a circle.
        let (low_name, high_name) = (catalog[low].name.clone(), catalog[high].name.clone());
        catalog[low].needs.push(Need { name: high_name, policy: false });
        catalog[high].needs.push(Need { name: low_name, policy: false });
        let needs: BTreeMap<String, BTreeSet<String>> = catalog
            .iter()
            .map(|c| (c.name.clone(), c.needs.iter().map(|need| need.name.clone()).collect()))
            .collect();
        match Graph::new(&catalog) {
            Err(Error::Cycle { path }) => {
                prop_assert!(path.len() >= 2 && path.first() == path.last(), "{path:?}");
                for pair in path.windows(2) {
                    prop_assert!(needs[&pair[0]].contains(&pair[1]), "{path:?} is no path");
                }
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }
}
