//! What tables of prices say, and which are refused.

use super::*;
use chela_types::Usage;

fn usage(input: u64, cached: u64, written: u64, output: u64) -> Usage {
    let (cached, written) = (Tokens(cached), Tokens(written));
    Usage { input: Tokens(input), cached, written, output: Tokens(output) }
}

fn rates(price: &Price) -> impl Iterator<Item = Rates> {
    std::iter::once(price.rates).chain(price.long().map(|card| card.rates))
}

#[test]
fn the_table_that_comes_with_the_program_is_one() {
    let table = PriceTable::builtin().unwrap();
    let all: Vec<_> = table.models.values().flatten().collect();
    assert!(all.len() >= 10, "{all:?}");
    for (name, known) in all {
        assert_eq!(&*known.tariff.version, table.version(), "{name}");
        assert!(known.as_of.year() >= 2026 && known.source.starts_with("https://"), "{name}");
        for card in rates(&known.tariff.price) {
            assert!(Money::ZERO < card.input && card.cached <= card.input, "{name}");
            assert!(
                card.input <= card.written && (known.is_embedding || card.input <= card.output),
                "{name}"
            );
        }
        let dearer: Vec<_> = rates(&known.tariff.price).map(|card| card.input).collect();
        assert!(dearer.is_sorted(), "{name}");
    }
    assert!(table.version().starts_with("builtin 2026-"), "{}", table.version());
    assert!(!table.answering(Vendor::Openai).any(|name| name.contains("embedding")));
}

#[test]
fn known_usage_has_a_known_cost() {
    let table = PriceTable::builtin().unwrap();
    for (vendor, model, used, cost) in [
        (Vendor::Anthropic, "claude-haiku-5-5", usage(1, 1, 0, 0), "$0.00000001"),
        (Vendor::Anthropic, "claude-haiku-5-5", usage(1, 0, 1, 0), "$0.000000125"),
        (Vendor::Anthropic, "claude-haiku-5-5", usage(100_000, 0, 0, 1_000), "$0.0105"),
        (Vendor::Anthropic, "claude-haiku-5-5", usage(100_001, 0, 0, 1_000), "$0.0525005"),
        (Vendor::Anthropic, "claude-haiku-4-5", usage(1_000, 600, 300, 50), "$0.000785"),
        (Vendor::Anthropic, "claude-sonnet-4-5", usage(1_000_000, 0, 1_000_000, 0), "$3.75"),
        (Vendor::Anthropic, "claude-sonnet-4-6", usage(1_000_000, 1_000_000, 0, 0), "$0.30"),
        (Vendor::Anthropic, "claude-sonnet-5", usage(1_000, 0, 0, 1_000), "$0.012"),
        (Vendor::Anthropic, "claude-sonnet-5-5", usage(10, 10, 0, 0), "$0.000001"),
        (Vendor::Openai, "gpt-4o", usage(1_200, 200, 0, 10), "$0.00285"),
        (Vendor::Openai, "gpt-4o-mini", usage(100, 40, 0, 10), "$0.000018"),
        (Vendor::Openai, "text-embedding-3-small", usage(1_000, 0, 0, 0), "$0.00002"),
        (Vendor::Openai, "text-embedding-3-large", usage(1_000, 0, 0, 0), "$0.00013"),
    ] {
        let known = table.known(vendor, model).unwrap();
        assert_eq!(known.tariff.price.cost(&used).to_string(), cost, "{model} {used:?}");
    }
    assert_eq!(table.known(Vendor::Openai, "gpt-4o-2024-11-20"), None, "exact names alone");
    let worst = table.known(Vendor::Anthropic, "claude-haiku-5-5").unwrap().tariff.price;
    assert_eq!(worst.worst_case(Tokens(100_001), Tokens(1_000)).to_string(), "$0.065000625", "all written");
}

const DATED: &str = "as_of = \"2026-12-01\"\nsource = \"https://example.com/prices\"";

#[test]
fn a_file_changes_what_it_says_and_nothing_else() {
    let builtin = PriceTable::builtin().unwrap();
    let text = format!(
        "[openai.\"gpt-4o\"]\n{DATED}\noutput = \"9\"\n[openai.new]\n{DATED}\ninput = \"1\"\noutput = \"2\"\n\
         [[openai.new.long]]\nabove = 10\ninput = \"2\"\noutput = \"4\"\n"
    );
    let table = builtin.overlaid(&text).unwrap();
    let of = |table: &PriceTable, model| table.known(Vendor::Openai, model).unwrap().clone();
    let (before, after) = (of(&builtin, "gpt-4o"), of(&table, "gpt-4o"));
    let output = Money::parse_dollars("9").unwrap();
    assert_eq!(after.tariff.price.rates, Rates { output, ..before.tariff.price.rates });
    assert_eq!((after.context, after.as_of.to_string()), (before.context, "2026-12-01".to_owned()));
    assert_eq!(of(&table, "new").tariff.price.long().count(), 1);
    assert_eq!(of(&table, "gpt-4o-mini"), of(&builtin, "gpt-4o-mini"), "its version too");
    assert!(after.tariff.version.starts_with("file 2026-12-01 "), "{}", after.tariff.version);
    let other = builtin.overlaid(&text.replace("\"9\"", "\"9.50\"")).unwrap();
    assert_ne!(other.version(), table.version());
}

#[test]
fn a_file_that_is_not_a_table_is_refused_with_its_place() {
    let row = |text: &str| format!("[openai.\"m\"]\n{DATED}\n{text}\n");
    let whole = "input = \"1\"\noutput = \"1\"";
    for (text, line, what) in [
        (String::new(), None, "no prices"),
        ("[openai".to_owned(), Some(1), ""),
        (row("input = \"1\"\nouput = \"1\""), Some(5), "ouput"),
        (row("input = 1\noutput = \"1\""), Some(4), "string"),
        (row("input = \"-1\"\noutput = \"1\""), Some(4), "`-1`"),
        (row("input = \"1e3\"\noutput = \"1\""), Some(4), "`1e3`"),
        (row("input = \"1\""), None, "[openai.\"m\"] `output` is missing"),
        (row("output = \"1\""), None, "`input` is missing"),
        (row("embedding = true\ninput = \"1\"\noutput = \"1\""), None, "embeddings"),
        (format!("[openai.m]\nsource = \"https://example.com\"\n{whole}"), Some(1), "as_of"),
        (format!("[openai.m]\nas_of = \"2026-12-01\"\n{whole}"), Some(1), "source"),
        (row(whole).replace("https", "ftp"), None, "`source`"),
        (row(whole).replace("2026-12-01", "yesterday"), Some(2), "year"),
        (row(whole).replace("openai", "google"), Some(1), "google"),
        (
            row(&format!("{whole}\nlong = [{0}, {0}]", "{ above = 5, input = \"1\", output = \"1\" }")),
            None,
            "card 1 of `long`",
        ),
    ] {
        let error = PriceTable::builtin().unwrap().overlaid(&text).unwrap_err();
        assert!(error.what.contains(what), "{text}: {error}");
        assert_eq!(error.line, line, "{text}: {error}");
    }
}
