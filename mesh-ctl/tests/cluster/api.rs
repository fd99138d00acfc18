//! A small API server over HTTP on loopback: any kind of object, by the paths of the real one.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use futures::StreamExt;
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

/// Answers a create of that kind instead of storing it.
type Hook = Arc<dyn Fn(&Value) -> Result<Value, u16> + Send + Sync>;

#[derive(Default)]
struct Inner {
    version: u64,
    /// Object by path, `/api/v1/namespaces/shop/secrets/x`.
    objects: BTreeMap<String, Value>,
    /// Every event so far, by version, for those who watch: the object's path and the event.
    watchers: Vec<(Selection, mpsc::UnboundedSender<Value>)>,
    log: Vec<(u64, String, Value)>,
    hooks: HashMap<String, Hook>,
    /// Answered with this code while set.
    failing: Option<u16>,
    requests: Vec<String>,
}

#[derive(Clone)]
pub(crate) struct ApiServer {
    inner: Arc<Mutex<Inner>>,
    pub(crate) address: SocketAddr,
}

impl ApiServer {
    pub(crate) async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let this = Self {
            inner: Arc::default(),
            address,
        };
        let router = Router::new().fallback(serve).with_state(this.clone());
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        this
    }

    pub(crate) fn client(&self) -> Client {
        let url = format!("http://{}", self.address).parse().unwrap();
        Client::try_from(kube::Config::new(url)).unwrap()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap()
    }

    /// Every request is answered with that code, until `None`.
    pub(crate) fn fail_with(&self, code: Option<u16>) {
        self.inner().failing = code;
    }

    pub(crate) fn object(&self, path: &str) -> Option<Value> {
        self.inner().objects.get(path).cloned()
    }

    /// Writes as somebody else would.
    pub(crate) fn edit(&self, path: &str, edit: impl FnOnce(&mut Value)) {
        let mut inner = self.inner();
        let mut object = inner.objects.get(path).cloned().unwrap();
        edit(&mut object);
        inner.store(path, object, "MODIFIED");
    }

    /// Removes as somebody else would.
    pub(crate) fn delete(&self, path: &str) {
        let mut inner = self.inner();
        let object = inner.objects.get(path).cloned().unwrap();
        inner.store(path, object, "DELETED");
    }

    /// Creates as somebody else would.
    pub(crate) fn create(&self, path: &str, object: Value) {
        self.inner().store(path, object, "ADDED");
    }

    /// Answers creates in that collection.
    pub(crate) fn answer(
        &self,
        path: &str,
        hook: impl Fn(&Value) -> Result<Value, u16> + Send + Sync + 'static,
    ) {
        self.inner().hooks.insert(path.into(), Arc::new(hook));
    }

    /// Creates are stored again.
    pub(crate) fn forget(&self, path: &str) {
        self.inner().hooks.remove(path);
    }

    /// A kubeconfig file in `directory` that leads here.
    pub(crate) fn kubeconfig(&self, directory: &Path) -> PathBuf {
        let path = directory.join("kubeconfig");
        let content = format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: test\n\
             clusters: [{{name: test, cluster: {{server: \"http://{}\"}}}}]\n\
             users: [{{name: test, user: {{}}}}]\n\
             contexts: [{{name: test, context: {{cluster: test, user: test}}}}]\n",
            self.address
        );
        std::fs::write(&path, content).unwrap();
        path
    }

    /// How many requests of that method and path there were.
    pub(crate) fn asked(&self, method: &str, path: &str) -> usize {
        let wanted = format!("{method} {path}");
        let inner = self.inner();
        inner.requests.iter().filter(|r| **r == wanted).count()
    }
}

impl Inner {
    fn store(&mut self, path: &str, mut object: Value, event: &str) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        if event == "ADDED" {
            object["metadata"]["uid"] = format!("uid-{}", self.version).into();
        }
        if event == "DELETED" {
            self.objects.remove(path);
        } else {
            self.objects.insert(path.into(), object.clone());
        }
        let event = json!({"type": event, "object": object});
        self.log.push((self.version, path.into(), event.clone()));
        self.watchers.retain(|(selection, sender)| {
            !selection.takes(path, &object) || sender.send(event.clone()).is_ok()
        });
        object
    }
}

/// A collection, in one namespace or all, and what of it.
#[derive(Clone)]
struct Selection {
    prefix: String,
    namespace: Option<String>,
    plural: String,
    name: Option<String>,
    label: Option<(String, String)>,
}

impl Selection {
    fn of(path: &str, query: &HashMap<String, String>) -> Self {
        let (prefix, namespace, plural) = split(path);
        let pair = |key: &str| {
            let (key, value) = query.get(key)?.split_once('=')?;
            Some((key.to_owned(), value.to_owned()))
        };
        Self {
            prefix,
            namespace,
            plural,
            name: pair("fieldSelector").map(|(_, name)| name),
            label: pair("labelSelector"),
        }
    }

    fn takes(&self, path: &str, object: &Value) -> bool {
        let (collection, name) = path.rsplit_once('/').unwrap();
        let (prefix, namespace, plural) = split(collection);
        let label = |(key, value): &(String, String)| object["metadata"]["labels"][key] == **value;
        prefix == self.prefix
            && plural == self.plural
            && (self.namespace.is_none() || self.namespace == namespace)
            && self.name.as_deref().is_none_or(|wanted| wanted == name)
            && self.label.as_ref().is_none_or(label)
    }
}

/// `/api/v1`, the namespace and the plural of a collection's path.
fn split(collection: &str) -> (String, Option<String>, String) {
    let (before, plural) = collection.rsplit_once('/').unwrap();
    match before.rsplit_once("/namespaces/") {
        Some((prefix, namespace)) => (prefix.into(), Some(namespace.into()), plural.into()),
        None => (before.into(), None, plural.into()),
    }
}

fn failure(code: u16, reason: &str) -> Response {
    let code = StatusCode::from_u16(code).unwrap();
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code.as_u16(),
        "reason": reason, "message": format!("the test's API server says {reason}"),
    });
    (code, Json(status)).into_response()
}

async fn serve(
    State(server): State<ApiServer>,
    method: Method,
    uri: Uri,
    Query(query): Query<HashMap<String, String>>,
    body: Bytes,
) -> Response {
    let path = uri.path().trim_end_matches('/').to_owned();
    let mut inner = server.inner();
    inner.requests.push(format!("{method} {path}"));
    if let Some(code) = inner.failing {
        return failure(code, "InternalError");
    }
    match method {
        Method::POST => {
            let mut object: Value = serde_json::from_slice(&body).unwrap();
            if let Some(hook) = inner.hooks.get(&path).cloned() {
                // It may use the server itself.
                drop(inner);
                return match hook(&object) {
                    Ok(answer) => (StatusCode::CREATED, Json(answer)).into_response(),
                    Err(code) => failure(code, "Hook"),
                };
            }
            let name = object["metadata"]["name"].as_str().unwrap().to_owned();
            if let Some(namespace) = split(&path).1 {
                object["metadata"]["namespace"] = namespace.into();
            }
            let path = format!("{path}/{name}");
            if inner.objects.contains_key(&path) {
                return failure(409, "AlreadyExists");
            }
            (
                StatusCode::CREATED,
                Json(inner.store(&path, object, "ADDED")),
            )
                .into_response()
        }
        Method::PUT => {
            let object: Value = serde_json::from_slice(&body).unwrap();
            let Some(current) = inner.objects.get(&path) else {
                return failure(404, "NotFound");
            };
            let version = &object["metadata"]["resourceVersion"];
            if !version.is_null() && *version != current["metadata"]["resourceVersion"] {
                return failure(409, "Conflict");
            }
            Json(inner.store(&path, object, "MODIFIED")).into_response()
        }
        Method::PATCH => {
            let patch: Value = serde_json::from_slice(&body).unwrap();
            let Some(mut object) = inner.objects.get(&path).cloned() else {
                return failure(404, "NotFound");
            };
            merge(&mut object, &patch);
            Json(inner.store(&path, object, "MODIFIED")).into_response()
        }
        Method::DELETE => match inner.objects.get(&path).cloned() {
            Some(object) => Json(inner.store(&path, object, "DELETED")).into_response(),
            None => failure(404, "NotFound"),
        },
        Method::GET => match inner.objects.get(&path) {
            Some(object) => Json(object.clone()).into_response(),
            None if is_object(&path) => failure(404, "NotFound"),
            None if query.contains_key("watch") => watch(&mut inner, &path, &query),
            None => {
                let selection = Selection::of(&path, &query);
                let takes = |(path, object): &(&String, &Value)| selection.takes(path, object);
                let items: Vec<_> = inner.objects.iter().filter(takes).map(|(_, o)| o).collect();
                let version = inner.version.to_string();
                Json(json!({
                    "kind": "List", "apiVersion": "v1", "items": items,
                    "metadata": {"resourceVersion": version},
                }))
                .into_response()
            }
        },
        _ => failure(405, "MethodNotAllowed"),
    }
}

/// RFC 7396.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            target.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut target[key], value);
        }
    }
}

/// Whether a path names one object: a name follows the plural.
fn is_object(path: &str) -> bool {
    let parts: Vec<_> = path.split('/').collect();
    let rest = if parts[1] == "api" {
        &parts[3..]
    } else {
        &parts[4..]
    };
    matches!(rest, ["namespaces", _, _, _] | [_, _]) && !matches!(rest, ["namespaces", _, _])
}

fn watch(inner: &mut Inner, path: &str, query: &HashMap<String, String>) -> Response {
    let selection = Selection::of(path, query);
    let since: u64 = query
        .get("resourceVersion")
        .and_then(|v| v.parse().ok())
        .unwrap_or(inner.version);
    let (sender, events) = mpsc::unbounded_channel();
    for (version, path, event) in &inner.log {
        if *version > since && selection.takes(path, &event["object"]) {
            sender.send(event.clone()).unwrap();
        }
    }
    inner.watchers.push((selection, sender));
    let lines =
        UnboundedReceiverStream::new(events).map(|event| Ok::<_, Infallible>(format!("{event}\n")));
    Response::new(Body::from_stream(lines))
}
