//! TLS as the policy asks for it, against a real server: roots, names, client certificates, and files that change.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use reqwest::{Method, Url};
use rollbackd::config::model::{HttpOptions, TlsOptions};
use rollbackd::domain::observation::FaultKind;
use rollbackd::net::Caller;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Bound on a request; only a failing test comes near it.
const PATIENCE: Duration = Duration::from_secs(20);

/// Somebody who signs certificates.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { pem: certificate.pem(), der: certificate.der().clone(), issuer: Issuer::new(params, key) }
    }

    /// A certificate for a name, and its key.
    fn sign(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        (certificate, key)
    }
}

/// A server with a certificate for `api.internal`; it asks for one of `clients` where that is given.
async fn serve(authority: &Authority, clients: Option<&Authority>) -> (Url, JoinHandle<()>) {
    rollbackd::net::tls::install();
    let (certificate, key) = authority.sign("api.internal");
    let builder = ServerConfig::builder();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots.add(clients.der.clone()).unwrap();
            builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
        }
    };
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = builder.with_single_cert(vec![certificate.der().clone()], key).unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = Url::parse(&format!("https://{}/", listener.local_addr().unwrap())).unwrap();
    let task = tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let Ok(mut stream) = acceptor.accept(stream).await else { continue };
            let mut request = [0; 4096];
            if stream.read(&mut request).await.is_ok_and(|read| read > 0) {
                let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                let _ = stream.write_all(answer).await;
                let _ = stream.shutdown().await;
            }
        }
    });
    (url, task)
}

/// The status, or the sort of failure.
async fn call(caller: &Caller, url: &Url) -> Result<u16, FaultKind> {
    let request = caller.request(Method::GET, url.clone()).await.map_err(|fault| fault.kind)?.timeout(PATIENCE);
    request.send().await.map(|response| response.status().as_u16()).map_err(|error| caller.fault(error).kind)
}

fn caller(tls: Option<TlsOptions>) -> Caller {
    Caller::new(Arc::new(HttpOptions { tls, ..HttpOptions::default() }))
}

fn write(dir: &Path, name: &str, content: &str) -> PathBuf {
    let path = dir.join(name);
    fs::write(&path, content).unwrap();
    path
}

#[tokio::test]
async fn a_peer_is_believed_by_root_and_name() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let root = write(dir.path(), "root.pem", &ours.pem);
    let other = write(dir.path(), "other.pem", &theirs.pem);
    let (url, server) = serve(&ours, None).await;
    let with = |ca: Option<&Path>, name: Option<&str>, skip: bool| TlsOptions {
        ca_file: ca.map(Path::to_owned),
        server_name: name.map(str::to_owned),
        insecure_skip_verify: skip,
        ..TlsOptions::default()
    };
    let table = [
        ("root and name", Some(with(Some(&root), Some("api.internal"), false)), Ok(200)),
        ("root, but an address for a name", Some(with(Some(&root), None, false)), Err(FaultKind::Tls)),
        ("root, but another name", Some(with(Some(&root), Some("web.internal"), false)), Err(FaultKind::Tls)),
        ("another root", Some(with(Some(&other), Some("api.internal"), false)), Err(FaultKind::Tls)),
        ("the system's roots", Some(with(None, Some("api.internal"), false)), Err(FaultKind::Tls)),
        ("no options", None, Err(FaultKind::Tls)),
        ("no verification", Some(with(None, None, true)), Ok(200)),
    ];
    for (case, options, expected) in table {
        assert_eq!(call(&caller(options), &url).await, expected, "{case}");
    }
    server.abort();
}

#[tokio::test]
async fn a_client_shows_its_certificate() {
    let (ours, clients) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let (certificate, key) = clients.sign("rollbackd");
    let anonymous = TlsOptions {
        ca_file: Some(write(dir.path(), "root.pem", &ours.pem)),
        server_name: Some("api.internal".to_owned()),
        ..TlsOptions::default()
    };
    let known = TlsOptions {
        cert_file: Some(write(dir.path(), "client.pem", &certificate.pem())),
        key_file: Some(write(dir.path(), "client.key", &key.serialize_pem())),
        ..anonymous.clone()
    };
    let (url, server) = serve(&ours, Some(&clients)).await;
    assert!(call(&caller(Some(anonymous)), &url).await.is_err());
    assert_eq!(call(&caller(Some(known)), &url).await, Ok(200));
    server.abort();
}

#[tokio::test]
async fn a_root_that_is_replaced_counts_from_the_next_request() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let dir = tempfile::tempdir().unwrap();
    let root = write(dir.path(), "root.pem", &theirs.pem);
    let (url, server) = serve(&ours, None).await;
    let caller = caller(Some(TlsOptions {
        ca_file: Some(root.clone()),
        server_name: Some("api.internal".to_owned()),
        ..TlsOptions::default()
    }));
    assert_eq!(call(&caller, &url).await, Err(FaultKind::Tls));
    fs::rename(write(dir.path(), "next.pem", &ours.pem), &root).unwrap();
    assert_eq!(call(&caller, &url).await, Ok(200));
    fs::remove_file(&root).unwrap();
    assert_eq!(call(&caller, &url).await, Err(FaultKind::Local));
    server.abort();
}
