use k8s_openapi::api::core::v1::PodStatus;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelectorRequirement;

use super::*;

#[test]
fn selectors_match_by_label_and_by_expression() {
    let labels: Labels = [("app".to_owned(), "web".to_owned())].into();
    let by_label = |value: &str| LabelSelector {
        match_labels: Some([("app".to_owned(), value.to_owned())].into()),
        match_expressions: None,
    };
    let by_expression = |key: &str, operator: &str, values: &[&str]| LabelSelector {
        match_labels: None,
        match_expressions: Some(vec![LabelSelectorRequirement {
            key: key.to_owned(),
            operator: operator.to_owned(),
            values: Some(values.iter().map(ToString::to_string).collect()),
        }]),
    };
    for (selector, expected) in [
        (LabelSelector::default(), true),
        (by_label("web"), true),
        (by_label("api"), false),
        (by_expression("app", "In", &["api", "web"]), true),
        (by_expression("app", "NotIn", &["web"]), false),
        (by_expression("tier", "NotIn", &["web"]), true),
        (by_expression("tier", "Exists", &[]), false),
        (by_expression("tier", "DoesNotExist", &[]), true),
        (by_expression("app", "Nonsense", &[]), false),
    ] {
        assert_eq!(selects(&selector, Some(&labels)), expected, "{selector:?}");
    }
}

#[test]
fn percentages_round_up_or_down() {
    let quarter = IntOrString::String("25%".to_owned());
    assert_eq!(resolve(Some(&quarter), "0", 3, true), 1);
    assert_eq!(resolve(Some(&quarter), "0", 3, false), 0);
    assert_eq!(resolve(Some(&IntOrString::Int(2)), "0", 3, false), 2);
    assert_eq!(resolve(None, "25%", 8, false), 2);
    assert_eq!(resolve(Some(&IntOrString::String("x".to_owned())), "0", 8, false), 0);
}

#[test]
fn a_pod_is_available_only_after_its_minimum_time() {
    let at = |second| Timestamp::from_second(second).expect("a small number");
    let mut pod = Pod::default();
    assert_eq!(availability(&pod, 0, at(0)), Availability::No);
    pod.status = Some(PodStatus {
        conditions: Some(vec![PodCondition {
            type_: "Ready".to_owned(),
            status: "True".to_owned(),
            last_transition_time: Some(Time(at(100))),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    });
    assert_eq!(availability(&pod, 0, at(100)), Availability::Yes);
    assert_eq!(availability(&pod, 10, at(105)), Availability::From(at(110)));
    assert_eq!(availability(&pod, 10, at(110)), Availability::Yes);
}
