//! Whatever clients send is taken or refused, and never breaks what holds for every patch, apply, selector and schema.
//!
//! Inputs that once broke something are kept in `proptest-regressions/` and in the lists of seeds below.

mod schemas;

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use crate::apply::fieldset::{FieldSet, of_applied};
use crate::apply::managed::Manager;
use crate::apply::ownership::Write;
use crate::patch;
use crate::schema::{Place, builtin, crd, defaults, prune, validate};
use crate::selector;

/// Any JSON of a few levels, its keys those that schemas and patches mean something by.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z~/$.-]{0,6}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        "[a-c]",
        Just("name".to_owned()),
        Just("containers".to_owned()),
        Just("$patch".to_owned()),
        Just("$retainKeys".to_owned()),
        Just("spec".to_owned()),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..4)
                .prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// A schema as a definition may have it, sound or not.
fn any_schema() -> impl Strategy<Value = Value> {
    let kinds = ["object", "array", "string", "integer", "number", "boolean", ""];
    let leaf = (prop::sample::select(kinds.to_vec()), any::<bool>(), prop::option::of(any_json())).prop_map(
        |(kind, nullable, default)| {
            let mut out = json!({"type": kind, "nullable": nullable, "maxLength": 3, "minimum": 1, "pattern": "^a"});
            if let Some(default) = default {
                out["default"] = default;
            }
            out
        },
    );
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            (prop::collection::vec(("[a-c]", inner.clone()), 0..3), any::<bool>()).prop_map(|(fields, free)| {
                let fields: Map<String, Value> = fields.into_iter().collect();
                json!({"type": "object", "properties": fields, "required": ["a"],
                    "x-kubernetes-preserve-unknown-fields": free})
            }),
            inner.clone().prop_map(|items| json!({"type": "array", "items": items, "x-kubernetes-list-type": "set"})),
            inner.clone().prop_map(|values| json!({"type": "object", "additionalProperties": values})),
            inner.prop_map(|part| json!({"type": "object", "anyOf": [part.clone()], "not": part})),
        ]
    })
}

const OPERATIONS: [&str; 6] = ["add", "remove", "replace", "move", "copy", "test"];

/// A place in a document, mostly one that is there.
fn place() -> impl Strategy<Value = String> {
    let known = ["/a", "/b", "/b/0", "/b/1", "/b/2", "/b/-", "/c", "/c/a", "/c/b", "/n", ""];
    prop_oneof![4 => prop::sample::select(known.to_vec()).prop_map(String::from), 1 => "(/[a-c0-9~-]{0,1}){0,3}"]
}

const PATCH_SEEDS: [&str; 6] = [
    r#"[{"op":"add","path":"/-","value":1}]"#,
    r#"[{"op":"remove","path":""}]"#,
    r#"[{"op":"move","from":"/a","path":"/a/b"}]"#,
    r#"[{"op":"test","path":"/~2"}]"#,
    r#"[{"op":"copy","from":"/a/99999999999999999999","path":"/-1"}]"#,
    r#"[{"op":"replace","path":"/a/-","value":null}]"#,
];
const SELECTOR_SEEDS: [&str; 8] = ["", ",", "a in (", "a in ()", "!", "a=,b", "a>", "x notin (a,,b)"];

#[test]
fn seeds_are_taken_or_refused() {
    for seed in PATCH_SEEDS {
        let Ok(Value::Array(operations)) = serde_json::from_str(seed) else { panic!("{seed} is no list") };
        for mut target in [json!({"a": [1], "b": {}}), json!([]), Value::Null] {
            let _ = patch::apply_json(&mut target, &operations);
        }
    }
    for seed in SELECTOR_SEEDS {
        let _ = selector::parse(seed);
    }
}

/// Leaves out what objects hold nothing under.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map.into_iter().filter(|(_, value)| !value.is_null());
            kept.map(|(key, value)| (key, without_nulls(value))).collect()
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn a_merge_patch_does_what_the_standard_says_and_twice_is_once(target in any_json(), change in any_json()) {
        let mut ours = target.clone();
        patch::apply_merge(&mut ours, &change);
        let mut theirs = target;
        json_patch::merge(&mut theirs, &change);
        prop_assert_eq!(&ours, &theirs);
        let once = ours.clone();
        patch::apply_merge(&mut ours, &change);
        prop_assert_eq!(ours, once);
    }

    #[test]
    fn a_json_patch_that_the_standard_takes_comes_out_the_same(
        parts in (any_json(), any_json(), any_json(), any_json()),
        operations in prop::collection::vec((prop::sample::select(&OPERATIONS[..]), place(), place(), any_json()), 1..4),
    ) {
        let (a, first, second, inner) = parts;
        let target = json!({"a": a, "b": [first, second], "c": {"a": inner}});
        let operations: Vec<Value> = operations
            .into_iter()
            .map(|(op, path, from, value)| json!({"op": op, "path": path, "from": from, "value": value}))
            .collect();
        let mut ours = target.clone();
        let outcome = patch::apply_json(&mut ours, &operations);
        // The whole document is nothing that can be added again; what fails is not undone, for that fails at times.
        let whole = operations.iter().any(|operation| operation["path"] == "" || operation["from"] == "");
        let standard = serde_json::from_value::<json_patch::Patch>(operations.into());
        let mut theirs = target;
        if let (false, Ok(standard)) = (whole, standard)
            && json_patch::patch_unsafe(&mut theirs, &standard).is_ok()
        {
            prop_assert!(outcome.is_ok());
            prop_assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn a_strategic_patch_is_taken_or_refused_and_twice_is_once(target in any_json(), change in any_json()) {
        let node = builtin::node("io.k8s.api.core.v1.Pod");
        let known = json!(["a", "b", "c"]);
        let wrapped = json!({"spec": {"containers": [{"name": "a"}], "x": target}, "metadata": {"finalizers": known}});
        if let Value::Object(map) = json!({"spec": change.clone(), "metadata": {"finalizers": change}})
            && let Ok(once) = patch::apply_strategic(node, &wrapped, &map)
            // Directives for what is not there yet are kept, so they count the second time.
            && !once.to_string().contains('$')
        {
            let twice = patch::apply_strategic(node, &once, &map);
            // Directives below what is not there yet are not read: what they do, or what is wrong with them, shows later.
            let unread = Value::Object(map).to_string().contains('$');
            // A list that is there is replaced by what was sent, nulls and all; a new one is made without them.
            prop_assert!(unread || twice.map(without_nulls) == Ok(without_nulls(once)));
        }
    }

    #[test]
    fn a_selector_reads_or_is_refused(text in "[a-c=!<>(), in]{0,16}") {
        let labels = json!({"metadata": {"labels": {"a": "b", "c": "1"}}});
        if let Ok(selector) = selector::parse(&text) {
            let _ = selector.matches(&labels);
        }
    }

    #[test]
    fn an_equality_selects_that_value_and_no_other(key in "[a-z]{1,5}", value in "[a-z]{1,5}", other in "[a-z]{1,5}") {
        let selector = selector::parse(&format!("{key}={value}")).unwrap();
        let labelled = |value: &str| json!({"metadata": {"labels": {key.as_str(): value}}});
        prop_assert!(selector.matches(&labelled(&value)));
        prop_assert_eq!(selector.matches(&labelled(&other)), other == value);
    }

    #[test]
    fn a_set_selects_its_members_and_its_opposite_all_others(
        values in prop::collection::vec("[a-c]{1,2}", 1..3), other in "[a-c]{1,2}",
    ) {
        let object = json!({"metadata": {"labels": {"k": other}}});
        let listed = values.join(",");
        let within = selector::parse(&format!("k in ({listed})")).unwrap().matches(&object);
        prop_assert_eq!(within, values.contains(&other));
        prop_assert_eq!(selector::parse(&format!("k notin ({listed})")).unwrap().matches(&object), !within);
    }

    #[test]
    fn pruning_and_defaulting_twice_is_once(schema in any_schema(), value in any_json()) {
        let node = crd::compile(&schema);
        let mut object = json!({"apiVersion": "v1", "kind": "K", "a": value});
        if prune::object(&node, &mut object, &mut Vec::new()).is_ok() {
            let pruned = object.clone();
            let mut unknown = Vec::new();
            prune::object(&node, &mut object, &mut unknown).unwrap();
            prop_assert_eq!(&object, &pruned);
            prop_assert!(unknown.is_empty(), "{:?}", unknown);
        }
        let _ = validate::object(&node, &object, "");
    }

    #[test]
    fn an_apply_owns_what_it_sets_and_twice_is_once(live in any_json(), applied in any_json()) {
        let node = crd::compile(&json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true}));
        let place = Place::of(&node);
        let manager = Manager {
            name: "m".to_owned(), applies: true, api_version: "v1".to_owned(), subresource: String::new(),
        };
        let reset = FieldSet::default();
        let write = Write { place, manager: &manager, now: "2020-01-01T00:00:00Z", reset: &reset };
        let (live, applied) = (json!({"spec": live}), json!({"spec": applied}));
        let first = write.apply(&live, &applied, Vec::new(), false);
        let first = first.map_err(|status| TestCaseError::fail(status.message))?;
        let owned = first.entries.iter().find(|entry| entry.manager == manager).map(|entry| entry.set.paths());
        prop_assert_eq!(owned.unwrap_or_default(), of_applied(place, &applied).paths());
        let again = write.apply(&first.object, &applied, first.entries.clone(), false);
        let again = again.map_err(|status| TestCaseError::fail(status.message))?;
        prop_assert_eq!(again.object, first.object);
        prop_assert_eq!(again.entries, first.entries);
    }

    #[test]
    fn defaults_fill_in_once(schema in any_schema(), value in any_json()) {
        let node = crd::compile(&schema);
        let mut object = json!({"a": value});
        defaults::apply(&node, &mut object);
        let once = object.clone();
        defaults::apply(&node, &mut object);
        prop_assert_eq!(object, once);
    }
}
