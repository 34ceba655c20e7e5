//! A hundred callers at once, a budget for 37.5 calls, providers that are slow and fail, and `kill -9` in the middle: no
//! budget is overspent, nothing stays set aside, the ledger is the providers' bill or above it by what nobody knows, and
//! nearly all of each budget can be used before anybody is refused.
//!
//! The real program, the real disk, real connections. Ten rounds, each with a department of its own that pays; 70 callers
//! ask a tier, whole, as a stream or hanging up in the middle, which is paid from slices, and 30 speak to an agent, whose
//! turns are paid by rows. Each goes on until it is refused. In every second round the host is killed at random moments,
//! once or twice, and started again. `CHELA_KILLS` (50: ten rounds with kills; never fewer than five) and `CHELA_SEED`
//! (random, printed) are read from the environment.
//!
//! **What is asserted of every round.** Whenever somebody looks, in the store or by `chela budget list`, what is used and
//! held is within the limit. After some quiet nothing is held: no row, no slice. What a budget has used is, to the last
//! nano-dollar, what its calls cost in the ledger and what kills left in slices. The calls of which all is known cost no
//! more than the bill, and with those of which it is not, and what was left in slices, the ledger is at least the bill.
//!
//! **Usable** is what is used and what calls hold, as a share of the limit; at least 97 %. It is looked at for each
//! refusal, by what the callers saw: 37 worst cases of 37.5 are 98.7 %, and real calls cost less, so that what they give
//! back must be had by others. And it is looked at in the end, when the last caller is refused and nobody else asks: then
//! less than one worst case is left, which makes 97.3 %.
//!
//! **With a kill** the former holds for refusals before it. What it cut off is charged in full, as if it had been used:
//! slices, and rows. What is left must be usable as ever. Slices of the round before, which nobody has used for less than
//! ten seconds, are charged with it; that is not counted as usable.

use chela_tests::kill_budget::{Rig, Rounds, judge, told};
use chela_tests::kill_swap::{from_environment, tell};

const KILLS: u32 = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_callers_use_nearly_all_of_a_budget_and_never_more_whenever_the_host_is_killed() {
    let rounds = Rounds::of(from_environment("CHELA_KILLS").unwrap_or(KILLS));
    let seed: u64 = from_environment("CHELA_SEED").unwrap_or_else(rand::random);
    tell(&format!("budgets: {} rounds, kills in {}, CHELA_SEED={seed}", rounds.all(), rounds.killed));
    let mut rig = Rig::begin(rounds, seed).await;
    let mut played = Vec::new();
    for number in 0..rounds.all() {
        played.push(rig.play(number).await);
    }
    let mut wrong = Vec::new();
    for (number, round) in rig.end(played).await.iter().enumerate() {
        tell(&told(number, round));
        wrong.extend(judge(round).into_iter().map(|what| format!("round {number}: {what}")));
    }
    assert!(wrong.is_empty(), "CHELA_SEED={seed}:\n{}", wrong.join("\n"));
}
