//! No byte of a tenant reaches another one, whatever they ask at the same time.

use super::alike_tests::{at, desk, with};
use super::*;
use chela_lexical::Rule;
use chela_types::TenantId;
use futures::future::join_all;

const LEVELS: [CacheLevel; 3] = [CacheLevel::Exact, CacheLevel::Canonical, CacheLevel::Similar];
const EACH: usize = 500;
const TENANTS: [&str; 2] = ["north", "south"];

/// Questions that both tenants ask, in several forms, some of them with the tenant's own word.
fn question(number: usize, tenant: &str) -> String {
    let canary = format!("canary{tenant}");
    match number % 8 {
        0 => "How do I reset my password?".to_owned(),
        1 => "hi, how can I reset my passwords please".to_owned(),
        2 => "Which browsers are supported by the portal?".to_owned(),
        3 => "What browsers are supported by the portal?".to_owned(),
        4 => format!("What does {canary} cost?"),
        5 => format!("Hello, what does {canary} cost please"),
        6 => format!("What is the status of order {}?", number % 13),
        _ => format!("what's the status of order {} please", number % 13),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_byte_of_a_tenant_reaches_another() {
    let config = Cache { similar: Rule::new(0.5, 0.05), ..Cache::standard() };
    let desk = Arc::new(with(config, |call| format!("As canary{} knows.", call.tenant)));
    let tasks =
        (0..EACH).flat_map(|number| TENANTS.map(|tenant| (number, tenant))).map(|(number, tenant)| {
            let desk = Arc::clone(&desk);
            tokio::spawn(async move {
                let call = at(LEVELS[number % 3], &question(number * 7 + number / 3, tenant));
                let call = Call { tenant: TenantId::new(tenant).unwrap(), ..call };
                (tenant, desk.ask(call).await)
            })
        });
    let mut served = 0;
    for answer in join_all(tasks).await {
        let (tenant, completed) = answer.unwrap();
        assert_eq!(completed.text, format!("As canary{tenant} knows."));
        served += u32::from(!completed.call.cache.is_asked());
    }
    assert!(served > 500, "most are answered by what is kept: {served}");
    for (tenant, other) in [("north", "south"), ("south", "north")] {
        let id = TenantId::new(tenant).unwrap();
        let stock = serde_json::to_string(&desk.kept().stock(&id).await).unwrap();
        assert!(!stock.contains("canary"), "{stock}");
        for level in LEVELS {
            for number in 0..16 {
                let asked = question(number, other);
                let agent = crate::cache::tests::on().agent;
                let explained = desk.kept().explain((&id, &agent), (&asked, level), true).await;
                let shown = serde_json::to_string(&explained).unwrap();
                assert!(!shown.contains(&format!("canary{other}")), "{tenant} sees {shown}");
            }
        }
    }
}

/// What a tenant evicts is its own.
#[tokio::test]
async fn a_tenant_evicts_nothing_of_another() {
    let desk = desk(|call| call.tenant.to_string());
    let of = |tenant: &str| Call { tenant: TenantId::new(tenant).unwrap(), ..at(CacheLevel::Exact, "Why?") };
    for tenant in TENANTS {
        desk.ask(of(tenant)).await;
    }
    let hit = desk.ask(of("south")).await;
    let entry = hit.call.kept.unwrap().entry;
    let north = TenantId::new("north").unwrap();
    assert_eq!(desk.kept().evict(&north, &Evict::Entry(entry), true).await, Evicted::default());
    assert_eq!(desk.kept().evict(&north, &Evict::All, true).await.entries, 1);
    assert_eq!(desk.ask(of("south")).await.call.cache, CacheVerdict::Hit);
}
