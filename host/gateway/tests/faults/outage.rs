//! Outages as crowds meet them: all models down at once, and what comes back when one of them does.

use std::sync::Mutex;
use std::sync::atomic::AtomicBool;

use chela_types::{Fault, Retry};

use super::provider::answering;
use super::*;

/// Callers at once.
const CROWD: u32 = 100;
/// The first of a minute's requests come at once, the rest evenly: 20, and 220 over the minute.
const PER_MINUTE: u32 = 240;
const AT_ONCE: f64 = 20.0;
const EACH_SECOND: f64 = 220.0 / 60.0;
/// For so long a model that fails is left alone.
const PAUSE: Duration = Duration::from_secs(5);
/// Between two requests of a caller who does not wait as long as he is told.
const IMPATIENT: Duration = Duration::from_millis(50);

/// Refuses everything, and counts it.
fn down() -> Answer {
    Answer { is_billed: true, ..Answer::status("503 Service Unavailable", "", "{}") }
}

/// Attempts are bounded, nobody pays, and everybody is told when to come back: what then becomes of a message is its
/// turn's business.
#[tokio::test(flavor = "multi_thread")]
async fn when_all_models_are_down_a_crowd_makes_no_storm_and_pays_nothing() {
    let (first, of_first) = provider(down()).await;
    let (second, of_second) = provider(down()).await;
    let chain = vec![kind(Wire::Chat, first), kind(Wire::Messages, second)];
    let house = &house(vec![chain], patient(LONG)).await;
    let mut asked = Vec::new();
    for _ in 0..2 {
        let crowd = futures::future::join_all((0..CROWD).map(|_| ask(house, 0))).await;
        for Outcome { text, ended, record } in crowd {
            let error = ended.unwrap_err();
            assert!(text.is_empty() && matches!(error.retry(), Retry::Later(_)), "{error}");
            assert_eq!(record.cost, Money::ZERO, "{:?}", record.attempts);
        }
        asked.push([&of_first, &of_second].map(|count| count.load(Ordering::SeqCst)));
    }
    let [first, second] = asked[0];
    assert!(first <= CROWD, "nobody asks a model twice: {first}");
    // Once the first is left alone, a call begins with the second.
    let more = (first + second).saturating_sub(CROWD);
    assert!(more <= CROWD / 5 + 10, "one more attempt for five calls, and ten: {first} and {second}");
    assert_eq!(asked[1], asked[0], "whoever comes after that asks nobody");
    let ledger = house.store.ledger(1_000).await.unwrap();
    assert_eq!((ledger.settled, ledger.reserved), (Money::ZERO, Money::ZERO));
}

/// A provider with a pace of its own, down at first: when requests came, and whether each was answered.
struct Comeback {
    address: SocketAddr,
    is_down: Arc<AtomicBool>,
    came: Arc<Mutex<Vec<(Instant, bool)>>>,
}

async fn comeback() -> Comeback {
    let (is_down, came) = (Arc::new(AtomicBool::new(true)), Arc::<Mutex<Vec<_>>>::default());
    let (state, log) = (is_down.clone(), came.clone());
    let address = answering(move || {
        let is_down = state.load(Ordering::SeqCst);
        log.lock().unwrap().push((Instant::now(), !is_down));
        if is_down { down() } else { whole(Wire::Chat) }
    });
    Comeback { address: address.await, is_down, came }
}

/// Whoever has waited for a provider comes back at the pace of its key, and one of them first, however impatient they are.
#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_after_an_outage_comes_at_the_pace_of_the_key() {
    let Comeback { address, is_down, came } = comeback().await;
    let limits = ProviderLimits { requests_per_minute: Some(PER_MINUTE), ..patient(LONG) };
    let house = &house(vec![vec![kind(Wire::Chat, address)]], limits).await;
    let until = Instant::now() + PAUSE + Duration::from_secs(3);
    let impatient = |_| async move {
        while Instant::now() < until {
            if ask(house, 0).await.ended.is_ok() {
                return true;
            }
            tokio::time::sleep(IMPATIENT).await;
        }
        false
    };
    let crowd = futures::future::join_all((0..CROWD).map(impatient));
    let back = async {
        tokio::time::sleep(PAUSE / 2).await;
        is_down.store(false, Ordering::SeqCst);
    };
    let (answered, ()) = futures::join!(crowd, back);
    let answered = answered.iter().filter(|is_answered| **is_answered).count();
    let came = came.lock().unwrap().clone();
    let failed = came.iter().filter(|(_, is_answered)| !is_answered).count();
    assert!(failed <= 20, "an outage is asked no more than the pace allows: {failed}");
    assert_eq!(answered, came.len() - failed, "who was let through is answered");
    assert!((20..100).contains(&answered), "they come, and not all at once: {answered}");
    let (last, first) = (came[failed - 1].0, came[failed].0);
    assert!(first - last >= PAUSE - IMPATIENT, "it is left alone before one finds out: {:?}", first - last);
    for (n, (from, _)) in came.iter().enumerate() {
        for (count, (to, _)) in came[n..].iter().enumerate() {
            let most = AT_ONCE + EACH_SECOND * (*to - *from).as_secs_f64() + 1.0;
            assert!((count + 1) as f64 <= most, "{} requests in {:?}", count + 1, *to - *from);
        }
    }
}
