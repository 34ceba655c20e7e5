//! Conventions worth having are tests: size of files, a first line that says what a file is, nothing
//! switched off, and a project that speaks of itself alone.

use chela_tests::tree;

/// No file above this; 300 lines are usual.
const LINES_MAX: usize = 800;

#[test]
fn no_file_is_too_long() {
    for (path, text) in tree::all_sources().into_iter().chain(tree::other_sources()) {
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{path} has {lines} lines: look for its second subject");
    }
}

#[test]
fn every_file_says_what_it_is() {
    for (path, text) in tree::all_sources() {
        assert!(text.starts_with("//!"), "{path} does not start with `//!`");
    }
}

#[test]
fn every_script_says_what_it_is() {
    let scripts = tree::scripts();
    for (path, text) in &scripts {
        let mut lines = text.lines();
        let first = lines.next().unwrap_or_default();
        let first = if first.starts_with("#!") { lines.next().unwrap_or_default() } else { first };
        let says = ["\"\"\"", "// ", "# "].iter().any(|start| first.starts_with(start));
        assert!(says, "{path} does not start by saying what it is");
    }
    assert!(scripts.len() > 40, "scripts were seen: {}", scripts.len());
}

#[test]
fn every_function_of_the_contract_says_when_it_is_called() {
    let mut seen = 0;
    for (path, text) in tree::other_sources().into_iter().filter(|(path, _)| path.ends_with(".wit")) {
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.contains(": func(")) {
            let above = at.checked_sub(1).and_then(|above| lines.get(above)).unwrap_or(&"");
            assert!(above.starts_with("///"), "{path}: `{line}` has no comment of its own");
            seen += 1;
        }
    }
    assert!(seen > 15, "functions were seen: {seen}");
}

#[test]
fn nothing_is_switched_off() {
    let words = [
        concat!("#[ig", "nore"),
        concat!("to", "do!("),
        concat!("unimple", "mented!("),
        concat!("FIX", "ME"),
    ];
    for (path, text) in tree::all_sources() {
        for word in words {
            assert!(!text.contains(word), "{path} holds `{word}`");
        }
    }
}

#[test]
fn unsafe_code_is_allowed_in_two_places() {
    let allowed: Vec<String> = tree::all_sources()
        .into_iter()
        .filter(|(path, text)| !path.starts_with("tests/") && text.contains(concat!("unsafe", "_code")))
        .map(|(path, _)| path)
        .collect();
    let (sandbox, rest): (Vec<_>, Vec<_>) =
        allowed.into_iter().partition(|path| path.starts_with("host/sandbox/"));
    assert_eq!(sandbox.len(), 1, "one reasoned exemption in the sandbox: {sandbox:?}");
    assert!(rest.iter().all(|path| path.starts_with("sdk/rust/")), "{rest:?}");
}

#[test]
fn links_between_documents_lead_somewhere() {
    for (path, text) in tree::documents() {
        let folder = tree::root().join(&path).parent().map(ToOwned::to_owned).unwrap_or_default();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#', ' ']).next()) {
            let outside = target.is_empty() || target.contains("://") || target.starts_with("mailto:");
            assert!(outside || folder.join(target).exists(), "{path} links to {target}, which is not there");
        }
    }
}
