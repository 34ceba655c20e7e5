//! Departments share a host: who floods his own agents, or waits for a model that hangs, keeps nobody else waiting.

use std::time::Duration;

use chela_server::standin::Fault;
use chela_server::standin::slack::Say;
use chela_store::TurnState;
use chela_tests::{Outside, Setup, eventually, host};
use chela_types::DepartmentId;

const HOUR: Duration = Duration::from_secs(3_600);
const PLACES: usize = 8;

/// Two departments with a channel each, on a host that runs few turns at once.
fn two_departments(outside: &Outside) -> Setup {
    host(outside)
        .agent("sales", "agent")
        .agent("hr", "agent")
        .with_agent("sales", |agent| agent.department = Some(DepartmentId::new("sales").unwrap()))
        .with_agent("hr", |agent| agent.department = Some(DepartmentId::new("people").unwrap()))
        .webhook("partner", "sales")
        .slack("slack", "hr")
        .billed_model(outside)
        .turns_max(PLACES)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_department_whose_turns_all_hang_leaves_places_for_the_others() {
    let outside = Outside::new().await;
    outside.provider.faults().inject(&Fault::Delay(HOUR), 1_000);
    let host = two_departments(&outside).run().await;
    for number in 0..PLACES * 3 {
        host.partner_says(&outside, &format!("t{number}"), &format!("model order {number}")).await;
    }
    eventually("the flood has all that it may have", async || {
        host.store.counts().await.unwrap().leased == PLACES as u64 - 1
    })
    .await;
    for number in 0..3 {
        let text = format!("echo {number}");
        let (channel, user) = ("C0PUBLIC".to_owned(), format!("U{number}"));
        host.slack_says(&outside, &Say { channel, user, text: text.clone(), ..Say::default() }).await;
        assert_eq!(host.closed(&text).await.state, TurnState::Delivered);
    }
    let counts = host.store.counts().await.unwrap();
    assert_eq!((counts.leased, counts.waiting > 0), (PLACES as u64 - 1, true), "{counts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_a_department_has_all_places_but_those_that_are_kept_and_nothing_is_lost() {
    let outside = Outside::new().await;
    let host = two_departments(&outside).run().await;
    for number in 0..60 {
        host.partner_says(&outside, &format!("t{number}"), &format!("echo {number}")).await;
    }
    host.drained().await;
    assert_eq!(outside.partner.replies().all().len(), 60);
}
