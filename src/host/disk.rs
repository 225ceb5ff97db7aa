//! The file system off the event loop: it may hang, and the loop must not.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use crate::domain::observation::{Fault, FaultKind};

/// The way to one place in the file system. One thread at most waits for it, however often it is asked. All clones are one.
#[derive(Clone, Debug)]
pub struct Disk(Arc<Semaphore>);

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// It hangs, or who asked before still waits for it.
    #[error("the file system did not answer within {} s", .0.as_secs_f64())]
    Late(Duration),
    /// The work ended in a panic, or the daemon ends.
    #[error("the look broke off: {0}")]
    BrokeOff(JoinError),
}

impl From<Unanswered> for Fault {
    fn from(why: Unanswered) -> Self {
        Fault { kind: FaultKind::Local, detail: why.to_string() }
    }
}

impl Default for Disk {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(1)))
    }
}

impl Disk {
    /// Does work that blocks on the file system, off the event loop. What is not done within `limit` is not waited for; it goes
    /// on, and until it ends nothing else is begun here.
    ///
    /// # Errors
    /// [`Unanswered`] where it is not done in time.
    pub async fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unanswered> {
        let asked = async {
            let room = Arc::clone(&self.0).acquire_owned().await;
            let asking = spawn_blocking(move || {
                let _until_it_ends = room;
                work()
            });
            asking.await.map_err(Unanswered::BrokeOff)
        };
        timeout(limit, asked).await.unwrap_or(Err(Unanswered::Late(limit)))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn a_file_system_that_hangs_holds_up_one_thread_and_nobody_else() {
        let (disk, begun) = (Disk::default(), Arc::new(AtomicU32::new(0)));
        let (comes_back, hangs) = mpsc::channel::<()>();
        let work = |what: Box<dyn FnOnce() + Send>| {
            let begun = Arc::clone(&begun);
            move || {
                begun.fetch_add(1, Ordering::SeqCst);
                what();
            }
        };
        let short = Duration::from_millis(50);
        let first = disk.ask(short, work(Box::new(move || assert!(hangs.recv().is_err())))).await;
        assert_eq!(first.unwrap_err().to_string(), "the file system did not answer within 0.05 s");
        for _ in 0..3 {
            assert!(matches!(disk.ask(short, work(Box::new(|| {}))).await, Err(Unanswered::Late(_))));
        }
        assert_eq!(begun.load(Ordering::SeqCst), 1);
        drop(comes_back);
        disk.ask(Duration::from_secs(60), work(Box::new(|| {}))).await.unwrap();
        assert_eq!(begun.load(Ordering::SeqCst), 2);
        assert!(matches!(
            disk.ask(Duration::from_secs(60), || panic!("it breaks")).await,
            Err::<(), _>(Unanswered::BrokeOff(_))
        ));
        disk.ask(Duration::from_secs(60), || {}).await.unwrap();
    }
}
