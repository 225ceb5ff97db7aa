//! The alert itself as the body, signed as the Standard Webhooks specification says (symmetric, `v1`).
//!
//! The signature is `v1,` and the base64 of HMAC-SHA256 over `<id>.<timestamp>.<body>`; where the secret file holds two
//! secrets, one a line, both sign, so that a receiver can change over without losing a message.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use super::shorten::shorten;
use super::{RenderError, Rendered};
use crate::config::form;
use crate::domain::incident::alert::Alert;
use crate::domain::time::Timestamp;

/// Largest body, in bytes.
pub const BODY_LIMIT: usize = 20_000;

/// Bounds for each free text, in bytes, tried in turn until the body fits. JSON can make six bytes of one, and a dozen
/// texts are cut, so that the last one always fits.
const TEXT_LIMITS: [usize; 6] = [8_000, 4_000, 2_000, 1_000, 500, 200];

/// Headers and body; unsigned where no secret is given.
///
/// # Errors
/// [`RenderError`] where the secret is not one.
pub fn render(alert: &Alert, secret: Option<&SecretString>, now: Timestamp) -> Result<Rendered, RenderError> {
    let body = body(alert)?;
    let timestamp = now.as_millis().div_euclid(1000);
    let mut headers = vec![("webhook-id", alert.id.clone()), ("webhook-timestamp", timestamp.to_string())];
    if let Some(secret) = secret {
        let keys = form::signing_keys(secret.expose_secret())?;
        let signed: Result<Vec<String>, _> = keys.iter().map(|key| sign(key, &alert.id, timestamp, &body)).collect();
        headers.push(("webhook-signature", signed?.join(" ")));
    }
    Ok(Rendered { headers, body })
}

/// The alert as JSON, its free texts cut where it is over [`BODY_LIMIT`].
fn body(alert: &Alert) -> Result<String, RenderError> {
    let json = |alert: &Alert| serde_json::to_string(alert).map_err(|_| RenderError::Json);
    let whole = json(alert)?;
    if whole.len() <= BODY_LIMIT {
        return Ok(whole);
    }
    for limit in TEXT_LIMITS {
        let short = json(&cut(alert, limit))?;
        if short.len() <= BODY_LIMIT {
            return Ok(short);
        }
    }
    Err(RenderError::TooLarge(BODY_LIMIT))
}

/// The alert with each free text cut. Names of workload, incident and message stay whole: they are bounded, and others
/// find things by them.
fn cut(alert: &Alert, limit: usize) -> Alert {
    let mut short = alert.clone();
    for text in [
        &mut short.reason,
        &mut short.summary,
        &mut short.next.action,
        &mut short.stop.command,
        &mut short.trigger.name,
    ] {
        *text = shorten(text, limit);
    }
    let images = [
        short.from.as_mut().and_then(|from| from.image.as_mut()),
        short.to.as_mut().and_then(|to| to.image.as_mut()),
        short.trigger.signal.as_mut(),
    ];
    for text in images.into_iter().flatten() {
        *text = shorten(text, limit);
    }
    short
}

fn sign(key: &[u8], id: &str, timestamp: i64, body: &str) -> Result<String, RenderError> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).map_err(|_| RenderError::Secret("has a secret of no use"))?;
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(body.as_bytes());
    Ok(format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes())))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::notify::receiver::fixture::alert;

    #[test]
    fn the_specifications_example_is_signed_as_there() {
        // The vector of the specification's reference libraries.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature = sign(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, r#"{"test": 2432232314}"#);
        assert_eq!(signature.unwrap(), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn the_body_is_the_alert_and_the_headers_name_it() {
        let secret = SecretString::from("plain text\nwhsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n");
        let rendered = render(&alert(), Some(&secret), Timestamp::from_millis(1_614_265_330_999)).unwrap();
        assert_eq!(serde_json::from_str::<Alert>(&rendered.body).unwrap(), alert());
        assert_eq!(rendered.headers[0], ("webhook-id", alert().id));
        assert_eq!(rendered.headers[1], ("webhook-timestamp", "1614265330".to_owned()));
        let expected = [b"plain text".to_vec(), STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap()]
            .map(|key| sign(&key, &alert().id, 1_614_265_330, &rendered.body).unwrap());
        assert_eq!(rendered.headers[2], ("webhook-signature", expected.join(" ")));
    }

    #[test]
    fn what_is_no_secret_is_said_without_it() {
        for (secret, expected) in [
            ("whsec_!!", "the secret file has a whsec_ secret that is not base64"),
            ("whsec_", "the secret file has a whsec_ secret that is not base64"),
            ("a\nb\nc", "the secret file holds more than two secrets"),
        ] {
            let error = render(&alert(), Some(&SecretString::from(secret)), Timestamp::default()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }

    #[test]
    fn without_a_secret_nothing_is_signed() {
        let rendered = render(&alert(), None, Timestamp::default()).unwrap();
        assert!(rendered.headers.iter().all(|(name, _)| *name != "webhook-signature"));
    }

    #[test]
    fn the_schema_in_config_is_the_types_own() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/config/alert.schema.json");
        let schema = schemars::schema_for!(Alert);
        let current = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var_os("UPDATE_EXPECT").is_some() {
            std::fs::write(path, &current).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(kept, current, "run the test once with UPDATE_EXPECT=1 to write {path} anew");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_text_gives_valid_json_within_the_limit(
            reason in ".{0,30000}",
            control in 0_usize..30_000,
            image in prop::option::of(".{0,9000}"),
        ) {
            let mut alert = alert();
            alert.reason = reason;
            alert.summary = "\u{1}".repeat(control);
            alert.next.action = "\"\\".repeat(control / 3);
            alert.from.as_mut().unwrap().image = image;
            let rendered = render(&alert, None, Timestamp::default()).unwrap();
            prop_assert!(rendered.body.len() <= BODY_LIMIT);
            let back: Alert = serde_json::from_str(&rendered.body).unwrap();
            prop_assert_eq!(&back.id, &alert.id);
            prop_assert!(alert.reason.starts_with(back.reason.trim_end_matches('…')));
        }
    }
}
