//! Signed requests, made without the product's own manifests: right ones, and wrong ones.

use bytes::Bytes;
use chela_engine::Webhook;
use chela_types::Millis;
use chela_types::signature::{Encoding, Recipe, SecretEncoding};
use http::HeaderMap;

/// A request as the doors hand it to the engine.
pub fn request(headers: &HeaderMap, body: impl Into<Bytes>) -> Webhook {
    let pair = |(name, value): (&http::HeaderName, &http::HeaderValue)| {
        (name.to_string(), value.to_str().unwrap_or_default().to_owned())
    };
    Webhook {
        method: "POST".to_owned(),
        path: "/".to_owned(),
        query: String::new(),
        headers: headers.iter().map(pair).collect(),
        body: body.into(),
        session: None,
    }
}

/// How a platform signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// Slack's `v0`.
    Slack,
    /// Standard Webhooks' `v1`.
    Standard,
}

impl Scheme {
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Slack => ("x-slack-request-timestamp", "x-slack-signature"),
            Self::Standard => ("webhook-timestamp", "webhook-signature"),
        }
    }

    /// The header with the time.
    pub fn timestamp_header(self) -> &'static str {
        self.names().0
    }

    /// The header with the signature.
    pub fn signature_header(self) -> &'static str {
        self.names().1
    }

    fn recipe(self) -> Recipe {
        let (timestamp, signature) = self.names();
        match self {
            Self::Slack => Recipe {
                header: signature.to_owned(),
                prefix: "v0=".to_owned(),
                encoding: Encoding::Hex,
                signed: format!("v0:{{header:{timestamp}}}:{{body}}"),
                several: false,
                secret_encoding: SecretEncoding::Text,
            },
            Self::Standard => Recipe {
                header: signature.to_owned(),
                prefix: "v1,".to_owned(),
                encoding: Encoding::Base64,
                signed: format!("{{header:webhook-id}}.{{header:{timestamp}}}.{{body}}"),
                several: true,
                secret_encoding: SecretEncoding::Whsec,
            },
        }
    }
}

/// A properly signed request whose parts can then be spoilt.
#[derive(Debug, Clone)]
pub struct Signed {
    /// How it is signed.
    pub scheme: Scheme,
    /// `webhook-id`; Slack has none.
    pub id: String,
    /// Text of the timestamp.
    pub timestamp: String,
    /// Text of the signature.
    pub signature: String,
    /// The raw bytes.
    pub body: Bytes,
}

impl Signed {
    /// Signs `body` with a timestamp that may be anything.
    pub fn at(scheme: Scheme, secret: &str, timestamp: &str, body: impl Into<Bytes>) -> Self {
        let (id, body) = (format!("msg_{}", uuid::Uuid::now_v7().simple()), body.into());
        let lookup = |name: &str| match name {
            "webhook-id" => Some(id.as_str()),
            name if name == scheme.timestamp_header() => Some(timestamp),
            _ => None,
        };
        let signature = scheme.recipe().sign(secret, &body, lookup).unwrap();
        Self { scheme, timestamp: timestamp.to_owned(), signature, body, id }
    }

    /// Signs `body` now.
    pub fn now(scheme: Scheme, secret: &str, now: Millis, body: impl Into<Bytes>) -> Self {
        Self::at(scheme, secret, &(now.0 / 1_000).to_string(), body)
    }

    /// The request.
    pub fn webhook(&self) -> Webhook {
        let mut headers = vec![
            ("content-type".to_owned(), "application/json".to_owned()),
            (self.scheme.timestamp_header().to_owned(), self.timestamp.clone()),
            (self.scheme.signature_header().to_owned(), self.signature.clone()),
        ];
        if self.scheme == Scheme::Standard {
            headers.push(("webhook-id".to_owned(), self.id.clone()));
        }
        let (method, path, query) = ("POST".to_owned(), "/".to_owned(), String::new());
        Webhook { method, path, query, headers, body: self.body.clone(), session: None }
    }
}
