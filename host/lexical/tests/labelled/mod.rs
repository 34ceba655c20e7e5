//! The labelled pairs of questions, and their halves.

use chela_lexical::Language;
use chela_types::Digest;

/// A pair of questions that people have judged.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pair {
    pub(crate) id: &'static str,
    pub(crate) group: &'static str,
    /// One answer is right for both.
    pub(crate) same: bool,
    pub(crate) kind: &'static str,
    pub(crate) a: &'static str,
    pub(crate) b: &'static str,
}

impl Pair {
    pub(crate) fn language(&self) -> Language {
        Language::of_tag(self.group)
    }

    /// Whether the pair is in the half that no list was fitted to. All pairs of a question are in the same half.
    pub(crate) fn is_held(&self) -> bool {
        let digest = Digest::of("chela lexical halves v1", &[self.group.as_bytes()]);
        digest.as_bytes()[0].is_multiple_of(2)
    }
}

/// All of them.
pub(crate) fn pairs() -> Vec<Pair> {
    let lines =
        include_str!("../../data/questions.tsv").lines().filter(|line| !line.starts_with('#')).skip(1);
    lines
        .map(|line| {
            let [id, group, relation, kind, a, b] = line.split('\t').collect::<Vec<_>>()[..] else {
                panic!("not six columns: {line}");
            };
            assert!(matches!(relation, "same" | "other"), "{line}");
            Pair { id, group, same: relation == "same", kind, a, b }
        })
        .collect()
}
