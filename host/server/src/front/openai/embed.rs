//! OpenAI's embeddings: how a request is read, and how vectors are written.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chela_gateway::{EMBED_BYTES_MAX, EMBED_DIMS_MAX, EMBED_INPUT_BYTES_MAX, EMBED_INPUTS_MAX, Embeddings};
use serde::Serialize;
use serde_json::Value;

use crate::front::asked::person;
use crate::front::fields::{Fields, What, Wrong};

/// What a request may hold where a text belongs. Clients that split texts into tokens themselves send their numbers: whose
/// tokens they are is not said, and another model reads something else out of them.
const TEXTS: &str = "a string or an array of strings, not of tokens";

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::front) struct Wanted {
    pub(in crate::front) model: String,
    /// As many and as long as the gateway takes.
    pub(in crate::front) inputs: Vec<String>,
    pub(in crate::front) dims: Option<usize>,
    pub(in crate::front) user: Option<String>,
    pub(in crate::front) form: Form,
}

/// How numbers are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::front) enum Form {
    /// As a list of them.
    Floats,
    /// As the bytes of 32-bit floats, the lowest first: what OpenAI's own clients ask for unless they are told otherwise.
    Base64,
}

/// Reads a body.
pub(in crate::front) fn wanted(body: &Value) -> Result<Wanted, Wrong> {
    let mut fields = Fields::of("", body)?;
    let model = fields.needed_text("model")?.to_owned();
    let inputs = inputs(fields.needed_value("input")?)?;
    let forms = [("float", Form::Floats), ("base64", Form::Base64)];
    let form = fields.word("encoding_format", &forms)?.unwrap_or(Form::Floats);
    let dims = fields.count("dimensions")?.map(|dims| usize::try_from(dims).unwrap_or(usize::MAX));
    if dims.is_some_and(|dims| dims > EMBED_DIMS_MAX) {
        return Err(Wrong::value("dimensions", format!("it is at most {EMBED_DIMS_MAX}")));
    }
    let user = person("user", fields.text("user")?)?;
    fields.end()?;
    Ok(Wanted { model, inputs, dims, user, form })
}

/// The texts, within the limits of the gateway.
fn inputs(input: &Value) -> Result<Vec<String>, Wrong> {
    let wrong = || Wrong::new("input", What::Type(TEXTS));
    let texts: Vec<String> = match input {
        Value::String(text) => vec![text.clone()],
        Value::Array(texts) => {
            let texts = texts.iter().map(|text| text.as_str().map(str::to_owned).ok_or_else(wrong));
            texts.collect::<Result<_, _>>()?
        }
        _ => return Err(wrong()),
    };
    if texts.is_empty() || texts.len() > EMBED_INPUTS_MAX {
        return Err(Wrong::value("input", format!("it has 1 to {EMBED_INPUTS_MAX} items")));
    }
    for (index, text) in texts.iter().enumerate() {
        let at = || if input.is_array() { format!("input.{index}") } else { "input".to_owned() };
        if text.trim().is_empty() {
            return Err(Wrong::value(at(), "it says nothing"));
        }
        if text.len() > EMBED_INPUT_BYTES_MAX {
            return Err(Wrong::value(at(), format!("it has at most {EMBED_INPUT_BYTES_MAX} bytes")));
        }
    }
    if texts.iter().map(String::len).sum::<usize>() > EMBED_BYTES_MAX {
        return Err(Wrong::value("input", format!("all of it has at most {EMBED_BYTES_MAX} bytes")));
    }
    Ok(texts)
}

/// The list of vectors that is answered.
#[derive(Debug, Serialize)]
pub(in crate::front) struct Listed {
    object: &'static str,
    data: Vec<Item>,
    model: String,
    usage: Usage,
}

#[derive(Debug, Serialize)]
struct Item {
    object: &'static str,
    index: usize,
    embedding: Numbers,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Numbers {
    Floats(Vec<f32>),
    Base64(String),
}

#[derive(Debug, Serialize)]
struct Usage {
    prompt_tokens: u64,
    total_tokens: u64,
}

/// Writes them. `model` is as the client named it.
pub(in crate::front) fn listed(model: String, form: Form, made: Embeddings) -> Listed {
    let numbers = |vector: Vec<f32>| match form {
        Form::Floats => Numbers::Floats(vector),
        Form::Base64 => {
            let bytes: Vec<u8> = vector.into_iter().flat_map(f32::to_le_bytes).collect();
            Numbers::Base64(STANDARD.encode(bytes))
        }
    };
    let vectors = made.vectors.into_iter().enumerate();
    let item = |(index, vector)| Item { object: "embedding", index, embedding: numbers(vector) };
    let tokens = made.call.usage.input.0;
    let usage = Usage { prompt_tokens: tokens, total_tokens: tokens };
    Listed { object: "list", data: vectors.map(item).collect(), model, usage }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chela_types::{ModelCall, TierId, Tokens};
    use serde_json::json;

    fn with(key: &str, value: Value) -> Value {
        let mut body = json!({"model": "embedding", "input": "one"});
        body[key] = value;
        body
    }

    #[test]
    fn a_request_is_read() {
        let plain = wanted(&with("input", json!("one"))).unwrap();
        let expected = Wanted {
            model: "embedding".into(),
            inputs: vec!["one".into()],
            dims: None,
            user: None,
            form: Form::Floats,
        };
        assert_eq!(plain, expected);
        assert_eq!(wanted(&with("input", json!(["one", "two"]))).unwrap().inputs, ["one", "two"]);
        assert_eq!(wanted(&with("encoding_format", json!("base64"))).unwrap().form, Form::Base64);
        assert_eq!(wanted(&with("dimensions", json!(256))).unwrap().dims, Some(256));
        assert_eq!(wanted(&with("user", json!("ann"))).unwrap().user.as_deref(), Some("ann"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let (long, half) = ("a".repeat(EMBED_INPUT_BYTES_MAX + 1), "a".repeat(EMBED_INPUT_BYTES_MAX));
        let (most, all) = (vec!["a"; EMBED_INPUTS_MAX], vec![half.as_str(); 16]);
        assert!(wanted(&with("input", json!(most))).is_ok() && wanted(&with("input", json!(all))).is_ok());
        let refused = |key: &str, value: Value| wanted(&with(key, value)).unwrap_err();
        for (value, at) in [
            (json!([]), "input"),
            (json!(" "), "input"),
            (json!(["a", ""]), "input.1"),
            (json!(["a", long]), "input.1"),
            (json!(long), "input"),
            (json!(vec!["a"; EMBED_INPUTS_MAX + 1]), "input"),
            (json!(vec![half.as_str(); 17]), "input"),
        ] {
            let wrong = refused("input", value);
            assert!(wrong.at == at && matches!(wrong.what, What::Value(_)), "{wrong:?}");
        }
        for tokens in [json!([1, 2]), json!([[1, 2], [3]]), json!(["a", 7]), json!({"a": 1}), json!(7)] {
            assert_eq!(refused("input", tokens), Wrong::new("input", What::Type(TEXTS)));
        }
        assert_eq!(refused("input", Value::Null), Wrong::new("input", What::Missing));
        assert_eq!(refused("model", Value::Null), Wrong::new("model", What::Missing));
        assert_eq!(refused("colour", json!("blue")), Wrong::new("colour", What::Unknown));
        for (key, value) in [
            ("encoding_format", json!("int8")),
            ("dimensions", json!(0)),
            ("dimensions", json!(EMBED_DIMS_MAX + 1)),
            ("user", json!("")),
        ] {
            let wrong = refused(key, value);
            assert!(wrong.at == key && matches!(wrong.what, What::Value(_)), "{wrong:?}");
        }
        assert_eq!(refused("dimensions", json!("8")), Wrong::new("dimensions", What::Type("an integer")));
    }

    #[test]
    fn vectors_are_written_in_both_forms() {
        let mut call = ModelCall::new(TierId::new("embedding").unwrap());
        call.usage.input = Tokens(7);
        let vectors = vec![vec![0.1, -1.0], vec![3.0e-38, 0.0]];
        let made = || Embeddings { vectors: vectors.clone(), model: "p/m".into(), call: call.clone() };
        let told = serde_json::to_value(listed("embedding".into(), Form::Floats, made())).unwrap();
        assert_eq!((&told["object"], &told["model"]), (&json!("list"), &json!("embedding")));
        assert_eq!(told["usage"], json!({"prompt_tokens": 7, "total_tokens": 7}));
        let second = &told["data"][1];
        assert_eq!((&second["object"], &second["index"]), (&json!("embedding"), &json!(1)));
        let text = serde_json::to_string(&listed("embedding".into(), Form::Floats, made())).unwrap();
        assert!(text.contains("[0.1,-1.0]"), "no digit more than a number of 32 bits has: {text}");
        let told = serde_json::to_value(listed("embedding".into(), Form::Base64, made())).unwrap();
        // 0.1 and -1 are 0x3dcccccd and 0xbf800000.
        assert_eq!(told["data"][0]["embedding"], STANDARD.encode(b"\xcd\xcc\xcc\x3d\x00\x00\x80\xbf"));
    }
}
