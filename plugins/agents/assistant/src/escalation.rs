//! When a human is called: a phrase of the configuration occurs in the message, word for word.

/// A phrase as written, and its words.
#[derive(Debug)]
struct Phrase {
    written: String,
    words: Vec<String>,
}

/// The phrases.
#[derive(Debug)]
pub(crate) struct Escalation(Vec<Phrase>);

impl Escalation {
    /// # Errors
    /// Names a phrase without words: it would call a human for every message.
    pub(crate) fn new(phrases: &[String]) -> Result<Self, String> {
        let read = phrases.iter().enumerate().map(|(at, written)| match words(written) {
            words if words.is_empty() => Err(format!("config: escalate_on[{at}] has no word in it")),
            words => Ok(Phrase { written: written.clone(), words }),
        });
        read.collect::<Result<_, _>>().map(Self)
    }

    /// The phrase by which the message asks for a human.
    pub(crate) fn asked(&self, text: &str) -> Option<&str> {
        let heard = words(text);
        let occurs =
            |phrase: &&Phrase| heard.windows(phrase.words.len()).any(|window| window == phrase.words);
        self.0.iter().find(occurs).map(|phrase| phrase.written.as_str())
    }
}

fn words(text: &str) -> Vec<String> {
    let words = text.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect()
}
