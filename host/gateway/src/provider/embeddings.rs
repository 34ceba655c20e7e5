//! `POST /v1/embeddings`, in OpenAI's form: texts in, vectors out, in the order of the texts.
//!
//! Numbers are asked for as numbers. An answer that has them otherwise (`base64`, `null`, beyond any float) is a bad one,
//! as is one with another count, another order that it does not tell, or vectors of different lengths.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{Trouble, count};

/// No model has longer vectors: the longest that is known of has 4,096.
pub(crate) const DIMS_MAX: usize = 16_384;

/// Some texts for one model.
#[derive(Debug, Clone)]
pub(crate) struct Embed {
    /// The provider's name of the model.
    pub(crate) model: String,
    /// The texts.
    pub(crate) inputs: std::sync::Arc<Vec<String>>,
    /// How long the vectors are to be; absent: as long as the model makes them.
    pub(crate) dims: Option<usize>,
    /// How far it has come.
    pub(crate) sent: super::Sent,
}

/// Their vectors.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Embedded {
    /// One for each text, all of one length.
    pub(crate) vectors: Vec<Vec<f32>>,
    /// Input tokens, as the provider counted them; one that is no count is the largest there is.
    pub(crate) tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Body {
    data: Vec<Item>,
    #[serde(default)]
    usage: Option<Counted>,
}

#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    index: Option<Value>,
    embedding: Value,
}

#[derive(Deserialize, Default)]
struct Counted {
    #[serde(default, deserialize_with = "count")]
    prompt_tokens: Option<u64>,
}

pub(crate) fn body(ask: &Embed) -> Value {
    let mut body = json!({ "model": ask.model, "input": *ask.inputs, "encoding_format": "float" });
    if let (Some(dims), Some(fields)) = (ask.dims, body.as_object_mut()) {
        fields.insert("dimensions".to_owned(), dims.into());
    }
    body
}

/// Reads a whole answer to so many texts, with vectors as long as was asked. What it counted stands in the trouble, too.
pub(crate) fn read(bytes: &[u8], (inputs, asked): (usize, Option<usize>)) -> Result<Embedded, Trouble> {
    let body: Body = serde_json::from_slice(bytes).map_err(|_| Trouble::bad("it is no list of vectors"))?;
    let tokens = body.usage.and_then(|usage| usage.prompt_tokens);
    if body.data.len() != inputs {
        return Err(Trouble::bad("it has another number of vectors than there are texts"));
    }
    let mut vectors: Vec<Option<Vec<f32>>> = vec![None; inputs];
    for (place, item) in body.data.into_iter().enumerate() {
        let place = match &item.index {
            None => Some(place),
            Some(index) => index.as_u64().and_then(|index| usize::try_from(index).ok()),
        };
        let free = place.and_then(|place| vectors.get_mut(place)).filter(|free| free.is_none());
        let free = free.ok_or(Trouble::bad("its vectors are not numbered as the texts are"))?;
        *free = Some(vector(&item.embedding)?);
    }
    let vectors: Vec<Vec<f32>> = vectors.into_iter().flatten().collect();
    let dims = vectors.first().map_or(0, Vec::len);
    if vectors.len() != inputs || vectors.iter().any(|vector| vector.len() != dims) {
        return Err(Trouble::bad("its vectors have different lengths"));
    }
    // Whoever passes the wish over makes vectors that cannot be compared with those of who obeys it.
    if asked.is_some_and(|asked| asked != dims) {
        return Err(Trouble::bad("its vectors have another length than was asked"));
    }
    Ok(Embedded { vectors, tokens })
}

fn vector(value: &Value) -> Result<Vec<f32>, Trouble> {
    let numbers = value.as_array().ok_or(Trouble::bad("a vector is no list of numbers"))?;
    if !(1..=DIMS_MAX).contains(&numbers.len()) {
        return Err(Trouble::bad("a vector is empty, or longer than any is"));
    }
    let number =
        |value: &Value| value.as_f64().map(|number| number as f32).filter(|number| number.is_finite());
    let vector: Option<Vec<f32>> = numbers.iter().map(number).collect();
    vector.ok_or(Trouble::bad("a vector has something that is no finite number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn item(index: &str, embedding: &str) -> String {
        format!(r#"{{"object":"embedding","index":{index},"embedding":{embedding}}}"#)
    }

    fn answer(items: &[String], usage: &str) -> String {
        format!(r#"{{"object":"list","data":[{}],"model":"m","usage":{usage}}}"#, items.join(","))
    }

    #[test]
    fn vectors_come_in_the_order_of_the_texts() {
        let usage = r#"{"prompt_tokens":5,"total_tokens":5}"#;
        let text = answer(&[item("1", "[0.5,-1]"), item("0", "[1,0]")], usage);
        let read = read(text.as_bytes(), (2, None)).unwrap();
        assert_eq!(read, Embedded { vectors: vec![vec![1.0, 0.0], vec![0.5, -1.0]], tokens: Some(5) });
        let text = r#"{"data":[{"embedding":[1.5]}]}"#;
        let read = super::read(text.as_bytes(), (1, Some(1))).unwrap();
        assert_eq!((read.vectors, read.tokens), (vec![vec![1.5]], None));
    }

    #[test]
    fn a_count_that_is_none_is_above_every_bound() {
        for usage in [r#"{"prompt_tokens":-1}"#, r#"{"prompt_tokens":"5"}"#, r#"{"prompt_tokens":1.5}"#] {
            let read = read(answer(&[item("0", "[1]")], usage).as_bytes(), (1, None)).unwrap();
            assert_eq!(read.tokens, Some(u64::MAX), "{usage}");
        }
    }

    #[test]
    fn an_answer_that_is_off_is_a_bad_one() {
        let one = |embedding: &str| answer(&[item("0", "[1,2]"), item("1", embedding)], "{}");
        let two = |index: &str| answer(&[item("0", "[1,2]"), item(index, "[1,2]")], "{}");
        let long = format!("[{}1]", "1,".repeat(DIMS_MAX));
        for (text, told) in [
            (String::new(), "no list of vectors"),
            ("[]".to_owned(), "no list of vectors"),
            (r#"{"data":null}"#.to_owned(), "no list of vectors"),
            (answer(&[item("0", "[1,2]")], "{}"), "another number"),
            (answer(&["0", "1", "2"].map(|index| item(index, "[1,2]")), "{}"), "another number"),
            (one("[1,null]"), "no finite number"),
            (one("[1,\"NaN\"]"), "no finite number"),
            (one("[1,1e300]"), "no finite number"),
            (one("[1]"), "different lengths"),
            (answer(&["0", "1"].map(|index| item(index, "[1,2,3]")), "{}"), "another length than"),
            (one("[]"), "empty"),
            (one(&long), "longer than any is"),
            (one("\"AACAPwAAAEA=\""), "no list of numbers"),
            (one("null"), "no list of numbers"),
            (two("0"), "not numbered"),
            (two("2"), "not numbered"),
            (two("-1"), "not numbered"),
            (two("\"1\""), "not numbered"),
        ] {
            let trouble = read(text.as_bytes(), (2, Some(2))).unwrap_err();
            let told_of = trouble.kind.to_string();
            assert!(told_of.contains(told) && trouble.billed, "{told_of}: {text:.80}");
        }
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
            let _ = read(&bytes, (2, None));
            let mut whole = answer(&[item("0", "[1,2]"), item("1", "[3,4]")], r#"{"prompt_tokens":5}"#).into_bytes();
            let at = at.index(whole.len());
            whole[at] = byte;
            if let Ok(read) = read(&whole, (2, None)) {
                prop_assert_eq!(read.vectors.len(), 2);
                prop_assert!(read.vectors.iter().flatten().all(|number| number.is_finite()));
            }
        }
    }
}
