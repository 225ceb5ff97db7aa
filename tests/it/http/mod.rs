//! The server through real sockets: who gets in, what comes out, and what of it a peer could have written.

mod contract;
mod metrics;
mod server;

use std::fs;
use std::time::Duration;

use rollbackd::domain::time::Span;
use rollbackd::http::{BODY_LIMIT, LISTENER_LIMIT};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use server::{JSON, NASTY, Server, TOKEN};

const PAUSE: &str = "/api/v1/workloads/app/pause";

#[tokio::test]
async fn every_refusal_is_a_problem_document() {
    let server = Server::start().await;
    let authorized = format!("authorization: Bearer {TOKEN}\r\n");
    let big = format!("{{\"reason\":\"{}\"}}", "x".repeat(BODY_LIMIT));
    let cases = [
        (server.get("/nowhere").await, 404, "nothing is at this address"),
        (server.get("/api/v1/workloads/none").await, 404, "no workload \"none\""),
        (server.get(PAUSE).await, 405, "this address does not take this method"),
        (server.post("/livez", "").await, 405, "this address does not take this method"),
        (server.post(PAUSE, &big).await, 413, "the body is larger than 65536 bytes"),
        (server.post_with(PAUSE, &authorized, "{}").await, 415, "the body must be JSON"),
        (server.post(PAUSE, "{\"reason\":").await, 400, "EOF while parsing"),
        (server.post(PAUSE, "{\"raeson\":\"x\"}").await, 400, "unknown field `raeson`"),
        (server.post(PAUSE, "{\"reason\":\" \\n \"}").await, 422, "`reason` must not be empty"),
        (server.get("/api/v1/incidents?limit=0").await, 400, "`limit` must be 1 to 500"),
        (server.get("/api/v1/incidents?lmit=1").await, 400, "unknown field `lmit`"),
    ];
    for (answer, status, detail) in cases {
        assert_eq!(answer.status, status, "{answer:?}");
        assert!(answer.head.contains("content-type: application/problem+json"), "{answer:?}");
        let document = answer.json();
        assert_eq!(document["status"], status);
        assert!(document["detail"].as_str().unwrap().contains(detail), "{answer:?}");
    }
    let refused = server.get(PAUSE).await;
    assert!(refused.head.contains("allow: post"), "{}", refused.head);
}

#[tokio::test]
async fn without_the_token_nothing_is_changed() {
    let server = Server::start().await;
    let with = |headers: String| {
        server.pass(Span::from_secs(1));
        let server = &server;
        async move { server.post_with(PAUSE, &format!("{JSON}{headers}"), "{}").await }
    };
    for forged in [
        String::new(),
        "authorization: Bearer \r\n".to_owned(),
        "authorization: Bearer s3cret\r\n".to_owned(),
        format!("authorization: Basic {TOKEN}\r\n"),
        format!("authorization: Bearer {TOKEN}x\r\n"),
        format!("authorization: Bearer x\r\nauthorization: Bearer {TOKEN}\r\n"),
    ] {
        let answer = with(forged.clone()).await;
        assert_eq!(answer.status, 401, "{forged}: {answer:?}");
        assert!(answer.head.contains("www-authenticate: bearer"), "{answer:?}");
        assert!(!answer.body.contains("s3cret"), "{answer:?}");
    }
    assert!(server.get("/api/v1/workloads/app").await.json()["paused"].is_null());
    assert_eq!(with(format!("authorization: bearer {TOKEN}\r\n")).await.status, 200);
    assert!(server.get("/api/v1/workloads/app").await.json()["paused"].is_object());

    fs::write(server.token_file.with_extension("new"), "another\n").unwrap();
    fs::rename(server.token_file.with_extension("new"), &server.token_file).unwrap();
    assert_eq!(with(format!("authorization: Bearer {TOKEN}\r\n")).await.status, 401);
    assert_eq!(with("authorization: Bearer another\r\n".to_owned()).await.status, 200);
    fs::remove_file(&server.token_file).unwrap();
    assert_eq!(with("authorization: Bearer another\r\n".to_owned()).await.status, 503);
}

#[tokio::test]
async fn where_no_token_is_set_up_the_answer_says_how() {
    let server = Server::start_with(false).await;
    let answer = server.post(PAUSE, "{}").await;
    assert_eq!(answer.status, 403);
    assert!(answer.json()["detail"].as_str().unwrap().contains("`token_file` in [daemon]"), "{answer:?}");
}

#[tokio::test]
async fn a_source_may_ask_ten_times_a_second() {
    let server = Server::start().await;
    server.pass(Span::from_secs(60));
    let mut statuses = Vec::new();
    for _ in 0..12 {
        statuses.push(server.post_with(PAUSE, &format!("{JSON}authorization: Bearer wrong\r\n"), "{}").await.status);
    }
    assert_eq!(statuses, [[401; 10].as_slice(), &[429; 2]].concat());
    let refused = server.post_with(PAUSE, JSON, "{}").await;
    assert!(refused.head.contains("retry-after: 1"), "{refused:?}");
    assert_eq!(server.post(PAUSE, "{}").await.status, 200, "who has the token is not kept out by those who don't");
    assert_eq!(server.post(PAUSE, "{}").await.status, 200, "a second later there is room again");
}

#[tokio::test]
async fn a_browser_led_here_by_another_site_is_turned_away() {
    let server = Server::start().await;
    let by_name = |name: &str| format!("GET / HTTP/1.1\r\nhost: {name}\r\nconnection: close\r\n\r\n");
    for (name, status) in
        [("evil.example.com", 421), ("localhost:9477", 200), ("rollbackd.example.com", 200), ("127.0.0.1", 200)]
    {
        assert_eq!(server.send(&by_name(name)).await.status, status, "{name}");
    }
    let headers = format!("{JSON}authorization: Bearer {TOKEN}\r\n");
    for (origin, status) in [("http://evil.example.com".to_owned(), 403), (format!("http://{}", server.address), 200)] {
        let answer = server.post_with(PAUSE, &format!("{headers}origin: {origin}\r\n"), "{}").await;
        assert_eq!(answer.status, status, "{origin}: {answer:?}");
    }
    let page = server.get("/").await;
    for header in ["content-security-policy: default-src 'none'; style-src 'sha256-", "x-content-type-options: nosniff"]
    {
        assert!(page.head.contains(header), "{}", page.head);
    }
}

#[tokio::test]
async fn what_a_peer_wrote_never_comes_out_raw() {
    let server = Server::start().await;
    let nasty = serde_json::json!({ "workload": "odd", "kind": NASTY, "reason": format!("{NASTY}\r\nforged: line") });
    let headers = format!("{JSON}authorization: Bearer {TOKEN}\r\nx-rollbackd-by: <b>\u{e9}ve</b>\r\n");
    let answer = server.post_with("/api/v1/triggers", &headers, &nasty.to_string()).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let incident = answer.json()["incident"].as_str().unwrap().to_owned();
    let report = format!("/api/v1/incidents/{incident}/report?format=");
    server.until("/api/v1/workloads/odd", |answer| answer.body.contains("nothing is here")).await;
    for path in
        ["/".to_owned(), format!("{report}html"), format!("{report}md"), format!("{report}json"), "/metrics".to_owned()]
    {
        let answer = server.get(&path).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let steering = answer.body.chars().find(|c| c.is_control() && *c != '\n');
        assert_eq!(steering, None, "{path}: {}", answer.body);
        if !path.ends_with("json") {
            assert!(!answer.body.contains("<script") && !answer.body.contains("<b>\u{e9}"), "{path}: {}", answer.body);
            assert!(!answer.body.contains("\nforged"), "{path}: {}", answer.body);
        }
        if path != "/metrics" {
            assert!(answer.body.contains("alert(1)"), "{path} leaves it out: {}", answer.body);
        }
    }
    let record = server.get(&format!("/api/v1/incidents/{incident}")).await;
    assert!(record.body.contains("<b>\u{e9}ve</b>"), "the record names the caller: {}", record.body);
}

/// The head of a call with a body of so many bytes, of which none comes.
fn announced(bytes: usize) -> String {
    let head = format!("POST {PAUSE} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n{JSON}");
    format!("{head}content-length: {bytes}\r\n\r\n")
}

#[tokio::test]
async fn a_body_that_does_not_come_is_waited_for_a_while() {
    let server = Server::start().await;
    let answer = server.send(&announced(BODY_LIMIT)).await;
    assert_eq!((answer.status, &answer.json()["detail"]), (408, &"the body did not come within 5 s".into()));
    assert!(answer.head.contains("connection: close"), "{}", answer.head);
}

#[tokio::test]
async fn a_body_that_is_announced_as_too_large_is_not_waited_for() {
    let server = Server::start().await;
    let answer = server.send(&announced(BODY_LIMIT + 1)).await;
    assert_eq!((answer.status, &answer.json()["detail"]), (413, &"the body is larger than 65536 bytes".into()));
}

#[tokio::test]
async fn alertmanager_is_taken_at_its_first_word() {
    let server = Server::start().await;
    let alert = |workload: &str, status: &str, starts_at: &str, fingerprint: &str| {
        serde_json::json!({
            "status": status,
            "labels": { "alertname": "DataLoss", "workload": workload, "rollbackd_kind": "data", "severity": "page" },
            "annotations": { "summary": "rows are missing" },
            "startsAt": starts_at, "endsAt": "0001-01-01T00:00:00Z",
            "generatorURL": "http://prometheus/graph", "fingerprint": fingerprint,
        })
    };
    let call = |alerts: Vec<serde_json::Value>| {
        let body = serde_json::json!({
            "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "rollbackd",
            "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "http://alertmanager",
            "alerts": alerts,
        });
        let server = &server;
        async move {
            let answer = server.post("/api/v1/alertmanager", &body.to_string()).await;
            assert_eq!(answer.status, 200, "{answer:?}");
            let taken = answer.json()["alerts"].as_array().unwrap().clone();
            let said = |one: &serde_json::Value| {
                format!("{}: {}", one["outcome"].as_str().unwrap(), one["message"].as_str().unwrap())
            };
            taken.iter().map(said).collect::<Vec<_>>()
        }
    };
    let now = server.now().to_string();
    let told = call(vec![
        alert("gated", "resolved", &now, "1"),
        alert("none", "firing", &now, "1"),
        alert("gated", "firing", "2020-01-01T00:00:00Z", "1"),
        alert("gated", "firing", &now, "1"),
    ])
    .await;
    assert_eq!(told[0], "ignored: it is not firing");
    assert_eq!(told[1], "refused: no workload \"none\"");
    assert!(told[2].starts_with("ignored: it began at 2020-01-01T00:00:00.000Z, before v2 came at "), "{told:?}");
    assert!(told[3].starts_with("accepted: recorded, but held: waiting for approval"), "{told:?}");
    assert_eq!(call(vec![alert("gated", "firing", &now, "1")]).await, ["ignored: it was taken before"]);
    let over = (0..70).map(|it| alert("gated", "resolved", &now, &it.to_string()));
    let storm = call(over.chain([alert("gated", "firing", &now, "1")]).collect()).await;
    assert_eq!(storm.len(), 64, "what is over the limit is left out, not all of it");
    assert_eq!(storm[63], "ignored: it was taken before", "what is over takes no place of what fires");
    let view = server.get("/api/v1/workloads/gated").await.json();
    assert_eq!(view["incident"]["cause"], "data reported by alertmanager rollbackd: rows are missing");
}

/// Reads a stream until it holds `text`.
async fn read_until(stream: &mut TcpStream, text: &str) -> String {
    let mut held = Vec::new();
    let reading = async {
        while !String::from_utf8_lossy(&held).contains(text) {
            let mut part = [0; 4096];
            let length = stream.read(&mut part).await.unwrap();
            assert!(length > 0, "the stream ended: {}", String::from_utf8_lossy(&held));
            held.extend_from_slice(&part[..length]);
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("it comes in time");
    String::from_utf8(held).unwrap()
}

async fn listen(server: &Server) -> TcpStream {
    listen_with(server, "").await
}

async fn listen_with(server: &Server, header: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let request = format!("GET /api/v1/events HTTP/1.1\r\nhost: localhost\r\n{header}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let head = read_until(&mut stream, ": listening").await;
    assert!(head.contains("text/event-stream"), "{head}");
    stream
}

#[tokio::test]
async fn events_come_as_they_become_durable_and_end_with_the_daemon() {
    let server = Server::start().await;
    let mut stream = listen(&server).await;
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.write_all(b"GET / HTTP/1.1\r\nho").await.unwrap();
    let body = "{\"workload\":\"gated\",\"kind\":\"data\",\"reason\":\"rows\\nare missing\"}";
    assert_eq!(server.post("/api/v1/triggers", body).await.status, 200);
    let told = read_until(&mut stream, "\"phase\":\"awaiting-approval\"").await;
    assert!(told.contains("event: record\ndata: {\"workload\":\"gated\""), "{told}");
    assert!(told.contains("event: alert\ndata: {\"schema\":\"rollbackd/alert/v1\""), "{told}");
    server.stop.cancel();
    let mut rest = Vec::new();
    tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.expect("it ends").unwrap();
    tokio::time::timeout(Duration::from_secs(20), server.serving).await.expect("the server ends").unwrap();
}

/// The ids of the records in a stream.
fn ids(told: &str) -> Vec<&str> {
    told.lines().filter_map(|line| line.strip_prefix("id: ")).collect()
}

#[tokio::test]
async fn who_listens_again_is_told_what_was_missed() {
    let server = Server::start().await;
    let mut stream = listen(&server).await;
    let body = "{\"workload\":\"gated\",\"kind\":\"data\",\"reason\":\"rows\"}";
    assert_eq!(server.post("/api/v1/triggers", body).await.status, 200);
    let told = read_until(&mut stream, "\"phase\":\"awaiting-approval\"").await;
    let seen = ids(&told);
    assert_eq!(seen.len(), 2, "{told}");
    drop(stream);
    assert_eq!(server.post("/api/v1/workloads/odd/pause", "{\"reason\":\"looking\"}").await.status, 200);
    let mut again = listen_with(&server, &format!("last-event-id: {}\r\n", seen[0])).await;
    let missed = read_until(&mut again, "\"event\":\"paused\"").await;
    let missed = ids(&missed);
    assert_eq!(missed.first(), seen.get(1), "the second one was told, but not seen");
    assert!(missed.iter().all(|id| *id != seen[0]), "{missed:?}");
    assert!(missed.last().is_some_and(|id| id.ends_with("/odd")), "{missed:?}");
    // What comes from now on comes once.
    assert_eq!(server.post("/api/v1/workloads/odd/resume", "{}").await.status, 200);
    let live = read_until(&mut again, "\"event\":\"resumed\"").await;
    assert_eq!(ids(&live).len(), 1, "{live}");
}

#[tokio::test]
async fn an_alert_that_cant_be_recorded_is_asked_for_again() {
    let server = Server::start().await;
    let now = server.now().to_string();
    let alert = serde_json::json!({
        "version": "4", "receiver": "rollbackd", "alerts": [{
            "status": "firing", "labels": { "alertname": "DataLoss", "workload": "gated" }, "startsAt": now,
            "fingerprint": "1",
        }],
    });
    let journal = server.locks_the_journal();
    let answer = server.post("/api/v1/alertmanager", &alert.to_string()).await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(answer.body.contains("journal-broken"), "{answer:?}");
    let standstill = server.get("/api/v1/workloads/odd").await.json()["standstill"].clone();
    assert!(standstill["reason"].as_str().is_some_and(|reason| reason.contains("locked")), "{standstill}");
    let page = server.get("/").await.body;
    assert!(page.contains("Nothing is done since "), "{page}");
    drop(journal);
    server.until("/api/v1/workloads/odd", |answer| answer.json()["standstill"].is_null()).await;
    let answer = server.post("/api/v1/alertmanager", &alert.to_string()).await;
    assert_eq!(answer.json()["alerts"][0]["message"], "it was taken before", "{answer:?}");
}

#[tokio::test]
async fn listeners_are_counted() {
    let server = Server::start().await;
    let mut streams = Vec::new();
    for _ in 0..LISTENER_LIMIT {
        streams.push(listen(&server).await);
    }
    assert_eq!(server.get("/api/v1/events").await.status, 503);
    streams.pop();
    let room = async {
        while server.send("HEAD /api/v1/events HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.status
            != 200
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), room).await.expect("a listener that left makes room");
}
