//! What is accepted, what it becomes, and what is only doubted.

use std::path::Path;
use std::time::Duration;

use chela_engine::Unsigned;
use chela_gateway::{AfterCut, Limit, OpenAiWire, TierFailover, Window};
use chela_types::{AgentId, ChannelId, DepartmentId, Money, PluginId, TierId};
use secrecy::ExposeSecret as _;

use super::super::{Code, Config, Limits, ProviderKind, Reach, Right, Source};
use super::{BASE, load, load_in, snapshot};

const EXAMPLE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/reference/example.toml"));

fn example() -> Config {
    let folder = tempfile::tempdir().unwrap();
    for agent in ["sales", "support", "technical", "hr"] {
        std::fs::create_dir_all(folder.path().join("knowledge").join(agent)).unwrap();
    }
    let (config, warnings) =
        load_in(folder.path(), EXAMPLE).unwrap_or_else(|e| panic!("{}", e.render(100, false)));
    assert!(warnings.is_empty(), "{warnings:?}");
    config
}

#[test]
fn the_example_of_the_docs_resolves() {
    let config = example();
    let hr = &config.agents[&AgentId::new("hr").unwrap()];
    let slack = ChannelId::new("slack-internal").unwrap();
    let web = ChannelId::new("web").unwrap();
    assert!(hr.confidential && hr.reach.allows(&slack, Some("C1")) && !hr.reach.allows(&web, None));
    assert!(hr.knowledge.as_ref().unwrap().ends_with("knowledge/hr"));
    assert_eq!(hr.budget, limits("20"));
    let technical = &config.agents[&AgentId::new("technical").unwrap()];
    assert_eq!((technical.tiers_allowed.len(), technical.budget.clone()), (2, limits("40")));
    assert_eq!(technical.reach, Reach::Everywhere);
    let fast = &config.tiers[&TierId::new("fast").unwrap()];
    assert_eq!((fast.chain.len(), fast.first_token), (3, Some(Duration::from_secs(5))));
    let price = config.providers["openai"].prices["gpt-4o-mini"].price;
    assert_eq!(price.rates.cached, Money::parse_dollars("0.075").unwrap());
    let shop = &config.channels[&ChannelId::new("shop").unwrap()];
    assert_eq!(shop.default_agent.as_str(), "support");
    assert_eq!(shop.secrets["signing_secret"].expose_secret(), "hunter2-SHOP_SIGNING_SECRET");
    let keyword = &config.plugins[&PluginId::new("keyword").unwrap()];
    assert_eq!(keyword.source, Source::Builtin("keyword".into()));
    assert_eq!(keyword.config["rules"][0]["phrases"][1], "payslip");
}

#[test]
fn a_tier_says_when_and_how_the_next_takes_over() {
    let text = |tier: &str| {
        format!(
            "{BASE}[provider.a]\nkind = \"scripted\"\nscript = \"builtin:demo\"\nmin_chars_per_s = 20\nrequests_per_minute = 60\ntokens_per_minute = 90000\n[tier.fast]\nchain = [\"a/x\", \"a/y\"]\n{tier}"
        )
    };
    let (config, _) = load(&text("")).unwrap();
    let provider = &config.providers["a"];
    assert_eq!(
        (provider.min_chars_per_s, provider.requests_per_minute, provider.tokens_per_minute),
        (Some(20), Some(60), Some(90_000))
    );
    let fast = TierId::new("fast").unwrap();
    assert_eq!(config.tiers[&fast].failover, TierFailover::default());
    let keys = "min_chars_per_s = 5\nhedge_after_ms = 1500\nafter_cut = \"continue\"\n";
    let (config, _) = load(&text(keys)).unwrap();
    let (after, after_cut) = (Some(Duration::from_millis(1_500)), AfterCut::Continue);
    let failover = TierFailover { min_chars_per_s: Some(5), hedge_after: after, after_cut };
    assert_eq!(config.tiers[&fast].failover, failover);
    for wrong in ["min_chars_per_s = 0\n", "hedge_after_ms = 0\n", "after_cut = \"begin\"\n"] {
        assert!(load(&text(wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn a_secret_is_never_printed() {
    let config = example();
    let endpoint = config.providers["openai"].kind.endpoint().unwrap();
    assert_eq!(endpoint.key.as_ref().unwrap().expose_secret(), "hunter2-OPENAI_API_KEY");
    assert!(!format!("{config:?} {config:#?}").contains("hunter2"));
}

#[test]
fn each_kind_of_provider_has_its_own_keys() {
    let text = format!(
        "[provider.a]\nkind = \"openai\"\nkey = \"env:KEY\"\nwire = \"responses\"\n[provider.b]\nkind = \"azure\"\nurl = \"https://b.openai.azure.com\"\nkey = \"env:KEY\"\napi_version = \"2024-10-21\"\n[provider.c]\nkind = \"anthropic\"\nkey = \"env:KEY\"\nprompt_cache = false\n[provider.d]\nkind = \"azure\"\nurl = \"https://d.openai.azure.com/openai/v1/\"\nkey = \"env:KEY\"\n{BASE}"
    );
    let (config, _) = load(&text).unwrap();
    let kind = |name: &str| &config.providers[name].kind;
    assert!(matches!(kind("a"), ProviderKind::OpenAi { wire: OpenAiWire::Responses, .. }));
    let ProviderKind::Azure { api_version, wire, .. } = kind("b") else { panic!("not azure") };
    assert_eq!((api_version.as_deref(), *wire), (Some("2024-10-21"), OpenAiWire::Chat));
    assert!(matches!(kind("c"), ProviderKind::Anthropic { prompt_cache: false, .. }));
    assert!(matches!(kind("d"), ProviderKind::Azure { api_version: None, .. }));
}

#[test]
fn the_smallest_file_has_all_defaults() {
    let (config, warnings) = load(BASE).unwrap();
    assert!(warnings.is_empty());
    assert!(config.server.public.ip().is_loopback() && config.server.admin.ip().is_loopback());
    assert!(!config.egress.allow_loopback && !config.egress.allow_private);
    assert_eq!(config.store.folder.file_name(), Some("chela-data".as_ref()));
    assert_eq!(config.budget.user, limits("2"));
}

#[test]
fn own_limits_stand_above_those_of_the_kind() {
    let text = format!(
        "[limits.router]\ndeadline_ms = 100\n[plugin.p]\nsource = \"builtin:keyword\"\nlimits = {{ host_calls = 3 }}\n[routing]\nrouter = \"p\"\n{BASE}"
    );
    let (config, _) = load(&text).unwrap();
    let limits = &config.plugins[&PluginId::new("p").unwrap()].limits;
    assert_eq!((limits.host_calls, limits.deadline), (3, Duration::from_millis(100)));
    assert_eq!(limits.memory_bytes, 64 << 20);
}

#[test]
fn each_limit_can_be_a_plugins_own() {
    let text = format!(
        "[plugin.p]\nsource = \"builtin:keyword\"\n[plugin.p.limits]\nmemory_bytes = 65537\ntable_elements = 2\n\
         deadline_ms = 3\ncpu_ms = 4\nhost_calls = 5\nlog_lines = 6\nlog_bytes = 7\ninput_bytes = 1025\n\
         output_bytes = 1026\ninstances = 8\nresources = 9\n[routing]\nrouter = \"p\"\n{BASE}"
    );
    let (config, _) = load(&text).unwrap();
    let own = Limits {
        memory_bytes: 65_537,
        table_elements: 2,
        deadline: Duration::from_millis(3),
        cpu: Duration::from_millis(4),
        host_calls: 5,
        log_lines: 6,
        log_bytes: 7,
        input_bytes: 1_025,
        output_bytes: 1_026,
        instances: 8,
        resources: 9,
    };
    assert_eq!(config.plugins[&PluginId::new("p").unwrap()].limits, own);
}

#[test]
fn unlimited_is_said_in_words() {
    let (config, _) =
        load(&format!("[budget]\nagent = \"unlimited\"\nglobal = \"unlimited\"\n{BASE}")).unwrap();
    assert_eq!((config.budget.agent, config.budget.global), (vec![], vec![]));
    assert_eq!(config.agents[&AgentId::new("sales").unwrap()].budget, []);
}

#[test]
fn swap_has_its_documented_defaults() {
    let (config, _) = load(BASE).unwrap();
    let swap = config.swap;
    assert!(swap.auto && !swap.shadow_models);
    let seconds = Duration::from_secs;
    assert_eq!((swap.poll, swap.watch, swap.keep), (seconds(5), seconds(600), seconds(30 * 86_400)));
    assert_eq!((swap.trial_calls, swap.min_calls, swap.min_failures, swap.failure_percent), (16, 20, 3, 5));
    assert_eq!((swap.latency_factor, swap.latency_floor), (3.0, Duration::from_millis(50)));
    assert_eq!((swap.drift_percent, swap.drift_min_calls), (30, 50));
    assert_eq!((swap.shadow_in_flight, swap.shadow_percent, swap.shadow_examples), (8, 100, 20));
    assert_eq!((swap.promote_after, swap.promote_differences_percent), (0, 100));
    assert_eq!((config.budget.shadow, config.operators.len()), (vec![], 0));
}

#[test]
fn swap_at_its_bounds_obeyed() {
    for (factor, read) in [("1", 1.0), ("2.5", 2.5), ("1000", 1_000.0)] {
        let text = format!("[swap]\nreload = \"manual\"\nlatency_factor = {factor}\n{BASE}");
        let swap = load(&text).unwrap().0.swap;
        assert!(!swap.auto && (swap.latency_factor - read).abs() < f64::EPSILON);
    }
    let low = "poll_s = 1\ntrial_calls = 1\nwatch_s = 0\nmin_calls = 1\nmin_failures = 1\nfailure_percent = 0\nlatency_floor_ms = 1\ndrift_percent = 1\ndrift_min_calls = 1\nshadow_in_flight = 1\nshadow_percent = 1\nshadow_examples = 0\npromote_after = 0\npromote_differences_percent = 0\nkeep_days = 1\n";
    let high = "poll_s = 3600\ntrial_calls = 1000\nwatch_s = 86400\nmin_calls = 100000\nmin_failures = 1000\nfailure_percent = 100\nlatency_floor_ms = 600000\ndrift_percent = 100\ndrift_min_calls = 100000\nshadow_in_flight = 1000\nshadow_percent = 100\nshadow_examples = 200\npromote_after = 1000000\npromote_differences_percent = 100\nkeep_days = 3650\n";
    for table in [low, high] {
        load(&format!("[swap]\n{table}{BASE}")).unwrap();
    }
}

#[test]
fn words_are_kept_for_ever_unless_it_is_said_how_long() {
    let words = |text: &str| load(&format!("{text}{BASE}")).unwrap().0.retention.words;
    assert_eq!(words(""), None);
    for days in [1, 3_650] {
        let kept = words(&format!("[retention]\nwords_days = {days}\n"));
        assert_eq!(kept, Some(Duration::from_secs(days * 24 * 60 * 60)));
    }
}

#[test]
fn a_shadow_has_a_budget_of_its_own() {
    let budget = |text: &str| load(&format!("[budget]\nshadow = {text}\n{BASE}")).unwrap().0.budget.shadow;
    assert_eq!(budget("\"1.00\""), limits("1"));
    assert_eq!(budget("\"unlimited\""), []);
}

#[test]
fn operators_have_the_rights_that_are_written() {
    let text = format!(
        "[operator.ann]\ntoken = \"env:ANNS_LONG_TOKEN\"\nrights = [\"operate\", \"read\"]\n[operator.bob]\ntoken = \"env:BOBS_LONG_TOKEN\"\nrights = [\"content\"]\n{BASE}"
    );
    let (config, warnings) = load(&text).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    let rights = |name: &str| config.operators[name].rights.iter().copied().collect::<Vec<_>>();
    assert_eq!(rights("ann"), [Right::Read, Right::Operate]);
    assert_eq!(rights("bob"), [Right::Content]);
    assert_eq!(config.operators["ann"].token.expose_secret(), "hunter2-ANNS_LONG_TOKEN");
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_token_of_sixteen_characters_is_long_enough() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "0123456789abcdef\n").unwrap();
    permit(&folder.path().join("token"), 0o600);
    let text = format!("[operator.ann]\ntoken = \"file:token\"\nrights = [\"read\"]\n{BASE}");
    assert_eq!(load_in(folder.path(), &text).unwrap().0.operators.len(), 1);
}

#[test]
fn the_data_folder_is_found_in_a_file_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("chela.toml");
    for (text, found) in [
        ("[server]\ndrain = 5\n", "chela-data"),
        ("[store]\nurl = \"sqlite:kept\"\n[agent.x]\n", "kept"),
        ("[store]\nurl = \"sqlite:kept\"\n[agent.x\n", "kept"),
        ("[store]\nurl = \"sqlite:///var/lib/chela\"\nx = 1\n", "/var/lib/chela"),
    ] {
        std::fs::write(&path, text).unwrap();
        let base = folder.path().canonicalize().unwrap();
        assert_eq!(super::super::data_folder(&path), Some(base.join(found)), "{text}");
    }
    assert_eq!(super::super::data_folder(&folder.path().join("none.toml")), None);
}

/// A release takes the place of another, and what was kept stays where it is.
#[test]
fn data_lies_where_the_file_was_named_and_not_where_its_link_leads() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().canonicalize().unwrap();
    let link = folder.path().join("chela.toml");
    for release in ["1", "2"] {
        std::fs::create_dir(folder.path().join(release)).unwrap();
        std::fs::write(folder.path().join(release).join("persona.md"), release).unwrap();
        let text = format!("{BASE}persona = \"file:persona.md\"\n");
        std::fs::write(folder.path().join(release).join("chela.toml"), text).unwrap();
        let _ = std::fs::remove_file(&link);
        std::os::unix::fs::symlink(format!("{release}/chela.toml"), &link).unwrap();
        let (config, _) = super::super::load(&link, &super::env).unwrap();
        assert_eq!(config.store.folder, home.join("chela-data"));
        assert_eq!(super::super::data_folder(&link), Some(home.join("chela-data")));
        let agent = config.agents.values().next().unwrap();
        assert_eq!(agent.persona, release, "what belongs to the release comes with it");
    }
}

#[test]
fn a_link_to_the_file_is_kept_as_it_was_named() {
    let folder = tempfile::tempdir().unwrap();
    let (real, link) = (folder.path().join("real.toml"), folder.path().join("chela.toml"));
    std::fs::write(&real, BASE).unwrap();
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let (config, _) = super::super::load(&link, &super::env).unwrap();
    assert_eq!((config.named, config.file), (link, real.canonicalize().unwrap()));
}

#[test]
fn a_place_is_one_room_of_a_channel() {
    let text = format!(
        "[agent.hr]\nplugin = \"assistant\"\nreachable_from = [\"slack/C1\"]\n[channel.slack]\nplugin = \"chat\"\ndefault_agent = \"sales\"\n[plugin.chat]\nsource = \"builtin:slack\"\n[plugin.router]\nsource = \"builtin:keyword\"\n[routing]\nrouter = \"router\"\n{BASE}"
    );
    let (config, warnings) = load(&text).unwrap();
    let reach = &config.agents[&AgentId::new("hr").unwrap()].reach;
    let slack = ChannelId::new("slack").unwrap();
    assert!(reach.allows(&slack, Some("C1")));
    assert!(!reach.allows(&slack, Some("C2")) && !reach.allows(&slack, None));
    assert!(warnings.is_empty(), "{warnings:?}");
}

#[test]
fn personas_scripts_and_secrets_are_read_from_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("persona.md", "You are kind.\n");
    write("say.toml", "# a script\n");
    write("token", "hunter2-hunter2-hunter2\n");
    permit(&folder.path().join("token"), 0o600);
    let text = "[server]\nadmin_token = \"file:token\"\n[provider.s]\nkind = \"scripted\"\nscript = \"say.toml\"\n[plugin.a]\nsource = \"builtin:assistant\"\n[agent.x]\nplugin = \"a\"\npersona = \"file:persona.md\"\n";
    let (config, warnings) = load_in(folder.path(), text).unwrap();
    assert!(warnings.is_empty(), "{warnings:?}");
    assert_eq!(config.agents[&AgentId::new("x").unwrap()].persona, "You are kind.\n");
    let names = ["persona.md", "say.toml", "token"];
    assert!(
        names.iter().all(|name| config.paths.iter().any(|path| path.ends_with(name))),
        "{:?}",
        config.paths
    );
    assert_eq!(config.server.admin_token.unwrap().expose_secret(), "hunter2-hunter2-hunter2");
}

#[test]
fn doubts_are_warnings() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("token"), "hunter2-hunter2-hunter2").unwrap();
    permit(&folder.path().join("token"), 0o644);
    let text = format!(
        "[server]\nadmin_token = \"file:token\"\n\n[plugin.chat]\nsource = \"builtin:web-chat\"\n\n[channel.web]\nplugin = \"chat\"\ndefault_agent = \"sales\"\nconfig = {{ bot_token = \"hunter2\" }}\n\n[agent.nobody]\nplugin = \"assistant\"\nreachable_from = []\n\n[agent.idle]\nplugin = \"assistant\"\n\n{BASE}"
    );
    let (_, warnings) = load_in(folder.path(), &text).unwrap();
    let codes: Vec<Code> = warnings.iter().map(|warning| warning.code()).collect();
    let expected =
        [Code::SecretExposed, Code::SecretInConfig, Code::AgentUnreachable, Code::AgentUnreachable];
    assert_eq!(codes, expected);
    let shown: String = warnings.iter().map(|warning| warning.plain(100)).collect();
    assert!(!shown.contains("hunter2"), "{shown}");
    snapshot("warnings", &shown);
}

/// What `text` is doubted for, as its author reads it.
fn doubts(text: &str) -> (Vec<Code>, String) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("docs")).unwrap();
    let (_, warnings) = load_in(folder.path(), text).unwrap_or_else(|e| panic!("{}", e.render(100, false)));
    let shown: String = warnings.iter().map(|warning| warning.plain(100)).collect();
    assert!(!shown.contains("hunter2"), "{shown}");
    (warnings.iter().map(|warning| warning.code()).collect(), shown)
}

#[test]
fn a_secret_is_found_wherever_it_lies_in_a_free_table() {
    let text = format!(
        "[plugin.chat]\nsource = \"builtin:web-chat\"\n[plugin.chat.config]\nnote = \"xoxb-hunter2\"\nmax_tokens = \"3\"\nlist = [\"a\", [\"sk-hunter2\"]]\nsecrets = {{ any = \"hunter2\" }}\n[[plugin.chat.config.rooms]]\nname = \"b\"\nlogin = {{ password = \"hunter2\", user = \"c\" }}\n{BASE}"
    );
    let (codes, shown) = doubts(&text);
    assert_eq!(codes, [Code::SecretInConfig; 4], "{shown}");
    snapshot("secrets-deep", &shown);
}

#[test]
fn documents_that_nobody_may_search_are_doubted() {
    let agent = |grants: &str| {
        format!(
            "[plugin.m]\nsource = \"builtin:assistant\"\ngrants = [{grants}]\n[agent.x]\nplugin = \"m\"\nknowledge = \"docs\"\n"
        )
    };
    let (codes, shown) = doubts(&agent("\"memory\""));
    assert_eq!(codes, [Code::GrantMissing]);
    snapshot("knowledge-without-grant", &shown);
    assert_eq!(doubts(&agent("\"knowledge\"")).0, []);
}

#[test]
fn a_rule_that_leads_to_no_agent_is_doubted() {
    let text = format!(
        "[plugin.words]\nsource = \"builtin:keyword\"\n[[plugin.words.config.rules]]\nagent = \"sales\"\nphrases = [\"price\"]\n[[plugin.words.config.rules]]\nagent = \"slaes\"\nphrases = [\"offer\"]\n[routing]\nrouter = \"words\"\n{BASE}"
    );
    let (codes, shown) = doubts(&text);
    assert_eq!(codes, [Code::UnknownReference], "{shown}");
    snapshot("rule-leads-nowhere", &shown);
}

/// An agent that may ask a model which costs $1 for a thousand tokens, with 10 of these for an answer.
fn asking(budget: &str, agent: &str) -> String {
    format!(
        "{budget}[provider.a]\nkind = \"scripted\"\nscript = \"builtin:demo\"\nprice = {{ x = {{ input = \"0\", output = \"1000\" }} }}\n[tier.fast]\nchain = [\"a/x\", \"a/free\"]\nmax_output_tokens = 10\n[plugin.m]\nsource = \"builtin:assistant\"\ngrants = [\"models\"]\n[agent.hr]\nplugin = \"m\"\n{agent}"
    )
}

#[test]
fn a_budget_for_less_than_an_answer_is_doubted() {
    let (codes, shown) = doubts(&asking("[budget]\nglobal = \"0.009999999\"\n", "budget = \"0.001\"\n"));
    assert_eq!(codes, [Code::BudgetTooSmall; 2], "{shown}");
    snapshot("budget-for-less-than-an-answer", &shown);
    assert_eq!(doubts(&asking("[budget]\nglobal = \"0.01\"\n", "budget = \"0.01\"\n")).0, []);
    assert_eq!(doubts(&asking("[budget]\nglobal = \"unlimited\"\n", "budget = \"unlimited\"\n")).0, []);
    let error = load(&asking("", "budget = \"0.000999999\"\n")).map(|_| ()).unwrap_err();
    assert_eq!(error.problems()[0].code(), Code::BudgetTooSmall);
}

#[test]
fn a_department_and_a_channel_have_budgets_of_their_own_or_those_of_all() {
    let text = "[budget]\nwindow = \"week\"\ntime_zone = \"Europe/Berlin\"\ndepartment = \"5\"\n[department.one]\n[department.two]\nbudget = \"3\"\n[department.free]\nbudget = \"unlimited\"\n[plugin.w]\nsource = \"builtin:webhook\"\n[channel.c]\nplugin = \"w\"\nbudget = \"7\"\n[channel.d]\nplugin = \"w\"\n[routing]\nfallback = \"hr\"\n";
    let (config, _) = load(&asking(text, "")).unwrap();
    let department = |name| config.departments[&DepartmentId::new(name).unwrap()].budget.clone();
    let channel = |name| config.channels[&ChannelId::new(name).unwrap()].budget.clone();
    assert_eq!(
        [department("one"), department("two"), department("free")],
        [limits("5/week"), limits("3/week"), vec![]]
    );
    assert_eq!([channel("c"), channel("d")], [limits("7/week"), vec![]]);
    assert_eq!(config.budget.zone.iana_name(), Some("Europe/Berlin"));
}

#[test]
fn a_budget_is_of_several_windows_and_units() {
    let text = "[budget]\nuser = \"2.00, 20000 tokens/hour,10 requests/minute\"\nthresholds = [90, 50, 90]\nrefusal = \"Not now.\"\n";
    let agent = "over_budget = \"human\"\nbudget = \"5000000 tokens/month\"\n";
    let (config, _) = load(&asking(text, agent)).unwrap();
    assert_eq!(config.budget.user, limits("2.00/day, 20000 tokens/hour, 10 requests/minute"));
    assert_eq!((config.budget.thresholds, config.budget.refusal.as_str()), (vec![50, 90], "Not now."));
    let hr = &config.agents[&AgentId::new("hr").unwrap()];
    assert_eq!((hr.budget.clone(), hr.over_budget_to_human), (limits("5000000 tokens/month"), true));
    // A call's tokens have to fit as its money has to.
    let (codes, shown) = doubts(&asking("", "budget = \"147 tokens/hour\"\n"));
    assert_eq!(codes, [Code::BudgetTooSmall], "{shown}");
    assert!(shown.contains("147 tokens, but a whole answer sets aside 148 tokens"), "{shown}");
}

#[test]
fn a_tier_has_a_cheaper_one() {
    let text = asking("[tier.cheap]\nchain = [\"a/free\"]\n", "tier = \"fast\"\n");
    let text = text.replace("max_output_tokens = 10\n", "max_output_tokens = 10\ncheaper = \"cheap\"\n");
    let (config, _) = load(&text).unwrap();
    let cheaper: Vec<_> = config.tiers.values().filter_map(|tier| tier.cheaper.clone()).collect();
    assert_eq!(cheaper, [TierId::new("cheap").unwrap()]);
}

#[test]
fn a_departments_and_a_channels_budget_have_to_pay_for_a_call() {
    let rest = "[department.d]\nbudget = \"0.0001\"\n";
    let codes = |budget: &str, agent: &str| match load(&asking(budget, agent)) {
        Ok(_) => Vec::new(),
        Err(error) => error.problems().iter().map(|problem| problem.code()).collect(),
    };
    assert_eq!(codes(rest, "department = \"d\"\n"), [Code::BudgetTooSmall]);
    assert_eq!(codes(rest, ""), [], "nobody who asks is in it");
    let channel = "[plugin.w]\nsource = \"builtin:webhook\"\n[plugin.n]\nsource = \"builtin:assistant\"\n[agent.other]\nplugin = \"n\"\n[channel.c]\nplugin = \"w\"\ndefault_agent = \"other\"\nbudget = \"0.0001\"\n[channel.e]\nplugin = \"w\"\n[routing]\nfallback = \"hr\"\n";
    assert_eq!(codes(channel, ""), [Code::BudgetTooSmall]);
    assert_eq!(codes(channel, "reachable_from = [\"e\"]\n"), [], "nobody who asks is reached from there");
}

#[test]
fn a_budget_of_nobody_who_asks_is_not_doubted() {
    let text = asking("[budget]\nagent = \"0.000000001\"\n", "").replace("\"models\"", "\"memory\"");
    assert_eq!(doubts(&text).0, []);
}

#[test]
fn a_chain_is_as_long_as_the_gateway_asks() {
    let chain = |links: usize| {
        let links: Vec<String> = (0..links).map(|link| format!("\"a/{link}\"")).collect();
        let links = links.join(", ");
        load(&format!(
            "[provider.a]\nkind = \"scripted\"\nscript = \"builtin:demo\"\n[tier.fast]\nchain = [{links}]\n{BASE}"
        ))
    };
    let most = chela_gateway::defaults::ATTEMPTS_MAX;
    let (config, _) = chain(most).unwrap();
    assert_eq!(config.tiers[&TierId::new("fast").unwrap()].chain.len(), most);
    assert_eq!(chain(most + 1).map(|_| ()).unwrap_err().problems()[0].code(), Code::WrongValue);
    let guide = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/guide/models.md"));
    assert!(most == 8 && guide.contains("at most eight models; the last is asked too"));
}

#[test]
fn two_addresses_may_share_a_port() {
    for (public, admin) in [("10.0.0.1:80", "127.0.0.1:80"), ("0.0.0.0:0", "127.0.0.1:0")] {
        load(&format!("[server]\npublic = \"{public}\"\nadmin = \"{admin}\"\n{BASE}")).unwrap();
    }
}

#[test]
fn two_configurations_have_two_digests() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let digest = |text: &str| load_in(folder.path(), text).unwrap().0.digest;
    assert_eq!(digest(BASE), digest(BASE));
    assert_ne!(digest(BASE), digest(&format!("{BASE}# changed\n")));
    let text = format!(
        "[provider.s]\nkind = \"scripted\"\nscript = \"say.toml\"\n[agent.x]\nplugin = \"assistant\"\npersona = \"file:persona.md\"\n{BASE}"
    );
    write("persona.md", "You are kind.\n");
    write("say.toml", "# a script\n");
    let before = digest(&text);
    assert_eq!(digest(&text), before);
    write("persona.md", "You are strict.\n");
    let strict = digest(&text);
    write("say.toml", "# another script\n");
    assert!(strict != before && digest(&text) != strict);
}

fn permit(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

const KEY: &str = "ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";

#[test]
fn what_nobody_signed_is_refused_where_reload_is_manual_unless_it_is_said() {
    let unsigned = |text: &str| load(&format!("{text}{BASE}")).unwrap().0.trust.unsigned;
    assert_eq!(unsigned(""), Unsigned::Worker);
    assert_eq!(unsigned("[swap]\nreload = \"manual\"\n"), Unsigned::Refused);
    assert_eq!(unsigned("[swap]\nreload = \"manual\"\n[trust]\nunsigned = \"worker\"\n"), Unsigned::Worker);
    assert_eq!(unsigned("[trust]\nunsigned = \"refuse\"\n"), Unsigned::Refused);
}

#[test]
fn signers_have_keys_and_departments() {
    let digest = "ab".repeat(32);
    let text = format!(
        "[trust]\nrevoked = [\"{digest}\"]\n[trust.signer.ada]\npublic = \"{KEY}\"\ndepartments = [\"people\"]\n[department.people]\n{BASE}"
    );
    let (config, warnings) = load(&text).unwrap();
    assert!(warnings.is_empty());
    let ada = &config.trust.keys[&KEY.parse().unwrap()];
    assert_eq!((ada.name.as_str(), ada.departments.as_ref().unwrap().len()), ("ada", 1));
    assert_eq!(config.trust.revoked_components.len(), 1);
    let doubted = format!("[trust]\nrevoked = [\"{KEY}\"]\n[trust.signer.ada]\npublic = \"{KEY}\"\n{BASE}");
    let (config, warnings) = load(&doubted).unwrap();
    assert_eq!((config.trust.revoked_keys.len(), warnings.len()), (1, 1));
}

#[test]
fn a_plugin_has_secrets_of_its_own() {
    let text = format!(
        "[plugin.p]\nsource = \"builtin:assistant\"\ngrants = [\"http\"]\nsecrets = {{ crm = \"env:SHOP_SIGNING_SECRET\" }}\n{BASE}"
    );
    let (config, _) = load(&text).unwrap();
    let secrets = &config.plugins[&PluginId::new("p").unwrap()].secrets;
    assert_eq!(secrets["crm"].expose_secret(), "hunter2-SHOP_SIGNING_SECRET");
}

/// Of a day, unless they say otherwise.
fn limits(text: &str) -> Vec<Limit> {
    text.split(',').map(|part| Limit::parse(part.trim(), Window::Day).unwrap()).collect()
}

#[test]
fn a_clients_key_opens_nothing_that_it_does_not_name() {
    let text = format!("[api_key.app]\nkey = \"env:A_KEY_THAT_IS_LONG_ENOUGH\"\n{BASE}");
    let (config, _) = load(&text).unwrap();
    let key = &config.api_keys["app"];
    assert!(!key.embeddings);
    assert!(key.agents.is_empty() && key.tiers.is_empty() && key.department.is_none());
    assert_eq!((key.user.as_str(), &key.budget), ("key:app", &config.budget.agent));
    assert_eq!((key.requests_per_minute, key.concurrency, key.cache), (120, 16, true));
    assert!(!format!("{config:?}").contains("hunter2"));
}
