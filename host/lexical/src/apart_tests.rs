//! Questions that look like one another and were once taken for one: each pair wants two answers.

use crate::{Language, canonical, verify};

/// In either order, neither the form nor the verifier takes one for the other.
fn are_apart(pairs: &[(&str, &str)], language: Language) {
    for (one, other) in pairs {
        let forms = [one, other].map(|text| canonical(text, language));
        assert!(forms[0].is_none() || forms[0] != forms[1], "{one} | {other}: {:?}", forms[0]);
        for (asked, kept) in [(one, other), (other, one)] {
            assert!(verify(asked, kept, language).is_err(), "{asked} | {kept} is verified");
        }
    }
}

#[test]
fn a_sign_before_a_number_or_between_two_counts() {
    let pairs = [
        ("Is the fee .5%?", "Is the fee 5%?"),
        ("Why is my balance -$50?", "Why is my balance $50?"),
        ("Does it work at –5 degrees?", "Does it work at 5 degrees?"),
        ("What is 8 * 2?", "What is 8 - 2?"),
        ("What is 10²?", "What is 102?"),
        ("Is x != y?", "Is x = y?"),
    ];
    are_apart(&pairs, Language::English);
    are_apart(&[("Ist –5 Grad zu kalt?", "Ist 5 Grad zu kalt?")], Language::German);
    let same = canonical("Does it work at -5 degrees?", Language::English);
    assert_eq!(canonical("does it work at (-5 degrees)", Language::English), same, "brackets say nothing");
}

#[test]
fn a_sign_that_is_part_of_a_name_counts() {
    let pairs = [
        ("What does __init__ do?", "What does init do?"),
        ("What is in ~/bin?", "What is in /bin?"),
        ("What is -v?", "What is v?"),
        ("Where is .env?", "Where is env?"),
    ];
    are_apart(&pairs, Language::English);
}

#[test]
fn a_german_name_or_noun_keeps_its_ending() {
    let pairs = [
        ("Wann ist Simon im Büro?", "Wann ist Simone im Büro?"),
        ("Wer ist Christian?", "Wer ist Christiane?"),
        ("Welche Nummer hat Gabriel?", "Welche Nummer hat Gabriele?"),
        ("Wo sitzt Martin?", "Wo sitzt Martine?"),
        ("Wer ist Petersen?", "Wer ist Peters?"),
        ("Wer hat Schulden?", "Wer hat Schuld?"),
        ("Habe ich Rechte?", "Habe ich Recht?"),
    ];
    are_apart(&pairs, Language::German);
}

#[test]
fn a_plural_that_is_another_word_keeps_its_s() {
    let pairs = [
        ("What is our securities policy?", "What is our security policy?"),
        ("how do i join teams", "How do I join a team?"),
        ("Do I have windows?", "Do I have a window?"),
        ("who is rogers", "Who is Roger?"),
        ("when is williams in", "When is William in?"),
        ("What are your interests?", "What is your interest?"),
        ("How do I claim damages?", "How do I claim damage?"),
    ];
    are_apart(&pairs, Language::English);
}

#[test]
fn an_article_that_makes_another_amount_or_predicate_counts() {
    let pairs = [
        ("Are there a few seats left?", "Are there few seats left?"),
        ("Is there a little time left?", "Is there little time left?"),
        ("Is it possible to not receive emails?", "Can't I receive emails?"),
        ("Is Anna the director?", "Is Anna a director?"),
    ];
    are_apart(&pairs, Language::English);
}

#[test]
fn what_is_no_prose_has_no_form() {
    let pairs = [
        ("What type is [1, 2]?", "What type is (1, 2)?"),
        ("What does it print?\nif x:\n  y()\n  z()", "What does it print?\nif x:\n  y()\nz()"),
        ("What is the sum of a|b\n1|2", "What is the sum of a b 1 2"),
    ];
    are_apart(&pairs, Language::English);
    for (text, _) in pairs {
        assert_eq!(canonical(text, Language::English), None, "{text}");
    }
}

#[test]
fn a_thing_is_not_turned_round() {
    let pairs = [
        ("Where is the University of Washington?", "Where is Washington University?"),
        ("Who is the manager of the customer?", "Who is the customer manager?"),
        ("How much is a cup of coffee?", "How much is a coffee cup?"),
        ("Is this a picture of Anna?", "Is this an Anna picture?"),
        ("How do I get there?", "How do I get that?"),
        ("Is that free?", "Is there free?"),
        ("Is 5 min enough?", "Is 5 minimum enough?"),
    ];
    are_apart(&pairs, Language::English);
}

#[test]
fn a_polite_word_that_is_asked_about_counts() {
    let english = [
        ("What is German for please?", "What is German for thank you?"),
        ("What does thanks mean in German?", "What does please mean in German?"),
        ("Let me know when the shop opens.", "When does the shop open?"),
        ("Let me know when the shop opens.", "When the shop opens."),
    ];
    are_apart(&english, Language::English);
    let german = [
        ("Was heißt bitte?", "Was heißt danke?"),
        ("Haben wir Monitore von LG?", "Haben wir Monitore von VG?"),
    ];
    are_apart(&german, Language::German);
    let polite = canonical("Wo ist das Büro? Danke", Language::German);
    assert_eq!(polite, canonical("Wo ist das Büro?", Language::German));
}
