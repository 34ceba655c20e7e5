//! Secrets: named in the file, kept elsewhere, read once, never shown.
//!
//! A configuration is copied into tickets and repositories, so a secret in it is already lost. The text that
//! error messages quote is blotted out first, because the mistake may be exactly that.

use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::file::{self, Unread};

/// Where a secret is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reference<'a> {
    /// In a variable of the environment.
    Env(&'a str),
    /// In a file.
    File(&'a str),
}

impl<'a> Reference<'a> {
    /// `env:NAME` or `file:PATH`; anything else is an inline secret.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if let Some(name) = text.strip_prefix("env:") {
            // `env:sk-…` is a secret that lost its way, not a variable.
            let variable = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
            return (variable && !name.is_empty()).then_some(Self::Env(name));
        }
        text.strip_prefix("file:").filter(|path| !path.is_empty()).map(Self::File)
    }
}

/// Largest secret file.
const SECRET_BYTES_MAX: u64 = 65_536;

/// Reads a secret file, without the line break at its end.
pub(super) fn read_file(path: &Path) -> Result<String, String> {
    let text = file::read(path, SECRET_BYTES_MAX).map_err(|error| match error {
        Unread::Io(_) => format!("cannot be read: {error}"),
        Unread::NotAFile | Unread::TooLarge(_) => format!("is {error}"),
    })?;
    String::from_utf8(text).map_err(|_| "is not UTF-8".into())
}

/// True if others than its owner and group can read the file.
pub(super) fn world_readable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o004 != 0)
}

/// True if a key's name sounds like a secret.
pub(super) fn sounds_secret(key: &str) -> bool {
    let key = key.to_lowercase().replace('-', "_");
    let words = ["secret", "token", "password", "passwd", "credential", "apikey", "api_key", "private_key"];
    let harmless = key.contains("tokens") || key.ends_with("_token_s");
    key == "key" || (!harmless && words.iter().any(|word| key.contains(word)))
}

/// True if a word of a key's name is one letter away from one that sounds like a secret: the message about an unknown key
/// must not show what stands behind it.
fn misspelt(key: &str) -> bool {
    let near = |word: &str| {
        let words = ["secret", "token", "password", "passwd", "credential", "key"];
        word != "tokens" && words.iter().any(|secret| strsim::damerau_levenshtein(word, secret) == 1)
    };
    key.to_lowercase().split(['_', '-']).any(near)
}

/// The text with everything that may be a secret replaced by `*`, byte for byte, so that positions stay.
///
/// In a file that is not TOML nothing is known about its values, so every line whose key sounds like a
/// secret is blotted out too.
pub(super) fn blotted(text: &str, root: &DeTable<'_>, broken: bool) -> String {
    let mut spans = Vec::new();
    find(root, false, &mut spans);
    let mut bytes = text.as_bytes().to_vec();
    for span in spans {
        blot(&mut bytes, span);
    }
    if broken {
        blot_lines(text, &mut bytes);
    }
    // Only whole values and whole line ends were replaced, so this is UTF-8 still; if not, show nothing.
    String::from_utf8(bytes).unwrap_or_else(|_| "*".repeat(text.len()))
}

fn find(table: &DeTable<'_>, within: bool, spans: &mut Vec<Range<usize>>) {
    for (key, value) in table {
        let name = key.get_ref().as_ref();
        find_in(value, within || sounds_secret(name) || misspelt(name) || name == "secrets", spans);
    }
}

fn find_in(value: &Spanned<DeValue<'_>>, secret: bool, spans: &mut Vec<Range<usize>>) {
    match value.get_ref() {
        DeValue::Table(inner) => find(inner, secret, spans),
        DeValue::String(text) => {
            let credentials = text.split_once("://").is_some_and(|(_, rest)| rest.contains('@'));
            if credentials || (secret && Reference::parse(text).is_none()) || looks_secret(text) {
                spans.push(value.span());
            }
        }
        DeValue::Array(_) if secret => spans.push(value.span()),
        DeValue::Array(items) => items.iter().for_each(|item| find_in(item, secret, spans)),
        _ => {}
    }
}

/// Well-known beginnings of tokens, for a secret under an innocent key.
pub(super) fn looks_secret(text: &str) -> bool {
    ["sk-", "xoxb-", "xoxp-", "xapp-", "whsec_", "ghp_", "AKIA"].iter().any(|start| text.starts_with(start))
}

fn blot_lines(text: &str, bytes: &mut [u8]) {
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        // `key: value` is no TOML, but it is what people write who think of YAML.
        if let Some((key, value)) = line.split_once(['=', ':']) {
            let reference = value.contains("\"env:") || value.contains("\"file:");
            if sounds_secret(key.trim().trim_matches('"')) || (line.contains("secret") && !reference) {
                let from = start + key.len() + 1;
                blot(bytes, from..start + line.trim_end().len());
            }
        }
        start += line.len();
    }
}

fn blot(bytes: &mut [u8], span: Range<usize>) {
    for byte in bytes.get_mut(span).unwrap_or_default() {
        if !byte.is_ascii_whitespace() && *byte != b'"' && *byte != b'\'' {
            *byte = b'*';
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_reference_is_a_reference() {
        assert_eq!(Reference::parse("env:KEY"), Some(Reference::Env("KEY")));
        assert_eq!(Reference::parse("file:/run/key"), Some(Reference::File("/run/key")));
        for inline in ["sk-live-1", "env:", "env:sk-live-1", "file:", "", "ENV:KEY", "KEY"] {
            assert_eq!(Reference::parse(inline), None, "{inline}");
        }
    }

    #[test]
    fn what_may_be_a_secret_is_blotted_out_and_positions_stay() {
        let text = "[provider.a]\nkey = \"hunter2ä\"\nurl = \"https://me:hunter2@x.y\"\nnote = \"sk-hunter2\"\nmax = 3\n[channel.b.secrets]\nx = \"hunter2\"\ny = \"env:Y\"\n[c]\nz = { bot_token = \"hunter2\" }\nlist = [[\"sk-hunter2\"], { password = \"hunter2\" }]\n[[c.d]]\ntoken = \"hunter2\"\n";
        let (root, errors) = DeTable::parse_recoverable(text);
        assert!(errors.is_empty());
        let shown = blotted(text, root.get_ref(), false);
        assert!(!shown.contains("hunter2"), "{shown}");
        assert_eq!(shown.len(), text.len());
        assert!(shown.contains("max = 3") && shown.contains("\"env:Y\""));
    }

    #[test]
    fn a_secret_under_a_misspelt_key_is_blotted_out() {
        for key in ["admin_tokn", "tokken", "signing_sercet", "pasword", "kay", "keys", "Tokne"] {
            let text = format!("{key} = \"hunter2\"\n");
            let (root, _) = DeTable::parse_recoverable(&text);
            let shown = blotted(&text, root.get_ref(), false);
            assert!(!shown.contains("hunter2"), "{shown}");
        }
        for key in ["max_tokens", "kind", "by", "chain"] {
            let text = format!("{key} = \"shown\"\n");
            let (root, _) = DeTable::parse_recoverable(&text);
            assert_eq!(blotted(&text, root.get_ref(), false), text);
        }
    }

    #[test]
    fn a_broken_file_does_not_show_its_secrets_either() {
        let text =
            "[provider.a\nkey = \"hunter2\"\ntoken: hunter2\nkey = hunter2\nsecrets = { a = \"hunter2\n";
        let (root, errors) = DeTable::parse_recoverable(text);
        assert!(!errors.is_empty());
        let shown = blotted(text, root.get_ref(), true);
        assert!(!shown.contains("hunter2"), "{shown}");
    }
}
