//! A peer that answers as it is told, honestly or not.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What a peer does with each request.
#[derive(Clone)]
pub(crate) enum Act {
    /// These bytes; the connection stays.
    Say(Vec<u8>),
    /// These bytes, one at a time, with a pause between.
    Drip(Vec<u8>),
    /// These bytes, then the connection is closed.
    SayAndClose(Vec<u8>),
    /// These bytes, then the connection is reset.
    SayAndReset(Vec<u8>),
    /// These bytes, and then the second for ever.
    SayForEver(Vec<u8>, Vec<u8>),
    /// Each time the next; the last one again and again.
    InTurn(Vec<Act>),
}

/// A running peer; it ends when it is dropped.
pub(crate) struct Server {
    pub(crate) port: u16,
    seen: Arc<Seen>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct Seen {
    connections: AtomicU64,
    requests: AtomicU64,
    sent: AtomicU64,
    heads: std::sync::Mutex<Vec<String>>,
}

impl Server {
    pub(crate) async fn start(act: Act) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let shared = Arc::clone(&seen);
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                shared.connections.fetch_add(1, Ordering::SeqCst);
                connections.spawn(converse(stream, act.clone(), Arc::clone(&shared)));
            }
        });
        Self { port, seen, task }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn connections(&self) -> u64 {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub(crate) fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// Bytes that the system took from it.
    pub(crate) fn sent(&self) -> u64 {
        self.seen.sent.load(Ordering::SeqCst)
    }

    /// The heads of all requests so far.
    pub(crate) fn heads(&self) -> Vec<String> {
        self.seen.heads.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn converse(mut stream: TcpStream, act: Act, seen: Arc<Seen>) {
    let mut head = Vec::new();
    let mut byte = [0; 1024];
    while let Ok(length @ 1..) = stream.read(&mut byte).await {
        head.extend_from_slice(&byte[..length]);
        if !head.starts_with(b"G") {
            // As servers answer what is no request, TLS among it.
            send(&mut stream, b"HTTP/1.1 400 Bad Request\r\n\r\n", &seen).await;
            return;
        }
        if !head.ends_with(b"\r\n\r\n") {
            continue;
        }
        seen.heads.lock().unwrap().push(String::from_utf8_lossy(&head).into_owned());
        head.clear();
        let turn = seen.requests.fetch_add(1, Ordering::SeqCst);
        if !perform(&mut stream, &act, turn, &seen).await {
            return;
        }
    }
}

/// Whether the connection stays.
fn perform<'a>(
    stream: &'a mut TcpStream,
    act: &'a Act,
    turn: u64,
    seen: &'a Seen,
) -> std::pin::Pin<Box<dyn Future<Output = bool> + Send + 'a>> {
    Box::pin(async move {
        match act {
            Act::Say(bytes) => send(stream, bytes, seen).await,
            Act::Drip(bytes) => {
                for byte in bytes {
                    if !send(stream, &[*byte], seen).await {
                        return false;
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                true
            }
            Act::SayAndClose(bytes) => {
                send(stream, bytes, seen).await;
                // What was sent must arrive before the end does.
                let _closed = stream.shutdown().await;
                false
            }
            Act::SayAndReset(bytes) => {
                send(stream, bytes, seen).await;
                // The reset throws away what the peer has not read: give it the time.
                tokio::time::sleep(Duration::from_millis(100)).await;
                rustix::net::sockopt::set_socket_linger(&*stream, Some(Duration::ZERO)).unwrap();
                false
            }
            Act::SayForEver(first, again) => {
                let mut going = send(stream, first, seen).await;
                while going {
                    going = send(stream, again, seen).await;
                }
                false
            }
            Act::InTurn(acts) => {
                let place = usize::try_from(turn).unwrap().min(acts.len() - 1);
                perform(stream, &acts[place], turn, seen).await
            }
        }
    })
}

async fn send(stream: &mut TcpStream, bytes: &[u8], seen: &Seen) -> bool {
    let mut left = bytes;
    while !left.is_empty() {
        match stream.write(left).await {
            Ok(taken @ 1..) => {
                seen.sent.fetch_add(taken as u64, Ordering::SeqCst);
                left = &left[taken..];
            }
            Ok(_) | Err(_) => return false,
        }
    }
    true
}

/// An answer with this status line, these header lines and this body, of the right length.
pub(crate) fn answer(status: &str, headers: &[&str], body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len()).into_bytes();
    for header in headers {
        bytes.extend_from_slice(format!("{header}\r\n").as_bytes());
    }
    bytes.extend_from_slice(b"\r\n");
    bytes.extend_from_slice(body);
    bytes
}

/// A good answer.
pub(crate) fn ok(body: &[u8]) -> Act {
    Act::Say(answer("200 OK", &["content-type: text/plain; version=0.0.4"], body))
}
