//! What goes wrong on the way to an API server, in one line.

use std::error::Error;

/// Longest description, in bytes: a webhook that denies something may write a page.
const LONGEST: usize = 400;

/// Why there is no client.
#[derive(Debug, thiserror::Error)]
pub enum ClusterError {
    /// No kubeconfig, or one without this context.
    #[error("the kubeconfig can't be used")]
    Kubeconfig(#[source] Box<kube::config::KubeconfigError>),
    /// The pod has no usable service account.
    #[error("the service account of this pod can't be used")]
    InCluster(#[source] Box<kube::config::InClusterError>),
    /// The configuration leads to no client.
    #[error("no client for the API server")]
    Client(#[source] Box<kube::Error>),
}

impl ClusterError {
    /// The whole chain in one line.
    #[must_use]
    pub fn line(&self) -> String {
        chain(self)
    }
}

/// What an API server answered, or why it did not, in one line.
#[must_use]
pub fn describe(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.message.is_empty() => format!("{} {}", status.code, status.reason),
        kube::Error::Api(status) => bounded(format!("{} {}: {}", status.code, status.reason, status.message)),
        other => chain(other),
    }
}

fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        // Some say their cause themselves.
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    bounded(text)
}

fn bounded(text: String) -> String {
    let line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() <= LONGEST {
        return line;
    }
    let end = (0..=LONGEST).rev().find(|end| line.is_char_boundary(*end)).unwrap_or(0);
    format!("{}…", &line[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_told_in_one_bounded_line() {
        let status = |message: &str| kube::core::Status {
            code: 422,
            message: message.to_owned(),
            reason: "Invalid".to_owned(),
            ..kube::core::Status::default()
        };
        let told = |message: &str| describe(&kube::Error::Api(status(message).boxed()));
        assert_eq!(told("a\nb"), "422 Invalid: a b");
        assert_eq!(told(""), "422 Invalid");
        // The bound falls into the middle of a character.
        assert_eq!(told(&"é".repeat(1_000)).len(), LONGEST - 1 + "…".len());
    }
}
