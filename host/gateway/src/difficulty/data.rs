//! Labelled turns, one JSON object on each line: what was asked, and how good each tier's answer is.
//!
//! A line that is not understood is refused by its number, and nothing is fitted on the rest: what is left out by
//! mistake is not left out by lot.

use chela_types::{Digest, Money};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Features;

/// Largest file: 256 MiB.
pub const BYTES_MAX: usize = 256 << 20;
/// Most turns.
pub const ROWS_MAX: usize = 100_000;
/// Longest line: a request has at most 1 MiB, and JSON may write each byte as six.
const LINE_BYTES_MAX: usize = 8 << 20;
/// Most prompts of a turn, as of a call.
const PROMPTS_MAX: usize = 256;

/// A file that is not used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DataError {
    /// It is too large, or has nothing in it.
    #[error("{0}")]
    File(String),
    /// A line is wrong.
    #[error("line {line}: {what}")]
    Line {
        /// From 1.
        line: usize,
        /// What is wrong with it. Nothing of what it says.
        what: String,
    },
}

/// One tier's answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Side {
    /// From 0 to 1.
    pub good: f64,
    /// What it cost.
    pub cost: Option<Money>,
}

/// A labelled turn.
#[derive(Debug, Clone, PartialEq)]
pub struct Turn {
    /// What a scorer sees of it.
    pub features: Features,
    /// By the words that are to be answered: turns that ask the same are drawn together.
    pub(super) key: u64,
    /// The cheaper tier's answer.
    pub cheap: Side,
    /// The dearer tier's.
    pub dear: Side,
}

impl Turn {
    /// What is lost if the cheaper tier answers; below zero if its answer is the better one.
    pub(super) fn loss(&self) -> f64 {
        self.dear.good - self.cheap.good
    }

    /// How far the cheaper tier's answer is good enough: 1 if it is no worse.
    pub(super) fn enough(&self) -> f64 {
        1.0 - self.loss().max(0.0)
    }
}

/// All of a file.
#[derive(Debug, Clone)]
pub struct Data {
    /// In the file's order.
    pub turns: Vec<Turn>,
    /// Of its bytes.
    pub digest: Digest,
}

/// A recorded turn that waits for its labels.
#[derive(Debug, Clone, Serialize)]
pub struct Exported<'a> {
    /// The turn's id.
    pub turn: &'a str,
    /// The texts, the last one is to be answered.
    pub prompts: &'a [String],
    /// The system prompt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub system: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    #[serde(rename = "turn", default)]
    _turn: Option<String>,
    #[serde(default)]
    prompts: Option<Vec<String>>,
    #[serde(default)]
    text: Option<String>,
    #[serde(default)]
    system: Option<String>,
    #[serde(default)]
    cheap: Option<Map<String, Value>>,
    #[serde(default)]
    dear: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Labelled {
    good: Good,
    #[serde(default)]
    cost: Option<String>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Good {
    Said(bool),
    Judged(f64),
}

impl Data {
    /// Reads a whole file.
    ///
    /// # Errors
    /// [`DataError`], with the line.
    pub fn read(bytes: &[u8]) -> Result<Self, DataError> {
        if bytes.len() > BYTES_MAX {
            return Err(DataError::File(format!("it is larger than {} MiB", BYTES_MAX >> 20)));
        }
        let mut turns = Vec::new();
        for (before, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let wrong = |what: String| DataError::Line { line: before + 1, what };
            if turns.len() == ROWS_MAX {
                return Err(wrong(format!("there are more than {ROWS_MAX} turns")));
            }
            turns.push(turn(line).map_err(wrong)?);
        }
        if turns.is_empty() {
            return Err(DataError::File("there is no turn in it".to_owned()));
        }
        Ok(Self { turns, digest: Digest::of("chela tier data 1", &[bytes]) })
    }
}

fn turn(line: &[u8]) -> Result<Turn, String> {
    if line.len() > LINE_BYTES_MAX {
        return Err(format!("it is longer than {} MiB", LINE_BYTES_MAX >> 20));
    }
    let read: Line = serde_json::from_slice(line).map_err(|error| unread(&error))?;
    // A list would be read as the fields in their order.
    if line.trim_ascii_start().first() != Some(&b'{') {
        return Err(format!("it {FORM}"));
    }
    let prompts = match (read.prompts, read.text) {
        (Some(prompts), None) if (1..=PROMPTS_MAX).contains(&prompts.len()) => prompts,
        (Some(_), None) => return Err(format!("`prompts` has 1 to {PROMPTS_MAX} texts")),
        (None, Some(text)) => vec![text],
        _ => return Err("it needs either `prompts` or `text`".to_owned()),
    };
    let cheap = side("cheap", read.cheap)?;
    let dear = side("dear", read.dear)?;
    let last = prompts.last().map(String::as_str).unwrap_or_default();
    let features = Features::of(read.system.as_deref(), prompts.iter().map(String::as_str));
    Ok(Turn { features, key: key(last), cheap, dear })
}

const FORM: &str = "has another form than a labelled turn";

/// What is wrong and where. serde's own words would repeat what people said.
fn unread(error: &serde_json::Error) -> String {
    let what = match error.classify() {
        serde_json::error::Category::Data => FORM,
        _ => "is no JSON",
    };
    format!("it {what}, at column {}", error.column())
}

fn side(name: &str, given: Option<Map<String, Value>>) -> Result<Side, String> {
    let given = given.ok_or_else(|| format!("it has no label: `{name}` is missing"))?;
    let given: Labelled =
        serde_json::from_value(Value::Object(given)).map_err(|_| format!("its `{name}` {FORM}"))?;
    let good = match given.good {
        Good::Said(is_good) => f64::from(u8::from(is_good)),
        Good::Judged(share) => share,
    };
    if !(0.0..=1.0).contains(&good) {
        return Err(format!("`{name}.good` is true, false or a number from 0 to 1"));
    }
    let cost = match given.cost {
        None => None,
        Some(text) => {
            let cost = Money::parse_dollars(&text).filter(|cost| *cost >= Money::ZERO);
            Some(cost.ok_or_else(|| format!("`{name}.cost` is no amount in dollars, as \"0.0012\""))?)
        }
    };
    Ok(Side { good, cost })
}

fn key(text: &str) -> u64 {
    let text = text.trim().to_lowercase();
    let digest = Digest::of("chela tier turn 1", &[text.as_bytes()]);
    let first = digest.as_bytes().iter().take(8);
    first.fold(0, |number, byte| (number << 8) | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Data, DataError> {
        Data::read(text.as_bytes())
    }

    #[test]
    fn a_labelled_turn_is_read() {
        let text = r#"{"text":"hi","cheap":{"good":true,"cost":"0.0001"},"dear":{"good":0.5}}

{"prompts":["a","b"],"system":"s","cheap":{"good":0},"dear":{"good":1.0,"cost":"0"},"turn":"0198"}
"#;
        let data = read(text).unwrap();
        assert_eq!(data.turns.len(), 2);
        assert_eq!(data.turns[0].cheap, Side { good: 1.0, cost: Money::parse_dollars("0.0001") });
        assert_eq!((data.turns[0].loss(), data.turns[0].enough()), (-0.5, 1.0));
        assert_eq!((data.turns[1].loss(), data.turns[1].enough()), (1.0, 0.0));
        assert_ne!(data.digest, read(&text.replace("hi", "ho")).unwrap().digest);
    }

    #[test]
    fn a_bad_line_is_named_and_nothing_of_it_is_told() {
        let good = r#"{"text":"hi","cheap":{"good":true},"dear":{"good":true}}"#;
        for (bad, told) in [
            ("secret", "no JSON"),
            ("[]", "another form"),
            (r#"{"text":"secret""#, "no JSON"),
            (r#"{"text":"secret","cheap":{"good":true}}"#, "`dear` is missing"),
            (r#"{"text":"secret"}"#, "`cheap` is missing"),
            (r#"{"cheap":{"good":true},"dear":{"good":true}}"#, "either `prompts` or `text`"),
            (r#"{"text":"secret","prompts":["a"],"cheap":{"good":1},"dear":{"good":1}}"#, "either"),
            (r#"{"prompts":[],"cheap":{"good":1},"dear":{"good":1}}"#, "1 to 256"),
            (r#"{"text":"secret","cheap":{"good":1.01},"dear":{"good":1}}"#, "from 0 to 1"),
            (r#"{"text":"secret","cheap":{"good":-0.1},"dear":{"good":1}}"#, "from 0 to 1"),
            (r#"{"text":"secret","cheap":{"good":1e999},"dear":{"good":1}}"#, "column"),
            (r#"{"text":"secret","cheap":{"good":"secret"},"dear":{"good":1}}"#, "another form"),
            (r#"{"text":"secret","cheap":{"good":null},"dear":{"good":1}}"#, "another form"),
            (r#"{"text":"secret","cheap":{"good":1,"cost":"-1"},"dear":{"good":1}}"#, "no amount"),
            (r#"{"text":"secret","cheap":{"good":1,"cost":"secret"},"dear":{"good":1}}"#, "no amount"),
            (r#"{"text":"secret","secret":1,"cheap":{"good":1},"dear":{"good":1}}"#, "another form"),
        ] {
            let error = read(&format!("{good}\n\n{bad}\n{good}\n")).unwrap_err();
            assert!(matches!(error, DataError::Line { line: 3, .. }), "{bad}: {error}");
            let error = error.to_string();
            assert!(error.contains(told) && !error.contains("secret"), "{bad}: {error}");
        }
        let nothing = read("\n \n").unwrap_err();
        assert!(matches!(nothing, DataError::File(_)));
        let error = Data::read(b"\xff\xfe{}").unwrap_err();
        assert!(matches!(error, DataError::Line { line: 1, .. }));
    }

    #[test]
    fn there_are_limits() {
        let deep = "[".repeat(100_000);
        assert!(read(&deep).is_err());
        let long = format!("{{\"text\":\"{}\"}}", "a".repeat(LINE_BYTES_MAX));
        assert!(read(&long).unwrap_err().to_string().contains("longer than"));
        let row = r#"{"text":"a","cheap":{"good":1},"dear":{"good":1}}"#;
        let many = format!("{row}\n").repeat(ROWS_MAX);
        assert_eq!(read(&many).unwrap().turns.len(), ROWS_MAX);
        let error = read(&format!("{many}{row}")).unwrap_err().to_string();
        assert!(error.contains("100001") && error.contains("more than 100000"), "{error}");
    }
}
