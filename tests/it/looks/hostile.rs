//! Peers that are slow, endless, lying or broken: each is told apart, none costs more than its limit.

use std::io::Read;

use flate2::Compression;
use flate2::bufread::GzEncoder;

use super::server::{Act, Server, answer, ok};
use super::{Eyes, pages};

const PAGE: &[u8] = b"# TYPE http_requests_total counter\nhttp_requests_total{code=\"200\"} 5\nother 1\n";
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n";

fn packed(text: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    GzEncoder::new(text, Compression::default()).read_to_end(&mut wire).unwrap();
    wire
}

fn with(headers: &str, body: &[u8]) -> Vec<u8> {
    [HEAD, headers.as_bytes(), b"\r\n\r\n", body].concat()
}

fn chunk(body: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat()
}

fn gzip(body: &[u8]) -> Act {
    Act::Say(answer("200 OK", &["content-encoding: gzip"], body))
}

/// A page of so many series of one name.
fn flood(name: &str, series: usize) -> Vec<u8> {
    (0..series).flat_map(|n| format!("{name}{{code=\"{n}\"}} 1\n").into_bytes()).collect()
}

/// What a peer does, and how a look at its page ends. Two signals ask for the one series.
fn peers() -> Vec<(&'static str, Act, &'static str)> {
    let late = "timeout: not answered in full within 4 s";
    let lines = b"filler_metric_that_nobody_asks_for{label=\"value\"} 12345\n".repeat(1000);
    vec![
        ("good", ok(PAGE), "2 samples"),
        ("packed", gzip(&packed(PAGE)), "2 samples"),
        ("HTTP/1.0", Act::SayAndClose([b"HTTP/1.0 200 OK\r\n\r\n", PAGE].concat()), "2 samples"),
        ("chunked", Act::Say(with("transfer-encoding: chunked", &[chunk(PAGE), chunk(b"")].concat())), "2 samples"),
        ("no media type", Act::Say(answer("200 OK", &[], PAGE)), "2 samples"),
        ("an unknown media type", Act::Say(answer("200 OK", &["content-type: a/b"], PAGE)), "2 samples"),
        ("never answers", Act::Say(Vec::new()), late),
        ("drips its head", Act::Drip(answer("200 OK", &[], PAGE)), late),
        ("never ends its page", Act::Say(with("content-length: 1000", PAGE)), late),
        (
            "claims more than it sends",
            Act::SayAndClose(with("content-length: 1000", PAGE)),
            "refused: end of file before message length reached",
        ),
        ("closes at once", Act::SayAndClose(Vec::new()), "refused: connection closed before message completed"),
        (
            "resets in the page",
            Act::SayAndReset(with("content-length: 1000", PAGE)),
            "refused: Connection reset by peer (os error 104)",
        ),
        (
            "endless",
            Act::SayForEver(with("transfer-encoding: chunked", b""), chunk(&lines)),
            "too-large: over the limit: body of more than 4194304 bytes on the wire",
        ),
        (
            "claims to be huge",
            Act::Say(with("content-length: 5000000", PAGE)),
            "too-large: over the limit: body of more than 4194304 bytes on the wire",
        ),
        (
            "a bomb",
            gzip(&packed(&vec![b'\n'; 3 << 20])),
            "too-large: over the limit: body that unpacks to more than 100 times its size",
        ),
        ("not what it is packed as", gzip(PAGE), "malformed: gzip: invalid gzip header"),
        (
            "packed otherwise",
            Act::Say(answer("200 OK", &["content-encoding: br"], PAGE)),
            "malformed: answers in an encoding that was not offered",
        ),
        (
            "a long line",
            ok(&[b"a{b=\"", vec![b'x'; 70_000].as_slice(), b"\"} 1\n"].concat()),
            "too-large: line 1: over the limit: line of more than 65536 bytes",
        ),
        (
            "a long head",
            Act::Say(with(&format!("x-filler: {}", "x".repeat(100_000)), PAGE)),
            "too-large: message head is too large",
        ),
        ("many headers", Act::Say(with(&"x-filler: x\r\n".repeat(500), PAGE)), "too-large: message head is too large"),
        ("many samples", ok(&flood("a", 100_001)), "too-large: over the limit: more than 100000 samples on the page"),
        (
            "many wanted series",
            ok(&flood("http_requests_total", 1_001)),
            "too-large: over the limit: more than 1000 series that one rule keeps",
        ),
        ("a broken page", ok(b"http_requests_total{code=\"200\" 5\n"), "malformed: line 1: "),
        (
            "a login page",
            Act::Say(answer("200 OK", &["content-type: text/html"], b"<html>")),
            "malformed: answers with",
        ),
        ("another protocol", Act::SayAndClose(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "malformed: invalid HTTP version"),
        ("no chunks", Act::Say(with("transfer-encoding: chunked", b"zz\r\n")), "malformed: "),
        ("moved", Act::Say(answer("302 Found", &["location: /else"], b"")), "status: answered 302 Found"),
        (
            "failing",
            Act::Say(answer("500 Internal Server Error", &[], b"")),
            "status: answered 500 Internal Server Error",
        ),
        ("empty", Act::Say(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec()), "status: answered 204 No Content"),
        (
            "wants credentials",
            Act::Say(answer("401 Unauthorized", &[], b"")),
            "local: answered 401 Unauthorized: the peer refuses these credentials",
        ),
    ]
}

#[tokio::test]
async fn every_bad_peer_is_told_apart_and_named() {
    let peers = peers();
    let mut servers = Vec::new();
    for (_, act, _) in &peers {
        servers.push(Server::start(act.clone()).await);
    }
    let urls: Vec<String> = servers.iter().map(|server| server.url("/metrics")).collect();
    let signals = "[workload.shop.signal.request_rate]
counter = 'http_requests_total'";
    let mut eyes = Eyes::on(&format!("{}\n{signals}", pages("4s", &urls)));
    let ends = eyes.scrapes(peers.len()).await;
    for ((what, _, expected), server) in peers.iter().zip(&servers) {
        let end = &ends[&server.port];
        assert!(end.starts_with(expected), "{what}: {end:?} instead of {expected:?}");
        // What the sockets hold on both sides comes on top of the limit.
        assert!(server.sent() < 24 << 20, "{what}: took {} bytes", server.sent());
    }
    let moved = peers.iter().position(|(what, ..)| *what == "moved").unwrap();
    assert!(servers[moved].heads().iter().all(|head| head.starts_with("GET /metrics ")));
    assert_eq!(eyes.observers.stalled(), None);
    eyes.observers.shutdown().await;
}

#[tokio::test]
async fn a_peer_that_is_not_there_or_speaks_no_tls_is_told_apart() {
    let gone = Server::start(ok(PAGE)).await;
    let (plain, port) = (Server::start(ok(PAGE)).await, gone.port);
    drop(gone);
    let nowhere = format!("http://{}.invalid:1/metrics", "a".repeat(64));
    let tls = format!("https://127.0.0.1:{}/metrics", plain.port);
    let mut eyes = Eyes::on(&pages("5s", &[format!("http://127.0.0.1:{port}/metrics"), nowhere, tls]));
    let ends = eyes.scrapes(3).await;
    assert_eq!(ends[&port], "refused: Connection refused (os error 111)");
    assert!(ends[&1].starts_with("unreachable: "), "{}", ends[&1]);
    assert!(ends[&plain.port].starts_with("tls: "), "{}", ends[&plain.port]);
}

#[tokio::test]
async fn what_comes_after_an_answer_is_no_answer_to_the_next_question() {
    let smuggled = answer("200 OK", &[], b"http_requests_total 666\n");
    let short = [answer("200 OK", &[], b"http_requests_total 1\n"), smuggled].concat();
    let server = Server::start(Act::InTurn(vec![Act::Say(short), ok(b"http_requests_total 2\n")])).await;
    let mut eyes = Eyes::on(&format!(
        "{}\n[workload.shop.signal.request_rate]\ncounter = 'http_requests_total'",
        pages("300ms", &[server.url("/metrics")])
    ));
    let mut values = Vec::new();
    while values.len() < 3 {
        if let (_, Ok(page)) = eyes.scrape().await {
            values.push(page.samples[0].value);
        }
    }
    assert_eq!(values, [1.0, 2.0, 2.0]);
    assert!(server.connections() >= 2);
}

#[tokio::test]
async fn health_answers_are_judged_and_bad_ones_told_apart() {
    let json = |status: &str, body: &str| Act::Say(answer(status, &["x-release: v2"], body.as_bytes()));
    let peers = [
        (json("200 OK", r#"{"status":"Healthy"}"#), "healthy v2"),
        (json("200 OK", r#"{"status":"Degraded"}"#), r#"expected status = "Healthy", got "Degraded" v2"#),
        (json("503 Service Unavailable", "busy"), "expected a 2xx status, got 503 Service Unavailable v2"),
        (json("307 Temporary Redirect", ""), "expected a 2xx status, got 307 Temporary Redirect v2"),
        (json("403 Forbidden", ""), "local: answered 403 Forbidden: the peer refuses these credentials"),
        (json("200 OK", "Healthy"), "malformed: the body is not JSON, and the policy expects fields of it"),
        (json("200 OK", &"[".repeat(60_000)), "malformed: the body is not JSON, and the policy expects fields of it"),
        (json("200 OK", &" ".repeat(70_000)), "too-large: over the limit: body of more than 65536 bytes"),
        (
            Act::SayForEver(with("transfer-encoding: chunked", b""), chunk(&[b' '; 4096])),
            "too-large: over the limit: body of more than 65536 bytes",
        ),
        (Act::Say(Vec::new()), "timeout: not answered in full within 4 s"),
    ];
    let mut servers = Vec::new();
    for (act, _) in &peers {
        servers.push(Server::start(act.clone()).await);
    }
    let urls: Vec<String> = servers.iter().map(|server| format!("\"{}\"", server.url("/health"))).collect();
    let mut eyes = Eyes::on(&format!(
        "interval = \"4s\"\nhealth = {{ urls = [{}], expect = {{ status = \"Healthy\" }}, revision_header = \"x-release\" }}",
        urls.join(", ")
    ));
    let mut ends = std::collections::BTreeMap::new();
    while ends.len() < peers.len() {
        let (target, result) = eyes.probe().await;
        let end = match result {
            Ok(answer) => {
                let what = if answer.healthy { "healthy" } else { &answer.detail };
                format!("{what} {}", answer.revision.map_or_else(String::new, |revision| revision.to_string()))
            }
            Err(fault) => fault.to_string(),
        };
        ends.insert(target, end);
    }
    for ((_, expected), server) in peers.iter().zip(&servers) {
        assert_eq!(ends[&format!("127.0.0.1:{}", server.port)], *expected);
    }
}

/// More than find room at once, none of which ever answers, and one that does.
#[tokio::test]
async fn pages_that_hang_hold_up_none_that_answers() {
    const HUNG: usize = 3_000;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let good = Server::start(ok(PAGE)).await;
    let urls = (0..HUNG).map(|page| format!("http://{address}/{page}")).chain([good.url("/metrics")]);
    let mut eyes = Eyes::new(1_024);
    eyes.apply(&pages("500ms", &[good.url("/metrics")]));
    assert!(eyes.scrape().await.1.is_ok());
    eyes.apply(&pages("500ms", &Vec::from_iter(urls)));
    // Each is found out by being asked once.
    let (mut found_out, mut meanwhile) = (std::collections::BTreeSet::new(), 0);
    while found_out.len() < HUNG {
        match eyes.scrape().await {
            (target, Err(_)) => drop(found_out.insert(target)),
            (_, Ok(_)) => meanwhile += 1,
        }
    }
    // Which takes 6 s or more. The one that is known to answer was due 11 times.
    assert!(meanwhile >= 6, "{meanwhile} looks at the page that answers while the others were found out");
    let (mut hung, mut answered) = (0, 0);
    while hung < 2 * HUNG {
        match eyes.scrape().await.1 {
            Ok(_) => answered += 1,
            Err(_) => hung += 1,
        }
    }
    // Each of those that hang had two turns in this time, 6 s apart or more. The one that answers was due 23 times.
    assert!(answered >= 6, "{answered} looks at the page that answers");
    assert_eq!(eyes.observers.stalled(), None);
}
