//! Words as BERT cuts them, by hand; the whole list of a real model is compared by `tests/local_model.py`.

use super::*;

const LIST: [&str; 14] =
    ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "un", "##aff", "##able", "cafe", ",", "!", "東", "京", "a", "##b"];

fn words(rules: &str) -> Words {
    let ids = LIST.iter().zip(0..).map(|(word, id)| ((*word).to_owned(), id)).collect();
    Words { ids, rules: serde_json::from_str(rules).unwrap(), unknown: 1, begin: 2, end: 3 }
}

fn cut(rules: &str, text: &str) -> String {
    let tokens = words(rules).tokens(text, 12);
    let word = |id: &u32| LIST[*id as usize];
    tokens.ids.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[test]
fn a_text_is_cut_into_the_longest_words() {
    for (text, expected) in [
        ("", "[CLS] [SEP]"),
        (" \t\r\n", "[CLS] [SEP]"),
        ("Unaffable, UN!", "[CLS] un ##aff ##able , un ! [SEP]"),
        ("CAFÉ cafe\u{301}", "[CLS] cafe cafe [SEP]"),
        ("unaffabl", "[CLS] [UNK] [SEP]"),
        ("東京", "[CLS] 東 京 [SEP]"),
        ("a\u{0}b a\u{fffd}b a\u{200b}b", "[CLS] a ##b a ##b a ##b [SEP]"),
        ("a\u{a0}a\u{2003}a", "[CLS] a a a [SEP]"),
        ("[SEP] a", "[CLS] [UNK] [UNK] [UNK] a [SEP]"),
    ] {
        assert_eq!(cut("{}", text), expected, "{text:?}");
    }
}

#[test]
fn a_models_own_rules_hold() {
    assert_eq!(cut(r#"{"do_lower_case":false}"#, "Un un café"), "[CLS] [UNK] un [UNK] [SEP]");
    assert_eq!(cut(r#"{"strip_accents":false}"#, "Un café"), "[CLS] un [UNK] [SEP]");
    assert_eq!(cut(r#"{"do_lower_case":false,"strip_accents":true}"#, "un café"), "[CLS] un cafe [SEP]");
    assert_eq!(cut(r#"{"tokenize_chinese_chars":false}"#, "東京"), "[CLS] [UNK] [SEP]");
}

#[test]
fn length_obeyed_and_violated() {
    let words = words("{}");
    let tokens = |text: &str| words.tokens(text, 5);
    assert_eq!(tokens("a a a"), Tokens { ids: vec![2, 12, 12, 12, 3], is_cut: false });
    assert_eq!(tokens("a a a a"), Tokens { ids: vec![2, 12, 12, 12, 3], is_cut: true });
    assert_eq!(tokens("a unaffable"), Tokens { ids: vec![2, 12, 4, 5, 3], is_cut: true });
    assert!(tokens(&"a ".repeat(100_000)).is_cut);
    assert_eq!(tokens(&"a".repeat(WORD_CHARS_MAX + 1)).ids, [2, 1, 3], "too long for a word");
}
