//! A small model of made-up numbers: what holds of every model, without one.

use super::*;
use serde_json::{Map, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

const WORDS: &str = "[PAD]\n[UNK]\n[CLS]\n[SEP]\nred\ngreen\nblue\n##s\n,\n";
const CONFIG: &str = r#"{"model_type":"bert","hidden_size":8,"num_hidden_layers":2,"num_attention_heads":2,
    "intermediate_size":16,"vocab_size":9,"max_position_embeddings":12,"type_vocab_size":2,"layer_norm_eps":1e-12,
    "hidden_act":"gelu"}"#;

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Each name with its shape; numbers from -0.5 to 0.5 by a rule that nobody could mistake for another.
fn tensors(prefix: &str) -> Tensors {
    let mut shapes = vec![
        ("embeddings.word_embeddings.weight".to_owned(), vec![9, 8]),
        ("embeddings.position_embeddings.weight".to_owned(), vec![12, 8]),
        ("embeddings.token_type_embeddings.weight".to_owned(), vec![2, 8]),
    ];
    let mut linear = |name: String, shape: Vec<usize>| {
        shapes.push((format!("{name}.bias"), vec![shape[0]]));
        shapes.push((format!("{name}.weight"), shape));
    };
    linear("embeddings.LayerNorm".to_owned(), vec![8]);
    for layer in ["encoder.layer.0", "encoder.layer.1"] {
        for name in
            ["attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"]
        {
            linear(format!("{layer}.{name}"), vec![8, 8]);
        }
        linear(format!("{layer}.attention.output.LayerNorm"), vec![8]);
        linear(format!("{layer}.intermediate.dense"), vec![16, 8]);
        linear(format!("{layer}.output.dense"), vec![8, 16]);
        linear(format!("{layer}.output.LayerNorm"), vec![8]);
    }
    let mut seed = 1_u32;
    let mut number = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) as f32 / (1 << 24) as f32 - 0.5
    };
    let filled = |(name, shape): (String, Vec<usize>)| {
        let numbers = (0..shape.iter().product()).map(|_| number()).collect();
        (format!("{prefix}{name}"), (shape, numbers))
    };
    shapes.into_iter().map(filled).collect()
}

fn write(folder: &Path, tensors: &Tensors) {
    let (mut head, mut bytes) = (Map::new(), Vec::new());
    for (name, (shape, numbers)) in tensors {
        let begin = bytes.len();
        bytes.extend(numbers.iter().copied().flat_map(f32::to_le_bytes));
        head.insert(
            name.clone(),
            json!({ "dtype": "F32", "shape": shape, "data_offsets": [begin, bytes.len()] }),
        );
    }
    let head = serde_json::to_vec(&head).unwrap();
    let whole = [(head.len() as u64).to_le_bytes().to_vec(), head, bytes].concat();
    fs::write(folder.join("model.safetensors"), whole).unwrap();
    fs::write(folder.join("config.json"), CONFIG).unwrap();
    fs::write(folder.join("tokenizer_config.json"), "{}").unwrap();
    fs::write(folder.join("vocab.txt"), WORDS).unwrap();
}

fn opened(tensors: &Tensors) -> (TempDir, Result<Model, Error>) {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), tensors);
    let model = Model::open(Folder::read(folder.path()).unwrap());
    (folder, model)
}

#[test]
fn a_vector_has_length_one_and_is_the_same_each_time() {
    let model = opened(&tensors("")).1.unwrap();
    let made = model.embed("red, greens");
    assert_eq!((made.vector.len(), made.tokens, made.is_cut), (8, 6, false));
    let length: f32 = made.vector.iter().map(|number| number * number).sum();
    assert!((length - 1.0).abs() < 1e-5, "{length}");
    model.embed("blue");
    assert_eq!(model.embed("red, greens"), made, "whatever was asked meanwhile");
    assert_ne!(model.embed("greens, red").vector, made.vector, "the order of words counts");
    assert_eq!(
        opened(&tensors("bert.")).1.unwrap().embed("red, greens"),
        made,
        "under the names of a larger model"
    );
}

#[test]
fn a_text_as_long_as_the_model_reads_obeyed_and_violated() {
    let model = opened(&tensors("")).1.unwrap();
    let (fits, longer) = (model.embed(&"red ".repeat(10)), model.embed(&"red ".repeat(11)));
    assert_eq!((fits.tokens, fits.is_cut), (12, false));
    assert_eq!((longer.tokens, longer.is_cut), (12, true));
    assert_eq!(fits.vector, longer.vector, "what is cut off has no part in it");
}

#[test]
fn weights_that_do_not_fit_are_named() {
    let name = "encoder.layer.1.output.dense.weight";
    for (change, told) in [
        (None, "is not there"),
        (Some((vec![16, 8], vec![0.0; 128])), "has the shape [16, 8]"),
        (Some((vec![8, 16], vec![f32::NAN; 128])), "no number"),
    ] {
        let mut tensors = tensors("");
        tensors.remove(name);
        tensors.extend(change.map(|change| (name.to_owned(), change)));
        let error = opened(&tensors).1.unwrap_err().to_string();
        assert!(
            error.contains("model.safetensors") && error.contains(name) && error.contains(told),
            "{error}"
        );
    }
}

#[test]
fn files_that_are_no_model_are_named() {
    for (file, text, told) in [
        ("model.safetensors", "no weights at all", "no file of weights"),
        ("vocab.txt", "[UNK]\n[CLS]\n", "has no word `[SEP]`"),
        ("vocab.txt", &format!("{WORDS}one\n"), "has 10 words, and the model 9"),
    ] {
        let (folder, _) = opened(&tensors(""));
        fs::write(folder.path().join(file), text).unwrap();
        let error = Model::open(Folder::read(folder.path()).unwrap()).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(told), "{error}");
    }
}
