//! How requests are read: selectors, paths, encodings and what the server says of itself.

use serde_json::json;

use super::harness::{Case, Step, ask};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

fn case(group: &'static str, claim: &'static str, steps: Vec<Step>) -> Case {
    Case { group, claim, steps }
}

pub(super) fn all(namespace: &str) -> Vec<Case> {
    let core = format!("/api/v1/namespaces/{namespace}");
    let maps = format!("{core}/configmaps");
    let things = format!("/apis/{namespace}.example.com/v1/namespaces/{namespace}/things");
    let map = json!({"metadata": {"name": "a"}, "data": {"x": "y"}});
    let service = |name: &str| json!({"metadata": {"name": name}, "spec": {"clusterIP": "10.96.123.45", "ports": [{"port": 80}]}});
    vec![
        case(
            "list",
            "selectors that cannot be read say where",
            vec![
                ask("GET", format!("{maps}?labelSelector=a+in+(b+c)"), 400).says("found 'c', expected: ',' or ')'"),
                ask("GET", format!("{maps}?labelSelector=!!a"), 400).says("found '!', expected: identifier"),
                ask("GET", format!("{maps}?labelSelector=a+in+(b,-)"), 400).says("values[0][a]: Invalid value"),
                ask("GET", format!("{maps}?fieldSelector=metadata.name=a=b"), 400)
                    .says("unescaped character in value: 61"),
                ask("GET", format!("{maps}?fieldSelector=metadata.name=a%5C"), 400).says("invalid escape sequence"),
                ask("GET", "/api/v1/nodes?fieldSelector=metadata.namespace=x", 400).says("field label not supported"),
                ask("GET", format!("/apis/batch/v1/namespaces/{namespace}/jobs?fieldSelector=a=b"), 400)
                    .says("not supported for Job"),
            ],
        ),
        case(
            "list",
            "a page token that leads elsewhere is refused",
            vec![
                ask("GET", format!("{maps}?continue=eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJydiI6NSwic3RhcnQiOiIuLi9hIn0"), 400)
                    .says("continue key is not valid: ../a"),
            ],
        ),
        case(
            "watch",
            "a watch does not go on from a page, nor from a version that no number holds",
            vec![
                ask("GET", format!("{maps}?watch=true&continue=abc"), 422).says("forbidden when continue is provided"),
                ask("GET", format!("{maps}?watch=true&resourceVersion=99999999999999999999"), 500)
                    .says("value out of range"),
            ],
        ),
        case(
            "encoding",
            "protobuf is answered where it is asked for, also with refusals, and never for custom resources",
            vec![
                ask("POST", &maps, 201).send(&map),
                ask("GET", format!("{maps}/a"), 200).header("accept", PROTOBUF).says("k8s\0"),
                ask("GET", format!("{maps}/none"), 404).header("accept", PROTOBUF).says("k8s\0"),
                ask("GET", &maps, 200).header("accept", PROTOBUF).says("ConfigMapList"),
                ask("GET", &things, 406).header("accept", PROTOBUF),
                ask("GET", &things, 200).header("accept", "application/*").at("/kind", "ThingList"),
                ask("GET", &maps, 406).header("accept", "application/*"),
            ],
        ),
        case(
            "encoding",
            "a parameter that is not encoded counts as not sent, a timeout needs its unit",
            vec![
                ask("GET", format!("{maps}?labelSelector=a;b"), 200),
                ask("GET", format!("{maps}?timeout=5"), 400).says("missing unit in duration"),
                ask("GET", format!("{maps}?timeout=5d"), 400).says("unknown unit"),
            ],
        ),
        case(
            "builtins",
            "services say which addresses and families they cannot have, and get a port for checks of health",
            vec![
                ask("POST", format!("{core}/services"), 422)
                    .send(&json!({"metadata": {"name": "s"}, "spec": {
                        "ports": [{"port": 80}], "externalIPs": ["127.0.0.1"]}}))
                    .says("may not be in the loopback range"),
                ask("POST", format!("{core}/services"), 422)
                    .send(&json!({"metadata": {"name": "s"}, "spec": {
                        "ports": [{"port": 80}], "ipFamilies": ["IPv6"]}}))
                    .at("/details/causes/0/field", "spec.ipFamilies[0]"),
                ask("POST", format!("{core}/services"), 201).says("healthCheckNodePort").send(&json!({
                    "metadata": {"name": "l"}, "spec": {
                        "type": "LoadBalancer", "externalTrafficPolicy": "Local", "ports": [{"port": 80}]}})),
                ask("POST", format!("{core}/services"), 201).send(&service("a")),
                ask("POST", format!("{core}/services"), 422)
                    .send(&service("b"))
                    .says("provided IP is already allocated"),
                ask("DELETE", format!("{core}/services/a"), 200),
            ],
        ),
        case(
            "names",
            "names that cannot be a part of a path are refused",
            vec![
                ask("GET", format!("{maps}/a%25b"), 400).says("may not contain '%'"),
                ask("GET", format!("{maps}/a%2Fb"), 404).says("could not find the requested resource"),
                ask("GET", format!("{things}/a%2Fb"), 404).at("/details/name", "a"),
            ],
        ),
        case(
            "discovery",
            "single checks of health have paths of their own",
            vec![
                ask("GET", "/livez/etcd", 200).says("ok"),
                ask("GET", "/readyz/poststarthook/rbac/bootstrap-roles", 200).says("ok"),
                ask("GET", "/readyz/shutdown", 200),
                ask("GET", "/livez/nothing", 404),
                ask("GET", "/livez?verbose&exclude=x", 200).says("cannot be excluded: no matches for \"x\""),
                ask("GET", "/apis/resource.k8s.io/v1", 200).at("/resources/0/name", "deviceclasses"),
            ],
        ),
    ]
}
