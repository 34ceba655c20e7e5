//! A real model against the same one in numpy, and against what its authors have published. `tests/local_model.sh` brings
//! both, and runs this.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

use chela_embedder::{Folder, Model};
use serde::Deserialize;
use std::path::Path;
use std::sync::LazyLock;

/// So far may a number be from the reference's.
const NEAR: f32 = 1e-4;

#[derive(Deserialize)]
struct Reference {
    text: String,
    vector: Vec<f32>,
    tokens: u64,
}

fn named(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("{variable} is not set: run tests/local_model.sh"))
}

static MODEL: LazyLock<Model> = LazyLock::new(|| {
    let folder = Folder::read(Path::new(&named("CHELA_MODEL_DIR"))).unwrap();
    Model::open(folder).unwrap()
});

fn likeness(one: &str, other: &str) -> f32 {
    let (one, other) = (MODEL.embed(one).vector, MODEL.embed(other).vector);
    one.iter().zip(&other).map(|(a, b)| a * b).sum()
}

#[test]
fn vectors_are_those_of_the_reference() {
    let text = std::fs::read_to_string(named("CHELA_MODEL_REFERENCE")).unwrap();
    let all: Vec<Reference> = serde_json::from_str(&text).unwrap();
    let mut apart = Vec::new();
    for reference in &all {
        let made = MODEL.embed(&reference.text);
        let most = made.vector.iter().zip(&reference.vector).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        if made.vector.len() != reference.vector.len() || most > NEAR || made.tokens != reference.tokens {
            apart.push((most, made.tokens, reference.tokens, &reference.text));
        }
    }
    assert!(all.len() > 250, "{}", all.len());
    assert!(apart.is_empty(), "{} of {}: {apart:?}", apart.len(), all.len());
}

/// From the model's page and the documentation of sentence-transformers, where the likenesses of these three stand.
#[test]
fn likenesses_are_those_that_were_published() {
    let three = ["The weather is lovely today.", "It's so sunny outside!", "He drove to the stadium."];
    for (one, other, published) in [(0, 1, 0.6660), (0, 2, 0.1046), (1, 2, 0.1411)] {
        let likeness = likeness(three[one], three[other]);
        assert!((likeness - published).abs() < 1e-3, "{likeness} and {published}");
    }
}

#[test]
fn what_means_the_same_is_nearer_than_what_looks_the_same() {
    for (asked, same, other) in [
        (
            "How do I reset my password?",
            "I forgot my login and cannot get in.",
            "How do I reset my thermostat?",
        ),
        ("Where is my car?", "I cannot find my automobile.", "Where is my cat?"),
    ] {
        let (near, far) = (likeness(asked, same), likeness(asked, "The canteen serves soup on Tuesdays."));
        assert!(near > far + 0.2, "{asked}: {near} and {far}");
        assert!(likeness(asked, other) < 0.9, "{asked} and {other}");
    }
}

#[test]
fn a_long_text_is_cut_and_that_is_told() {
    let made = MODEL.embed(&"word ".repeat(300));
    assert!(made.is_cut && made.tokens == 256, "{}", made.tokens);
    assert!(!MODEL.embed(&"word ".repeat(254)).is_cut);
}

#[test]
fn threads_that_ask_at_once_get_the_same() {
    let alone = MODEL.embed("one text for all");
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| MODEL.embed("one text for all"))).collect();
        assert!(all.into_iter().all(|one| one.join().unwrap() == alone));
    });
}
