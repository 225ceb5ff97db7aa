//! Requests over real sockets: what is sent, and what each failure is called.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use reqwest::{Method, Url};
use secrecy::ExposeSecret;

use super::line::first_of;
use super::{CONNECT_TIMEOUT, Caller};
use crate::config::model::{Authorization, BasicAuth, HttpOptions, TlsOptions};
use crate::domain::observation::FaultKind;

/// Serves one connection: reads a request's head, answers with `answer`, closes. Gives the head back.
fn serve_once(answer: &'static [u8]) -> (Url, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/x?secret=1", listener.local_addr().unwrap())).unwrap();
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut head = Vec::new();
        let mut byte = [0; 1];
        while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap() == 1 {
            head.push(byte[0]);
        }
        stream.write_all(answer).unwrap();
        String::from_utf8(head).unwrap()
    });
    (url, server)
}

fn caller(options: HttpOptions) -> Caller {
    Caller::new(Arc::new(options))
}

async fn fault_of(options: HttpOptions, url: Url) -> (FaultKind, String) {
    let caller = caller(options);
    let request = caller.request(Method::GET, url).await.unwrap().timeout(Duration::from_secs(5));
    let error = async { request.send().await?.bytes().await }.await.unwrap_err();
    let fault = caller.fault(error);
    (fault.kind, fault.detail)
}

const OK: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok";

#[tokio::test]
async fn headers_and_credentials_are_sent_and_read_anew() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "s3cret\n").unwrap();
    let caller = caller(HttpOptions {
        authorization: Some(Authorization { scheme: "Bearer".to_owned(), credentials_file: file.clone() }),
        headers: [("x-scope".to_owned(), "prod".to_owned())].into(),
        ..HttpOptions::default()
    });
    for expected in ["s3cret", "changed"] {
        fs::write(&file, expected).unwrap();
        let (url, server) = serve_once(OK);
        caller.request(Method::GET, url).await.unwrap().send().await.unwrap();
        let head = server.join().unwrap();
        assert!(head.contains(&format!("authorization: Bearer {expected}\r\n")), "{head}");
        assert!(head.contains("x-scope: prod\r\n"), "{head}");
        assert!(head.contains("user-agent: rollbackd/"), "{head}");
    }
    assert!(!format!("{caller:?}").contains("changed"));
}

#[tokio::test]
async fn basic_auth_is_encoded() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    fs::write(&file, "open sesame").unwrap();
    let basic = BasicAuth { username: "Aladdin".to_owned(), password_file: file };
    let caller = caller(HttpOptions { basic_auth: Some(basic), ..HttpOptions::default() });
    let (url, server) = serve_once(OK);
    let secrets: Vec<String> =
        caller.secrets().await.unwrap().iter().map(|secret| secret.expose_secret().to_owned()).collect();
    assert_eq!(secrets, ["QWxhZGRpbjpvcGVuIHNlc2FtZQ==", "open sesame"], "as it is sent and as it is kept");
    caller.request(Method::GET, url).await.unwrap().send().await.unwrap();
    // The example of RFC 7617.
    assert!(server.join().unwrap().contains("authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"));
}

#[tokio::test]
async fn redirects_are_answers_not_orders() {
    let (url, server) = serve_once(b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n");
    let response = caller(HttpOptions::default()).request(Method::GET, url).await.unwrap().send().await.unwrap();
    assert_eq!(response.status(), 302);
    server.join().unwrap();
}

#[tokio::test]
async fn each_failure_has_its_name_and_no_url() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap();
    let closed = Url::parse(&format!("http://{}/?secret=1", unused.local_addr().unwrap())).unwrap();
    drop(unused);
    // A label over 63 bytes is refused by the resolver without asking anybody.
    let nameless = Url::parse(&format!("http://{}.invalid/?secret=1", "a".repeat(70))).unwrap();
    let (early, server_a) = serve_once(b"");
    let (garbage, server_b) = serve_once(b"what?\r\n\r\n");
    let (short, server_c) = serve_once(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nok");
    let proxied = HttpOptions { proxy_url: Some(closed.to_string()), ..HttpOptions::default() };
    let table = [
        ("closed port", HttpOptions::default(), closed.clone(), FaultKind::Refused),
        ("no such name", HttpOptions::default(), nameless, FaultKind::Unreachable),
        ("closed before the answer", HttpOptions::default(), early, FaultKind::Refused),
        ("not HTTP", HttpOptions::default(), garbage, FaultKind::Malformed),
        ("body cut short", HttpOptions::default(), short, FaultKind::Refused),
        ("proxy down", proxied, closed, FaultKind::Unreachable),
    ];
    for (case, options, url, expected) in table {
        let (kind, detail) = fault_of(options, url).await;
        assert_eq!(kind, expected, "{case}: {detail}");
        assert!(!detail.contains("secret"), "{case}: {detail}");
    }
    for server in [server_a, server_b, server_c] {
        server.join().unwrap();
    }
}

#[tokio::test]
async fn a_peer_that_says_nothing_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
    let caller = caller(HttpOptions::default());
    let request = caller.request(Method::GET, url).await.unwrap().timeout(Duration::from_millis(50));
    assert_eq!(caller.fault(request.send().await.unwrap_err()).kind, FaultKind::Timeout);
}

#[tokio::test]
async fn options_of_no_use_are_faults_of_this_side() {
    let dir = tempfile::tempdir().unwrap();
    let empty = dir.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    let missing = dir.path().join("missing");
    let tls = |tls: TlsOptions| HttpOptions { tls: Some(tls), ..HttpOptions::default() };
    let shown = |path: &std::path::Path| path.display().to_string();
    let table = [
        (
            tls(TlsOptions { ca_file: Some(missing.clone()), ..TlsOptions::default() }),
            format!("{} can't be read (No such file or directory (os error 2))", shown(&missing)),
        ),
        (
            tls(TlsOptions { ca_file: Some(empty.clone()), ..TlsOptions::default() }),
            format!("{} holds no certificate in PEM form", shown(&empty)),
        ),
        (
            tls(TlsOptions { cert_file: Some(empty.clone()), ..TlsOptions::default() }),
            "cert_file and key_file go together; key_file is missing".to_owned(),
        ),
        (
            tls(TlsOptions { server_name: Some("not a name".to_owned()), ..TlsOptions::default() }),
            "server_name \"not a name\" is neither a host name nor an address".to_owned(),
        ),
        (
            HttpOptions { headers: [("a b".to_owned(), "c".to_owned())].into(), ..HttpOptions::default() },
            "header \"a b\" has a name or a value that can't be sent".to_owned(),
        ),
    ];
    for (options, expected) in table {
        let url = Url::parse("https://127.0.0.1:1/").unwrap();
        let fault = caller(options).request(Method::GET, url).await.unwrap_err();
        assert_eq!((fault.kind, fault.detail), (FaultKind::Local, expected));
    }
}

/// An address that drops what would open a connection, and what makes it do so.
fn dropping() -> (SocketAddr, TcpListener, Vec<TcpStream>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    // A queue of the shortest length, and it is full.
    rustix::net::listen(&listener, 0).unwrap();
    let attempts = std::iter::from_fn(|| TcpStream::connect_timeout(&address, Duration::from_millis(200)).ok());
    let queue = attempts.collect();
    (address, listener, queue)
}

#[tokio::test]
async fn an_address_that_keeps_silent_holds_up_none_of_the_others() {
    let good = TcpListener::bind("127.0.0.1:0").unwrap();
    let good = (good.local_addr().unwrap(), good);
    let silent = [dropping(), dropping()];
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for before in [vec![silent[0].0], vec![silent[0].0, silent[1].0, closed], vec![closed]] {
        let addresses = before.iter().copied().chain([good.0]).collect();
        let stream = tokio::time::timeout(CONNECT_TIMEOUT, first_of(addresses)).await.expect("in time").unwrap();
        assert_eq!(stream.peer_addr().unwrap(), good.0, "{before:?}");
    }
    let none = first_of(vec![closed, closed]).await.unwrap_err();
    assert_eq!(none.kind, FaultKind::Refused, "{none}");
    assert_eq!(first_of(Vec::new()).await.unwrap_err().kind, FaultKind::Unreachable);
}
