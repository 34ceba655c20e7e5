//! Secrets that must not travel: looked for in what a plugin sends and in what comes back to it.
//!
//! A plugin never has a secret, so none can be in what it sends, unless somebody told it one; and a peer may repeat the
//! credential that the host put in. Looked for as they are, and in the forms in which they are carried: base64 at each
//! offset, hex, percent signs, JSON, backwards. Whoever encrypts first is not seen: this catches mistakes and the usual
//! tricks, the sandbox is what keeps secrets away.

use aho_corasick::{AhoCorasick, MatchKind};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use secrecy::{ExposeSecret, SecretString};
use std::fmt;
use std::sync::Arc;

/// Shorter ones would be found in innocent texts.
const SECRET_BYTES_MIN: usize = 8;

/// What is looked for. Its debug output shows none of it.
pub struct Leaks {
    automaton: Option<AhoCorasick>,
    longest: usize,
}

impl fmt::Debug for Leaks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let patterns = self.automaton.as_ref().map_or(0, AhoCorasick::patterns_len);
        f.debug_struct("Leaks").field("patterns", &patterns).finish_non_exhaustive()
    }
}

impl Leaks {
    /// Of these secrets; those below eight bytes are let go.
    pub fn of<'a>(secrets: impl IntoIterator<Item = &'a SecretString>) -> Self {
        let secrets = secrets.into_iter().map(|secret| secret.expose_secret().as_bytes());
        let mut forms: Vec<Vec<u8>> =
            secrets.filter(|secret| secret.len() >= SECRET_BYTES_MIN).flat_map(forms).collect();
        forms.sort();
        forms.dedup();
        let longest = forms.iter().map(Vec::len).max().unwrap_or_default();
        let build = || AhoCorasick::builder().match_kind(MatchKind::Standard).build(&forms);
        // More patterns than fit into 32 bits cannot come out of a configuration.
        let automaton = (!forms.is_empty()).then(build).and_then(Result::ok);
        Self { automaton, longest }
    }

    /// Whether one of them stands in there.
    pub fn found_in(&self, bytes: &[u8]) -> bool {
        self.automaton.as_ref().is_some_and(|automaton| automaton.is_match(bytes))
    }
}

/// A look at something that comes in pieces: what begins in one and ends in another is seen, too.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    leaks: Arc<Leaks>,
    tail: Vec<u8>,
}

impl Watch {
    pub(crate) fn new(leaks: Arc<Leaks>) -> Self {
        Self { leaks, tail: Vec::new() }
    }

    /// Whether a secret has come to its end in this piece.
    pub(crate) fn found_in(&mut self, piece: &Bytes) -> bool {
        if self.leaks.automaton.is_none() {
            return false;
        }
        self.tail.extend_from_slice(piece);
        let found = self.leaks.found_in(&self.tail);
        let keep = self.leaks.longest.saturating_sub(1);
        let gone = self.tail.len().saturating_sub(keep);
        self.tail.drain(..gone);
        found
    }
}

/// A secret as it may be carried.
fn forms(secret: &[u8]) -> Vec<Vec<u8>> {
    let mut forms = vec![secret.to_vec(), secret.iter().rev().copied().collect()];
    forms.extend([lower_hex(secret), lower_hex(secret).to_ascii_uppercase()]);
    for plain in [&b"-._~"[..], b"-._*"] {
        let percent = percent(secret, plain);
        forms.extend([percent.to_ascii_lowercase(), percent]);
    }
    if let Ok(text) = std::str::from_utf8(secret)
        && let Ok(quoted) = serde_json::to_string(text)
    {
        forms.push(quoted.trim_matches('"').as_bytes().to_vec());
    }
    for offset in 0..3 {
        forms.push(middle(STANDARD_NO_PAD.encode(shifted(secret, offset)), secret.len(), offset));
        forms.push(middle(URL_SAFE_NO_PAD.encode(shifted(secret, offset)), secret.len(), offset));
    }
    // What is cut short by an encoding of few bytes would be found anywhere.
    forms.retain(|form| form.len() >= SECRET_BYTES_MIN);
    forms
}

fn lower_hex(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect()
}

/// As a URL carries it, or a form, which leaves other characters as they are.
fn percent(bytes: &[u8], plain: &[u8]) -> Vec<u8> {
    let one = |byte: &u8| match byte {
        b if b.is_ascii_alphanumeric() || plain.contains(b) => vec![*b],
        b => format!("%{b:02X}").into_bytes(),
    };
    bytes.iter().flat_map(one).collect()
}

/// Behind so many other bytes.
fn shifted(secret: &[u8], offset: usize) -> Vec<u8> {
    let mut bytes = vec![0; offset];
    bytes.extend_from_slice(secret);
    bytes
}

/// The characters of a base64 text that the secret alone decides.
fn middle(encoded: String, len: usize, offset: usize) -> Vec<u8> {
    let first = (offset * 8).div_ceil(6);
    let last = (offset + len) * 8 / 6;
    encoded.into_bytes().into_iter().take(last).skip(first).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::engine::general_purpose::STANDARD;

    const SECRET: &str = "s3cr3t/+token\"with~more";

    fn leaks() -> Arc<Leaks> {
        Arc::new(Leaks::of(&[SecretString::from(SECRET), SecretString::from("short")]))
    }

    #[test]
    fn a_secret_is_seen_however_it_is_carried() {
        let leaks = leaks();
        let secret = SECRET.as_bytes();
        let mut carried = vec![
            format!("token={SECRET}").into_bytes(),
            serde_json::to_vec(&serde_json::json!({ "a": SECRET })).unwrap(),
            SECRET.chars().rev().collect::<String>().into_bytes(),
            lower_hex(secret),
            lower_hex(secret).to_ascii_uppercase(),
            url::form_urlencoded::byte_serialize(secret).collect::<String>().into_bytes(),
        ];
        for before in ["", "u", "us", "use", "user:", "someone:"] {
            for behind in ["", "!", "!!", "!!!"] {
                let text = format!("{before}{SECRET}{behind}");
                carried.push(STANDARD.encode(&text).into_bytes());
                carried.push(URL_SAFE_NO_PAD.encode(&text).into_bytes());
            }
        }
        for carried in carried {
            assert!(leaks.found_in(&carried), "{}", String::from_utf8_lossy(&carried));
        }
    }

    #[test]
    fn innocent_texts_pass() {
        let leaks = leaks();
        for text in ["", "short", "s3cr3t", "the secret is safe", &STANDARD.encode("s3cr3t/+tokem")] {
            assert!(!leaks.found_in(text.as_bytes()), "{text}");
        }
        assert!(!Leaks::of([]).found_in(SECRET.as_bytes()));
        assert!(!format!("{leaks:?}").contains("s3cr3t"));
    }

    #[test]
    fn a_secret_that_is_cut_anywhere_is_seen() {
        let leaks = leaks();
        let text = format!("before {SECRET} after");
        for size in 1..text.len() {
            let mut watch = Watch::new(Arc::clone(&leaks));
            let mut pieces = text.as_bytes().chunks(size).map(Bytes::copy_from_slice);
            assert!(pieces.any(|piece| watch.found_in(&piece)), "in pieces of {size}");
        }
        let mut watch = Watch::new(leaks);
        let innocent = format!("{}{}", &SECRET[..10], &SECRET[11..]);
        assert!(!innocent.as_bytes().chunks(3).any(|piece| watch.found_in(&Bytes::copy_from_slice(piece))));
    }
}
