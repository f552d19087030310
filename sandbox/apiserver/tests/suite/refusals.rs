//! What is refused, and in which words: one request each, all of them once answered otherwise than a real server does.

use serde_json::{Value, json};

use super::harness::{Case, ask};

/// Rules over a text `s`, a number `n`, a truth `b`, a list of numbers `l` and a map of numbers `m`, and what is wrong.
const RULES: [(&str, &str); 14] = [
    ("self.s.startsWith(5)", "1:18: found no matching overload for 'startsWith' applied to 'string.(int)'"),
    ("size(self.n) > 5", "1:5: found no matching overload for 'size' applied to '(int)'"),
    ("!self.s", "1:1: found no matching overload for '!_' applied to '(string)'"),
    ("self.b && self.s", "1:15: expected type 'bool' but found 'string'"),
    ("self.l.all(x, x + 1)", "1:17: expected type 'bool' but found 'int'"),
    ("self.s.all(x, true)", "1:5: expression of type 'string' cannot be range of a comprehension"),
    ("'x' in self.l", "1:5: found no matching overload for '@in' applied to '(string, list(int))'"),
    ("self.l['a'] == 1", "1:7: found no matching overload for '_[_]' applied to '(list(int), string)'"),
    ("self.m == {'a': 'b'}", "applied to '(map(string, int), map(string, string))'"),
    (
        "(self.b ? self.s : self.n) == 'x'",
        "1:9: found no matching overload for '_?_:_' applied to '(bool, string, int)'",
    ),
    ("has(self.x)", "1:4: undefined field 'x'"),
    ("self.s == namespace", "1:11: reserved identifier: namespace"),
    ("self.n == null", "found no matching overload for '_==_' applied to '(int, null)'"),
    ("self.s == 'a' and self.b", "1:15: Syntax error: mismatched input 'and' expecting <EOF>"),
];
/// Rules over the same, with which nothing is wrong.
const FITTING: [&str; 3] = [
    "self.m.all(k, v, v > 5 && k != 'x')",
    "type(self.p) == int ? self.p > 5 : self.p == '5%'",
    "self.l + self.l == []",
];

pub(super) fn all(namespace: &str) -> Vec<Case> {
    let mut out = rules(namespace);
    out.extend([changes(namespace), faults(namespace), logs_and_quotas(namespace)]);
    out
}

fn rules(namespace: &str) -> Vec<Case> {
    let text = json!({"type": "string", "maxLength": 9});
    let number = json!({"type": "integer"});
    let definition = |rule: &str| {
        let spec = json!({"type": "object", "x-kubernetes-validations": [{"rule": rule}], "properties": {
            "s": text, "n": number, "b": {"type": "boolean"}, "p": {"x-kubernetes-int-or-string": true},
            "l": {"type": "array", "maxItems": 5, "items": number},
            "m": {"type": "object", "maxProperties": 5, "additionalProperties": number},
        }});
        json!({"metadata": {"name": format!("others.{namespace}.example.com")}, "spec": {
            "group": format!("{namespace}.example.com"), "scope": "Namespaced",
            "names": {"plural": "others", "kind": "Other"}, "versions": [{"name": "v1", "served": true, "storage": true,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": spec}}}}],
        }})
    };
    let path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All";
    let refused = RULES.map(|(rule, says)| ask("POST", path, 422).send(&definition(rule)).says(says));
    let taken = FITTING.map(|rule| ask("POST", path, 201).send(&definition(rule)));
    vec![Case {
        group: "crds",
        claim: "the types of a rule are checked",
        steps: refused.into_iter().chain(taken).collect(),
    }]
}

fn job(more: &Value) -> Value {
    let container = json!({"name": "c", "image": "i"});
    let mut spec = json!({"template": {"spec": {"restartPolicy": "Never", "containers": [container]}}});
    spec.as_object_mut().into_iter().for_each(|spec| spec.extend(more.as_object().cloned().unwrap_or_default()));
    json!({"metadata": {"name": "j"}, "spec": spec})
}

fn changes(namespace: &str) -> Case {
    let core = |plural: &str| format!("/api/v1/namespaces/{namespace}/{plural}");
    let group = |group: &str, plural: &str| format!("/apis/{group}/v1/namespaces/{namespace}/{plural}");
    let claim = |size: &str| {
        json!({"metadata": {"name": "c"}, "spec": {
            "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}})
    };
    let merge = "application/merge-patch+json";
    let steps = vec![
        ask("POST", core("persistentvolumeclaims"), 201).send(&claim("1Gi")),
        ask("PATCH", core("persistentvolumeclaims/c"), 422)
            .header("content-type", merge)
            .send(&json!({"spec": {"resources": {"requests": {"storage": "500Mi"}}}}))
            .says("@@ -6,7 +6,7 @@\n  \"Resources\": {\n   \"Limits\": null,\n   \"Requests\": {\n-   \"storage\": \"1Gi\"\n+"),
        ask("POST", group("batch", "jobs"), 201).send(&job(&json!({"completionMode": "Indexed", "completions": 2}))),
        ask("PATCH", group("batch", "jobs/j"), 422)
            .header("content-type", merge)
            .send(&json!({"spec": {"template": {"spec": {"containers": [{"name": "c", "image": "o"}]}}}}))
            .says("\"Spec\":{\"Volumes\":null,\"InitContainers\":null,\"Containers\":[{\"Name\":\"c\",\"Image\":\"o\""),
        ask("PATCH", group("batch", "jobs/j"), 422)
            .header("content-type", merge)
            .send(&json!({"spec": {"completions": 3}}))
            .says("can only be modified in tandem with spec.parallelism"),
    ];
    Case { group: "builtins", claim: "a refused change tells what differs", steps }
}

fn faults(namespace: &str) -> Case {
    let core = |plural: &str| format!("/api/v1/namespaces/{namespace}/{plural}");
    let group = |group: &str, plural: &str| format!("/apis/{group}/v1/namespaces/{namespace}/{plural}");
    let faults: Vec<(String, Value, &'static str)> = vec![
        (
            group("networking.k8s.io", "networkpolicies"),
            json!({"metadata": {"name": "n"}, "spec": {"podSelector": {}, "egress": [{
                "to": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/16"]}}],
                "ports": [{"port": 80, "endPort": 70}]}]}}),
            "spec.egress[0].to[0].ipBlock.except[0]: Invalid value: \"11.0.0.0/16\": must be a strict subset of `cidr`",
        ),
        (
            group("networking.k8s.io", "ingresses"),
            json!({"metadata": {"name": "i"}, "spec": {"rules": [{"host": "*.*.example.com", "http": {"paths": []}}]}}),
            "spec.rules[0].http.paths: Required value",
        ),
        (
            group("autoscaling", "horizontalpodautoscalers").replace("/v1/", "/v2/"),
            json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 1, "metrics": [{"type": "Resource"}],
                "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}}),
            "spec.metrics[0].resource: Required value: must populate information for the given metric source",
        ),
        (
            group("batch", "jobs"),
            job(&json!({"podFailurePolicy": {"rules": [{"action": "Ignore"}]}})),
            "Invalid value: specifying one of OnExitCodes and OnPodConditions is required",
        ),
        (
            group("discovery.k8s.io", "endpointslices"),
            json!({"metadata": {"name": "e"}, "addressType": "IPv6", "endpoints": [{"addresses": ["1.2.3.4"]}],
                "ports": []}),
            "endpoints[0].addresses: Invalid value: \"1.2.3.4\": must be an IPv6 address",
        ),
        (
            core("limitranges"),
            json!({"metadata": {"name": "l"}, "spec": {"limits": [{"type": "Pod", "default": {"cpu": "2"}}]}}),
            "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
        ),
        (
            core("resourcequotas"),
            json!({"metadata": {"name": "q"}, "spec": {"hard": {"cpu": "1"}, "scopes": ["BestEffort"]}}),
            "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource",
        ),
        (
            core("services"),
            json!({"metadata": {"name": "s"}, "spec": {"loadBalancerClass": "example.com/c", "ports": [{"port": 80}]}}),
            "spec.loadBalancerClass: Forbidden: may only be used when `type` is 'LoadBalancer'",
        ),
        (
            core("services"),
            json!({"metadata": {"name": "s"}, "spec": {"type": "ExternalName", "externalName": "a.b", "clusterIP": "None"}}),
            "spec.clusterIPs: Forbidden: may not be set for ExternalName services",
        ),
        (
            "/api/v1/persistentvolumes".to_owned(),
            json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
                "local": {"path": "/x"}}}),
            "spec.nodeAffinity: Required value: Local volume requires node affinity",
        ),
        (
            group("apps", "daemonsets"),
            json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b c"}},
                "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{
                    "name": "c", "image": "i", "ports": [{"containerPort": 1, "hostPort": 9}, {"containerPort": 2,
                        "hostPort": 9}]}]}}}}),
            "ports[1].hostPort: Duplicate value: \"TCP//9\"",
        ),
        (
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews".to_owned(),
            json!({"spec": {"resourceAttributes": {"verb": "list", "resource": "pods", "fieldSelector": {
                "requirements": [{"key": ""}]}}}}),
            "spec.resourceAttributes.fieldSelector.requirements[0].key: Required value: must be specified",
        ),
    ];
    let steps = faults.into_iter().map(|(path, body, says)| ask("POST", path, 422).send(&body).says(says)).collect();
    Case { group: "builtins", claim: "faults are named in the words of a real server", steps }
}

fn logs_and_quotas(namespace: &str) -> Case {
    let core = |plural: &str| format!("/api/v1/namespaces/{namespace}/{plural}");
    let pod = |name: &str, resources: Value| {
        json!({"metadata": {"name": name}, "spec": {"containers": [
            {"name": "a", "image": "i", "resources": resources}, {"name": "b", "image": "i", "resources": resources}]}})
    };
    let takes = json!({"requests": {"cpu": "600m"}});
    let told = json!({"status": {"hard": {"requests.cpu": "2"}, "used": {"requests.cpu": "0"}}});
    let quota = |name: &str, more: Value| {
        let mut spec = json!({"hard": {"requests.cpu": "2"}});
        spec.as_object_mut().into_iter().for_each(|spec| spec.extend(more.as_object().cloned().unwrap_or_default()));
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let merge = "application/merge-patch+json";
    let status = |name: &str| ask("PATCH", core(&format!("resourcequotas/{name}/status")), 200);
    let steps = vec![
        ask("POST", core("serviceaccounts"), 201).send(&json!({"metadata": {"name": "default"}})),
        ask("POST", core("pods"), 201).send(&pod("p", json!({}))),
        ask("GET", core("pods/p/log"), 400).says("a container name must be specified for pod p, choose one of: [a b]"),
        ask("GET", core("pods/p/log?container=x"), 400).says("container x is not valid for pod p"),
        ask("POST", core("resourcequotas"), 201).send(&quota("ends", json!({"scopes": ["Terminating"]}))),
        status("ends").header("content-type", merge).send(&told),
        ask("POST", core("pods"), 201).send(&pod("o", json!({}))),
        ask("POST", core("resourcequotas"), 201).send(&quota("all", json!({}))),
        status("all").header("content-type", merge).send(&told),
        ask("POST", core("pods"), 403)
            .send(&pod("q", json!({})))
            .says("failed quota: all: must specify requests.cpu for: a,b"),
        ask("POST", core("pods"), 201).send(&pod("q", takes.clone())),
        ask("POST", core("pods"), 403).send(&pod("r", takes)).says(
            "exceeded quota: all, requested: requests.cpu=1200m, used: requests.cpu=1200m, limited: requests.cpu=2",
        ),
    ];
    Case { group: "admission", claim: "quotas count amounts, and logs are of one container", steps }
}
