//! The contract: every address is in `config/openapi.json`, and every answer that it promises happens.

use std::collections::BTreeSet;
use std::path::PathBuf;

use rollbackd::http::ROUTES;
use serde_json::Value;

use super::server::{JSON, Server, TOKEN};

fn contract() -> Value {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("config/openapi.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Method, path and each status that the contract promises.
fn promised(contract: &Value) -> BTreeSet<(String, String, u16)> {
    let mut all = BTreeSet::new();
    for (path, item) in contract["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap().iter().filter(|(key, _)| *key != "parameters") {
            for status in operation["responses"].as_object().unwrap().keys().filter(|key| *key != "default") {
                all.insert((method.clone(), path.clone(), status.parse().unwrap()));
            }
        }
    }
    all
}

#[test]
fn every_address_is_in_the_contract_and_no_other() {
    let contract = contract();
    let written: BTreeSet<_> = promised(&contract).into_iter().map(|(method, path, _)| (method, path)).collect();
    let served: BTreeSet<_> = ROUTES.iter().map(|route| (route.method.to_owned(), route.path.to_owned())).collect();
    assert_eq!(written, served);
}

#[test]
fn every_reference_in_the_contract_leads_somewhere() {
    fn references(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|field| references(field, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    let contract = contract();
    let mut found = Vec::new();
    references(&contract, &mut found);
    assert!(found.len() > 20);
    for reference in found {
        let pointer = reference.strip_prefix('#').unwrap_or_else(|| panic!("{reference} leads outside"));
        assert!(contract.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
}

/// What each kind of call is answered, by the address as the contract writes it.
struct Asked<'a> {
    server: &'a Server,
    answered: BTreeSet<(String, String, u16)>,
}

impl Asked<'_> {
    async fn get(&mut self, template: &str, path: &str) {
        let status = self.server.get(path).await.status;
        self.answered.insert(("get".to_owned(), template.to_owned(), status));
    }

    async fn post(&mut self, template: &str, path: &str, body: &str) -> Value {
        let answer = self.server.post(path, body).await;
        self.answered.insert(("post".to_owned(), template.to_owned(), answer.status));
        answer.json()
    }

    /// What every call that changes something is refused for, whatever it is.
    async fn refused(&mut self, template: &str, path: &str) {
        let token = format!("authorization: Bearer {TOKEN}\r\n");
        let big = format!("\"{}\"", "x".repeat(70_000));
        for (headers, body) in [
            (JSON.to_owned(), "{}"),
            (token.clone(), "{}"),
            (format!("{JSON}{token}"), "{"),
            (format!("{JSON}{token}"), big.as_str()),
            (format!("{JSON}{token}origin: http://evil.example.com\r\n"), "{}"),
        ] {
            self.server.pass(rollbackd::domain::time::Span::from_secs(1));
            let status = self.server.post_with(path, &headers, body).await.status;
            self.answered.insert(("post".to_owned(), template.to_owned(), status));
        }
        let mut status = 0;
        while status != 429 {
            status = self.server.post_with(path, JSON, "{}").await.status;
        }
        self.answered.insert(("post".to_owned(), template.to_owned(), status));
    }
}

#[tokio::test]
async fn every_answer_that_the_contract_promises_happens_and_no_other() {
    let mut server = Server::start().await;
    let mut answered = BTreeSet::new();
    let stream = super::listen(&server).await;
    answered.insert(("get".to_owned(), "/api/v1/events".to_owned(), 200));
    drop(stream);
    let request = "GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nlast-event-id: 7\r\n\r\n";
    answered.insert(("get".to_owned(), "/api/v1/events".to_owned(), server.send(request).await.status));
    let mut asked = Asked { server: &server, answered };
    reads(&mut asked).await;
    writes(&mut asked).await;
    let mut answered = asked.answered;
    server.stop_engine().await;
    let mut asked = Asked { server: &server, answered: BTreeSet::new() };
    without_engine(&mut asked).await;
    answered.append(&mut asked.answered);
    let mut streams = Vec::new();
    for _ in 0..rollbackd::http::LISTENER_LIMIT {
        streams.push(super::listen(&server).await);
    }
    answered.insert(("get".to_owned(), "/api/v1/events".to_owned(), server.get("/api/v1/events").await.status));
    let promised = promised(&contract());
    let kept: Vec<_> = promised.difference(&answered).collect();
    let unsaid: Vec<_> = answered.difference(&promised).collect();
    assert!(
        kept.is_empty() && unsaid.is_empty(),
        "promised, but never seen: {kept:?}\nseen, but not promised: {unsaid:?}"
    );
}

async fn reads(asked: &mut Asked<'_>) {
    let api = ["openapi.json", "leadership", "outbox", "workloads", "incidents"].map(|path| format!("/api/v1/{path}"));
    for path in ["/", "/livez", "/readyz", "/metrics"].into_iter().chain(api.iter().map(String::as_str)) {
        asked.get(path, path).await;
    }
    asked.get("/api/v1/incidents", "/api/v1/incidents?limit=none").await;
    for below in ["", "/explain", "/plan"] {
        let template = format!("/api/v1/workloads/{{workload}}{below}");
        for name in ["app", "none"] {
            asked.get(&template, &format!("/api/v1/workloads/{name}{below}")).await;
        }
    }
}

async fn writes(asked: &mut Asked<'_>) {
    let (rollback, pause, resume) = (
        "/api/v1/workloads/{workload}/rollback",
        "/api/v1/workloads/{workload}/pause",
        "/api/v1/workloads/{workload}/resume",
    );
    let (approve, reject) = ("/api/v1/incidents/{incident}/approve", "/api/v1/incidents/{incident}/reject");
    let reason = "{\"reason\":\"x\"}";
    for template in [pause, resume] {
        for name in ["odd", "none"] {
            asked.post(template, &template.replace("{workload}", name), "{}").await;
        }
    }
    asked.post(pause, "/api/v1/workloads/odd/pause", "{\"reason\":\"\"}").await;
    let trigger = |workload: &str| format!("{{\"workload\":\"{workload}\",\"kind\":\"data\",\"reason\":\"x\"}}");
    asked.post("/api/v1/triggers", "/api/v1/triggers", &trigger("none")).await;
    asked.post("/api/v1/triggers", "/api/v1/triggers", "{\"workload\":\"app\",\"kind\":\"\",\"reason\":\"x\"}").await;
    let accepted = asked.post("/api/v1/triggers", "/api/v1/triggers", &trigger("gated")).await;
    let waiting = accepted["incident"].as_str().unwrap().to_owned();
    asked.post(approve, &approve.replace("{incident}", &waiting), "{}").await;
    asked.post(rollback, "/api/v1/workloads/none/rollback", reason).await;
    asked.post(rollback, "/api/v1/workloads/app/rollback", "{\"reason\":\"\"}").await;
    asked.post(rollback, "/api/v1/workloads/app/rollback", "{\"reason\":\"x\",\"to\":\"v9\"}").await;
    // The other workload's rollback has used up the hour's budget.
    asked.post(rollback, "/api/v1/workloads/app/rollback", "{\"reason\":\"x\",\"force\":[\"fleet-budget\"]}").await;
    let is_escalated = |answer: &super::server::Answer| answer.json()["incident"]["phase"] == "escalated";
    let app = asked.server.until("/api/v1/workloads/app", is_escalated).await.json();
    let escalated = app["incident"]["incident"].as_str().unwrap().to_owned();
    for below in ["", "/report"] {
        let template = format!("/api/v1/incidents/{{incident}}{below}");
        for name in [escalated.as_str(), "none"] {
            asked.get(&template, &template.replace("{incident}", name)).await;
        }
    }
    asked.get("/api/v1/incidents/{incident}/report", &format!("/api/v1/incidents/{escalated}/report?format=pdf")).await;
    asked.post(approve, &approve.replace("{incident}", &escalated), "{}").await;
    asked.post(reject, &reject.replace("{incident}", &escalated), "{\"reason\":\"\"}").await;
    asked.post(reject, &reject.replace("{incident}", &escalated), "{}").await;
    asked.post(reject, &reject.replace("{incident}", &escalated), "{}").await;
    for template in [approve, reject] {
        asked.post(template, &template.replace("{incident}", "none"), "{}").await;
    }
    let hook = "/api/v1/alertmanager";
    asked.post(hook, hook, "{\"version\":\"4\",\"alerts\":[]}").await;
    asked.post(hook, hook, "{\"version\":\"3\",\"alerts\":[]}").await;
    for (template, path) in [
        (rollback, "/api/v1/workloads/app/rollback"),
        (pause, "/api/v1/workloads/app/pause"),
        (resume, "/api/v1/workloads/app/resume"),
        (approve, "/api/v1/incidents/none/approve"),
        (reject, "/api/v1/incidents/none/reject"),
        ("/api/v1/triggers", "/api/v1/triggers"),
        (hook, hook),
    ] {
        asked.refused(template, path).await;
    }
}

async fn without_engine(asked: &mut Asked<'_>) {
    for path in ["/", "/livez", "/readyz", "/api/v1/workloads", "/api/v1/incidents"] {
        asked.get(path, path).await;
    }
    for below in ["", "/explain", "/plan"] {
        asked.get(&format!("/api/v1/workloads/{{workload}}{below}"), &format!("/api/v1/workloads/app{below}")).await;
    }
    for (below, body) in [("rollback", "{\"reason\":\"x\"}"), ("pause", "{}"), ("resume", "{}")] {
        let template = format!("/api/v1/workloads/{{workload}}/{below}");
        asked.post(&template, &format!("/api/v1/workloads/app/{below}"), body).await;
    }
    for below in ["approve", "reject"] {
        let template = format!("/api/v1/incidents/{{incident}}/{below}");
        asked.post(&template, &format!("/api/v1/incidents/none/{below}"), "{}").await;
    }
    let trigger = "{\"workload\":\"app\",\"kind\":\"data\",\"reason\":\"x\"}";
    asked.post("/api/v1/triggers", "/api/v1/triggers", trigger).await;
    let alert = "{\"version\":\"4\",\"alerts\":[{\"status\":\"firing\",\"labels\":{\"alertname\":\"a\",\"workload\":\"app\"},\"startsAt\":\"2030-01-01T00:00:00Z\"}]}";
    asked.post("/api/v1/alertmanager", "/api/v1/alertmanager", alert).await;
}
