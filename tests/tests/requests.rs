//! Requests that agents send, and files that they keep: only where the manifest says, with credentials that no plugin sees,
//! once, whatever crashes.

use std::time::Duration;

use chela_sandbox::Grant;
use chela_store::{TurnRecord, TurnState};
use chela_tests::shop::Shop;
use chela_tests::{Host, Outside, Setup, eventually, host};
use serde_json::json;

const SECRET: &str = "crm-s3cr3t-t0ken";

/// A host whose agent sends requests to a shop, and does what the first word of a message says.
fn asking(outside: &Outside, shop: &Shop) -> Setup {
    host(outside).agent("support", "agent").webhook("partner", "support").with_plugin("agent", |plugin| {
        plugin.grants = [Grant::Http, Grant::Blobs, Grant::Models, Grant::Memory].into_iter().collect();
        plugin.config = json!({ "shop": shop.url() }).as_object().unwrap().clone();
        plugin.limits.output_bytes = 8 << 20;
        plugin.secrets = [("crm_token".to_owned(), SECRET.into())].into();
    })
}

async fn record(host: &Host, outside: &Outside, text: &str) -> TurnRecord {
    host.partner_says(outside, text, text).await;
    host.closed(text).await
}

/// What the agent says that it was told.
async fn said(host: &Host, outside: &Outside, text: &str) -> String {
    let record = record(host, outside, text).await;
    assert_eq!(record.state, TurnState::Delivered, "{record:?}");
    record.reply.expect("an answer").text
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_where_the_manifest_says_with_a_credential_that_nobody_sees() {
    let (outside, shop) = (Outside::new().await, Shop::open().await);
    for setup in [asking(&outside, &shop).in_process(), asking(&outside, &shop).in_workers()] {
        let before = shop.asked().len();
        let host = setup.run().await;
        let url = shop.url();
        let text = format!("fetch POST {url}/orders/7 credential=crm header=x-kind:test body=two-chairs");
        assert_eq!(said(&host, &outside, &text).await, "200 POST /orders/7 test two-chairs");
        let asked = shop.asked().pop().unwrap();
        assert_eq!((asked.authorization, asked.body), (format!("Bearer {SECRET}"), "two-chairs".to_owned()));

        assert_eq!(
            said(&host, &outside, &format!("fetch GET {url}/public/x?q=1")).await,
            "200 GET /public/x?q=1  "
        );
        assert_eq!(shop.asked().pop().unwrap().authorization, "");
        assert_eq!(
            said(&host, &outside, &format!("fetch GET {url}/orders/missing")).await,
            "404 no such order"
        );
        // An answer like any other; nobody follows it.
        assert_eq!(said(&host, &outside, &format!("fetch GET {url}/orders/redirect")).await.trim(), "302");
        assert_eq!(shop.asked().len(), before + 4);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_manifest_does_not_list_is_refused_and_nothing_leaves() {
    let (outside, shop) = (Outside::new().await, Shop::open().await);
    let host = asking(&outside, &shop).run().await;
    let url = shop.url();
    let port = url.rsplit(':').next().unwrap();
    for request in [
        format!("DELETE {url}/orders/7"),
        format!("GET {url}/admin"),
        format!("GET {url}/orders/..%2fadmin"),
        format!("GET {url}/public/x credential=crm"),
        format!("GET {url}/orders/7 credential=bank"),
        format!("GET {url}/orders/7 header=authorization:mine"),
        format!("GET {url}/orders/7 header=range:bytes=0-3"),
        format!("GET http://somebody@127.0.0.1:{port}/orders/7"),
        format!("GET http://localhost:{port}/orders/7"),
        format!("GET http://[::ffff:127.0.0.1]:{port}/orders/7"),
        format!("GET http://0177.0.0.2:{port}/orders/7"),
        format!("GET http://127.0.0.1.:{port}/orders/../admin"),
        "GET http://169.254.169.254/latest".to_owned(),
        "GET file:///etc/passwd".to_owned(),
    ] {
        let told = said(&host, &outside, &format!("fetch {request}")).await;
        assert!(told.contains("Invalid("), "{request}: {told}");
    }
    assert_eq!(shop.asked(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_address_is_refused_where_the_manifest_itself_names_it() {
    let (outside, shop) = (Outside::new().await, Shop::open().await);
    let setup = asking(&outside, &shop).with_plugin("agent", |plugin| {
        plugin.config = json!({ "shop": "http://10.1.2.3" }).as_object().unwrap().clone();
    });
    let host = setup.run().await;
    let told = said(&host, &outside, "fetch GET http://10.1.2.3/orders/7").await;
    assert!(told.contains("private network"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_neither_leaves_nor_comes_back() {
    let (outside, shop) = (Outside::new().await, Shop::open().await);
    let host = asking(&outside, &shop).run().await;
    let url = shop.url();
    let hex: String = SECRET.bytes().map(|byte| format!("{byte:02x}")).collect();
    let backwards: String = SECRET.chars().rev().collect();
    // Somebody told the agent; and a key of a model provider, which no plugin has.
    for body in [SECRET, &hex, &backwards, chela_tests::outside::PROVIDER_KEY] {
        let told = said(&host, &outside, &format!("fetch POST {url}/orders/7 body={body}")).await;
        assert!(told.contains("holds a secret of this host"), "{told}");
    }
    let told = said(&host, &outside, &format!("fetch GET {url}/orders/7?q={SECRET}")).await;
    assert!(told.contains("holds a secret of this host"), "{told}");
    assert_eq!(shop.asked(), []);
    for what in ["mirror", "mirror-header"] {
        let told = said(&host, &outside, &format!("fetch GET {url}/orders/{what} credential=crm")).await;
        assert!(told.contains("the answer of") && told.contains("holds a secret of this host"), "{told}");
        // Without the credential there is nothing to hide.
        assert!(said(&host, &outside, &format!("fetch GET {url}/orders/{what}")).await.starts_with("200"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_bounded_obeyed_and_violated() {
    let (outside, shop) = (Outside::new().await, Shop::open().await);
    let host = asking(&outside, &shop).run().await;
    let told = said(&host, &outside, &format!("fetch GET {}/orders/large", shop.url())).await;
    assert!(told.contains("Limit(") && told.contains("1048576"), "{told}");
    assert!(
        said(&host, &outside, &format!("fetch GET {}/orders/cookie", shop.url())).await.starts_with("200")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_secret_is_said_at_the_start_and_not_at_the_first_request() {
    let (outside, shop) = (Outside::new().await, Shop::open().await);
    let setup = asking(&outside, &shop).with_plugin("agent", |plugin| plugin.secrets.clear());
    let why = setup.clone().try_run().await.expect_err("it is refused").to_string();
    assert!(why.contains("[plugin.agent]") && why.contains("crm_token"), "{why}");
    // Whoever may send nothing needs no secret.
    setup
        .with_plugin("agent", |plugin| plugin.grants = [Grant::Memory, Grant::Models].into_iter().collect())
        .run()
        .await;
}

/// Somebody asks for what hangs; the host crashes meanwhile and starts again.
async fn crashed_in(method: &str) -> (usize, String) {
    let (outside, shop) = (Outside::new().await, Shop::open().await);
    let setup = asking(&outside, &shop).with_plugin("agent", |plugin| {
        plugin.limits.deadline = Duration::from_secs(4);
    });
    let host = setup.run().await;
    let text = format!("fetch {method} {}/orders/hang", shop.url());
    host.partner_says(&outside, "t", &text).await;
    eventually("the shop is asked", async || !shop.asked().is_empty()).await;
    let host = host.crash().restart().await;
    if method == "GET" {
        eventually("the shop is asked again", async || shop.asked().len() > 1).await;
        return (shop.asked().len(), String::new());
    }
    let record = host.closed(&text).await;
    (shop.asked().len(), record.reply.expect("an answer").text)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_changes_something_is_not_sent_again_after_a_crash() {
    let (times, told) = crashed_in("POST").await;
    assert_eq!(times, 1);
    assert!(told.contains("whether it was carried out is not known"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_reads_is_sent_again_after_a_crash() {
    assert_eq!(crashed_in("GET").await.0, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_kept_and_read_in_its_conversation_alone() {
    let (outside, shop) = (Outside::new().await, Shop::open().await);
    for setup in [asking(&outside, &shop).in_process(), asking(&outside, &shop).in_workers()] {
        let host = setup.run().await;
        let told = said(&host, &outside, "file 200000").await;
        assert!(told.ends_with("200000 bytes, true"), "{told}");
        let handle = told.split(' ').next().unwrap().to_owned();
        let text = format!("file-read {handle}");
        host.partner_says(&outside, "file 200000", &text).await;
        assert_eq!(host.closed(&text).await.reply.unwrap().text, "x".repeat(64 << 10));
        // The same handle in the mouth of somebody else.
        let stolen = format!("file-read {handle} ");
        assert!(said(&host, &outside, &stolen).await.contains("no file of this handle"));
        assert!(said(&host, &outside, "file-read file-0000").await.contains("no file of this handle"));
        let large = said(&host, &outside, &format!("file {}", (4 << 20) + 1)).await;
        assert!(large.contains("at most 4194304 bytes"), "{large}");
    }
}
