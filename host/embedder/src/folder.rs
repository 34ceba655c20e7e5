//! A model's folder: what its small files say, checked against what this room can run.
//!
//! Cheap to read, so that a mistake is told where the configuration is checked. The words and the weights are read when
//! the model is opened.

use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// Largest of the small files.
const SMALL_BYTES_MAX: u64 = 1 << 20;
/// Largest list of words: the longest that is known of has some 500,000.
const WORDS_BYTES_MAX: u64 = 64 << 20;
/// Largest weights. Whoever asks for vectors waits for a processor: a larger model belongs behind a provider.
const WEIGHTS_BYTES_MAX: u64 = 4 << 30;

/// Bounds of a model's numbers, so that none of them, and no product of two, is beyond memory.
const LAYERS_MAX: usize = 48;
const WIDTH_MAX: usize = 8_192;
const WORDS_MAX: usize = 1 << 20;
const TOKENS_MAX: usize = 8_192;

/// A folder that holds a model of the kind that can be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Folder {
    path: PathBuf,
    name: String,
    shape: Shape,
    rules: Rules,
    tokens_max: usize,
    stamps: [Stamp; 3],
}

/// A file's size and time: another one is another model.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp(u64, Option<SystemTime>);

/// `config.json`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub(crate) struct Shape {
    model_type: String,
    pub(crate) hidden_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) vocab_size: usize,
    pub(crate) max_position_embeddings: usize,
    pub(crate) type_vocab_size: usize,
    pub(crate) layer_norm_eps: f32,
    hidden_act: String,
    #[serde(default = "absolute")]
    position_embedding_type: String,
}

fn absolute() -> String {
    "absolute".to_owned()
}

/// `tokenizer_config.json`: how a text becomes words.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(crate) struct Rules {
    #[serde(default = "yes")]
    pub(crate) do_lower_case: bool,
    /// Absent: as `do_lower_case`.
    #[serde(default)]
    pub(crate) strip_accents: Option<bool>,
    #[serde(default = "yes")]
    pub(crate) tokenize_chinese_chars: bool,
    #[serde(default)]
    tokenizer_class: Option<String>,
}

const fn yes() -> bool {
    true
}

/// `sentence_bert_config.json`.
#[derive(Debug, Default, Deserialize)]
struct Sentence {
    #[serde(default)]
    max_seq_length: Option<usize>,
}

/// An entry of `modules.json`.
#[derive(Debug, Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
}

/// `1_Pooling/config.json`.
#[derive(Debug, Deserialize)]
struct Pooling {
    #[serde(default)]
    pooling_mode_mean_tokens: bool,
    #[serde(default)]
    pooling_mode_cls_token: bool,
    #[serde(default)]
    pooling_mode_max_tokens: bool,
    #[serde(default)]
    pooling_mode_mean_sqrt_len_tokens: bool,
}

impl Folder {
    /// Reads what is said of the model.
    ///
    /// # Errors
    /// The file that is missing, or what in it cannot be run here.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let file = |name: &str| path.join(name);
        let shape: Shape = needed(&file("config.json"))?;
        shape.check().map_err(|what| Error::wrong(&file("config.json"), what))?;
        let rules: Rules = needed(&file("tokenizer_config.json"))?;
        rules.check().map_err(|what| Error::wrong(&file("tokenizer_config.json"), what))?;
        modules(&file("modules.json"))?;
        pooling(&file("1_Pooling/config.json"))?;
        let sentence: Sentence = read(&file("sentence_bert_config.json"))?.unwrap_or_default();
        let most = sentence.max_seq_length.unwrap_or(shape.max_position_embeddings);
        let stamps = [
            stamp(&file("config.json"), SMALL_BYTES_MAX)?,
            stamp(&file("vocab.txt"), WORDS_BYTES_MAX)?,
            stamp(&file("model.safetensors"), WEIGHTS_BYTES_MAX)?,
        ];
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        // At least a beginning, a word and an end.
        let tokens_max = most.clamp(3, shape.max_position_embeddings);
        Ok(Self { path: path.to_owned(), name, shape, rules, tokens_max, stamps })
    }

    /// The folder's own name, which is the model's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Numbers of a vector.
    pub fn dims(&self) -> usize {
        self.shape.hidden_size
    }

    /// Tokens of a text that are read; what follows them is cut off.
    pub fn tokens_max(&self) -> usize {
        self.tokens_max
    }

    #[cfg(feature = "local-embeddings")]
    pub(crate) fn shape(&self) -> &Shape {
        &self.shape
    }

    #[cfg(feature = "local-embeddings")]
    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }

    #[cfg(feature = "local-embeddings")]
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

impl Shape {
    fn check(&self) -> Result<(), String> {
        for (key, is, must) in [
            ("model_type", &self.model_type, "bert"),
            ("hidden_act", &self.hidden_act, "gelu"),
            ("position_embedding_type", &self.position_embedding_type, "absolute"),
        ] {
            if is != must {
                return Err(format!("`{key}` is `{is}`: only `{must}` can be run"));
            }
        }
        for (key, is, most) in [
            ("hidden_size", self.hidden_size, WIDTH_MAX),
            ("num_hidden_layers", self.num_hidden_layers, LAYERS_MAX),
            ("num_attention_heads", self.num_attention_heads, WIDTH_MAX),
            ("intermediate_size", self.intermediate_size, 4 * WIDTH_MAX),
            ("vocab_size", self.vocab_size, WORDS_MAX),
            ("max_position_embeddings", self.max_position_embeddings, TOKENS_MAX),
            ("type_vocab_size", self.type_vocab_size, WORDS_MAX),
        ] {
            if !(1..=most).contains(&is) {
                return Err(format!("`{key}` is {is}: it is 1 to {most}"));
            }
        }
        if !self.hidden_size.is_multiple_of(self.num_attention_heads) {
            return Err("`hidden_size` is no multiple of `num_attention_heads`".to_owned());
        }
        if self.max_position_embeddings < 3 {
            return Err("`max_position_embeddings` has no room for a word".to_owned());
        }
        if !(self.layer_norm_eps >= 0.0 && self.layer_norm_eps < 1.0) {
            return Err(format!("`layer_norm_eps` is {}: it is 0 to 1", self.layer_norm_eps));
        }
        Ok(())
    }
}

impl Rules {
    fn check(&self) -> Result<(), String> {
        match self.tokenizer_class.as_deref() {
            None | Some("BertTokenizer" | "BertTokenizerFast") => Ok(()),
            Some(other) => Err(format!("`tokenizer_class` is `{other}`: only `BertTokenizer` can be run")),
        }
    }
}

/// What follows the model is pooling and length 1, and nothing else.
fn modules(file: &Path) -> Result<(), Error> {
    let modules: Vec<Module> = read(file)?.unwrap_or_default();
    let known = ["Transformer", "Pooling", "Normalize"];
    let last = |kind: &str| kind.rsplit('.').next().unwrap_or_default().to_owned();
    match modules.iter().map(|module| last(&module.kind)).find(|kind| !known.contains(&kind.as_str())) {
        None => Ok(()),
        Some(kind) => Err(Error::wrong(file, format!("has a `{kind}`, which cannot be run"))),
    }
}

fn pooling(file: &Path) -> Result<(), Error> {
    let Some(pooling) = read::<Pooling>(file)? else { return Ok(()) };
    let others = pooling.pooling_mode_cls_token
        || pooling.pooling_mode_max_tokens
        || pooling.pooling_mode_mean_sqrt_len_tokens;
    match pooling.pooling_mode_mean_tokens && !others {
        true => Ok(()),
        false => {
            Err(Error::wrong(file, "the model pools otherwise: only `pooling_mode_mean_tokens` can be run"))
        }
    }
}

fn needed<T: DeserializeOwned>(file: &Path) -> Result<T, Error> {
    let missing = || Error::Read { file: file.to_owned(), source: std::io::ErrorKind::NotFound.into() };
    read(file)?.ok_or_else(missing)
}

/// A file of JSON; absent if there is none.
fn read<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, Error> {
    if matches!(file.try_exists(), Ok(false)) {
        return Ok(None);
    }
    stamp(file, SMALL_BYTES_MAX)?;
    let text = fs::read(file).map_err(|source| Error::Read { file: file.to_owned(), source })?;
    serde_json::from_slice(&text).map(Some).map_err(|error| Error::wrong(file, error.to_string()))
}

/// That it is a file, and of what size and time.
fn stamp(file: &Path, most: u64) -> Result<Stamp, Error> {
    let found: Metadata =
        fs::metadata(file).map_err(|source| Error::Read { file: file.to_owned(), source })?;
    if !found.is_file() {
        return Err(Error::wrong(file, "is no file"));
    }
    match found.len() {
        0 => Err(Error::wrong(file, "is empty")),
        bytes if bytes > most => Err(Error::wrong(file, format!("has {bytes} bytes: more than {most}"))),
        bytes => Ok(Stamp(bytes, found.modified().ok())),
    }
}

#[cfg(test)]
#[path = "folder_tests.rs"]
mod tests;
