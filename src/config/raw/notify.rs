//! `[notify.NAME]`.

use std::path::PathBuf;

use reqwest::Url;

use super::http::Http;
use super::section::section;

section! {
    /// A receiver of alerts: exactly one of webhook, slack, pagerduty and alertmanager, or its `…_file` where the URL is a secret.
    Notify {
        /// URL that takes alerts as Standard Webhooks.
        webhook: Url,
        /// File that holds the webhook's URL.
        webhook_file: PathBuf,
        /// File that holds the secret which webhooks are signed with (`whsec_…`, or any text).
        secret_file: PathBuf,
        /// URL of a Slack incoming webhook.
        slack: Url,
        /// File that holds the URL of a Slack incoming webhook.
        slack_file: PathBuf,
        /// URL of the PagerDuty Events API v2, where it is not PagerDuty's own: `routing_key_file` alone makes a PagerDuty receiver.
        pagerduty: Url,
        /// File that holds the URL of the PagerDuty Events API v2.
        pagerduty_file: PathBuf,
        /// File that holds the routing key of a PagerDuty integration.
        routing_key_file: PathBuf,
        /// Base URL of an Alertmanager, without `/api/v2/alerts`.
        alertmanager: Url,
        /// File that holds the base URL of an Alertmanager.
        alertmanager_file: PathBuf,
    }
    flatten { http: Http }
    refused {
        "secret": "secrets are read only from files: use `secret_file`",
        "routing_key": "secrets are read only from files: use `routing_key_file`",
    }
}
