//! A folder is read or refused by the name of what is wrong in it.

use super::*;
use serde_json::{Value, json};
use tempfile::TempDir;

fn config() -> Value {
    json!({
        "model_type": "bert", "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
        "intermediate_size": 16, "vocab_size": 9, "max_position_embeddings": 12, "type_vocab_size": 2,
        "layer_norm_eps": 1e-12, "hidden_act": "gelu", "architectures": ["BertModel"],
    })
}

fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    write("config.json", &config().to_string());
    write("tokenizer_config.json", r#"{"do_lower_case":true,"tokenizer_class":"BertTokenizer"}"#);
    write("vocab.txt", "[PAD]\n");
    write("model.safetensors", "weights");
    write("sentence_bert_config.json", r#"{"max_seq_length":10}"#);
    write("modules.json", r#"[{"type":"sentence_transformers.models.Transformer"}]"#);
    write("1_Pooling/config.json", r#"{"pooling_mode_mean_tokens":true}"#);
    folder
}

#[test]
fn what_is_said_of_a_model_is_read() {
    let folder = folder();
    let read = Folder::read(folder.path()).unwrap();
    assert_eq!((read.dims(), read.tokens_max()), (8, 10));
    assert_eq!(read.name(), folder.path().file_name().unwrap().to_str().unwrap());
    for name in ["sentence_bert_config.json", "modules.json", "1_Pooling/config.json"] {
        fs::remove_file(folder.path().join(name)).unwrap();
    }
    assert_eq!(Folder::read(folder.path()).unwrap().tokens_max(), 12, "all that it has places for");
    fs::write(folder.path().join("sentence_bert_config.json"), r#"{"max_seq_length":5000}"#).unwrap();
    assert_eq!(Folder::read(folder.path()).unwrap().tokens_max(), 12);
}

#[test]
fn other_weights_are_another_model() {
    let folder = folder();
    let before = Folder::read(folder.path()).unwrap();
    assert_eq!(before, Folder::read(folder.path()).unwrap());
    fs::write(folder.path().join("model.safetensors"), "other weights").unwrap();
    assert_ne!(before, Folder::read(folder.path()).unwrap());
}

#[test]
fn a_file_that_is_missing_or_wrong_is_named() {
    for (name, text, told) in [
        ("config.json", None, "cannot read"),
        ("tokenizer_config.json", None, "cannot read"),
        ("vocab.txt", None, "cannot read"),
        ("model.safetensors", None, "cannot read"),
        ("model.safetensors", Some(""), "is empty"),
        ("config.json", Some("{"), "EOF"),
        ("config.json", Some("{}"), "missing field"),
        (
            "tokenizer_config.json",
            Some(r#"{"tokenizer_class":"XLMRobertaTokenizer"}"#),
            "XLMRobertaTokenizer",
        ),
        ("modules.json", Some(r#"[{"type":"sentence_transformers.models.Dense"}]"#), "`Dense`"),
        ("1_Pooling/config.json", Some(r#"{"pooling_mode_cls_token":true}"#), "pools otherwise"),
    ] {
        let folder = folder();
        let file = folder.path().join(name);
        match text {
            None => fs::remove_file(&file).unwrap(),
            Some(text) => fs::write(&file, text).unwrap(),
        }
        let error = Folder::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains(name) && error.contains(told), "{error}");
    }
}

#[test]
fn numbers_of_a_model_obeyed_and_violated() {
    for (key, value) in [
        ("model_type", json!("roberta")),
        ("hidden_act", json!("relu")),
        ("position_embedding_type", json!("relative_key")),
        ("hidden_size", json!(0)),
        ("hidden_size", json!(9)),
        ("hidden_size", json!(WIDTH_MAX * 2)),
        ("num_hidden_layers", json!(LAYERS_MAX + 1)),
        ("vocab_size", json!(WORDS_MAX + 1)),
        ("max_position_embeddings", json!(2)),
        ("layer_norm_eps", json!(-1.0)),
        ("layer_norm_eps", json!(2.0)),
    ] {
        let folder = folder();
        let mut config = config();
        config[key] = value;
        fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let error = Folder::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains("config.json") && error.contains(key), "{error}");
    }
}
