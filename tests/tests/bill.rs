//! What the model provider bills, exported as its pages do, held against the ledger: beside a host that runs, and without
//! one.

use chela_server::standin::provider::Billed;
use chela_server::standin::webhook;
use chela_tests::kill::configuration;
use chela_tests::process::Process;
use chela_tests::{Outside, eventually};
use serde_json::Value;
use std::path::Path;

const HEADER: &str = "start_time,model,input_tokens,input_cached_tokens,output_tokens,num_model_requests";

/// A usage export, with so many times the output that was billed, under the name of a dated snapshot.
fn export(folder: &Path, bills: &[Billed], times: u64) -> String {
    let row = |bill: &Billed| {
        let (usage, second) = (bill.usage, bill.at.0 / 1_000);
        let output = usage.output.0 * times;
        format!("{second},{}-2026-07-18,{},{},{output},1", bill.model, usage.input, usage.cached)
    };
    let rows: Vec<String> = std::iter::once(HEADER.to_owned()).chain(bills.iter().map(row)).collect();
    let file = folder.join(format!("usage-{times}.csv"));
    std::fs::write(&file, rows.join("\r\n")).unwrap();
    file.display().to_string()
}

async fn run(process: &Process, arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = process.command(arguments).output().await.unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bill_is_held_against_the_ledger() {
    let outside = Outside::new().await;
    let mut process = Process::prepare(|folder| {
        std::fs::create_dir(folder.join("knowledge")).unwrap();
        std::fs::write(folder.join("knowledge/a.md"), "# A\n\nB.").unwrap();
        configuration(&outside)
    });
    process.start();
    process.ready().await;
    let say = webhook::Say { sender: "ann".into(), text: "an order".into(), ..webhook::Say::default() };
    outside.partner.say(&process.channel("partner"), &say).await.unwrap();
    eventually("it is delivered", async || run(&process, &["turn", "list"]).await.1.contains("delivered"))
        .await;
    let bills = outside.provider.bills().all();
    assert!(!bills.is_empty());
    let no_bill = process.folder().join("chela.toml").display().to_string();
    let (same, other) = (export(process.folder(), &bills, 1), export(process.folder(), &bills, 2));
    const fn command(file: &str) -> [&str; 6] {
        ["ledger", "reconcile", file, "--provider", "stand-in", "--json"]
    }
    for is_running in [true, false] {
        let (code, out, errors) = run(&process, &command(&same)).await;
        assert_eq!(code, Some(0), "{out}{errors}");
        let report: Value = serde_json::from_str(&out).unwrap();
        let day = &report["days"][0];
        assert_eq!((&day["calls"], &day["requests"]), (&bills.len().into(), &bills.len().into()), "{report}");
        assert_eq!(day["cost"], day["now"], "{report}");
        let (code, out, errors) = run(&process, &command(&other)).await;
        assert_eq!(code, Some(1), "{out}{errors}");
        assert!(out.contains("\"output\""), "{out}");
        let (code, page, _) = run(&process, &command(&other)[..5]).await;
        assert!(code == Some(1) && page.contains("output -50.0%") && page.contains("-2026-07-18"), "{page}");
        let (code, _, errors) = run(&process, &["ledger", "reconcile", &same, "--provider", "nobody"]).await;
        assert!(code == Some(1) && errors.contains("stand-in"), "{errors}");
        let (code, _, errors) = run(&process, &command(&no_bill)).await;
        assert!(code == Some(1) && errors.contains("lacks"), "{errors}");
        if is_running {
            assert!(process.log().contains("ledger_drift"), "{}", process.log());
            assert!(process.terminate().await);
        }
    }
}
