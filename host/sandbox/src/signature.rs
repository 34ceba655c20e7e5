//! Signatures of plugins: ed25519 over manifest and component together, in the file `plugin.sig` beside them.
//!
//! A signature says who made a build, and that both files are his. Whom the operator believes is for the engine to ask
//! (`[trust]`); here it is only established, before anything else is looked at, that what is signed is signed rightly.
//! A wrong signature is always a refusal: a build that somebody has changed is not merely unsigned.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chela_types::Digest;
use ed25519_dalek::pkcs8::{DecodePrivateKey, EncodePrivateKey, spki::der::pem::LineEnding};
use ed25519_dalek::{Signer, VerifyingKey};
use serde::{Deserialize, Serialize};

/// The file of a signature in a plugin's folder.
pub const SIGNATURE_FILE: &str = "plugin.sig";
/// Largest `plugin.sig`.
pub(crate) const SIGNATURE_BYTES_MAX: usize = 4 << 10;
/// How keys begin in files.
const PREFIX: &str = "ed25519:";
/// What a signature is of, so that it cannot be taken for one of anything else.
const CONTEXT: &str = "chela 2026 signed plugin";

/// Who signs: 32 bytes, written `ed25519:` and base64url without padding.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

/// Why something is no key, or no signature.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// Not a public key.
    #[error("`{0}` is not a public key, which is `{PREFIX}` and 43 characters of base64url")]
    PublicKey(String),
    /// Not a private key.
    #[error("not an ed25519 key in PKCS#8 PEM (`chela plugin keygen` makes one)")]
    PrivateKey,
    /// A key that could not be made.
    #[error("a key could not be made: {0}")]
    Keygen(String),
    /// Not a file of ours.
    #[error("{SIGNATURE_FILE}: {0}")]
    File(String),
    /// Of other bytes, or by another key.
    #[error(
        "{SIGNATURE_FILE} is not of this plugin.toml and this component: one of them was changed after it was signed"
    )]
    Wrong,
}

impl FromStr for PublicKey {
    type Err = SignatureError;

    fn from_str(text: &str) -> Result<Self, SignatureError> {
        let wrong = || SignatureError::PublicKey(text.chars().take(80).collect());
        let coded = text.strip_prefix(PREFIX).ok_or_else(wrong)?;
        let bytes = URL_SAFE_NO_PAD.decode(coded).ok().and_then(|bytes| bytes.try_into().ok());
        let bytes = bytes.ok_or_else(wrong)?;
        VerifyingKey::from_bytes(&bytes).map_err(|_| wrong())?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for PublicKey {
    type Error = SignatureError;

    fn try_from(text: String) -> Result<Self, SignatureError> {
        text.parse()
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        key.to_string()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A private key. Its debug output hides it, and its memory is wiped.
pub struct SigningKey(ed25519_dalek::SigningKey);

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.public())
    }
}

impl SigningKey {
    /// A new one, from the system's randomness.
    ///
    /// # Errors
    /// [`SignatureError::Keygen`] if the system has none.
    pub fn generate() -> Result<Self, SignatureError> {
        let mut secret = [0; 32];
        rand::TryRng::try_fill_bytes(&mut rand::rngs::SysRng, &mut secret)
            .map_err(|error| SignatureError::Keygen(error.to_string()))?;
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&secret)))
    }

    /// As it is written in a file: PKCS#8 in PEM, as OpenSSL reads and writes it.
    ///
    /// # Errors
    /// [`SignatureError::Keygen`] if it cannot be encoded.
    pub fn pem(&self) -> Result<String, SignatureError> {
        let pem = self.0.to_pkcs8_pem(LineEnding::LF);
        Ok(pem.map_err(|error| SignatureError::Keygen(error.to_string()))?.to_string())
    }

    /// From such a file.
    ///
    /// # Errors
    /// [`SignatureError::PrivateKey`].
    pub fn from_pem(text: &str) -> Result<Self, SignatureError> {
        let key = ed25519_dalek::SigningKey::from_pkcs8_pem(text);
        Ok(Self(key.map_err(|_| SignatureError::PrivateKey)?))
    }

    /// The key that others may know.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs a plugin: the text of its `plugin.toml`, and its component.
    pub fn sign(&self, manifest: &str, component: &[u8]) -> Signature {
        let signature = self.0.sign(&message(manifest, component));
        Signature { key: self.public(), bytes: signature.to_bytes() }
    }
}

/// A signature that holds: whoever has one has checked it, or made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    key: PublicKey,
    bytes: [u8; 64],
}

/// `plugin.sig`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    key: PublicKey,
    signature: String,
}

impl Signature {
    /// Reads a `plugin.sig` and holds it against what it should be of.
    ///
    /// # Errors
    /// [`SignatureError`]: not such a file, or a signature of something else.
    pub fn check(text: &str, manifest: &str, component: &[u8]) -> Result<Self, SignatureError> {
        let written: Written =
            toml::from_str(text).map_err(|error| SignatureError::File(error.message().to_owned()))?;
        let bytes = URL_SAFE_NO_PAD.decode(&written.signature).ok().and_then(|bytes| bytes.try_into().ok());
        let bytes: [u8; 64] = bytes.ok_or_else(|| {
            SignatureError::File("`signature` is not 64 bytes in base64url without padding".to_owned())
        })?;
        let key = VerifyingKey::from_bytes(&written.key.0)
            .map_err(|_| SignatureError::PublicKey(written.key.to_string()))?;
        // Strict: neither weak keys nor a second form of the same signature.
        key.verify_strict(&message(manifest, component), &ed25519_dalek::Signature::from_bytes(&bytes))
            .map_err(|_| SignatureError::Wrong)?;
        Ok(Self { key: written.key, bytes })
    }

    /// By whom.
    pub fn key(&self) -> PublicKey {
        self.key
    }

    /// As `plugin.sig` holds it.
    pub fn text(&self) -> String {
        format!("key = \"{}\"\nsignature = \"{}\"\n", self.key, URL_SAFE_NO_PAD.encode(self.bytes))
    }
}

/// What is signed: a digest of both, with their lengths.
fn message(manifest: &str, component: &[u8]) -> [u8; 32] {
    *Digest::of(CONTEXT, &[manifest.as_bytes(), component]).as_bytes()
}

/// Where a build comes from, as far as it can be known without asking whom the operator trusts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Provenance {
    /// This program carries it.
    Builtin,
    /// Whoever holds this key has signed it.
    Signed(Signature),
    /// Nobody has.
    Unsigned,
}

impl Provenance {
    /// How it is kept of a builtin.
    const BUILTIN: &str = "builtin";

    /// As it is kept beside a build: `builtin`, the text of its `plugin.sig`, or nothing.
    pub fn text(&self) -> String {
        match self {
            Self::Builtin => Self::BUILTIN.to_owned(),
            Self::Signed(signature) => signature.text(),
            Self::Unsigned => String::new(),
        }
    }

    /// What was kept, checked anew.
    pub(crate) fn of_kept(kept: &str, manifest: &str, component: &[u8]) -> Result<Self, SignatureError> {
        match kept {
            "" => Ok(Self::Unsigned),
            Self::BUILTIN => Ok(Self::Builtin),
            text => Ok(Self::Signed(Signature::check(text, manifest, component)?)),
        }
    }

    /// Who signed, if somebody has.
    pub fn signer(&self) -> Option<PublicKey> {
        match self {
            Self::Signed(signature) => Some(signature.key()),
            Self::Builtin | Self::Unsigned => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = "name = \"echo\"\n";
    const COMPONENT: &[u8] = b"\0asm and so on";

    #[test]
    fn a_signature_is_of_both_files_and_of_nothing_else() {
        let key = SigningKey::generate().unwrap();
        let text = key.sign(MANIFEST, COMPONENT).text();
        let held = Signature::check(&text, MANIFEST, COMPONENT).unwrap();
        assert_eq!((held.key(), held.text()), (key.public(), text.clone()));
        for (manifest, component) in [
            ("name = \"echo\"", COMPONENT),
            ("name = \"echo\"\n\n", COMPONENT),
            (MANIFEST, &b"\0asm and so off"[..]),
            // What is moved from one file into the other is no longer what was signed.
            ("name = \"echo\"\n\0", &b"asm and so on"[..]),
        ] {
            assert_eq!(Signature::check(&text, manifest, component), Err(SignatureError::Wrong));
        }
        let other = SigningKey::generate().unwrap().public().to_string();
        let forged = text.replace(&key.public().to_string(), &other);
        assert_eq!(Signature::check(&forged, MANIFEST, COMPONENT), Err(SignatureError::Wrong));
    }

    #[test]
    fn every_byte_of_a_signature_counts() {
        let text = SigningKey::generate().unwrap().sign(MANIFEST, COMPONENT).text();
        for at in 0..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] ^= 1;
            let Ok(changed) = String::from_utf8(changed) else { continue };
            assert!(Signature::check(&changed, MANIFEST, COMPONENT).is_err(), "{at}: {changed}");
        }
    }

    #[test]
    fn a_key_is_read_as_it_is_written() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pem(&key.pem().unwrap()).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(key.public().to_string().parse(), Ok(key.public()));
        assert!(!format!("{key:?}").contains(&key.pem().unwrap()[30..60]));
        for text in ["", "ed25519:", "ed25519:AAAA", &key.public().to_string()[8..], "rsa:AAAA"] {
            assert!(text.parse::<PublicKey>().is_err(), "{text}");
        }
        assert!(SigningKey::from_pem("-----BEGIN PRIVATE KEY-----\n").is_err());
    }

    #[test]
    fn a_key_that_makes_any_signature_hold_is_refused() {
        // The neutral element: with it and a signature of zeros, equations without `strict` hold.
        let mut neutral = [0; 32];
        neutral[0] = 1;
        let key = format!("ed25519:{}", URL_SAFE_NO_PAD.encode(neutral));
        let mut bytes = [0; 64];
        bytes[0] = 1;
        let text = format!("key = \"{key}\"\nsignature = \"{}\"\n", URL_SAFE_NO_PAD.encode(bytes));
        assert_eq!(Signature::check(&text, MANIFEST, COMPONENT), Err(SignatureError::Wrong));
    }

    #[test]
    fn what_is_no_signature_is_refused() {
        for text in ["", "key", "key = 1", "key = \"x\"\nsignature = \"\"\n", "a = 1\n"] {
            assert!(Signature::check(text, MANIFEST, COMPONENT).is_err(), "{text}");
        }
        let good = SigningKey::generate().unwrap().sign(MANIFEST, COMPONENT).text();
        assert!(Signature::check(&format!("{good}more = 1\n"), MANIFEST, COMPONENT).is_err());
    }
}
