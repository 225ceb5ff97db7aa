//! The targets, and the barest reader of them that there can be.

use std::io::{BufRead, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::{Failure, page, proc};

/// Serves the page on as many ports as there are targets; prints the ports, then a count of pages for each line read.
pub(crate) fn serve(targets: usize, page: &str) -> Result<(), Failure> {
    raise_file_limit()?;
    let head =
        format!("HTTP/1.1 200 OK\r\ncontent-type: text/plain; version=0.0.4\r\ncontent-length: {}\r\n\r\n", page.len());
    let answer: Arc<[u8]> = Arc::from((head + page).into_bytes());
    let served = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&served);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listeners = runtime.block_on(async {
        let mut listeners = Vec::with_capacity(targets);
        for _ in 0..targets {
            listeners.push(TcpListener::bind("127.0.0.1:0").await?);
        }
        Ok::<_, Failure>(listeners)
    })?;
    let ports = listeners.iter().map(|listener| Ok(listener.local_addr()?.port().to_string()));
    println!("{}", ports.collect::<Result<Vec<_>, Failure>>()?.join(" "));
    // The parent asks on the standard input, and its end is the end of the parent.
    std::thread::spawn(move || {
        for _ in std::io::stdin().lock().lines() {
            println!("{}", counted.load(Ordering::Relaxed));
        }
        std::process::exit(0);
    });
    runtime.block_on(async {
        for listener in listeners {
            let (answer, served) = (Arc::clone(&answer), Arc::clone(&served));
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    tokio::spawn(answer_all(stream, Arc::clone(&answer), Arc::clone(&served)));
                }
            });
        }
        std::future::pending::<()>().await;
    });
    Ok(())
}

async fn answer_all(mut stream: tokio::net::TcpStream, answer: Arc<[u8]>, served: Arc<AtomicU64>) {
    let mut request = Vec::new();
    let mut buffer = [0; 2048];
    while let Ok(length @ 1..) = stream.read(&mut buffer).await {
        request.extend_from_slice(&buffer[..length]);
        if request.ends_with(b"\r\n\r\n") {
            request.clear();
            if stream.write_all(&answer).await.is_err() {
                return;
            }
            served.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Reads the page over kept connections and looks for line ends: processor seconds for 1,000 pages.
pub(crate) fn read_bare(ports: &[u16], pages: usize) -> Result<f64, Failure> {
    let mut streams =
        ports.iter().map(|port| TcpStream::connect(("127.0.0.1", *port))).collect::<Result<Vec<_>, _>>()?;
    let mut buffer = vec![0; 64 << 10];
    let before = proc::Usage::of(std::process::id())?;
    let (mut lines, mut read) = (0, 0);
    while read < pages {
        for stream in &mut streams {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n")?;
            lines += read_page(stream, &mut buffer)?;
            read += 1;
        }
    }
    let after = proc::Usage::of(std::process::id())?;
    if lines < pages * page::SERIES {
        return Err("the pages are too short".into());
    }
    Ok((after.cpu_seconds - before.cpu_seconds) * 1000.0 / read as f64)
}

fn read_page(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<usize, Failure> {
    let first = stream.read(buffer)?;
    let head = memchr::memmem::find(&buffer[..first], b"\r\n\r\n").ok_or("no head")? + 4;
    let text = std::str::from_utf8(&buffer[..head])?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")).ok_or("no length")?;
    let mut left = length.trim().parse::<usize>()? - (first - head);
    let mut lines = memchr::memchr_iter(b'\n', &buffer[head..first]).count();
    while left > 0 {
        let length = stream.read(buffer)?;
        if length == 0 {
            return Err("the server is gone".into());
        }
        lines += memchr::memchr_iter(b'\n', &buffer[..length]).count();
        left -= length;
    }
    Ok(lines)
}

pub(crate) fn raise_file_limit() -> Result<(), Failure> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?;
    Ok(())
}
