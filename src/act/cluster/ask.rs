//! How long one answer of an API server may take: one that is lost takes only its own time, not that of the whole step.

use std::time::Duration;

use tokio::time::timeout;

/// How long.
const LIMIT: Duration = Duration::from_secs(5);

/// That there was no answer. What was asked for may happen all the same.
#[derive(Debug, thiserror::Error)]
#[error("the API server did not answer within {} s", LIMIT.as_secs())]
struct Late;

/// The answer to one request, if it comes in time.
pub(super) async fn answer<T>(request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, kube::Error> {
    timeout(LIMIT, request).await.unwrap_or_else(|_| Err(kube::Error::Service(Box::new(Late))))
}

/// Whether there was none.
pub(super) fn is_late(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Service(why) if why.is::<Late>())
}
