//! What plugins and platforms say of themselves, made fit for a log, a record and a terminal: a plugin's words may
//! be long, may be written to control a terminal, and may repeat what a person said.

/// The longest that is kept of a reason, in bytes.
pub(crate) const REASON_BYTES_MAX: usize = 500;

/// The beginning of `text`, at most `bytes_max` long, without control characters.
pub(crate) fn short(text: &str, bytes_max: usize) -> String {
    text.get(..text.floor_char_boundary(bytes_max)).unwrap_or_default().replace(char::is_control, " ")
}

/// A reason as it is kept.
pub(crate) fn reason(text: &str) -> String {
    short(text, REASON_BYTES_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_cut_between_characters_and_control_nothing() {
        assert_eq!(short("aä\u{1b}[2J", 3), "aä");
        assert_eq!(short("aä\u{1b}[2J", 2), "a");
        assert_eq!(short("a\n\u{1b}[2J", 99), "a  [2J");
    }
}
