//! What is kept of a program's output: all of it is read, so that the program never waits for the reader, and its beginning
//! and its end are kept.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe::Receiver;

use crate::host::text;

/// Bytes read at a time.
const BUFFER: usize = 8 * 1024;
/// Reads what is printed after its program's exit.
const READER: &str = "cat";
/// Reads that empty a pipe after its program's exit. Whoever still writes then is not waited for.
const LAST_READS: usize = 32;

/// What is kept of a pipe: its beginning and its end.
pub(super) struct Capture {
    pipe: Option<Receiver>,
    buffer: Vec<u8>,
    head: Vec<u8>,
    tail: VecDeque<u8>,
    limit: usize,
    total: u64,
}

impl Capture {
    pub(super) fn new(pipe: Option<OwnedFd>, limit: usize) -> io::Result<Self> {
        Ok(Self {
            pipe: pipe.map(Receiver::from_owned_fd).transpose()?,
            buffer: vec![0; BUFFER],
            head: Vec::new(),
            tail: VecDeque::new(),
            limit,
            total: 0,
        })
    }

    pub(super) fn is_open(&self) -> bool {
        self.pipe.is_some()
    }

    pub(super) fn is_cut(&self) -> bool {
        self.total > self.limit as u64
    }

    pub(super) async fn take_some(&mut self) {
        let Some(pipe) = &mut self.pipe else { return };
        match pipe.read(&mut self.buffer).await {
            Ok(0) | Err(_) => self.pipe = None,
            Ok(length) => self.keep(length),
        }
    }

    /// Takes what an ended program left in the pipe, without waiting for more.
    pub(super) fn take_rest(&mut self) {
        for _ in 0..LAST_READS {
            let Some(pipe) = &self.pipe else { return };
            match rustix::io::read(pipe.as_fd(), &mut self.buffer) {
                Ok(0) => self.pipe = None,
                Err(_) => return,
                Ok(length) => self.keep(length),
            }
        }
    }

    /// Hands the pipe to a program that reads on, where someone still holds its other end: they would be killed by
    /// SIGPIPE at their next line, at the latest with the daemon itself.
    pub(super) fn leave(&mut self) {
        let Some(pipe) = self.pipe.take() else { return };
        let passed_on = pipe.into_blocking_fd().and_then(|pipe| {
            tokio::process::Command::new(READER).stdin(pipe).stdout(io::stderr()).process_group(0).spawn()
        });
        if let Err(error) = passed_on {
            tracing::warn!(%error, reader = READER, "a process that a command left behind can't print any more");
        }
    }

    fn keep(&mut self, length: usize) {
        self.total += length as u64;
        let half = self.limit / 2;
        let fresh = &self.buffer[..length];
        let (first, rest) = fresh.split_at(length.min(half - self.head.len()));
        self.head.extend_from_slice(first);
        self.tail.extend(rest);
        let over = self.tail.len().saturating_sub(self.limit - half);
        self.tail.drain(..over);
    }

    /// What was kept, as it came.
    pub(super) fn bytes(&self) -> Vec<u8> {
        self.head.iter().chain(&self.tail).copied().collect()
    }

    /// What was kept, printable.
    pub(super) fn text(&self) -> String {
        let kept = self.head.len() + self.tail.len();
        let left_out = self.total.saturating_sub(kept as u64);
        let mut bytes = self.head.clone();
        if left_out > 0 {
            bytes.extend_from_slice(format!("\n[{left_out} bytes left out]\n").as_bytes());
        }
        bytes.extend(&self.tail);
        text::printable(&bytes)
    }
}
