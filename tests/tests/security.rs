//! What the documents say of security is there: each file, each test, each attack with the ends that it may have.

use std::collections::BTreeSet;

use chela_tests::tree;

const RULES: &str = "docs/guide/security-team.md";
const DRILL: &str = "docs/guide/security.md";

fn document(path: &str) -> String {
    std::fs::read_to_string(tree::root().join(path)).unwrap()
}

/// What stands between backquotes and looks like a Rust file, with the test behind `::`.
fn named(text: &str) -> Vec<(String, Option<String>)> {
    let words = text.split('`').skip(1).step_by(2);
    let files = words.filter(|word| word.contains('/') && word.contains(".rs"));
    files
        .map(|word| match word.split_once("::") {
            Some((file, test)) => (file.to_owned(), Some(test.to_owned())),
            None => (word.to_owned(), None),
        })
        .collect()
}

/// What is named and is not there.
fn missing(text: &str) -> Vec<String> {
    let is_there = |(file, test): &(String, Option<String>)| {
        let Ok(source) = std::fs::read_to_string(tree::root().join(file)) else { return false };
        test.as_ref().is_none_or(|test| source.contains(&format!("fn {test}(")))
    };
    let gone = named(text).into_iter().filter(|it| !is_there(it));
    gone.map(|(file, test)| format!("{file} {}", test.unwrap_or_default())).collect()
}

#[test]
fn every_file_and_test_that_is_named_is_there() {
    let text = document(RULES);
    assert!(named(&text).len() > 60, "{}", named(&text).len());
    assert_eq!(missing(&text), Vec::<String>::new());
}

#[test]
fn a_file_or_test_that_is_gone_is_seen() {
    let text = "`host/sandbox/src/nowhere.rs` and `tests/tests/security.rs::no_such_test`, not `tests/tests/security.rs`";
    assert_eq!(missing(text), ["host/sandbox/src/nowhere.rs ", "tests/tests/security.rs no_such_test"]);
}

#[test]
fn every_rule_names_where_it_is_enforced_and_a_test() {
    let text = document(RULES);
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains('`'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert!(rows.len() > 20, "{}", rows.len());
    for row in rows {
        let [what, file, test] = row[..] else { panic!("{row:?}") };
        assert!(file.contains(".rs`") && test.contains(".rs::"), "{what}: {file}, {test}");
    }
}

/// The rows of the drill's table: attack, what it tries, how it ended in the host and in a worker.
fn outcomes(text: &str) -> Vec<[String; 4]> {
    let rows = text.lines().filter(|line| line.starts_with("| `"));
    let cells = |line: &str| -> Vec<String> {
        line.trim_matches('|').split('|').map(|cell| cell.trim().trim_matches('`').to_owned()).collect()
    };
    rows.filter_map(|line| cells(line).try_into().ok()).collect()
}

/// What the table says wrongly, or does not say.
fn untrue(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let rows = outcomes(text);
    for [name, tries, here, there] in &rows {
        let Some(attack) = chela_drill::find(name) else {
            wrong.push(format!("{name} is no attack"));
            continue;
        };
        if attack.tries != tries {
            wrong.push(format!("{name} tries something else"));
        }
        let may = |end: &String| attack.ends.iter().any(|allowed| allowed.to_string() == *end);
        wrong.extend(
            [here, there].into_iter().filter(|end| !may(end)).map(|end| format!("{name} ends with {end}")),
        );
    }
    let told: BTreeSet<&str> = rows.iter().map(|[name, ..]| &**name).collect();
    wrong.extend(
        chela_drill::all().filter(|it| !told.contains(it.name)).map(|it| format!("{} is not told", it.name)),
    );
    wrong
}

#[test]
fn every_attack_is_told_with_an_end_that_it_may_have() {
    assert_eq!(untrue(&document(DRILL)), Vec::<String>::new());
}

#[test]
fn a_table_that_is_not_true_is_seen() {
    let text = document(DRILL);
    let row = text.lines().find(|line| line.starts_with("| `trap`")).unwrap();
    let wrong = |instead: &str| untrue(&text.replace(row, instead));
    assert_eq!(wrong(""), ["trap is not told"]);
    assert_eq!(wrong(&row.replace("trap |", "timeout |")), ["trap ends with timeout"; 2]);
    assert_eq!(wrong(&row.replacen("traps", "sings", 1)), ["trap tries something else"]);
}
