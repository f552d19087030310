//! From a request to its answer.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use http::header::CONTENT_TYPE;
use http_body_util::BodyExt as _;
use serde_json::Value;

use super::accept::{self, Accepted, Place};
use super::pages::Page;
use super::path::{Asked, Target};
use super::respond::{self, Answer};
use super::{Request, Response};
use super::{admin, method};
use crate::auth::{self, User, impersonation, rbac, reviews};
use crate::core::Core;
use crate::discovery;
use crate::faults::{self, Dropped, Effect};
use crate::kinds::{self, Resource};
use crate::kubelets;
use crate::metrics::Labels;
use crate::options::{DeleteOptions, ListOptions, Query, WriteOptions};
use crate::patch;
use crate::protobuf;
use crate::rest::list::Selection;
use crate::rest::{Outcome, Write, create, delete, list, patch as rest_patch, scale, serve, update, watch};
use crate::schema::formats;
use crate::selector::{self, field::FieldSelector};
use crate::status::{Result, Status};
use crate::view::{Include, Shown};

/// Bytes of a request's body.
const BODY_MAX: usize = 3 << 20;

/// The user that a transport vouches for (a client certificate, or the embedder).
#[derive(Clone, Debug)]
pub(crate) struct Peer(pub(crate) User);

/// Answers a request.
pub(crate) async fn handle(core: &Arc<Core>, request: Request) -> std::result::Result<Response, Dropped> {
    let (parts, body) = request.into_parts();
    let query = Query::parse(parts.uri.query().unwrap_or_default());
    let asked = Asked::of(&parts.method, parts.uri.path(), &query);
    let mut accepted = Accepted::default();
    let mut call = Call { core, parts: &parts, query: &query, asked: &asked, effects: Vec::new() };
    let answer = call.answer(body, &mut accepted).await;
    let effects = call.effects;
    let mut response = respond::write(answer, &accepted, &parts.headers);
    respond::date(&mut response, &core.config.clock);
    count(core, &asked, &parts.headers, response.status().as_u16());
    if effects.contains(&Effect::LoseAnswer) {
        return Err(Dropped);
    }
    Ok(if effects.contains(&Effect::Cut) { faults::cut(response) } else { response })
}

/// Counts a request under the verb that kube-apiserver reports: a write by its method, an apply apart from a patch.
fn count(core: &Core, asked: &Asked, headers: &HeaderMap, code: u16) {
    let target = asked.target.clone().unwrap_or_default();
    let applied = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/apply-patch"));
    let verb = match asked.verb.to_uppercase().as_str() {
        "CREATE" => "POST".to_owned(),
        "UPDATE" => "PUT".to_owned(),
        "PATCH" if applied => "APPLY".to_owned(),
        verb => verb.to_owned(),
    };
    core.metrics.count(Labels {
        verb,
        group: target.group,
        version: target.version,
        resource: target.resource,
        subresource: target.subresource,
        code,
    });
}

struct Call<'a> {
    core: &'a Arc<Core>,
    parts: &'a http::request::Parts,
    query: &'a Query,
    asked: &'a Asked,
    /// The faults that strike the request.
    effects: Vec<Effect>,
}

impl Call<'_> {
    fn header(&self, name: &str) -> &str {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    async fn answer(&mut self, body: super::Body, accepted: &mut Accepted) -> Result<Answer> {
        let peer = self.parts.extensions.get::<Peer>().map(|peer| &peer.0);
        let mut user = auth::authenticate(self.core, &self.parts.headers, peer)?;
        let attributes = self.asked.attributes();
        if let Some(wanted) = impersonation::wanted(&self.parts.headers)? {
            user = impersonation::check(self.core, &user, &wanted, &attributes)?;
        }
        let decision = rbac::decide(self.core, &user, &attributes);
        if !decision.allowed {
            return Err(rbac::refusal_because(&user, &attributes, &decision.reason));
        }
        self.check_timeout()?;
        match &self.asked.target {
            Some(target) => self.resource(target, &user, body, accepted).await,
            None if self.asked.path.starts_with("/faults") => {
                admin::answer(self.core, self.parts.method.as_str(), &self.asked.path, &read(body).await?)
            }
            None => {
                Page { core: self.core, parts: self.parts, query: self.query, path: &self.asked.path }.answer(accepted)
            }
        }
    }

    fn check_timeout(&self) -> Result<()> {
        let text = self.query.get("timeout");
        if text.is_empty() || formats::duration(text).is_some() {
            return Ok(());
        }
        let why = formats::bad_duration(text);
        Err(Status::bad_request(format!("invalid timeout specified in the request URL - time: {why}")))
    }

    /// Answers what only a kubelet could where there are none.
    fn no_kubelet(&self, resource: &Resource, target: &Target) -> Result<Answer> {
        let pod = self.core.stored(resource, &target.namespace, &target.name)?.value();
        crate::pods::asked_of_one(&pod, &target.subresource, |key| self.query.get(key).to_owned())?;
        let node = crate::json::text(&pod, &["spec", "nodeName"]);
        if !node.is_empty() && self.core.builtin("nodes", "", node).is_none() {
            return Err(Status::not_found(&resource.target(), node));
        }
        match target.subresource.as_str() {
            // A pod that runs nowhere has no log.
            "log" if node.is_empty() => {
                Ok(Answer::Text { code: 204, content_type: "text/plain", text: String::new(), headers: Vec::new() })
            }
            "log" => Ok(Answer::text(String::new())),
            _ => Err(Status::bad_request(format!("pod {} does not have a host assigned", target.name))),
        }
    }

    /// Returns as of which revision a read is answered that a fault makes stale.
    fn stale(&self) -> Option<u64> {
        self.effects.iter().find_map(|effect| match effect {
            Effect::Stale { revisions } => Some(self.core.store.revision().saturating_sub(*revisions).max(1)),
            _ => None,
        })
    }

    async fn resource(
        &mut self,
        target: &Target,
        user: &User,
        body: super::Body,
        accepted: &mut Accepted,
    ) -> Result<Answer> {
        let kinds = self.core.registry.now();
        let resource = kinds
            .find(&target.group, &target.version, &target.resource)
            .ok_or_else(|| discovery::no_resource(&target.group))?;
        method::check(self.parts.method.as_str(), &resource, target)?;
        self.effects = self.core.faults.strike(faults::Asked {
            verb: &self.asked.verb,
            kind: &resource.kind,
            plural: &resource.plural,
            namespace: &target.namespace,
            name: &target.name,
            user: &user.name,
        });
        faults::before(&self.effects).await?;
        let place = match (resource.is_custom(), target.name.is_empty() && self.asked.verb != "create") {
            (true, _) => Place::Other,
            (false, true) => Place::BuiltInList,
            (false, false) => Place::BuiltInObject,
        };
        let binary = !resource.is_custom() && protobuf::write::has_form(&resource.api_version(), &resource.kind);
        let include = Include::parse(self.query.get("includeObject"));
        *accepted = accept::choose(self.header("accept"), include.clone().unwrap_or_default(), place, binary)?;
        if resource.is("", "Pod") && matches!(target.subresource.as_str(), "log" | "exec" | "attach" | "portforward") {
            let call = kubelets::PodCall {
                namespace: target.namespace.clone(),
                pod: target.name.clone(),
                subresource: target.subresource.clone(),
            };
            let request = || http::Request::from_parts(self.parts.clone(), body);
            return match self.core.kubelets.answer(call, request) {
                Some(answer) => Ok(Answer::Ready(Box::new(respond::ReadyResponse(answer.await)))),
                None => self.no_kubelet(&resource, target),
            };
        }
        let bytes = read(body).await?;
        let answer = self.verb(&resource, target, user, &bytes, accepted).await;
        // What a table should hold is looked at once there is something to show.
        let answer = if accepted.shown.is_table() { answer.and_then(|shown| include.map(|_| shown)) } else { answer };
        let deprecated = match resource.plural.as_str() {
            "endpoints" if resource.group.is_empty() => {
                Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice".to_owned())
            }
            "componentstatuses" => Some("v1 ComponentStatus is deprecated in v1.19+".to_owned()),
            _ => resource.custom().and_then(|custom| custom.warning.clone()),
        };
        let Some(warning) = deprecated else { return answer };
        let mut answer = answer.map_err(|status| status.with_warnings(vec![warning.clone()]))?;
        match &mut answer {
            Answer::Object { warnings, .. } | Answer::Watch { warnings, .. } => warnings.insert(0, warning),
            Answer::Text { .. } | Answer::Ready(_) => {}
        }
        Ok(answer)
    }

    async fn verb(
        &self,
        resource: &Arc<Resource>,
        target: &Target,
        user: &User,
        bytes: &[u8],
        accepted: &Accepted,
    ) -> Result<Answer> {
        let shown = accepted.shown;
        match self.asked.verb.as_str() {
            "get" => self.get(resource, target, shown).await,
            "list" => {
                let mut options = ListOptions::parse(self.query, false)?;
                if let Some(revision) = self.stale() {
                    options.exact = true;
                    options.resource_version = revision.to_string();
                }
                let selection = self.selection(resource, target)?;
                let listed = list::list(self.core, resource, &selection, &options).await?;
                Ok(Answer::ok(shown.list(self.core, resource, listed)?))
            }
            "watch" => {
                let options = ListOptions::parse(self.query, true)?;
                let selection = self.selection(resource, target)?;
                let mut watch = watch::start(self.core, resource, selection, &options, (shown, accepted.encoding))?;
                watch.spoil(&self.effects);
                Ok(Answer::Watch { watch: Box::new(watch), warnings: Vec::new() })
            }
            "deletecollection" => self.delete_all(resource, target, user, bytes, shown).await,
            verb => {
                let outcome = self.write(verb, resource, target, user, bytes, shown).await?;
                Ok(outcome)
            }
        }
    }

    fn selection(&self, resource: &Resource, target: &Target) -> Result<Selection> {
        let labels = selector::parse(self.query.get("labelSelector")).map_err(Status::bad_request)?;
        let mut fields = self.query.get("fieldSelector").to_owned();
        if target.watch && !target.name.is_empty() {
            fields = format!("metadata.name={}", target.name);
        }
        Ok(Selection {
            namespace: if resource.namespaced { target.namespace.clone() } else { String::new() },
            labels,
            fields: FieldSelector::parse(resource, &fields)?,
        })
    }

    async fn get(&self, resource: &Arc<Resource>, target: &Target, shown: Shown) -> Result<Answer> {
        if matches!(self.query.get("export"), "1" | "t" | "T" | "true" | "TRUE" | "True") {
            let text = "the export parameter, deprecated since v1.14, is no longer supported";
            return Err(Status::bad_request(text));
        }
        let asked = list::revision(self.query.get("resourceVersion"))
            .map_err(|status| Status::unforeseen(status.message.trim_start_matches("invalid resource version: ")))?;
        if asked > self.core.store.revision() {
            list::wait_for(self.core, asked).await?;
        }
        if target.subresource == "scale" {
            let scale = scale::get(self.core, resource, &target.namespace, &target.name)?;
            return Ok(Answer::ok(shown.one(self.core, resource, scale)?));
        }
        let mut stored = self.core.stored(resource, &target.namespace, &target.name)?;
        if let Some(revision) = self.stale()
            && let Ok(old) = self.core.store.list_at(&resource.storage, &target.namespace, revision)
        {
            stored = old
                .into_iter()
                .find(|old| *old.key.name == *target.name)
                .ok_or_else(|| Status::not_found(&resource.target(), &target.name))?;
        }
        Ok(Answer::ok(shown.one(self.core, resource, serve::served(resource, &stored))?))
    }

    async fn write(
        &self,
        verb: &str,
        resource: &Arc<Resource>,
        target: &Target,
        user: &User,
        bytes: &[u8],
        shown: Shown,
    ) -> Result<Answer> {
        let content_type = self.header("content-type");
        let media = content_type.split(';').next().unwrap_or_default().trim().to_owned();
        let patch = if verb == "patch" { Some(Self::patch_kind(resource, &media)?) } else { None };
        if matches!(verb, "create" | "update") {
            crate::rest::decode::check_media(content_type)?;
        }
        let kind = match verb {
            "create" => "CreateOptions",
            "update" => "UpdateOptions",
            _ => "PatchOptions",
        };
        let apply = patch.map(|kind| kind == patch::Kind::Apply);
        let options = if verb == "delete" {
            WriteOptions::default()
        } else {
            WriteOptions::parse(self.query, self.header("user-agent"), kind, apply)?
        };
        let mut write = Write {
            resource,
            namespace: &target.namespace,
            name: &target.name,
            subresource: &target.subresource,
            options,
            user,
        };
        if !resource.namespaced {
            write.namespace = "";
        }
        if verb == "delete" {
            return self.delete(write, bytes, shown).await;
        }
        let scaled = target.subresource == "scale";
        let outcome = match (verb, patch) {
            ("create", _) => self.create(&write, bytes, content_type).await?,
            ("update", _) if scaled => scale::replace(self.core, &write, bytes, content_type).await?,
            ("update", _) => update::from_body(self.core, &write, bytes, content_type).await?,
            (_, Some(kind)) if scaled => scale::patch(self.core, &write, bytes, kind).await?,
            (_, Some(kind)) => rest_patch::from_body(self.core, &write, bytes, kind).await?,
            _ => return Err(Status::method_not_allowed()),
        };
        let Outcome { object, created, warnings } = outcome;
        let whole = !scaled && object["kind"] != resource.kind.as_str();
        let value = if whole { object } else { shown.one(self.core, resource, object)? };
        Ok(Answer::Object { code: if created { 201 } else { 200 }, value, warnings })
    }

    fn patch_kind(resource: &Resource, media: &str) -> Result<patch::Kind> {
        match patch::Kind::of(media) {
            Some(patch::Kind::Strategic) | None if resource.is_custom() => {
                let text = "the body of the request was in an unknown format - accepted media types include: \
                            application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
                Err(Status::new(415, "UnsupportedMediaType", text))
            }
            Some(kind) => Ok(kind),
            None => {
                let text = "415: Unsupported Media Type";
                Err(Status::new(415, "UnsupportedMediaType", text).with_empty_details())
            }
        }
    }

    async fn create(&self, write: &Write<'_>, bytes: &[u8], content_type: &str) -> Result<Outcome> {
        match (write.resource.group.as_str(), write.subresource) {
            ("authentication.k8s.io" | "authorization.k8s.io", "") => {
                reviews::answer(self.core, write, bytes, content_type)
            }
            ("", "token") => reviews::token(self.core, write, bytes, content_type),
            ("", "binding") => crate::pods::bind(self.core, write, bytes, content_type).await,
            ("", "") if write.resource.is("", "Binding") => {
                let kinds = self.core.registry.now();
                let pods = kinds.find("", "v1", "pods").ok_or_else(Status::no_resource)?;
                crate::pods::bind_named(self.core, write, &pods, bytes, content_type).await
            }
            ("", "eviction") => crate::pods::evict(self.core, write, bytes, content_type).await,
            (_, "") => create::from_body(self.core, write, bytes, content_type).await,
            _ => Err(Status::method_not_allowed()),
        }
    }

    fn delete_options(&self, bytes: &[u8]) -> Result<DeleteOptions> {
        let body: Option<Value> = if bytes.is_empty() {
            None
        } else {
            let parsed = match self.header("content-type").split(';').next().unwrap_or_default().trim() {
                "application/yaml" => crate::json::parse_yaml(bytes),
                protobuf::MEDIA => protobuf::read(bytes, kinds::node_of)
                    .map(crate::json::Parsed::plain)
                    .ok_or_else(|| "not protobuf".to_owned()),
                "" | "application/json" => crate::json::parse(bytes),
                _ => return Err(crate::rest::decode::unknown_media()),
            };
            Some(
                parsed
                    .map_err(|error| {
                        Status::bad_request(format!("couldn't get version/kind; json parse error: {error}"))
                    })?
                    .value,
            )
        };
        let body = body.map(crate::rest::decode::delete_options).transpose()?;
        DeleteOptions::parse(self.query, body.as_ref())
    }

    async fn delete(&self, mut write: Write<'_>, bytes: &[u8], shown: Shown) -> Result<Answer> {
        let options = self.delete_options(bytes)?;
        write.options.dry_run = options.dry_run;
        let resource = write.resource;
        let mut warnings = delete::warnings(resource, &options);
        let deleted = delete::one(self.core, &write, &options).await;
        let deleted = deleted.map_err(|status| status.with_warnings(warnings.clone()))?;
        warnings.extend(deleted.warnings);
        let value = if deleted.is_object { shown.one(self.core, resource, deleted.answer)? } else { deleted.answer };
        let code = if options.told_pending && !deleted.gone { 202 } else { 200 };
        Ok(Answer::Object { code, value, warnings })
    }

    async fn delete_all(
        &self,
        resource: &Arc<Resource>,
        target: &Target,
        user: &User,
        bytes: &[u8],
        shown: Shown,
    ) -> Result<Answer> {
        let selection = self.selection(resource, target)?;
        let listing = ListOptions::parse(self.query, false)?;
        let options = self.delete_options(bytes)?;
        let listed = list::list(self.core, resource, &selection, &listing).await?;
        let mut warnings = delete::warnings(resource, &options);
        for object in &listed.items {
            let write = Write {
                resource,
                namespace: crate::meta::namespace(object),
                name: crate::meta::name(object),
                subresource: "",
                options: WriteOptions { dry_run: options.dry_run, of_many: true, ..WriteOptions::default() },
                user,
            };
            match delete::one(self.core, &write, &options).await {
                Err(status) if status.code != 404 => return Err(status),
                Err(_) => {}
                Ok(deleted) => {
                    let new = deleted.warnings.into_iter().filter(|warning| !warnings.contains(warning));
                    warnings.extend(new.collect::<Vec<_>>());
                }
            }
        }
        Ok(Answer::Object { code: 200, value: shown.list(self.core, resource, listed)?, warnings })
    }
}

async fn read(mut body: super::Body) -> Result<Bytes> {
    let mut out = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Status::bad_request("the body of the request could not be read"))?;
        if let Ok(data) = frame.into_data() {
            if out.len() + data.len() > BODY_MAX {
                let text = format!("Request entity too large: limit is {BODY_MAX}");
                return Err(Status::new(413, "RequestEntityTooLarge", text));
            }
            out.extend_from_slice(&data);
        }
    }
    Ok(out.freeze())
}
