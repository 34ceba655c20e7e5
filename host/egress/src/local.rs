//! Talks to a running host over the Unix socket in its data folder.
//!
//! The command line uses it: a file that only its owner may open is all the authentication needed.

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;
use std::time::Duration;

use crate::Error;
use crate::client::install_crypto;

/// How long a command line waits for the host's answer.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(60);
/// Most bytes of an answer: 64 MiB, a long listing.
const ANSWER_BYTES_MAX: usize = 64 << 20;
/// So much of a refusal's text is repeated to the person.
const SAID_CHARS_MAX: usize = 500;
/// What errors call the peer.
const HOST: &str = "the running host";

/// A client for one socket.
#[derive(Debug, Clone)]
pub struct Local {
    client: reqwest::Client,
}

impl Local {
    /// For the socket at `path`; nothing is connected yet.
    ///
    /// # Errors
    /// [`Error::Setup`].
    pub fn new(path: &Path) -> Result<Self, Error> {
        install_crypto();
        let builder = || {
            reqwest::Client::builder()
                .unix_socket(path)
                .no_proxy()
                .timeout(TOTAL_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
        };
        // No TLS is spoken here, so no root certificate is needed or looked for.
        let client = builder().tls_certs_only([]).build().map_err(|error| Error::Setup(Box::new(error)))?;
        Ok(Self { client })
    }

    /// Asks for `path` (`/admin/…`).
    ///
    /// # Errors
    /// [`Error::Connect`] if no host listens; [`Error::Answer`] for any status but 2xx or an unknown shape.
    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Error> {
        answer(self.client.get(url(path))).await
    }

    /// Posts `body` as JSON to `path`.
    ///
    /// # Errors
    /// As [`Local::get`].
    pub async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, Error> {
        answer(self.client.post(url(path)).json(body)).await
    }
}

fn url(path: &str) -> String {
    format!("http://localhost/{}", path.trim_start_matches('/'))
}

async fn answer<T: DeserializeOwned>(request: reqwest::RequestBuilder) -> Result<T, Error> {
    let broken = |error| crate::error::sort(HOST, TOTAL_TIMEOUT, error);
    let mut response = request.send().await.map_err(broken)?;
    let status = response.status();
    let mut body = Vec::new();
    while let Some(piece) = response.chunk().await.map_err(broken)? {
        if body.len().saturating_add(piece.len()) > ANSWER_BYTES_MAX {
            return Err(Error::TooLarge { host: HOST.into(), limit: ANSWER_BYTES_MAX });
        }
        body.extend_from_slice(&piece);
    }
    let refused = |body: &[u8]| Error::Answer {
        host: HOST.into(),
        status: status.as_u16(),
        said: String::from_utf8_lossy(body).chars().take(SAID_CHARS_MAX).collect(),
    };
    if !status.is_success() {
        return Err(refused(&body));
    }
    serde_json::from_slice(&body).map_err(|_| refused(&body))
}
