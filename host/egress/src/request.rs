//! A request, and what the host adds to it at the last moment: credential and signature.
//!
//! Secrets enter the headers here and nowhere else; the headers are marked sensitive, so that no debug
//! output of any layer shows them.

use bytes::Bytes;
use chela_types::Millis;
use chela_types::signature::{Encoding, Recipe, SecretEncoding};
use http::Method;
use http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

use crate::sent::Begun;
use crate::{Error, Leaks};

/// What to send.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// Headers, as far as the caller may set them; framing and connection headers are refused.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Put in at the edge; wins over a header of the same name.
    pub credential: Option<Credential>,
    /// Put in at the edge, over the final body.
    pub sign: Option<Signing>,
    /// Where they differ from the configured ones.
    pub timeouts: Timeouts,
    /// What may be neither in it nor in its answer, the credential that is put in apart.
    pub leaks: Option<Arc<Leaks>>,
    /// Bytes of the answer, if it may have fewer than the configuration says.
    pub response_bytes_max: Option<usize>,
    /// Bytes of a good answer (2xx) that is read piece by piece and kept by nobody; absent: as of any other.
    pub stream_bytes_max: Option<usize>,
    /// Tells whoever keeps a clone whether the request was begun, also if the exchange is dropped.
    pub begun: Begun,
}

impl Request {
    /// A request without headers, credential or signature.
    pub fn new(method: Method, url: Url, body: impl Into<Bytes>) -> Self {
        Self {
            method,
            url,
            headers: HeaderMap::new(),
            body: body.into(),
            credential: None,
            sign: None,
            timeouts: Timeouts::default(),
            leaks: None,
            response_bytes_max: None,
            stream_bytes_max: None,
            begun: Begun::default(),
        }
    }

    /// Whether a secret stands in what the caller wants to send.
    pub(crate) fn leaks(&self) -> bool {
        let Some(leaks) = &self.leaks else { return false };
        let (url, body) = (self.url.as_str().as_bytes(), &self.body);
        leaks.found_in(url) || headers_leak(leaks, &self.headers) || leaks.found_in(body)
    }

    /// The same with a JSON content type.
    #[must_use]
    pub fn json(mut self) -> Self {
        self.headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self
    }

    /// Everything that goes onto the wire as headers, secrets included.
    pub(crate) fn sealed_headers(&self) -> Result<HeaderMap, Error> {
        let mut headers = self.headers.clone();
        if let Some(name) = headers.keys().find(|name| is_hosts_own(name)) {
            return Err(Error::Header(name.as_str().to_owned()));
        }
        if let Some(credential) = &self.credential {
            let (name, value) = credential.header()?;
            headers.insert(name, value);
        }
        if let Some(signing) = &self.sign {
            signing.apply(&mut headers, &self.body)?;
        }
        Ok(headers)
    }
}

/// Whether a secret stands in headers.
pub(crate) fn headers_leak(leaks: &Leaks, headers: &HeaderMap) -> bool {
    let of = |(name, value): (&HeaderName, &HeaderValue)| {
        leaks.found_in(name.as_str().as_bytes()) || leaks.found_in(value.as_bytes())
    };
    headers.iter().any(of)
}

/// Headers that decide about framing, connection or target: the HTTP client alone writes them.
fn is_hosts_own(name: &HeaderName) -> bool {
    const OWN: [&str; 9] = [
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "keep-alive",
        "upgrade",
        "te",
        "trailer",
        "expect",
    ];
    OWN.contains(&name.as_str()) || name.as_str().starts_with("proxy-")
}

/// A secret that proves to the peer who calls. Its debug output hides the value.
#[derive(Debug, Clone)]
pub enum Credential {
    /// `Authorization: Bearer …`.
    Bearer(SecretString),
    /// A header of the peer's own (`x-api-key`).
    Header {
        /// Its name.
        name: HeaderName,
        /// Its value.
        value: SecretString,
    },
}

impl Credential {
    fn header(&self) -> Result<(HeaderName, HeaderValue), Error> {
        let (name, text) = match self {
            Self::Bearer(secret) => (AUTHORIZATION, format!("Bearer {}", secret.expose_secret())),
            Self::Header { name, value } => (name.clone(), value.expose_secret().to_owned()),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_| Error::Header(name.as_str().to_owned()))?;
        value.set_sensitive(true);
        Ok((name, value))
    }
}

/// How a request is signed.
#[derive(Debug, Clone)]
pub enum Signing {
    /// By a recipe over the body and the request's own headers.
    Recipe {
        /// The recipe.
        recipe: Recipe,
        /// Its key.
        secret: SecretString,
    },
    /// By the Standard Webhooks rules: `webhook-id`, `webhook-timestamp` and `webhook-signature` are set.
    StandardWebhooks {
        /// Stable over retries, so that the receiver can tell a repetition.
        id: String,
        /// When it is sent.
        at: Millis,
        /// `whsec_…`.
        secret: SecretString,
    },
}

impl Signing {
    fn apply(&self, headers: &mut HeaderMap, body: &[u8]) -> Result<(), Error> {
        match self {
            Self::Recipe { recipe, secret } => sign(recipe, secret, headers, body),
            Self::StandardWebhooks { id, at, secret } => {
                let seconds = at.0.div_euclid(1000).to_string();
                insert(headers, "webhook-id", id)?;
                insert(headers, "webhook-timestamp", &seconds)?;
                sign(&standard_webhooks(), secret, headers, body)
            }
        }
    }
}

fn sign(recipe: &Recipe, secret: &SecretString, headers: &mut HeaderMap, body: &[u8]) -> Result<(), Error> {
    let find = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let signature = recipe.sign(secret.expose_secret(), body, find).map_err(Error::Sign)?;
    insert(headers, &recipe.header, &signature)
}

fn insert(headers: &mut HeaderMap, name: &str, value: &str) -> Result<(), Error> {
    let wrong = |_| Error::Header(name.to_owned());
    let key = HeaderName::from_bytes(name.as_bytes()).map_err(|_| Error::Header(name.to_owned()))?;
    headers.insert(key, HeaderValue::from_str(value).map_err(wrong)?);
    Ok(())
}

/// The recipe of standardwebhooks.com, version `v1`.
fn standard_webhooks() -> Recipe {
    Recipe {
        header: "webhook-signature".into(),
        prefix: "v1,".into(),
        encoding: Encoding::Base64,
        signed: "{header:webhook-id}.{header:webhook-timestamp}.{body}".into(),
        several: true,
        secret_encoding: SecretEncoding::Whsec,
    }
}

/// Waiting times of one request; absent ones are the configured ones.
#[derive(Debug, Clone, Copy, Default)]
pub struct Timeouts {
    /// Until the head of the answer is there.
    pub first_byte: Option<Duration>,
    /// Between two pieces of a streamed answer.
    pub idle: Option<Duration>,
    /// All together.
    pub total: Option<Duration>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> Request {
        Request::new(Method::POST, Url::parse("https://example.com/").unwrap(), "{\"test\": 2432232314}")
    }

    /// Sample of svix/svix-webhooks `go/webhook_test.go` (MIT); the same stands in
    /// standard-webhooks/standard-webhooks `libraries/go/webhook_test.go` (Apache-2.0).
    #[test]
    fn standard_webhooks_sample_is_met() {
        let mut request = request();
        request.sign = Some(Signing::StandardWebhooks {
            id: "msg_p5jXN8AQM9LWM0D4loKWxJek".into(),
            at: Millis(1_614_265_330_000),
            secret: SecretString::from("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        });
        let headers = request.sealed_headers().unwrap();
        assert_eq!(headers["webhook-id"], "msg_p5jXN8AQM9LWM0D4loKWxJek");
        assert_eq!(headers["webhook-timestamp"], "1614265330");
        assert_eq!(headers["webhook-signature"], "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn secrets_are_never_shown() {
        let mut request = request();
        request.credential = Some(Credential::Bearer(SecretString::from("hunter2")));
        request.sign = Some(Signing::StandardWebhooks {
            id: "m".into(),
            at: Millis(0),
            secret: "whsec_aHVudGVyMg==".into(),
        });
        let sealed = request.sealed_headers().unwrap();
        let shown = format!("{request:?} {sealed:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("aHVudGVyMg"), "{shown}");
        assert_eq!(sealed["authorization"], "Bearer hunter2");
    }

    #[test]
    fn a_credential_cannot_break_out_of_its_header() {
        let mut request = request();
        request.credential = Some(Credential::Bearer(SecretString::from("a\r\nx-evil: 1")));
        let error = request.sealed_headers().unwrap_err();
        assert!(matches!(&error, Error::Header(name) if name == "authorization"));
        assert!(!format!("{error} {error:?}").contains("evil"));
    }

    #[test]
    fn framing_headers_are_the_hosts_own() {
        for name in ["host", "content-length", "transfer-encoding", "connection", "proxy-authorization"] {
            let mut request = request();
            request.headers.insert(HeaderName::from_static(name), HeaderValue::from_static("1"));
            assert!(matches!(request.sealed_headers(), Err(Error::Header(_))), "{name}");
        }
    }
}
