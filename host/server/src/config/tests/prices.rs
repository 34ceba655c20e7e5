//! What is known of prices, and what is laid over it.

use chela_types::{Money, Price, Rates, Usage};

use super::super::{Code, Config, ConfigError};
use super::{BASE, load, load_in};

const VENDOR: &str =
    "[provider.a]\nkind = \"anthropic\"\nkey = \"env:KEY\"\n[tier.fast]\nchain = [\"a/claude-haiku-5-5\"]\n";
const ROW: &str =
    "[anthropic.\"claude-haiku-5-5\"]\nas_of = \"2026-12-01\"\nsource = \"https://example.com\"\n";

fn tariff(config: &Config) -> (Price, String) {
    let tariff = &config.providers["a"].prices["claude-haiku-5-5"];
    (tariff.price, tariff.version.to_string())
}

fn codes<T: std::fmt::Debug>(outcome: Result<T, ConfigError>) -> Vec<Code> {
    outcome.unwrap_err().problems().iter().map(|problem| problem.code()).collect()
}

fn dollars(text: &str) -> Money {
    Money::parse_dollars(text).unwrap()
}

fn with_file(text: &str) -> Result<Config, ConfigError> {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("prices.toml"), text).unwrap();
    let config = format!("[prices]\nfile = \"prices.toml\"\n{VENDOR}{BASE}");
    load_in(folder.path(), &config).map(|(config, _)| config)
}

#[test]
fn a_price_of_the_file_is_laid_over_the_known_one() {
    let (known, version) = tariff(&load(&format!("{VENDOR}{BASE}")).unwrap().0);
    assert!(version.starts_with("builtin "), "{version}");
    let price = "[provider.a.price.\"claude-haiku-5-5\"]\ninput = \"0.20\"\n";
    let (price, version) = tariff(&load(&format!("{price}{VENDOR}{BASE}")).unwrap().0);
    assert_eq!(price.rates, Rates { input: dollars("0.20"), ..known.rates });
    assert!(price.long().eq(known.long()) && version.starts_with("configured "), "{version}");
    let flat = "[provider.a.price.\"claude-haiku-5-5\"]\nlong = []\n";
    assert_eq!(tariff(&load(&format!("{flat}{VENDOR}{BASE}")).unwrap().0).0, Price::flat(known.rates));
}

#[test]
fn long_prompts_can_have_cards_anywhere() {
    let text = "[provider.a]\nkind = \"openai\"\nurl = \"https://models.example/v1\"\n\
        [provider.a.price.m]\ninput = \"1\"\noutput = \"2\"\n\
        [[provider.a.price.m.long]]\nabove = 100\ninput = \"3\"\noutput = \"4\"\n\
        [[provider.a.price.m.long]]\nabove = 200\ninput = \"5\"\ncached = \"1\"\nwritten = \"6\"\noutput = \"6\"\n";
    let (config, _) = load(&format!("{text}{BASE}")).unwrap();
    let price = config.providers["a"].prices["m"].price;
    let cost = |tokens| price.cost(&Usage { input: chela_types::Tokens(tokens), ..Usage::default() }).nanos();
    assert_eq!((cost(100), cost(101), cost(201)), (100_000, 303_000, 1_005_000));
    let crossed = text.replace("above = 200", "above = 100");
    assert_eq!(codes(load(&format!("{crossed}{BASE}"))), [Code::WrongValue]);
}

#[test]
fn where_nothing_is_known_a_card_has_to_say_enough() {
    for text in ["input = \"1\"", "output = \"1\"", "cached = \"1\""] {
        let text = format!(
            "[provider.a]\nkind = \"openai\"\nurl = \"https://models.example/v1\"\n[provider.a.price.gpt-4o]\n{text}\n{BASE}"
        );
        assert_eq!(codes(load(&text)), [Code::MissingKey], "{text}");
    }
}

#[test]
fn a_table_of_ones_own_is_laid_over_what_comes_with_the_program() {
    let (known, _) = tariff(&load(&format!("{VENDOR}{BASE}")).unwrap().0);
    let config = with_file(&format!("{ROW}output = \"0.70\"\n")).unwrap();
    let (price, version) = tariff(&config);
    assert_eq!(price.rates, Rates { output: dollars("0.70"), ..known.rates });
    assert!(version.starts_with("file 2026-12-01 "), "{version}");
    let other = with_file(&format!("{ROW}output = \"0.71\"\n")).unwrap();
    assert_ne!(other.digest, config.digest, "what is named belongs to what runs");
}

#[test]
fn a_table_that_cannot_be_read_is_a_mistake_and_no_reason_to_go_on() {
    for text in [
        "",
        "[anthropic",
        "[google.m]\n",
        &format!("{ROW}ouput = \"1\"\n"),
        &format!("{ROW}output = \"-1\"\n"),
        &format!("{ROW}output = 0.5\n"),
        &format!("{}output = \"1\"\n", ROW.replace("source", "sources")),
    ] {
        assert_eq!(codes(with_file(text)), [Code::WrongValue], "{text}");
    }
    let missing = format!("[prices]\nfile = \"none.toml\"\n{VENDOR}{BASE}");
    assert_eq!(codes(load(&missing)), [Code::PathUnusable]);
}

#[test]
fn embeddings_answer_nothing() {
    let text = "[provider.o]\nkind = \"openai\"\nkey = \"env:KEY\"\n[tier.fast]\nchain = [\"o/text-embedding-3-small\"]\n";
    assert_eq!(codes(load(&format!("{text}{BASE}"))), [Code::UnknownPrice]);
}
