//! A second validator, which says only yes or no: it and the real one have to agree about every schema and value.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::any_json;
use crate::schema::{crd, validate};

const TYPES: [&str; 6] = ["object", "array", "string", "integer", "boolean", ""];

/// Keywords that say something about values of some types, in groups that go together.
fn keywords() -> impl Strategy<Value = [Value; 8]> {
    let bound = || (-2_i64..4, any::<bool>());
    let size = || 0_u64..4;
    let texts = (size(), size(), prop::sample::select(vec!["^a", "b$"]));
    let listed = prop::collection::vec(leaf(), 1..4);
    (bound(), bound(), 1_i64..4, texts, size(), size(), listed).prop_map(|(min, max, factor, texts, a, b, listed)| {
        [
            json!({"minimum": min.0, "exclusiveMinimum": min.1}),
            json!({"maximum": max.0, "exclusiveMaximum": max.1}),
            json!({"multipleOf": factor}),
            json!({"minLength": texts.0, "minItems": a, "minProperties": b}),
            json!({"maxLength": texts.1, "maxItems": b, "maxProperties": a}),
            json!({"pattern": texts.2}),
            json!({"enum": listed}),
            json!({}),
        ]
    })
}

fn leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[abö]{0,4}".prop_map(Value::from),
        (-3_i64..5).prop_map(Value::from),
        any::<bool>().prop_map(Value::from),
        Just(Value::Null),
    ]
}

/// A schema of a type with a few of the keywords that fit it, and sometimes others.
fn any_schema() -> impl Strategy<Value = Value> {
    let chosen = prop::collection::vec(0_usize..8, 0..3);
    let typed = (prop::sample::select(&TYPES[..]), any::<bool>(), keywords(), chosen);
    let plain = typed.prop_map(|(kind, nullable, keywords, chosen)| {
        let mut out = json!({"nullable": nullable});
        for (key, value) in chosen.into_iter().filter_map(|index| keywords[index].as_object()).flatten() {
            out[key] = value.clone();
        }
        if !kind.is_empty() {
            out["type"] = kind.into();
        }
        out
    });
    plain.prop_recursive(3, 16, 3, |inner| {
        let fields = prop::collection::vec(("[abc]", inner.clone()), 0..3);
        let parts = || prop::collection::vec(inner.clone(), 1..3);
        let wanted = prop::collection::vec("[abc]", 0..2);
        prop_oneof![
            3 => (fields, wanted, prop::option::of(inner.clone())).prop_map(|(fields, wanted, others)| {
                let fields: Map<String, Value> = fields.into_iter().collect();
                let mut out = json!({"type": "object", "properties": fields, "required": wanted});
                if let Some(others) = others {
                    out["additionalProperties"] = others;
                }
                out
            }),
            2 => inner.clone().prop_map(|items| json!({"type": "array", "items": items, "maxItems": 3})),
            2 => (parts(), prop::sample::select(vec!["anyOf", "oneOf", "allOf"]), prop::sample::select(&TYPES[..]))
                .prop_map(|(mut parts, how, kind)| {
                    // A part seldom repeats the type of the whole.
                    parts.iter_mut().filter_map(Value::as_object_mut).for_each(|part| part.retain(|key, _| key != "type"));
                    json!({"type": kind, how: parts})
                }),
            1 => (inner, prop::sample::select(&TYPES[..])).prop_map(|(part, kind)| json!({"type": kind, "not": part})),
        ]
    })
}

/// A value that has the form of a schema, and may or may not keep its rules.
fn shaped(schema: &Value) -> BoxedStrategy<Value> {
    let right = match schema["type"].as_str().unwrap_or_default() {
        "string" => "[abö]{0,4}".prop_map(Value::from).boxed(),
        "integer" => {
            // Bounds are where mistakes are.
            let bounds = ["minimum", "maximum"].map(|bound| schema[bound].as_i64().unwrap_or(1)).to_vec();
            prop_oneof![prop::sample::select(bounds), -3_i64..5].prop_map(Value::from).boxed()
        }
        "boolean" => any::<bool>().prop_map(Value::from).boxed(),
        "array" => prop::collection::vec(shaped(&schema["items"]), 0..4).prop_map(Value::from).boxed(),
        "object" => {
            let inner = |key: &str| schema["properties"].get(key).unwrap_or(&schema["additionalProperties"]);
            let of = |key: &'static str| prop::option::weighted(0.7, shaped(inner(key))).prop_map(move |v| (key, v));
            (of("a"), of("b"), of("c"))
                .prop_map(|(a, b, c)| [a, b, c].into_iter().filter_map(|(key, v)| Some((key.to_owned(), v?))).collect())
                .boxed()
        }
        _ => leaf().boxed(),
    };
    prop_oneof![12 => right, 1 => leaf(), 1 => any_json()].boxed()
}

/// Says whether a schema allows a value; within `anyOf` and its like no null is allowed that has a type.
fn allows(schema: &Value, value: &Value, within: bool) -> bool {
    let kind = schema["type"].as_str().unwrap_or_default();
    if value.is_null() && !within {
        return (kind.is_empty() || schema["nullable"] == true) && schema.get("enum").is_none();
    }
    let fits = match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "boolean" => value.is_boolean(),
        _ => true,
    };
    let listed = schema["enum"].as_array().is_none_or(|all| all.contains(value));
    fits && listed && measured(schema, value) && parts(schema, value, within) && composed(schema, value)
}

/// Says whether sizes and numbers are within their bounds.
fn measured(schema: &Value, value: &Value) -> bool {
    let within = |size: i64, least: &str, most: &str| {
        schema[least].as_i64().is_none_or(|least| size >= least)
            && schema[most].as_i64().is_none_or(|most| size <= most)
    };
    match value {
        Value::Number(_) => {
            let number = value.as_i64().unwrap_or_default();
            let at = |bound: &str| schema[bound].as_i64() == Some(number);
            within(number, "minimum", "maximum")
                && !(at("minimum") && schema["exclusiveMinimum"] == true)
                && !(at("maximum") && schema["exclusiveMaximum"] == true)
                && schema["multipleOf"].as_i64().is_none_or(|factor| number.checked_rem(factor) == Some(0))
        }
        Value::String(text) => {
            let matched = match schema["pattern"].as_str() {
                Some("^a") => text.starts_with('a'),
                Some(_) => text.ends_with('b'),
                None => true,
            };
            within(i64::try_from(text.chars().count()).unwrap(), "minLength", "maxLength") && matched
        }
        Value::Array(items) => within(i64::try_from(items.len()).unwrap(), "minItems", "maxItems"),
        Value::Object(map) => within(i64::try_from(map.len()).unwrap(), "minProperties", "maxProperties"),
        _ => true,
    }
}

/// Says whether the parts of a value are allowed, and those that are wanted there.
fn parts(schema: &Value, value: &Value, within: bool) -> bool {
    match value {
        Value::Array(items) => {
            schema.get("items").is_none_or(|inner| items.iter().all(|item| allows(inner, item, within)))
        }
        Value::Object(map) => {
            let wanted = schema["required"].as_array();
            let inner = |key: &String| schema["properties"].get(key).or(schema.get("additionalProperties"));
            wanted.into_iter().flatten().all(|key| map.contains_key(key.as_str().unwrap()))
                && map.iter().all(|(key, item)| inner(key).is_none_or(|inner| allows(inner, item, within)))
        }
        _ => true,
    }
}

fn composed(schema: &Value, value: &Value) -> bool {
    let held = |how: &str| -> Option<(usize, usize)> {
        let all = schema[how].as_array()?;
        Some((all.iter().filter(|part| allows(part, value, true)).count(), all.len()))
    };
    held("anyOf").is_none_or(|(held, _)| held > 0)
        && held("oneOf").is_none_or(|(held, _)| held == 1)
        && held("allOf").is_none_or(|(held, all)| held == all)
        && schema.get("not").is_none_or(|part| !allows(part, value, true))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn a_value_is_valid_where_a_second_validator_says_so(
        (schema, value) in any_schema().prop_flat_map(|schema| {
            let value = shaped(&schema);
            (Just(schema), value)
        })
    ) {
        let errors = validate::object(&crd::compile_plain(&schema), &value, "a");
        prop_assert_eq!(errors.is_empty(), allows(&schema, &value, false), "{:?}", errors);
    }
}
