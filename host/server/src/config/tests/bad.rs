//! Bad configurations, each with the text that its author reads. The texts are in `snapshots/`.

use std::collections::BTreeSet;
use std::path::Path;

use super::super::{Code, FILE_BYTES_MAX};
use super::{BASE, env, load, load_in, snapshot};

/// Name, what stands above [`BASE`], and the codes that must come out, in the file's order.
const BAD: &[(&str, &str, &[Code])] = &[
    ("plugin-misused", "[routing]\nrouter = \"assistant\"\n", &[Code::PluginMisused]),
    (
        "tier-missing",
        "[plugin.m]\nsource = \"builtin:assistant\"\ngrants = [\"models\"]\n[agent.hr]\nplugin = \"m\"\n",
        &[Code::MissingKey],
    ),
    ("trust-no-key", "[trust.signer.ada]\npublic = \"ed25519:AAAA\"\n", &[Code::WrongValue]),
    (
        "trust-twice",
        "[trust.signer.ada]\npublic = \"ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"\n[trust.signer.bob]\npublic = \"ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"\n",
        &[Code::Duplicate],
    ),
    (
        "trust-department",
        "[trust.signer.ada]\npublic = \"ed25519:11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"\ndepartments = [\"salse\"]\n[department.sales]\n",
        &[Code::UnknownReference],
    ),
    ("trust-revoked", "[trust]\nrevoked = [\"ada\"]\n", &[Code::WrongValue]),
    ("trust-unsigned", "[trust]\nunsigned = \"refused\"\n", &[Code::WrongValue]),
    ("not-toml", "[server\npublic = 1\n", &[Code::Syntax]),
    ("duplicate-table", "[tier.a]\nchain = []\n[tier.a]\nchain = []\n", &[Code::Syntax]),
    (
        "agent-twice",
        "[agent.hr]\nplugin = \"assistant\"\n[agent.hr]\nplugin = \"assistant\"\n",
        &[Code::Syntax],
    ),
    ("unknown-table", "[agents.hr]\nplugin = \"assistant\"\n", &[Code::UnknownKey]),
    ("unknown-key", "[server]\nadmin_adress = \"127.0.0.1:1\"\n", &[Code::UnknownKey]),
    (
        "cache-conflict",
        "[agent.hr]\nplugin = \"assistant\"\nconfidential = true\ncache = \"similar\"\n",
        &[Code::CacheConflict],
    ),
    ("cache-share", "[cache]\nsimilar_error = \"2 %\"\n", &[Code::WrongValue]),
    ("unknown-key-far", "[cache]\ncolour = true\n", &[Code::UnknownKey]),
    (
        "several-at-once",
        "[server]\ndrain = 5\nmax_turns = 0\n\n[tier.fast]\nmax_output_tokens = \"many\"\n",
        &[Code::UnknownKey, Code::WrongValue, Code::MissingKey, Code::WrongType],
    ),
    ("provider-without-kind", "[provider.a]\nkey = \"env:KEY\"\n", &[Code::MissingKey]),
    ("wrong-choice", "[provider.a]\nkind = \"open-ai\"\n", &[Code::WrongValue]),
    ("timeout-zero", "[egress]\nconnect_timeout_s = 0\n", &[Code::WrongValue]),
    ("number-too-large", "[limits.agent]\nmemory_bytes = 99999999999999999999\n", &[Code::WrongValue]),
    ("number-as-float", "[delivery]\ntries = 1e308\n", &[Code::WrongType]),
    ("not-finite", "[plugin.p]\nsource = \"builtin:p\"\nconfig = { x = nan }\n", &[Code::WrongValue]),
    ("address", "[server]\npublic = \"localhost\"\n", &[Code::WrongValue]),
    (
        "bad-name",
        "[tier.\"Fast one\"]\nchain = [\"a/b\"]\n[provider.a]\nkind = \"scripted\"\nscript = \"builtin:demo\"\n",
        &[Code::BadName],
    ),
    ("name-reserved", "[plugin.chela-terminal]\nsource = \"builtin:web-chat\"\n", &[Code::BadName]),
    (
        "channel-name-reserved",
        "[channel.chela-web]\nplugin = \"chat\"\ndefault_agent = \"sales\"\n[plugin.chat]\nsource = \"builtin:web-chat\"\n",
        &[Code::BadName],
    ),
    (
        "same-port-of-all",
        "[server]\npublic = \"0.0.0.0:8081\"\nadmin = \"127.0.0.1:8081\"\n",
        &[Code::Duplicate],
    ),
    (
        "same-port-of-all-admin",
        "[server]\npublic = \"127.0.0.1:8081\"\nadmin = \"[::]:8081\"\nadmin_allow_public = true\n",
        &[Code::Duplicate],
    ),
    ("same-address", "[server]\npublic = \"127.0.0.1:8081\"\n", &[Code::Duplicate]),
    ("admin-public", "[server]\nadmin = \"0.0.0.0:8081\"\n", &[Code::AdminPublic]),
    ("postgres", "[store]\nurl = \"postgres://db/chela\"\n", &[Code::NotYetServed]),
    ("unknown-store", "[store]\nurl = \"mysql:chela\"\n", &[Code::WrongValue]),
    ("store-escapes", "[store]\nurl = \"sqlite:../data\"\n", &[Code::PathEscapes]),
    (
        "timeouts-crossed",
        "[egress]\nconnect_timeout_s = 40\ntotal_timeout_s = 30\n",
        &[Code::TimeoutConflict],
    ),
    (
        "models-outlast-agent",
        "[limits.agent]\ndeadline_ms = 180000\n[plugin.m]\nsource = \"builtin:assistant\"\ngrants = [\"models\"]\n[agent.hr]\nplugin = \"m\"\n[provider.a]\nkind = \"scripted\"\nscript = \"builtin:demo\"\n[tier.fast]\nchain = [\"a/b\"]\n",
        &[Code::TimeoutConflict],
    ),
    ("too-much-at-once", "[server]\nrequests_max = 9900\n", &[Code::WrongValue]),
    ("deadline-over-lease", "[limits.router]\ndeadline_ms = 20000\n", &[Code::TimeoutConflict]),
    (
        "plugin-deadline-over-lease",
        "[plugin.chat]\nsource = \"builtin:web-chat\"\nlimits = { deadline_ms = 15000 }\n[channel.web]\nplugin = \"chat\"\ndefault_agent = \"sales\"\n[plugin.keyword]\nsource = \"builtin:keyword\"\n[plugin.keyword.limits]\ndeadline_ms = 20000\n[routing]\nrouter = \"keyword\"\n",
        &[Code::TimeoutConflict, Code::TimeoutConflict],
    ),
    (
        "first-token-over-total",
        "[provider.a]\nkind = \"scripted\"\nscript = \"builtin:demo\"\ntotal_timeout_s = 30\n[provider.b]\nkind = \"scripted\"\nscript = \"builtin:demo\"\n[tier.fast]\nchain = [\"a/x\", \"b/x\", \"a/y\"]\nfirst_token_s = 60\n",
        &[Code::TimeoutConflict],
    ),
    ("backoff-crossed", "[delivery]\nbackoff_min_s = 400\n", &[Code::TimeoutConflict]),
    ("notice-empty", "[delivery]\nnotice = \" \"\n", &[Code::WrongValue]),
    ("secret-inline", "[provider.a]\nkind = \"openai\"\nkey = \"hunter2\"\n", &[Code::SecretInline]),
    (
        "secret-as-variable",
        "[provider.a]\nkind = \"openai\"\nkey = \"env:sk-hunter2\"\n",
        &[Code::SecretInline],
    ),
    (
        "secret-in-url",
        "[provider.a]\nkind = \"openai\"\nurl = \"https://me:hunter2@a.b\"\n",
        &[Code::SecretInline],
    ),
    (
        "secret-under-wrong-key",
        "[provider.a]\nkind = \"openai\"\nkay = \"sk-hunter2\"\nkey = \"env:KEY\"\n",
        &[Code::UnknownKey],
    ),
    ("secret-as-list", "[provider.a]\nkind = \"openai\"\nkey = [\"hunter2\"]\n", &[Code::WrongType]),
    ("secret-in-broken-file", "[provider.a]\nkey = \"hunter2\n", &[Code::Syntax]),
    ("variable-unset", "[provider.a]\nkind = \"openai\"\nkey = \"env:UNSET\"\n", &[Code::SecretMissing]),
    ("variable-empty", "[server]\nadmin_token = \"env:EMPTY\"\n", &[Code::SecretMissing]),
    ("secret-file-missing", "[server]\nadmin_token = \"file:token\"\n", &[Code::SecretMissing]),
    ("key-missing", "[provider.a]\nkind = \"anthropic\"\n", &[Code::MissingKey]),
    (
        "key-over-http",
        "[provider.a]\nkind = \"openai\"\nurl = \"http://models.example/v1\"\nkey = \"env:KEY\"\n",
        &[Code::InsecureUrl],
    ),
    (
        "loopback-denied",
        "[provider.a]\nkind = \"openai\"\nurl = \"http://127.0.0.1:11434/v1\"\n",
        &[Code::AddressDenied],
    ),
    (
        "private-denied",
        "[provider.a]\nkind = \"openai\"\nurl = \"https://192.168.1.5/v1\"\n",
        &[Code::AddressDenied],
    ),
    ("not-a-url", "[provider.a]\nkind = \"openai\"\nurl = \"models.example\"\n", &[Code::WrongValue]),
    (
        "script-for-openai",
        "[provider.a]\nkind = \"openai\"\nkey = \"env:KEY\"\nscript = \"builtin:demo\"\n",
        &[Code::WrongValue],
    ),
    (
        "wire-for-anthropic",
        "[provider.a]\nkind = \"anthropic\"\nkey = \"env:KEY\"\nwire = \"responses\"\n",
        &[Code::WrongValue],
    ),
    (
        "prompt-cache-for-openai",
        "[provider.a]\nkind = \"openai\"\nkey = \"env:KEY\"\nprompt_cache = false\n",
        &[Code::WrongValue],
    ),
    ("azure-nowhere", "[provider.a]\nkind = \"azure\"\nkey = \"env:KEY\"\n", &[Code::MissingKey]),
    (
        "azure-without-version",
        "[provider.a]\nkind = \"azure\"\nurl = \"https://a.openai.azure.com\"\nkey = \"env:KEY\"\n",
        &[Code::MissingKey],
    ),
    ("script-missing", "[provider.a]\nkind = \"scripted\"\n", &[Code::MissingKey]),
    (
        "script-not-there",
        "[provider.a]\nkind = \"scripted\"\nscript = \"demo.toml\"\n",
        &[Code::PathUnusable],
    ),
    (
        "script-unknown",
        "[provider.a]\nkind = \"scripted\"\nscript = \"builtin:dmo\"\n",
        &[Code::UnknownReference],
    ),
    (
        "price-negative",
        "[provider.a]\nkind = \"scripted\"\nscript = \"builtin:demo\"\nprice = { m = { input = \"-1\", output = \"1\" } }\n",
        &[Code::BadAmount],
    ),
    ("chain-empty", "[tier.fast]\nchain = []\n", &[Code::WrongValue]),
    (
        "chain-too-long",
        "[tier.fast]\nchain = [\"a/1\", \"a/2\", \"a/3\", \"a/4\", \"a/5\", \"a/6\", \"a/7\", \"a/8\", \"a/9\"]\n",
        &[Code::WrongValue],
    ),
    ("chain-without-slash", "[tier.fast]\nchain = [\"gpt-4o\"]\n", &[Code::WrongValue]),
    (
        "chain-twice",
        "[provider.openai]\nkind = \"openai\"\nkey = \"env:KEY\"\n[tier.fast]\nchain = [\"openai/gpt-4o\", \"openai/gpt-4o\"]\n",
        &[Code::Duplicate],
    ),
    (
        "chain-unknown-provider",
        "[provider.openai]\nkind = \"openai\"\nkey = \"env:KEY\"\n[tier.fast]\nchain = [\"opnai/gpt-4o\"]\n",
        &[Code::UnknownReference],
    ),
    (
        "price-unknown",
        "[provider.openai]\nkind = \"openai\"\nkey = \"env:KEY\"\n[tier.fast]\nchain = [\"openai/gpt-4o-mni\"]\n",
        &[Code::UnknownPrice],
    ),
    (
        "price-unknown-elsewhere",
        "[provider.own]\nkind = \"openai\"\nurl = \"https://models.example/v1\"\n[tier.fast]\nchain = [\"own/gpt-4o\"]\n",
        &[Code::UnknownPrice],
    ),
    ("budget-negative", "[budget]\nagent = \"-5\"\n", &[Code::BadAmount]),
    ("budget-zero", "[budget]\nuser = \"0.00\"\n", &[Code::BadAmount]),
    ("budget-endless", "[budget]\nglobal = \"1e308\"\n", &[Code::BadAmount]),
    ("budget-of-a-fortnight", "[budget]\nuser = \"2.00/day, 5/fortnight\"\n", &[Code::BadAmount]),
    ("budget-of-words", "[budget]\nuser = \"2000 words\"\n", &[Code::BadAmount]),
    ("budget-twice", "[budget]\nuser = \"2.00/day, 3.00\"\n", &[Code::BadAmount]),
    ("budget-threshold", "[budget]\nthresholds = [0, 101]\n", &[Code::WrongValue, Code::WrongValue]),
    (
        "tier-cheaper-unknown",
        "[provider.s]\nkind = \"scripted\"\nscript = \"builtin:demo\"\n[tier.smart]\nchain = [\"s/m\"]\ncheaper = \"fsat\"\n[tier.fast]\nchain = [\"s/m\"]\n",
        &[Code::UnknownReference],
    ),
    (
        "tier-cheaper-round",
        "[provider.s]\nkind = \"scripted\"\nscript = \"builtin:demo\"\n[tier.smart]\nchain = [\"s/m\"]\ncheaper = \"fast\"\n[tier.fast]\nchain = [\"s/m\"]\ncheaper = \"smart\"\n",
        &[Code::WrongValue, Code::WrongValue],
    ),
    ("budget-words", "[budget]\nglobal = \"a lot\"\n", &[Code::BadAmount]),
    ("budget-zone", "[budget]\ntime_zone = \"Europe/Berln\"\n", &[Code::WrongValue]),
    ("budget-zone-far", "[budget]\ntime_zone = \"my place\"\n", &[Code::WrongValue]),
    ("budget-of-a-department", "[department.d]\nbudget = \"none\"\n", &[Code::BadAmount]),
    ("budget-as-number", "[budget]\nglobal = 5.5\n", &[Code::WrongType]),
    (
        "budget-too-small",
        "[budget]\nuser = \"0.0001\"\n[provider.a]\nkind = \"anthropic\"\nkey = \"env:KEY\"\n[tier.fast]\nchain = [\"a/claude-haiku-4-5\"]\n[tier.smart]\nchain = [\"a/claude-sonnet-4-5\", \"a/claude-haiku-4-5\"]\n[plugin.m]\nsource = \"builtin:assistant\"\ngrants = [\"models\"]\n[agent.hr]\nplugin = \"m\"\ntier = \"smart\"\nbudget = \"0.0002\"\n[agent.legal]\nplugin = \"m\"\ntier = \"fast\"\ntiers_allowed = [\"smart\"]\n",
        &[Code::BudgetTooSmall, Code::BudgetTooSmall],
    ),
    ("plugin-unknown-far", "[plugin.p]\nsource = \"builtin:p\"\n", &[Code::UnknownReference]),
    ("plugin-unknown", "[plugin.p]\nsource = \"builtin:asistant\"\n", &[Code::UnknownReference]),
    ("plugin-escapes", "[plugin.p]\nsource = \"../p\"\n", &[Code::PathEscapes]),
    ("plugin-not-there", "[plugin.p]\nsource = \"plugins/p\"\n", &[Code::PathUnusable]),
    (
        "grant-unknown",
        "[plugin.p]\nsource = \"builtin:p\"\ngrants = [\"model\", \"sockets\"]\n",
        &[Code::WrongValue, Code::WrongValue],
    ),
    ("isolation-word", "[plugin.p]\nsource = \"builtin:p\"\nisolation = \"process\"\n", &[Code::WrongValue]),
    (
        "agent-references",
        "[agent.hr]\nplugin = \"asistant\"\ntier = \"fast\"\ndepartment = \"people\"\nreachable_from = [\"slack\", \"slack/\"]\n",
        &[
            Code::UnknownReference,
            Code::UnknownReference,
            Code::UnknownReference,
            Code::UnknownReference,
            Code::WrongValue,
        ],
    ),
    (
        "persona-escapes",
        "[agent.hr]\nplugin = \"assistant\"\npersona = \"file:/etc/../etc/passwd\"\n",
        &[Code::PathEscapes],
    ),
    ("knowledge-empty", "[agent.hr]\nplugin = \"assistant\"\nknowledge = \"\"\n", &[Code::PathEscapes]),
    (
        "no-default-agent",
        "[channel.web]\nplugin = \"chat\"\n[plugin.chat]\nsource = \"builtin:web-chat\"\n",
        &[Code::NoDefaultAgent],
    ),
    (
        "default-agent-unknown",
        "[channel.web]\nplugin = \"chat\"\ndefault_agent = \"sale\"\n[plugin.chat]\nsource = \"builtin:web-chat\"\n",
        &[Code::UnknownReference],
    ),
    (
        "router-unknown",
        "[routing]\nrouter = \"keywords\"\nfallback = \"sails\"\n",
        &[Code::UnknownReference, Code::UnknownReference],
    ),
    (
        "default-unreachable",
        "[channel.web]\nplugin = \"chat\"\ndefault_agent = \"hr\"\n[channel.slack]\nplugin = \"chat\"\ndefault_agent = \"hr\"\n[agent.hr]\nplugin = \"assistant\"\nreachable_from = [\"slack\"]\n[plugin.chat]\nsource = \"builtin:web-chat\"\n",
        &[Code::DefaultUnreachable],
    ),
    (
        "department-rule-once",
        "[department.people]\nreachable_from = [\"slak\"]\n[agent.a]\nplugin = \"assistant\"\ndepartment = \"people\"\n[agent.b]\nplugin = \"assistant\"\ndepartment = \"people\"\n[channel.slack]\nplugin = \"chat\"\ndefault_agent = \"sales\"\n[plugin.chat]\nsource = \"builtin:web-chat\"\n",
        &[Code::UnknownReference],
    ),
    ("swap-word", "[swap]\nreload = \"manuel\"\n", &[Code::WrongValue]),
    (
        "swap-numbers",
        "[swap]\npoll_s = 0\ntrial_calls = 1001\nwatch_s = 86401\nmin_calls = 0\nmin_failures = 0\nfailure_percent = 101\nlatency_factor = 0.99\nlatency_floor_ms = 0\ndrift_percent = 0\ndrift_min_calls = 0\nshadow_in_flight = 0\nshadow_percent = 101\nshadow_examples = 201\npromote_after = 1000001\npromote_differences_percent = -1\nkeep_days = 0\n",
        &[Code::WrongValue; 16],
    ),
    (
        "swap-types",
        "[swap]\nlatency_factor = \"3\"\nshadow_models = 1\ntrial_calls = 1.5\n",
        &[Code::WrongType; 3],
    ),
    ("swap-no-number", "[swap]\nlatency_factor = nan\n", &[Code::WrongValue]),
    ("swap-unknown-key", "[swap]\nshadow_percents = 5\n", &[Code::UnknownKey]),
    ("retention-numbers", "[retention]\nwords_days = 0\n", &[Code::WrongValue]),
    ("budget-shadow-zero", "[budget]\nshadow = \"0\"\n", &[Code::BadAmount]),
    (
        "api-key-inline",
        "[api_key.app]\nkey = \"hunter2-hunter2-hunter2-hunter2-hunter2\"\n",
        &[Code::SecretInline],
    ),
    ("api-key-short", "[api_key.app]\nkey = \"env:TOO_SHORT_FOR_A_KEY\"\n", &[Code::SecretShort]),
    (
        "api-key-shared",
        "[api_key.one]\nkey = \"env:A_KEY_THAT_IS_LONG_ENOUGH\"\n[api_key.two]\nkey = \"env:A_KEY_THAT_IS_LONG_ENOUGH\"\n",
        &[Code::Duplicate],
    ),
    (
        "api-key-unknown",
        "[api_key.app]\nkey = \"env:A_KEY_THAT_IS_LONG_ENOUGH\"\ndepartment = \"salse\"\nagents = [\"sale\"]\ntiers = [\"fast\"]\nbudget = \"much\"\n",
        &[Code::UnknownReference, Code::UnknownReference, Code::UnknownReference, Code::BadAmount],
    ),
    (
        "operator-needs",
        "[operator.ann]\nrights = [\"read\"]\n[operator.bob]\ntoken = \"env:BOBS_LONG_TOKEN\"\n",
        &[Code::MissingKey, Code::MissingKey],
    ),
    (
        "operator-rights",
        "[operator.ann]\ntoken = \"env:ANNS_LONG_TOKEN\"\nrights = []\n[operator.bob]\ntoken = \"env:BOBS_LONG_TOKEN\"\nrights = [\"reed\"]\n",
        &[Code::WrongValue, Code::WrongValue],
    ),
    (
        "operator-right-twice",
        "[operator.ann]\ntoken = \"env:ANNS_LONG_TOKEN\"\nrights = [\"read\", \"operate\", \"read\"]\n",
        &[Code::Duplicate],
    ),
    (
        "operator-token-inline",
        "[operator.ann]\ntoken = \"hunter2-hunter2-hunter2\"\nrights = [\"read\"]\n",
        &[Code::SecretInline],
    ),
    (
        "operator-token-short",
        "[server]\nadmin_token = \"env:SHORT\"\n[operator.ann]\ntoken = \"env:SHORT\"\nrights = [\"read\"]\n",
        &[Code::SecretShort, Code::SecretShort],
    ),
    (
        "operator-token-shared",
        "[server]\nadmin_token = \"env:ONE_LONG_TOKEN\"\n[operator.ann]\ntoken = \"env:ONE_LONG_TOKEN\"\nrights = [\"read\"]\n[operator.bob]\ntoken = \"env:TWO_LONG_TOKEN\"\nrights = [\"read\"]\n[operator.eve]\ntoken = \"env:TWO_LONG_TOKEN\"\nrights = [\"operate\"]\n",
        &[Code::Duplicate, Code::Duplicate],
    ),
    (
        "operator-name",
        "[operator.admin]\ntoken = \"env:ONE_LONG_TOKEN\"\nrights = [\"read\"]\n[operator.\"Ann B\"]\ntoken = \"env:TWO_LONG_TOKEN\"\nrights = [\"read\"]\n",
        &[Code::BadName, Code::BadName],
    ),
];

#[test]
fn each_mistake_is_explained_where_it_stands() {
    for (name, text, codes) in BAD {
        let error = load(&format!("{text}\n{BASE}")).map(|_| name).unwrap_err();
        let shown = error.render(100, false);
        let found: Vec<Code> = error.problems().iter().map(|problem| problem.code()).collect();
        assert_eq!(found, *codes, "{name}\n{shown}");
        assert!(!shown.contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{name}\n{shown}");
        snapshot(name, &shown);
    }
}

#[test]
fn what_is_missing_may_come() {
    let error =
        load(&format!("[plugin.p]\nsource = \"plugins/p\"\n[server]\nadmin_token = \"file:token\"\n{BASE}"));
    let error = error.map(|_| ()).unwrap_err();
    assert!(error.is_missing());
    let ends = |end: &str| error.paths().iter().any(|path| path.ends_with(end));
    assert!(ends("plugins/p") && ends("token"), "{:?}", error.paths());
    assert!(!load("[server]\ndrain = 5\n").map(|_| ()).unwrap_err().is_missing());
}

#[test]
fn a_file_without_an_agent_is_refused() {
    for text in ["", "\n\n", "# nothing\n"] {
        let error = load(text).map(|_| ()).unwrap_err();
        assert_eq!(error.problems()[0].code(), Code::NoAgent);
    }
    snapshot("empty", &load("").map(|_| ()).unwrap_err().render(100, false));
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.toml");
    std::fs::File::create(&large).unwrap().set_len(FILE_BYTES_MAX + 1).unwrap();
    let binary = folder.path().join("binary.toml");
    std::fs::write(&binary, b"[server]\n\xff").unwrap();
    let cases = [
        (folder.path().join("absent.toml"), "not found"),
        (folder.path().into(), "not a file"),
        (large, "larger"),
        (binary, "byte 9"),
    ];
    for (path, words) in cases {
        let error = super::super::load(&path, &env).map(|_| ()).unwrap_err();
        let shown = error.render(200, false);
        assert_eq!(error.problems()[0].code(), Code::Unreadable);
        assert!(shown.contains(words) && shown.contains(&path.display().to_string()), "{shown}");
    }
}

#[test]
fn a_link_out_of_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), folder.path().join("p")).unwrap();
    std::fs::create_dir(folder.path().join("q")).unwrap();
    let plugin = |name: &str| format!("[plugin.p]\nsource = \"{name}\"\n{BASE}");
    let error = load_in(folder.path(), &plugin("p")).map(|_| ()).unwrap_err();
    assert_eq!(error.problems()[0].code(), Code::PathEscapes);
    snapshot("link-escapes", &error.render(100, false));
    load_in(folder.path(), &plugin("q")).unwrap();
    load_in(folder.path(), &plugin(&elsewhere.path().display().to_string())).unwrap();
}

#[test]
fn a_link_to_what_is_not_there_yet_is_followed_too() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, folder.path().join(name)).unwrap();
    link(elsewhere.path(), "out");
    link(&elsewhere.path().join("gone"), "nowhere");
    std::fs::create_dir(folder.path().join("data")).unwrap();
    link(Path::new("data"), "in");
    let store = |url: &str| load_in(folder.path(), &format!("[store]\nurl = \"sqlite:{url}\"\n{BASE}"));
    for url in ["out/new", "out/new/deeper", "nowhere", "nowhere/new"] {
        let error = store(url).map(|_| url).unwrap_err();
        assert_eq!(error.problems()[0].code(), Code::PathEscapes, "{url}");
    }
    for url in ["in/new", "data/new/deeper", "new"] {
        store(url).unwrap_or_else(|error| panic!("{url}: {}", error.render(100, false)));
    }
    snapshot("store-link-escapes", &store("out/new").map(|_| ()).unwrap_err().render(100, false));
}

/// Depth is the parser's to refuse, before anything here descends: it would come to the end of the stack.
#[test]
fn endless_depth_is_refused() {
    const DEPTH: usize = 10_000;
    let lists = format!("x = {}\n{BASE}", "[".repeat(DEPTH));
    let closed = format!("x = {}{}\n{BASE}", "[".repeat(DEPTH), "]".repeat(DEPTH));
    let key = format!("{}x = 1\n{BASE}", "a.".repeat(DEPTH - 1));
    let header = format!("[{}x]\n{BASE}", "a.".repeat(DEPTH - 1));
    for text in [lists, closed, key, header] {
        let error = load(&text).map(|_| ()).unwrap_err();
        let codes: Vec<Code> = error.problems().iter().map(|problem| problem.code()).collect();
        assert_eq!(codes, [Code::Syntax], "{error:?}");
    }
}

#[test]
fn every_code_is_met_by_a_test() {
    let errors = BAD.iter().flat_map(|(_, _, codes)| codes.iter().copied());
    let elsewhere = [
        Code::NoAgent,
        Code::Unreadable,
        Code::SecretExposed,
        Code::SecretInConfig,
        Code::AgentUnreachable,
        Code::GrantMissing,
    ];
    let met: BTreeSet<Code> = errors.chain(elsewhere).collect();
    let all: BTreeSet<Code> = Code::ALL.iter().copied().collect();
    assert_eq!(met, all);
}
