//! HMAC-SHA256 recipes: how a platform signs a request, as data.
//!
//! One recipe serves both ways: the host verifies what comes in with it and signs what goes out. A recipe
//! is a template over the raw bytes (`v0:{header:x-slack-request-timestamp}:{body}`), because every
//! platform joins the same few things in its own order. Verification is over the bytes as received.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2::Sha256;

/// How the signature's bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Encoding {
    /// Lower-case hex.
    Hex,
    /// Standard base64 with padding.
    Base64,
}

/// How the secret's bytes are written in the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretEncoding {
    /// The text itself.
    #[default]
    Text,
    /// Base64, after an optional `whsec_`.
    Whsec,
}

impl SecretEncoding {
    /// Whether `secret` is written so.
    pub fn can_read(self, secret: &str) -> bool {
        self.read(secret).is_some()
    }

    fn read(self, secret: &str) -> Option<Vec<u8>> {
        match self {
            Self::Text => Some(secret.as_bytes().to_vec()),
            Self::Whsec => BASE64.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).ok(),
        }
    }
}

/// A recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// Header that carries the signature, lower case.
    pub header: String,
    /// What stands before the signature (`v0=`, `v1,`).
    pub prefix: String,
    /// How the signature is written.
    pub encoding: Encoding,
    /// What is signed: text with `{body}` and `{header:name}`.
    pub signed: String,
    /// True if the header may hold several signatures, separated by spaces.
    #[serde(default)]
    pub several: bool,
    /// How the secret is written.
    #[serde(default)]
    pub secret_encoding: SecretEncoding,
}

/// Why a signature was not accepted. Says nothing that helps a forger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A header that the recipe names is missing, twice there, or not text.
    #[error("header `{0}` is missing or not usable")]
    Header(String),
    /// No signature matches.
    #[error("signature does not match")]
    Mismatch,
    /// The configured secret is not written as the recipe says.
    #[error("secret is not valid base64")]
    Secret,
    /// The template has a `{…}` that means nothing.
    #[error("recipe has an unknown part `{0}`")]
    Template(String),
}

impl Recipe {
    /// The header's value for `body`; `header` looks up the headers that the template names.
    ///
    /// # Errors
    /// [`Error::Header`], [`Error::Secret`] or [`Error::Template`].
    pub fn sign<'a>(
        &self,
        secret: &str,
        body: &[u8],
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<String, Error> {
        let bytes = self.mac(secret, body, header)?.finalize().into_bytes();
        Ok(format!("{}{}", self.prefix, self.encode(&bytes)))
    }

    /// Accepts if one of the signatures in the header is right. Compares in constant time.
    ///
    /// # Errors
    /// [`Error`]; [`Error::Mismatch`] if none is right.
    pub fn verify<'a>(
        &self,
        secret: &str,
        body: &[u8],
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<(), Error> {
        let given = header(&self.header).ok_or_else(|| Error::Header(self.header.clone()))?;
        let mac = self.mac(secret, body, &header)?;
        let limit = if self.several { SIGNATURES_MAX } else { 1 };
        let mut candidates: Box<dyn Iterator<Item = &str>> = if self.several {
            Box::new(given.split(' ').take(limit))
        } else {
            Box::new(std::iter::once(given))
        };
        let right = candidates.any(|candidate| {
            candidate
                .strip_prefix(&self.prefix)
                .and_then(|text| self.decode(text))
                .is_some_and(|bytes| mac.clone().verify_slice(&bytes).is_ok())
        });
        if right { Ok(()) } else { Err(Error::Mismatch) }
    }

    fn mac<'a>(
        &self,
        secret: &str,
        body: &[u8],
        header: impl Fn(&str) -> Option<&'a str>,
    ) -> Result<Hmac<Sha256>, Error> {
        let key = self.secret_encoding.read(secret).ok_or(Error::Secret)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).map_err(|_| Error::Secret)?;
        let mut rest = self.signed.as_str();
        while let Some((before, after)) = rest.split_once('{') {
            let (part, tail) = after.split_once('}').ok_or_else(|| Error::Template(after.to_owned()))?;
            mac.update(before.as_bytes());
            match part.strip_prefix("header:") {
                Some(name) => {
                    let value = header(name).ok_or_else(|| Error::Header(name.to_owned()))?;
                    mac.update(value.as_bytes());
                }
                None if part == "body" => mac.update(body),
                None => return Err(Error::Template(part.to_owned())),
            }
            rest = tail;
        }
        mac.update(rest.as_bytes());
        Ok(mac)
    }

    fn encode(&self, bytes: &[u8]) -> String {
        match self.encoding {
            Encoding::Hex => hex::encode(bytes),
            Encoding::Base64 => BASE64.encode(bytes),
        }
    }

    fn decode(&self, text: &str) -> Option<Vec<u8>> {
        match self.encoding {
            Encoding::Hex if text.bytes().any(|b| b.is_ascii_uppercase()) => None,
            Encoding::Hex => hex::decode(text).ok(),
            Encoding::Base64 => BASE64.decode(text).ok(),
        }
    }
}

/// At most this many signatures are tried: rotation needs two.
const SIGNATURES_MAX: usize = 8;
