//! Variants of the cases that were once answered otherwise than a real server answers them.

use serde_json::{Value, json};

use super::harness::{Case, Step, ask};

const APPLY: &str = "application/apply-patch+yaml";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions?dryRun=All";

fn case(group: &'static str, claim: &'static str, steps: Vec<Step>) -> Case {
    Case { group, claim, steps }
}

pub(super) fn all(namespace: &str) -> Vec<Case> {
    let mut out = kinds(namespace);
    out.extend(pods(namespace));
    out.extend(admission(namespace));
    out.extend(definitions(&format!("{namespace}.example.com")));
    out.extend(applies(namespace));
    out.extend(requests(namespace));
    out
}

/// Returns steps that try to make something with each of these specs, which all are refused for the reason beside them.
fn refused(path: &str, specs: Vec<(Value, &'static str)>) -> Vec<Step> {
    let step = |(spec, says)| ask("POST", path, 422).send(&json!({"metadata": {"name": "r"}, "spec": spec})).says(says);
    specs.into_iter().map(step).collect()
}

#[expect(clippy::too_many_lines, reason = "a table of cases")]
fn kinds(namespace: &str) -> Vec<Case> {
    let core = format!("/api/v1/namespaces/{namespace}");
    let of = |group: &str, plural: &str| format!("/apis/{group}/namespaces/{namespace}/{plural}");
    let claim = |class: &str, modes: Value, size: &str| {
        let mut claim = json!({"accessModes": modes, "resources": {"requests": {"storage": size}}});
        claim["storageClassName"] = class.into();
        claim
    };
    let ports = json!([{"port": 80}]);
    let ended = json!({"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    vec![
        case(
            "builtins",
            "wrong Services are refused",
            refused(
                &format!("{core}/services"),
                vec![
                    (json!({"ports": [{"port": 80, "nodePort": 30000}]}), "may not be used when"),
                    (json!({"ports": ports, "ipFamilyPolicy": "RequireDualStack"}), "this cluster is not configured for dual-stack services"),
                    (json!({"ports": ports, "clusterIP": "1.2.3.4"}), "spec.clusterIPs"),
                    (json!({"ports": ports, "sessionAffinity": "Bad", "externalTrafficPolicy": "Local"}), "ClientIP"),
                ],
            ),
        ),
        case(
            "builtins",
            "wrong claims are refused",
            refused(
                &format!("{core}/persistentvolumeclaims"),
                vec![
                    (claim("", json!(["ReadWriteOnce"]), "-1"), "must be greater than zero"),
                    (claim("A_", json!(["ReadWriteOnce"]), "1Gi"), "spec.storageClassName"),
                    (claim("", json!(["ReadWriteOncePod", "ReadWriteOnce"]), "1Gi"), "may not use ReadWriteOncePod"),
                ],
            ),
        ),
        case(
            "builtins",
            "wrong limits and quotas are refused",
            [
                refused(
                    &format!("{core}/limitranges"),
                    vec![
                        (json!({"limits": [{"type": "X"}]}), "must be a standard limit type"),
                        (
                            json!({"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}),
                            "min value 2 is greater than max value 1",
                        ),
                    ],
                ),
                refused(
                    &format!("{core}/resourcequotas"),
                    vec![
                        (json!({"hard": {"bogus": "1"}}), "must be a standard resource"),
                        (json!({"hard": {"pods": "1.5"}}), "must be an integer"),
                        (json!({"hard": {"count/configmaps": "5"}, "scopes": ["X"]}), "unsupported scope"),
                    ],
                ),
            ]
            .concat(),
        ),
        case(
            "builtins",
            "wrong autoscalers, jobs and ingresses are refused",
            [
                refused(
                    &of("autoscaling/v2", "horizontalpodautoscalers"),
                    vec![(
                        json!({"scaleTargetRef": {"kind": "Deployment", "name": "d"}, "minReplicas": 5, "maxReplicas": 3}),
                        "must be greater than or equal to `minReplicas`",
                    )],
                ),
                refused(
                    &of("batch/v1", "jobs"),
                    vec![
                        (json!({"template": ended, "selector": {"matchLabels": {"a": "b"}}}), "spec.selector"),
                        (json!({"template": ended, "successPolicy": {"rules": [{"succeededCount": 1}]}}), "requires indexed"),
                    ],
                ),
                refused(
                    &of("batch/v1", "cronjobs"),
                    vec![(
                        json!({"schedule": "* * * * *", "timeZone": "Nowhere/X", "jobTemplate": {"spec": {"template": ended}}}),
                        "unknown time zone Nowhere/X",
                    )],
                ),
                refused(
                    &of("networking.k8s.io/v1", "ingresses"),
                    vec![(
                        json!({"ingressClassName": "A_", "defaultBackend": {"service": {"name": "s", "port": {"number": 80}}}}),
                        "spec.ingressClassName",
                    )],
                ),
            ]
            .concat(),
        ),
        case(
            "builtins",
            "wrong endpoints are refused",
            vec![
                ask("POST", format!("{core}/endpoints"), 422)
                    .send(&json!({"metadata": {"name": "e"}, "subsets": [{"addresses": [{"ip": "x"}]}]}))
                    .says("must be a valid IP address"),
                ask("POST", of("discovery.k8s.io/v1", "endpointslices"), 422)
                    .send(&json!({"metadata": {"name": "e"}, "addressType": "IPv4", "endpoints": [{"addresses": ["x"]}]}))
                    .says("endpoints[0].addresses[0]"),
                ask("POST", format!("{core}/podtemplates"), 422).send(&json!({"metadata": {"name": "e"}})),
            ],
        ),
        case(
            "builtins",
            "what only a bound claim may change",
            vec![
                ask("POST", format!("{core}/persistentvolumeclaims"), 201)
                    .send(&json!({"metadata": {"name": "c"}, "spec": claim("", json!(["ReadWriteOnce"]), "1Gi")})),
                ask("PATCH", format!("{core}/persistentvolumeclaims/c"), 422)
                    .send(&json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}})),
            ],
        ),
    ]
}

fn pods(namespace: &str) -> Vec<Case> {
    let with = |more: Value| {
        let mut spec = json!({"containers": [{"name": "c", "image": "i"}], "serviceAccountName": "runner",
            "automountServiceAccountToken": false});
        for (key, value) in more.as_object().into_iter().flatten() {
            spec[key] = value.clone();
        }
        spec
    };
    let container = |more: Value| {
        let mut container = json!({"name": "c", "image": "i"});
        for (key, value) in more.as_object().into_iter().flatten() {
            container[key] = value.clone();
        }
        with(json!({"containers": [container]}))
    };
    let from = |source: Value| container(json!({"env": [{"name": "A", "valueFrom": source}]}));
    let volume = |source: Value| {
        let mut volume = source;
        volume["name"] = "v".into();
        with(json!({"volumes": [volume]}))
    };
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 0, "topologyKey": "k", "whenUnsatisfiable": "X"}]});
    let terms = json!({"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}});
    let runner = ask("POST", format!("/api/v1/namespaces/{namespace}/serviceaccounts"), 201)
        .send(&json!({"metadata": {"name": "runner"}}));
    let wrong = vec![
        (from(json!({"fieldRef": {"fieldPath": "metadata.bogus"}})), "fieldRef.fieldPath"),
        (from(json!({"configMapKeyRef": {"name": "a", "key": ""}})), "configMapKeyRef.key"),
        (container(json!({"resources": {"requests": {"foo": "1"}}})), "must be a standard resource"),
        (container(json!({"lifecycle": {"preStop": {}}})), "must specify a handler type"),
        (container(json!({"securityContext": {"runAsUser": -1}})), "must be between 0 and 2147483647"),
        (volume(json!({"emptyDir": {"sizeLimit": "-1"}})), "emptyDir.sizeLimit"),
        (volume(json!({"secret": {"secretName": "s", "items": [{"key": "k", "path": "../x"}]}})), "items[0].path"),
        (with(json!({"dnsPolicy": "None"})), "must provide `dnsConfig` when `dnsPolicy` is None"),
        (with(json!({"nodeSelector": {"a b": "c"}})), "spec.nodeSelector"),
        (with(json!({"hostname": "A_b"})), "spec.hostname"),
        (with(json!({"readinessGates": [{"conditionType": "a b"}]})), "spec.readinessGates[0].conditionType"),
        (with(json!({"hostAliases": [{"ip": "x", "hostnames": ["a"]}]})), "spec.hostAliases[0].ip"),
        (with(json!({"os": {"name": "beos"}})), "spec.os"),
        (with(json!({"affinity": {"nodeAffinity": terms}})), "must have at least one node selector term"),
        (with(spread), "must be greater than zero"),
    ];
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let forbidden = |more: Value| ask("POST", &path, 403).send(&json!({"metadata": {"name": "r"}, "spec": with(more)}));
    let mut steps = vec![runner];
    steps.extend(refused(&path, wrong));
    steps.extend([
        forbidden(json!({"priority": 5})).says("the integer value of priority (5) must not be provided in pod spec"),
        forbidden(json!({"runtimeClassName": "x"})).says("RuntimeClass"),
        ask("POST", &path, 201)
            .send(&json!({"metadata": {"name": "p"}, "spec": with(json!({"schedulingGates": [{"name": "example.com/g"}]}))}))
            .at("/status/conditions/0/reason", "SchedulingGated"),
    ]);
    vec![case("builtins", "wrong pods are refused", steps)]
}

fn admission(namespace: &str) -> Vec<Case> {
    let base = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolic";
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let labels = json!({"matchLabels": {"kubernetes.io/metadata.name": namespace}});
    let policy = json!({"metadata": {"name": namespace}, "spec": {
        "failurePolicy": "Ignore",
        "matchConstraints": {"namespaceSelector": labels, "resourceRules": [{"apiGroups": [""], "apiVersions": ["v1"],
            "operations": ["DELETE"], "resources": ["configmaps"]}]},
        "validations": [{"expression": "oldObject.metadata.name != 'keep'", "message": "kept"}]}});
    let binding = json!({"metadata": {"name": namespace}, "spec": {
        "policyName": namespace, "validationActions": ["Deny"], "matchResources": {"namespaceSelector": labels}}});
    let denied = ask("DELETE", format!("{maps}/keep"), 422).at("/details/name", "keep").says("denied request: kept");
    let mut steps = vec![
        ask("POST", &maps, 201).send(&json!({"metadata": {"name": "keep"}})),
        ask("POST", format!("{base}ies"), 201).send(&policy),
        ask("POST", format!("{base}ybindings"), 201).send(&binding),
        denied,
        ask("DELETE", format!("{base}ybindings/{namespace}"), 200),
        ask("DELETE", format!("{base}ies/{namespace}"), 200),
    ];
    if std::env::var_os("LATTICE_CONTRACT_KUBECONFIG").is_some() {
        // A policy may be in force a moment later.
        steps.remove(3);
    }
    vec![case("admission", "a deletion can be denied", steps)]
}

fn definitions(group: &str) -> Vec<Case> {
    let define = |spec: Value, status: u16| {
        ask("POST", DEFINITIONS, status).send(&json!({
            "metadata": {"name": format!("others.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": {"plural": "others", "kind": "Other"},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": spec}}}}]},
        }))
    };
    let of = |field: Value| json!({"type": "object", "properties": {"a": field}});
    let ruled = |schema: Value, rule: &str| {
        let mut out = schema;
        out["x-kubernetes-validations"] = json!([{"rule": rule}]);
        out
    };
    let text = json!({"type": "string"});
    vec![
        case(
            "crds",
            "schemas that were read otherwise",
            vec![
                define(of(json!({"type": "array", "items": [text]})), 422).says("items"),
                define(of(json!({"type": "object", "additionalProperties": false})), 201),
                define(ruled(of(text.clone()), "self.?a.orValue('z') == 'z'"), 201),
                define(ruled(of(text), "self.?a.hasValue()"), 201),
            ],
        ),
        case(
            "crds",
            "a definition without anything names all that is missing",
            vec![
                ask("POST", DEFINITIONS, 422)
                    .send(&json!({"metadata": {"name": format!("others.{group}")}}))
                    .says("Invalid value: null: must have exactly one version marked as storage version"),
            ],
        ),
    ]
}

fn applies(namespace: &str) -> Vec<Case> {
    let maps = format!("/api/v1/namespaces/{namespace}/configmaps");
    let deployments = format!("/apis/apps/v1/namespaces/{namespace}/deployments");
    let apply = |path: String, body: &str, status: u16| {
        ask("PATCH", format!("{path}?fieldManager=m"), status).header("content-type", APPLY).text(body)
    };
    let scale =
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 4}});
    vec![
        case(
            "apply",
            "bodies that are no objects",
            vec![
                apply(format!("{maps}/w"), "a: [", 400).says("did not find expected node content"),
                apply(format!("{maps}/w"), "[]", 400)
                    .says("cannot unmarshal array into Go value of type map[string]interface {}"),
                apply(
                    format!("{maps}/w"),
                    &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "w"}, "immutable": "yes"})
                        .to_string(),
                    500,
                )
                .says(".immutable: expected boolean"),
            ],
        ),
        case(
            "apply",
            "a scale is owned by who applied it",
            vec![
                ask("POST", &deployments, 201).send(&json!({"metadata": {"name": "d"}, "spec": {"replicas": 1,
                    "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
                    "spec": {"containers": [{"name": "c", "image": "i"}]}}}})),
                apply(format!("{deployments}/d/scale"), &scale.to_string(), 409),
                ask("PATCH", format!("{deployments}/d/scale?fieldManager=m&force=true"), 200)
                    .header("content-type", APPLY)
                    .send(&scale),
                ask("GET", format!("{deployments}/d"), 200)
                    .at("/metadata/managedFields/0/subresource", "scale")
                    .at("/metadata/managedFields/0/apiVersion", "apps/v1"),
            ],
        ),
    ]
}

fn requests(namespace: &str) -> Vec<Case> {
    let core = format!("/api/v1/namespaces/{namespace}");
    let roles = "/apis/rbac.authorization.k8s.io/v1/clusterroles";
    let bindings = format!("/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace}/rolebindings");
    vec![
        case(
            "auth",
            "the roles that a server begins with",
            vec![
                ask("GET", format!("{roles}/system:node"), 200)
                    .at("/metadata/labels/kubernetes.io~1bootstrapping", "rbac-defaults"),
                ask("GET", format!("{roles}/system:aggregate-to-view"), 200)
                    .at("/metadata/managedFields/0/manager", "kube-apiserver"),
                ask("GET", format!("{roles}/system:controller:job-controller"), 200),
                ask("POST", &bindings, 201)
                    .send(&json!({"metadata": {"name": "b"}, "roleRef": {"kind": "Role", "name": "none"},
                        "subjects": [{"kind": "User", "name": "suite-lost"}]}))
                    .at("/roleRef/apiGroup", "rbac.authorization.k8s.io"),
            ],
        ),
        case(
            "encoding",
            "values of the wrong kind are named",
            vec![
                ask("POST", format!("{core}/secrets"), 400)
                    .send(&json!({"metadata": {"name": "s"}, "data": {"a": 1}}))
                    .says("Go struct field Secret.data of type []uint8"),
                ask("POST", format!("{core}/secrets"), 201)
                    .send(&json!({"metadata": {"name": "s"}, "data": {"a": null}}))
                    .at("/data/a", ""),
            ],
        ),
        case(
            "discovery",
            "more is found than resources",
            vec![
                ask("GET", "/.well-known/openid-configuration", 200).at("/subject_types_supported/0", "public"),
                ask("GET", "/openid/v1/jwks", 200),
                ask("POST", "/apis/apps/v1", 405),
            ],
        ),
        case(
            "concurrency",
            "a version in a patch is a text",
            vec![
                ask("POST", format!("{core}/configmaps"), 201).send(&json!({"metadata": {"name": "a"}})),
                ask("PATCH", format!("{core}/configmaps/a"), 422).send(&json!({"metadata": {"resourceVersion": 5}})),
                ask("PATCH", format!("{core}/configmaps/none"), 404).text("["),
            ],
        ),
    ]
}
