//! An API server in this process: it keeps objects as JSON and takes the writes that are made here, so that a test may look on
//! between two of them.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::{Arc, Mutex};

use hyper::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use serde_json::{Value, json};
use tower::service_fn;

/// Objects by their path.
type Objects = BTreeMap<String, Value>;

/// Answers that come in place of what was asked for, by method.
type Answers = Vec<(Method, u16)>;

/// In place of a status: what is asked for is done, and the answer is lost.
const NEVER: u16 = 0;

/// What happens before a write.
type Before = Box<dyn FnMut(&mut Objects) + Send>;

/// What happens after a write.
type After = Box<dyn FnMut(&mut Objects, &mut Answers) + Send>;

#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<State>>);

#[derive(Default)]
struct State {
    objects: Objects,
    /// Method and path of each write.
    writes: Vec<String>,
    answers: Answers,
    before: Option<Before>,
    after: Option<After>,
}

impl Server {
    pub(super) fn with(objects: impl IntoIterator<Item = (&'static str, Value)>) -> Self {
        let server = Self::default();
        let objects = objects.into_iter().map(|(path, object)| (path.to_owned(), object));
        server.0.lock().unwrap().objects = objects.collect();
        server
    }

    pub(super) fn client(&self) -> Client {
        let server = self.clone();
        let answer = service_fn(move |request: Request<Body>| {
            let server = server.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(axum::body::Body::new(body), usize::MAX).await.unwrap();
                let body = serde_json::from_slice(&body).unwrap_or_default();
                let is_dry = head.uri.query().is_some_and(|query| query.contains("dryRun=All"));
                let (code, answer) = server.answer(&head.method, head.uri.path(), &body, is_dry);
                if code == NEVER {
                    pending::<()>().await;
                }
                let mut response = Response::new(axum::body::Body::from(answer.to_string()));
                *response.status_mut() = code.try_into().unwrap();
                Ok::<_, Infallible>(response)
            }
        });
        Client::new(answer, "prod")
    }

    pub(super) fn writes(&self) -> Vec<String> {
        self.0.lock().unwrap().writes.clone()
    }

    pub(super) fn at(&self, path: &str, pointer: &str) -> Value {
        let state = self.0.lock().unwrap();
        state.objects.get(path).and_then(|object| object.pointer(pointer)).cloned().unwrap_or_default()
    }

    /// Answers the next request of this sort with a status.
    pub(super) fn fail(&self, method: Method, code: u16) {
        self.0.lock().unwrap().answers.push((method, code));
    }

    /// Does what the next request of this sort asks for, and never answers.
    pub(super) fn lose_answer(&self, method: Method) {
        self.fail(method, NEVER);
    }

    /// Does this before each write, which was decided by then.
    pub(super) fn before_each_write(&self, before: impl FnMut(&mut Objects) + Send + 'static) {
        self.0.lock().unwrap().before = Some(Box::new(before));
    }

    /// Does this after each write.
    pub(super) fn after_each_write(&self, after: impl FnMut(&mut Objects, &mut Answers) + Send + 'static) {
        self.0.lock().unwrap().after = Some(Box::new(after));
    }

    fn answer(&self, method: &Method, path: &str, body: &Value, is_dry: bool) -> (u16, Value) {
        let mut state = self.0.lock().unwrap();
        let mut is_lost = false;
        if let Some(index) = state.answers.iter().position(|(of, _)| of == method) {
            let (_, code) = state.answers.remove(index);
            if code != NEVER {
                return (code, status(code));
            }
            is_lost = true;
        }
        if is_dry {
            let kept = state.objects.clone();
            let answer = state.take(method, path, body);
            state.objects = kept;
            return answer;
        }
        if let (true, State { before: Some(before), objects, .. }) = (*method != Method::GET, &mut *state) {
            before(objects);
        }
        let answer = state.take(method, path, body);
        if *method != Method::GET {
            state.writes.push(format!("{method} {path}"));
            let State { after, objects, answers, .. } = &mut *state;
            if let Some(after) = after {
                after(objects, answers);
            }
        }
        if is_lost { (NEVER, Value::Null) } else { answer }
    }
}

impl State {
    fn take(&mut self, method: &Method, path: &str, body: &Value) -> (u16, Value) {
        let within = format!("{path}/");
        // The kind's plural comes last.
        let is_list = path.split_once("/namespaces/").is_some_and(|(_, rest)| rest.matches('/').count() == 1);
        match self.objects.get_mut(path) {
            None if *method == Method::GET && is_list => {
                let items: Vec<&Value> = self
                    .objects
                    .iter()
                    .filter(|(known, _)| known.starts_with(&within))
                    .map(|(_, found)| found)
                    .collect();
                (200, json!({ "metadata": {}, "items": items }))
            }
            None if *method == Method::POST => {
                let name = body["metadata"]["name"].as_str().unwrap_or_default();
                self.objects.insert(format!("{path}/{name}"), body.clone());
                (201, body.clone())
            }
            None => (404, status(404)),
            Some(found) if *method == Method::PATCH => match patched(found, body) {
                Some(()) => (200, found.clone()),
                None => (422, status(422)),
            },
            Some(_) if *method == Method::DELETE => (200, self.objects.remove(path).unwrap_or_default()),
            Some(found) => (200, found.clone()),
        }
    }
}

/// Does the operations of a JSON Patch, all or none.
fn patched(object: &mut Value, operations: &Value) -> Option<()> {
    let mut new = object.clone();
    for operation in operations.as_array()? {
        let (path, value) = (operation["path"].as_str()?, operation["value"].clone());
        if operation["op"] == "test" {
            if new.pointer(path) != Some(&value) {
                return None;
            }
            continue;
        }
        let (parent, key) = path.rsplit_once('/')?;
        let key = key.replace("~1", "/").replace("~0", "~");
        new.pointer_mut(parent)?.as_object_mut()?.insert(key, value);
    }
    for counter in ["/metadata/generation", "/metadata/resourceVersion"] {
        let counted = new.pointer_mut(counter);
        match counted {
            Some(Value::String(version)) => *version = format!("{version}1"),
            Some(counted @ Value::Number(_)) => *counted = json!(counted.as_i64()? + 1),
            Some(_) | None => {}
        }
    }
    *object = new;
    Some(())
}

fn status(code: u16) -> Value {
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "code": code, "reason": if code == 404 { "NotFound" } else { "" }, "message": "as told",
    })
}
