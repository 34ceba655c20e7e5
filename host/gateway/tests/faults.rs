//! Everything that providers and the way to them are known to do wrong, one row each: what is injected, what the caller
//! sees, whom it was asked of, what the ledger says, and how long it took at most. The ledger is never below the bill.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, missing_docs, reason = "tests")]

#[path = "faults/bomb.rs"]
mod bomb;
#[path = "faults/outage.rs"]
mod outage;
#[path = "faults/provider.rs"]
mod provider;
#[path = "faults/toxics.rs"]
mod toxics;

use chela_egress::Egress;
use chela_gateway::{
    Budgets, Cache, Call, Chunk, Config, Error, Gateway, ModelName, OpenAiWire, Prompt, Provider,
    ProviderKind, ProviderLimits, Role, Tier, UnknownPrice, defaults,
};
use chela_store::Store;
use chela_types::{
    AgentId, Finish, ModelCall, Money, Price, Rates, SystemClock, TenantId, TierId, Tokens, Usage,
};
use futures::StreamExt;
use provider::{Answer, TEXT, WIRES, Wire, provider, reply};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use toxics::{Toxic, proxy};
use url::Url;

const PRICE: Price = Price::flat(Rates {
    input: Money::from_nanos(1_000_000_000),
    cached: Money::ZERO,
    written: Money::ZERO,
    output: Money::from_nanos(2_000_000_000),
});
const OUTPUT: Tokens = Tokens(200);
/// For how long a provider may be silent where silence is the fault, and where it is none.
const SHORT: Duration = Duration::from_secs(1);
const LONG: Duration = Duration::from_secs(20);
/// What the fake provider bills for each answer.
const BILLED: Usage = Usage { input: Tokens(12), cached: Tokens(0), written: Tokens(0), output: Tokens(5) };

struct House {
    _folder: tempfile::TempDir,
    gateway: Gateway,
    store: Store,
}

fn kind(wire: Wire, address: SocketAddr) -> ProviderKind {
    let (url, key) = (Url::parse(&format!("http://{address}/v1")).unwrap(), Some("sk-hunter2".into()));
    match wire {
        Wire::Chat => ProviderKind::OpenAi { url, key, wire: OpenAiWire::Chat },
        Wire::Responses => ProviderKind::OpenAi { url, key, wire: OpenAiWire::Responses },
        Wire::Messages => ProviderKind::Anthropic { url, key, prompt_cache: false },
    }
}

fn tier(number: usize) -> TierId {
    TierId::new(format!("t{number}")).unwrap()
}

/// Silent for so long at most.
fn patient(patience: Duration) -> ProviderLimits {
    ProviderLimits {
        first_token: patience,
        idle: patience,
        total: patience * 8,
        ..ProviderLimits::standard()
    }
}

/// One tier for each chain, `t0` and so on.
async fn house(chains: Vec<Vec<ProviderKind>>, limits: ProviderLimits) -> House {
    let prices = BTreeMap::from([("m".to_owned(), PRICE.into())]);
    let (mut providers, mut tiers) = (Vec::new(), Vec::new());
    for (number, kinds) in chains.into_iter().enumerate() {
        let named =
            |(n, kind)| Provider { name: format!("t{number}p{n}"), kind, prices: prices.clone(), limits };
        let own: Vec<Provider> = kinds.into_iter().enumerate().map(named).collect();
        let chain = own.iter().map(|p| ModelName { provider: p.name.clone(), model: "m".into() }).collect();
        let (first_token, cheaper, failover) = (None, None, Default::default());
        tiers.push(Tier { id: tier(number), chain, max_output: OUTPUT, first_token, cheaper, failover });
        providers.extend(own);
    }
    let config = Config {
        providers,
        tiers,
        agents: Default::default(),
        embedding: Default::default(),
        budgets: Budgets::default(),
        cache: Cache::standard(),
        unknown_price: UnknownPrice::Refuse,
        attempts_max: defaults::ATTEMPTS_MAX,
        cooldown_max: defaults::COOLDOWN_MAX,
    };
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(chela_store::Config::new(folder.path()), Arc::new(SystemClock)).await.unwrap();
    let egress =
        Egress::new(chela_egress::Config { allow_loopback: true, ..chela_egress::Config::standard() })
            .unwrap();
    let gateway = Gateway::new(config, store.clone(), &egress, Arc::new(SystemClock)).unwrap();
    House { _folder: folder, gateway, store }
}

fn call() -> Call {
    let (agent, tier) = (AgentId::new("support").unwrap(), tier(0));
    Call::new(
        TenantId::default_tenant(),
        agent,
        "u1",
        tier,
        vec![Prompt::text(Role::User, "What time is it?")],
    )
}

fn bound() -> Money {
    PRICE.worst_case(call().input_bound(), OUTPUT)
}

/// What the caller sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sees {
    /// The first's answer.
    First,
    /// The second's.
    Second,
    /// Half of the first's, and an error after it: nothing that could be taken for whole.
    Half,
    /// An answer that says that it was cut.
    Truncated,
    /// An error.
    Error,
}

/// What the ledger says of the first provider.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ledger {
    /// Its count.
    Counted,
    /// Its bound.
    Bound,
    Nothing,
}

struct Row {
    what: &'static str,
    answer: Answer,
    toxics: Vec<Toxic>,
    sees: Sees,
    ledger: Ledger,
}

/// How one call went.
struct Outcome {
    text: String,
    ended: Result<Finish, Error>,
    record: ModelCall,
}

async fn ask(house: &House, number: usize) -> Outcome {
    let mut answer = match house.gateway.complete(Call { tier: tier(number), ..call() }).await {
        Ok(answer) => answer,
        Err(error) => {
            let record = *error.call.clone().unwrap();
            return Outcome { text: String::new(), ended: Err(error), record };
        }
    };
    let (mut text, mut ends, mut ended) = (String::new(), 0, None);
    while let Some(chunk) = answer.chunks.next().await {
        match chunk {
            Ok(Chunk::Text(more)) => text.push_str(&more),
            Ok(Chunk::Tool(delta)) => panic!("{delta:?}"),
            Ok(Chunk::End(completed)) => {
                assert_eq!(completed.text, text, "what is whole is what was shown");
                (ends, ended) = (ends + 1, Some((Ok(completed.finish), completed.call)));
            }
            Err(error) => {
                let record = *error.call.clone().unwrap();
                (ends, ended) = (ends + 1, Some((Err(error), record)));
            }
        }
    }
    assert_eq!(ends, 1, "one end");
    let (ended, record) = ended.unwrap();
    Outcome { text, ended, record }
}

/// What the second answers: its own words, so that nobody takes them for the first's.
async fn second() -> SocketAddr {
    provider(Answer::stream(reply(Wire::Chat, Some((12, 5))).replace("9", "8"))).await.0
}

async fn met(row: &Row, wire: Wire) {
    let what = row.what;
    let (origin, bills) = provider(row.answer.clone()).await;
    let first = proxy(origin, row.toxics.clone(), 42).await;
    let house = house(vec![vec![kind(wire, first), kind(Wire::Chat, second().await)]], patient(SHORT)).await;
    let began = Instant::now();
    let Outcome { text, ended, record } = ask(&house, 0).await;
    assert!(began.elapsed() < SHORT * 8, "{what}: {:?}", began.elapsed());
    let sees = match &ended {
        Ok(Finish::Length) => Sees::Truncated,
        Ok(_) if text.ends_with('8') || text.ends_with("8.") => Sees::Second,
        Ok(_) => Sees::First,
        Err(_) if text.is_empty() => Sees::Error,
        Err(_) => Sees::Half,
    };
    assert_eq!(sees, row.sees, "{what} in {wire:?}: {ended:?} {text}");
    let attempts = 1 + usize::from(sees == Sees::Second);
    assert_eq!(record.attempts.len(), attempts, "{what}: {:?}", record.attempts);
    let own = if sees == Sees::Second { PRICE.cost(&BILLED) } else { Money::ZERO };
    let of_first = match row.ledger {
        Ledger::Counted => PRICE.cost(&BILLED),
        Ledger::Bound => bound(),
        Ledger::Nothing => Money::ZERO,
    };
    assert_eq!(record.cost, of_first.plus(own), "{what} in {wire:?}");
    let bill = (0..bills.load(Ordering::SeqCst)).map(|_| PRICE.cost(&BILLED)).sum::<Money>();
    assert!(of_first >= bill, "{what}: the ledger is below the bill");
    let mut written = house.store.ledger(10).await.unwrap().settled;
    for _ in 0..100 {
        if written == record.cost {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        written = house.store.ledger(10).await.unwrap().settled;
    }
    assert_eq!(written, record.cost, "{what}: what the record says is in the ledger");
}

fn whole(wire: Wire) -> Answer {
    Answer::stream(reply(wire, Some((12, 5))))
}

/// Up to the end of the first text.
fn half(wire: Wire) -> Vec<u8> {
    let reply = reply(wire, Some((12, 5)));
    let (head, tail) = reply.split_at(reply.find("Grüße").unwrap());
    format!("{head}{}\n\n", tail.split_once("\n\n").unwrap().0).into_bytes()
}

fn rows(wire: Wire) -> Vec<Row> {
    use Ledger::{Bound, Counted, Nothing};
    use Toxic::*;
    let millis = Duration::from_millis;
    let row = |what, answer, toxics, sees, ledger| Row { what, answer, toxics, sees, ledger };
    let status = |what, status, headers, body, sees| {
        row(what, Answer::status(status, headers, body), vec![], sees, Nothing)
    };
    let stream = |what, body: Vec<u8>, sees, ledger| row(what, Answer::stream(body), vec![], sees, ledger);
    let silent = Answer { stays: true, ..Answer::stream("") };
    let stuck = Answer { stays: true, ..Answer::stream(half(wire)) };
    let begun = [half(wire), b"data: {\"ty".to_vec()].concat();
    let bad = [b"data: \"\xff\xfe\"\n\n".to_vec(), half(wire)].concat();
    let error: &[u8] = b"event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\",\"code\":\"overloaded_error\"}}\n\n";
    let endless = |line: usize| format!("data: {}", "x".repeat(line)).into_bytes();
    vec![
        row("nothing wrong", whole(wire), vec![], Sees::First, Counted),
        row("cut into small pieces", whole(wire), vec![Slicer(7)], Sees::First, Counted),
        row("cut into single bytes", whole(wire), vec![Slicer(1)], Sees::First, Counted),
        row("late, within its time", whole(wire), vec![Latency(millis(50))], Sees::First, Counted),
        row("closed late", whole(wire), vec![SlowClose(millis(300))], Sees::First, Counted),
        row("down", whole(wire), vec![Down], Sees::Second, Nothing),
        row("reset", whole(wire), vec![Reset], Sees::Second, Bound),
        row(
            "a hang after the connection stands",
            whole(wire),
            vec![Timeout(millis(3_000))],
            Sees::Second,
            Bound,
        ),
        row("too late", whole(wire), vec![Latency(millis(2_000))], Sees::Second, Bound),
        row("headers, and then silence", silent, vec![], Sees::Second, Bound),
        row("text, and then silence", stuck, vec![], Sees::Half, Bound),
        row("bytes that trickle", whole(wire), vec![Bandwidth(10)], Sees::Second, Bound),
        status("429 with a time", "429 Too Many Requests", "retry-after: 30\r\n", "{}", Sees::Second),
        status("429 without", "429 Too Many Requests", "", "{}", Sees::Second),
        status("529", "529 Overloaded", "", "{}", Sees::Second),
        status("503", "503 Service Unavailable", "", "{}", Sees::Second),
        status("500", "500 Internal Server Error", "", "{}", Sees::Second),
        status("402", "402 Payment Required", "", "{}", Sees::Second),
        status("a wrong key", "401 Unauthorized", "", "{}", Sees::Second),
        status("a redirect", "302 Found", "location: http://127.0.0.1:1/\r\n", "", Sees::Second),
        status("a wrong request", "400 Bad Request", "", "{}", Sees::Error),
        stream("an error after 200", error.to_vec(), Sees::Second, Bound),
        // What came before the error is shown, wherever the network cuts the two.
        stream("an error with the first text", [half(wire), error.to_vec()].concat(), Sees::Half, Bound),
        stream("an empty stream", vec![], Sees::Second, Bound),
        stream("no end", half(wire), Sees::Half, Bound),
        stream("half a document", begun, Sees::Half, Bound),
        stream(
            "no text at all",
            b"<html>not a model</html>\n\ndata: <html>\n\n".to_vec(),
            Sees::Second,
            Bound,
        ),
        stream("bytes that are no text", bad, Sees::Second, Bound),
        stream("a line of a megabyte and more", endless(1 << 20), Sees::Second, Bound),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_of_a_provider_has_an_honest_end() {
    for wire in WIRES {
        for row in rows(wire) {
            met(&row, wire).await;
        }
    }
}

/// The status of a refusal says what matters, and is not forgotten over a body that does not come.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_whose_body_hangs_is_a_refusal() {
    let headers = "retry-after: 30\r\ncontent-length: 100\r\n";
    let answer = Answer { stays: true, ..Answer::status("429 Too Many Requests", headers, "{") };
    let (first, _) = provider(answer).await;
    let house =
        house(vec![vec![kind(Wire::Chat, first), kind(Wire::Chat, second().await)]], patient(LONG)).await;
    let began = Instant::now();
    for _ in 0..2 {
        let record = ask(&house, 0).await.record;
        assert_eq!(record.attempts[0].class, "rate_limited");
        assert_eq!(record.cost, PRICE.cost(&BILLED), "a refusal is not billed");
    }
    assert!(began.elapsed() < LONG / 2, "waited for once, and then it rests: {:?}", began.elapsed());
}

/// The most memory that this process has had so far.
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() << 10
}

/// What is compressed though nobody asked for it is not unpacked: two gigabytes stay the two megabytes that came, whether
/// they are told as a stream or as one document.
#[tokio::test(flavor = "multi_thread")]
async fn a_compression_bomb_is_not_unpacked() {
    const MEMORY_MAX: u64 = 256 << 20;
    let before = peak_bytes();
    for (headers, body) in [
        ("content-type: text/event-stream\r\ncontent-encoding: gzip\r\n", bomb::gzip()),
        ("content-type: text/event-stream\r\ncontent-encoding: deflate\r\n", bomb::deflate()),
        ("content-type: application/json\r\ncontent-encoding: gzip\r\n", bomb::gzip()),
        ("content-type: application/json\r\ncontent-encoding: deflate\r\n", bomb::deflate()),
    ] {
        for wire in WIRES {
            let answer = Answer { headers, ..Answer::stream(body.clone()) };
            let row =
                Row { what: headers, answer, toxics: vec![], sees: Sees::Second, ledger: Ledger::Bound };
            met(&row, wire).await;
        }
    }
    let more = peak_bytes() - before;
    assert!(more < MEMORY_MAX, "{more} bytes of memory for what came in two megabytes");
}

/// Counts that cannot be true are charged at the bound, and never credited.
#[tokio::test(flavor = "multi_thread")]
async fn counts_that_cannot_be_true_cost_the_bound() {
    for wire in WIRES {
        for count in
            [None, Some((0, 0)), Some((-1, 5)), Some((12, -7)), Some((1 << 40, 5)), Some((12, 1 << 40))]
        {
            let answer = Answer::stream(reply(wire, count));
            let (sees, ledger) = (Sees::First, Ledger::Bound);
            met(&Row { what: "a count", answer, toxics: vec![], sees, ledger }, wire).await;
        }
    }
    for (count, what) in [("null", "the count of the start alone"), ("{}", "an end that counts nothing")] {
        let body = reply(Wire::Messages, Some((12, 5))).replace(r#"{"output_tokens":5}"#, count);
        assert!(body.contains(r#""output_tokens":1"#) && !body.contains(r#""output_tokens":5"#));
        let answer = Answer::stream(body);
        met(&Row { what, answer, toxics: vec![], sees: Sees::First, ledger: Ledger::Bound }, Wire::Messages)
            .await;
    }
    let more_cached = reply(Wire::Chat, Some((12, 5))).replace(
        "\"prompt_tokens\":12",
        "\"prompt_tokens\":12,\"prompt_tokens_details\":{\"cached_tokens\":13}",
    );
    assert!(more_cached.contains("cached_tokens"));
    let answer = Answer::stream(more_cached);
    let row = Row {
        what: "more cached than read",
        answer,
        toxics: vec![],
        sees: Sees::First,
        ledger: Ledger::Bound,
    };
    met(&row, Wire::Chat).await;
}

/// A model that never stops is stopped where what was reserved for it ends.
#[tokio::test(flavor = "multi_thread")]
async fn an_endless_answer_is_cut_at_its_reservation() {
    let line = r#"data: {"choices":[{"index":0,"delta":{"content":"word word word word "}}]}"#;
    let answer = Answer { stays: true, ..Answer::stream(format!("{line}\n\n").repeat(4_000)) };
    let row = Row { what: "endless", answer, toxics: vec![], sees: Sees::Truncated, ledger: Ledger::Bound };
    met(&row, Wire::Chat).await;
}

/// Around each token there are some hundred bytes that nobody keeps: they are no reason to break an answer off.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_answer_may_have_more_around_it_than_is_kept_of_any() {
    let around = "x".repeat(40_000);
    let delta = r#""choices":[{"delta":{"content":"word "}}]"#;
    let chunk = format!("data: {{\"obfuscation\":\"{around}\",{delta}}}\n\n");
    let end = "data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\ndata: [DONE]\n\n";
    let body = chunk.repeat(220) + end;
    assert!(body.len() > chela_egress::Config::standard().response_bytes_max);
    let (only, _) = provider(Answer::stream(body)).await;
    let outcome = ask(&house(vec![vec![kind(Wire::Chat, only)]], patient(LONG)).await, 0).await;
    assert_eq!((outcome.ended.unwrap(), outcome.text.len()), (Finish::Stop, 220 * 5));
}

/// A short reply cut after every byte: the second answers, or what was shown is told as broken off; it is whole only if
/// all of it came.
#[tokio::test(flavor = "multi_thread")]
async fn a_reply_that_is_cut_anywhere_is_never_taken_for_whole() {
    let head = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream\r\n\r\n".len();
    for wire in WIRES {
        let answer = whole(wire);
        let all = head + answer.body.len();
        let (origin, _) = provider(answer).await;
        let other = second().await;
        let mut chains = Vec::new();
        for at in 1..all {
            let first = proxy(origin, vec![Toxic::LimitData(at)], 7).await;
            chains.push(vec![kind(wire, first), kind(Wire::Chat, other)]);
        }
        let house = &house(chains, patient(LONG)).await;
        let cuts = futures::stream::iter(1..all).map(|at| async move {
            let Outcome { text, ended, record } = ask(house, at - 1).await;
            let own = PRICE.cost(&BILLED);
            match &ended {
                Ok(_) if text == TEXT => assert!(record.cost >= own, "{wire:?} at {at}"),
                Ok(_) => {
                    assert_eq!(text, TEXT.replace('9', "8"), "{wire:?} at {at}");
                    assert_eq!(record.cost, bound().plus(own), "{wire:?} at {at}: {:?}", record.attempts);
                }
                Err(error) => {
                    assert!(TEXT.starts_with(&text) && !text.is_empty(), "{wire:?} at {at}: {error} {text}");
                    assert_eq!(record.cost, bound(), "{wire:?} at {at}");
                }
            }
        });
        cuts.buffer_unordered(4).collect::<Vec<()>>().await;
    }
}
