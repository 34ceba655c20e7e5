//! What a replay is asked for: under which version, of which turns, whether it goes on alone; and what it says where there
//! is nothing to run.

use std::sync::Arc;
use std::time::Duration;

use chela_engine::{Error, ReplayRequest, SwapRefused, Under};
use chela_server::standin::{Fault, webhook};
use chela_store::{Answer, Arrival, DeadLetter, Entry, MemoryScope, Store};
use chela_tests::compared::{Compared, counted, counts};
use chela_tests::kill::configuration;
use chela_tests::process::Process;
use chela_tests::{Outside, eventually, guests};
use chela_types::{
    AgentId, Blame, ChannelId, Digest, Identity, Message, Millis, Money, Person, PluginId, Reply, TenantId,
    TurnId,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

const HOUR: Duration = Duration::from_secs(3_600);
const DAY_MS: i64 = 24 * 3_600 * 1_000;

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_named_by_enough_digits_of_its_own() {
    let it = Compared::new(&["hello"]).await;
    let digest = it.host.plugin("router").await.versions[0].digest.clone();
    let under = |digits: &str| ReplayRequest {
        under: Under::Version(PluginId::new("router").unwrap(), digits.to_owned()),
        ..ReplayRequest::default()
    };
    assert_eq!(counts(&it.host.replay(&under(&digest[..12])).await.unwrap()), [1, 0, 0, 0]);
    for short in ["", &digest[..3]] {
        let error = it.refused(&under(short)).await;
        assert!(matches!(error, Error::Swap(SwapRefused::TooShort { .. })), "{error}");
    }
    let tenant = TenantId::default_tenant();
    let one = it.host.store.versions(&tenant, None, 100).await.unwrap();
    let one = one.into_iter().find(|version| version.digest.to_string() == digest).unwrap();
    let mut bytes = *one.digest.as_bytes();
    bytes[31] ^= 1;
    let twin = chela_store::Version { digest: Digest::from_bytes(bytes), ..one };
    it.host.store.keep_version(&tenant, twin).await.unwrap();
    let error = it.refused(&under(&digest[..12])).await;
    assert!(matches!(error, Error::Swap(SwapRefused::Ambiguous { .. })), "{error}");
    assert_eq!(counts(&it.host.replay(&under(&digest)).await.unwrap()), [1, 0, 0, 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_found_however_many_came_after_it() {
    let it = Compared::new(&["hello"]).await;
    let tenant = TenantId::default_tenant();
    let any = it.host.store.versions(&tenant, None, 1).await.unwrap().remove(0);
    for n in 0..1_001_u32 {
        let digest = Digest::of("a test's later version", &[&n.to_le_bytes()]);
        let later = chela_store::Version { digest, since: Millis(i64::MAX), ..any.clone() };
        it.host.store.keep_version(&tenant, later).await.unwrap();
    }
    it.host.is_the_same(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_is_of_turns_that_hold_what_is_asked_for() {
    let it = Compared::new(&["hello", "model #q", "clock", "hr #a", "hr #b"]).await;
    let of = |agent: &str, limit| ReplayRequest {
        agent: Some(AgentId::new(agent).unwrap()),
        limit: Some(limit),
        ..ReplayRequest::default()
    };
    for (request, turns, parts) in [
        (of("hr", 1), 4, 1),
        (of("hr", 9), 5, 2),
        (of("support", 2), 2, 2),
        (ReplayRequest { limit: Some(2), ..ReplayRequest::default() }, 2, 4),
        (ReplayRequest { limit: Some(0), ..ReplayRequest::default() }, 0, 0),
    ] {
        let mut told = Vec::new();
        let (config, rooms) = (it.host.config(), it.host.rooms());
        let report = chela_engine::replay(&config, &rooms, &request, |it| told.push(it)).await.unwrap();
        assert_eq!((report.turns, counts(&report)), (turns, [parts, 0, 0, 0]), "{request:?}");
        assert_eq!(report.is_empty(), parts == 0);
        assert!(told.is_sorted_by_key(|it| it.turns) && told.iter().all(|it| it.turns <= it.of), "{told:?}");
        assert!(told.last().is_none_or(|it| it.turns == it.of), "{told:?}");
    }
    let of_nobody = it.host.replay(&of("nobody", 9)).await.unwrap();
    assert_eq!((of_nobody.turns, of_nobody.is_empty()), (5, true));
    // A router's parts are no agent's.
    let error = it.refused(&ReplayRequest { agent: of("hr", 1).agent, ..it.request("router", "none") }).await;
    assert!(error.to_string().contains("plugin `router` does not serve the agent `hr`"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_run_goes_on_at_its_own_expense_and_leaves_no_trace() {
    let it = Compared::new(&["hello", "memory-kv #a"]).await;
    let (host, outside) = (&it.host, &it.outside);
    let store = &host.store;
    let support = AgentId::new("support").unwrap();
    let tenant = TenantId::default_tenant();
    let day = Millis(outside.clock.now().0 / DAY_MS * DAY_MS);
    let spent = async |scope: &str| {
        let scope = format!("{scope}/day");
        Money::from_nanos(store.budget(&tenant, &scope, day).await.unwrap().settled)
    };
    let kept = async || {
        let scope = MemoryScope::Agent;
        store.memory_get(&tenant, &support, &scope, "count").await.unwrap().map(|it| (it.value, it.version))
    };
    let (agent, user) = ("agent:support", "user:partner/person-t1");
    let before = (spent(agent).await, spent(user).await, kept().await, outside.partner.replies().len());
    assert_eq!(kept().await, Some(("1".to_owned(), 1)));
    assert_eq!((outside.provider.bills().len(), spent("replay").await), (0, Money::ZERO));

    let report = it.behaving("agent", "memory-kv-ask", true).await;
    assert_eq!(counts(&report), [0, 0, 2, 0], "{report:?}");
    assert_eq!((report.diverged_same, report.diverged_changed), (0, 2), "both go on: {report:?}");
    assert!(
        report.divergences.iter().all(|it| it.diverged_at.is_some() && it.what == "diverged"),
        "{report:?}"
    );
    let mut after: Vec<&str> = report.divergences.iter().map(|it| it.after.trim_end()).collect();
    after.sort_unstable();
    // One reads what is kept and writes for itself; the other has what it read then.
    assert!(
        after[0].ends_with("| You said: memory-kv #a") && after[1].ends_with("| You said: hello"),
        "{after:?}"
    );
    assert!(after[0].starts_with("reply: 1@1 1@1 1@1 true false"), "{after:?}");
    assert!(after[1].starts_with("reply: 2@2 2@2 2@2 true false"), "{after:?}");
    assert_eq!(outside.provider.bills().len(), 2);
    host.drained().await;
    // What no turn holds is settled behind.
    eventually("a replay pays what it asked for", async || spent("replay").await == outside.provider.total())
        .await;
    let left = (spent(agent).await, spent(user).await, kept().await, outside.partner.replies().len());
    assert_eq!(left, before, "nobody else pays, nothing is remembered, nothing is sent");
    assert_eq!(host.turns().await, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_run_that_leaves_the_recording_and_says_the_same_has_diverged() {
    let model = guests::get("agent").version("0.1.0", "model");
    let it = Compared::with(|setup| setup.with_plugin("agent", |it| it.source = model), &["hello"]).await;
    // It lets the host pass the answer on, which the recorded version had as a whole.
    let report = it.behaving("agent", "relay", true).await;
    assert_eq!(counts(&report), [0, 0, 1, 0], "{report:?}");
    assert_eq!((report.diverged_same, report.diverged_changed), (1, 0), "{report:?}");
    let [difference] = &*report.divergences else { panic!("{report:?}") };
    assert_eq!((&*difference.before, &difference.after), ("reply: You said: hello ", &difference.before));
    assert_eq!(difference.diverged_at.as_deref(), Some("asked for `models.relay` as call 4"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_goes_on_alone_where_nothing_bounds_what_that_may_spend() {
    let outside = Outside::new().await;
    let host = counted(&outside).run().await;
    let error = host.replay(&ReplayRequest { live: true, ..ReplayRequest::default() }).await.unwrap_err();
    assert!(error.to_string().contains("[budget]"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_live_replay_ends_when_whoever_asked_for_it_goes() {
    let outside = Outside::new().await;
    let mut process = Process::prepare(|folder| {
        std::fs::create_dir(folder.join("knowledge")).unwrap();
        std::fs::write(folder.join("knowledge/a.md"), "# A\n\nB.").unwrap();
        configuration(&outside).replacen("[budget]\n", "[budget]\nshadow = \"100\"\n", 1)
    });
    process.start();
    process.ready().await;
    let say = webhook::Say { sender: "ann".to_owned(), text: "hello".to_owned(), ..webhook::Say::default() };
    outside.partner.say(&process.channel("partner"), &say).await.unwrap();
    eventually("it is answered", async || outside.partner.replies().len() == 1).await;
    let folder = guests::get("agent").folder(process.folder());
    std::fs::write(folder.join("plugin.toml"), guests::get("agent").manifest_of("0.2.0", "model")).unwrap();
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
    let folder = folder.display().to_string();
    let arguments = ["replay", "--plugin", &folder, "--as", "assistant", "--live"];
    let asking = process.command(&arguments).stderr(std::process::Stdio::piped()).spawn().unwrap();
    eventually("it asks a model by itself", async || outside.provider.faults().is_spent()).await;
    let pid = Pid::from_raw(asking.id().unwrap().try_into().unwrap()).unwrap();
    kill_process(pid, Signal::INT).unwrap();
    let ended = asking.wait_with_output().await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && said.contains("the host's replay with it"), "{said}");
    // The next one finds the place free, and is told when the host stops.
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1);
    let asking = process.command(&arguments).stderr(std::process::Stdio::piped()).spawn().unwrap();
    eventually("the next one asks", async || outside.provider.faults().is_spent()).await;
    process.terminate().await;
    let ended = asking.wait_with_output().await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && said.contains("the host stops"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_that_cannot_be_run_are_counted_by_the_reason() {
    let outside = Outside::new().await;
    let host = counted(&outside).run().await;
    let folder = tempfile::tempdir().unwrap();
    let store =
        Store::open(chela_store::Config::new(folder.path()), Arc::clone(&outside.clock)).await.unwrap();
    // A whole part, of a version that nobody has.
    let frame = Digest::of("a test's frame", &[]);
    store.keep_frame_behind(&TenantId::default_tenant(), frame, "{}".to_owned()).await.unwrap();
    let whole = json!({
        "agent": "support",
        "version": Digest::of("a test's version", &[]),
        "frame": frame,
        "past": 0,
        "heard": Digest::of("chela 2026 past", &[b"[]"]),
        "purpose": "a test",
    });
    let said = json!({ "said": { "answered": "\"yes\"" } });
    let start = json!({ "now": 1_000, "seed": vec![1; 32] });
    let began = ("turn.agent", json!(null));
    let heard = ("models.complete", json!({ "Ok": {} }));
    let journals = [
        vec![],
        vec![("turn.start", start.clone())],
        vec![("turn.start", start.clone()), began.clone(), heard.clone()],
        vec![("turn.start", start.clone()), began.clone(), heard, began],
        vec![("turn.start", json!("of another kind"))],
        vec![("turn.start", start.clone()), ("turn.agent", whole.clone()), ("turn.end", said)],
    ];
    for (n, journal) in journals.into_iter().enumerate() {
        store.accept(vec![arrival(n)]).await.unwrap();
        let claimed = store.claim("a test", 1).await.unwrap().remove(0);
        for (seq, (function, value)) in journal.into_iter().enumerate() {
            let entry = Entry {
                seq: seq as u32,
                function: function.to_owned(),
                arguments: Digest::of("a test's arguments", &[]),
                value: serde_json::to_vec(&value).unwrap(),
                at: Millis(1_000),
                version: None,
            };
            store.record(&claimed.lease, entry).await.unwrap();
        }
        let dead = DeadLetter { reason: "an old one".to_owned(), blame: Blame::Host, notice: None };
        if n == 0 {
            store.dead(&claimed.lease, dead).await.unwrap();
            continue;
        }
        let (agent, reply) =
            (AgentId::new("support").unwrap(), Reply { text: "yes".to_owned(), ..Reply::default() });
        let answer = Answer { agent, reply, outcome: "reply".to_owned(), notice: false, lane: None };
        let kept = store.answered(&claimed.lease, answer).await.unwrap();
        store.delivered(&claimed.lease, kept.id, None).await.unwrap();
    }
    let rooms = chela_engine::ReplayRooms { store, ..host.rooms() };
    let mut told = Vec::new();
    let request = ReplayRequest::default();
    let report = chela_engine::replay(&host.config(), &rooms, &request, |it| told.push(it)).await.unwrap();
    assert_eq!((report.turns, report.parts, report.incomplete), (6, 0, 3), "{report:?}");
    assert_eq!((report.purged, report.gone, report.broken), (0, 1, (0, None)));
    assert_eq!(told.last().map(|it| (it.turns, it.of)), Some((6, 6)));
    // Whose the others are is not known; the last one is support's.
    let of_hr = ReplayRequest { agent: Some(AgentId::new("hr").unwrap()), ..request };
    let report = chela_engine::replay(&host.config(), &rooms, &of_hr, |_| {}).await.unwrap();
    assert_eq!((report.incomplete, report.gone), (3, 0), "{report:?}");
}

fn arrival(n: usize) -> Arrival {
    let identity = Identity {
        dedupe: vec![vec![format!("m{n}")]],
        conversation: vec![format!("c{n}")],
        sender: "ann".to_owned(),
        place: None,
        outsider: false,
        target: Default::default(),
    };
    let message = Message {
        id: TurnId::new(),
        channel: ChannelId::new("partner").unwrap(),
        place: None,
        sender: Person { id: "ann".to_owned(), name: None, outsider: false },
        text: "hello".to_owned(),
        attachments: Vec::new(),
        received: Millis(1_000),
    };
    Arrival {
        tenant: TenantId::default_tenant(),
        identity,
        message,
        notes: None,
        echo: None,
        lane: String::new(),
    }
}
