//! Label and field selectors.

pub(crate) mod field;
mod parse;

use serde_json::Value;

use crate::json;
pub(crate) use parse::parse;

/// How a label must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    In,
    NotIn,
    Exists,
    Absent,
    Greater,
    Less,
}

/// One term of a label selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Requirement {
    pub(crate) key: String,
    pub(crate) operator: Operator,
    pub(crate) values: Vec<String>,
}

/// A label selector: all its terms must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct LabelSelector(pub(crate) Vec<Requirement>);

impl LabelSelector {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells whether an object's labels match.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.matches_labels(json::at(object, &["metadata", "labels"]).unwrap_or(&Value::Null))
    }

    /// Tells whether labels match.
    pub(crate) fn matches_labels(&self, labels: &Value) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels.get(&requirement.key).and_then(Value::as_str)))
    }

    /// Reads the `matchLabels` and `matchExpressions` of an object.
    pub(crate) fn of_object(selector: &Value) -> Self {
        let mut out = Vec::new();
        for (key, value) in selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten() {
            out.push(Requirement {
                key: key.clone(),
                operator: Operator::In,
                values: vec![value.as_str().unwrap_or_default().to_owned()],
            });
        }
        for term in json::list(selector, &["matchExpressions"]) {
            let operator = match json::text(term, &["operator"]) {
                "In" => Operator::In,
                "NotIn" => Operator::NotIn,
                "Exists" => Operator::Exists,
                _ => Operator::Absent,
            };
            let values = json::list(term, &["values"]).iter().filter_map(Value::as_str).map(String::from).collect();
            out.push(Requirement { key: json::text(term, &["key"]).to_owned(), operator, values });
        }
        Self(out)
    }
}

impl Requirement {
    fn holds(&self, value: Option<&str>) -> bool {
        let listed = |value: &str| self.values.iter().any(|known| known == value);
        let number = |text: &str| text.parse::<i64>().ok();
        let limit = self.values.first().and_then(|text| number(text));
        match self.operator {
            Operator::In => value.is_some_and(listed),
            Operator::NotIn => !value.is_some_and(listed),
            Operator::Exists => value.is_some(),
            Operator::Absent => value.is_none(),
            Operator::Greater => value.and_then(number).zip(limit).is_some_and(|(value, limit)| value > limit),
            Operator::Less => value.and_then(number).zip(limit).is_some_and(|(value, limit)| value < limit),
        }
    }
}
