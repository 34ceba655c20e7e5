//! Putting in order what a crash left, before anybody is served: one transaction, and run again from the start
//! if the process dies in it.

use chela_types::{Millis, Money, ReservationId};

use crate::Result;
use crate::ledger::{Closing, SettledAs, close};
use crate::row;
use crate::sql::{self, Connection};

/// Revokes leases (the tokens rise, so nothing of the old process can write), counts a crash for each turn that
/// was held, makes answers that were being sent ambiguous, and charges open reservations in full.
pub(crate) async fn after_crash(connection: &mut Connection, now: Millis) -> Result<()> {
    sql::query("BEGIN IMMEDIATE").execute(connection).await?;
    let changed = sql::query(
        "UPDATE outbox SET crashes = crashes + 1 WHERE turn IN (
             SELECT head FROM conversations WHERE claimable_at IS NOT NULL AND holder IS NOT NULL);
         UPDATE turns SET crashes = crashes + 1 WHERE seq IN (
             SELECT head FROM conversations WHERE claimable_at IS NOT NULL AND holder IS NOT NULL)
             AND NOT EXISTS (SELECT 1 FROM outbox WHERE turn = seq);
         UPDATE conversations SET holder = NULL, token = token + 1, claimable_at = $1
             WHERE claimable_at IS NOT NULL AND holder IS NOT NULL;
         UPDATE outbox SET status = 'kept', ambiguous = ambiguous + 1
             WHERE turn IN (SELECT seq FROM turns WHERE state = 'open') AND status = 'sending'",
    )
    .bind(now.0)
    .execute(connection)
    .await?;
    let open =
        sql::query("SELECT id, amount FROM reservations WHERE state = 'open'").fetch_all(connection).await?;
    let mut charged = Money::ZERO;
    for row in &open {
        charged = charged.plus(row::money(row, "amount")?);
        let id = ReservationId::from_bytes(row::id(row, "id")?);
        close(connection, Closing { id, state: SettledAs::Unknown, used: None, call: None, at: now }).await?;
    }
    sql::query("COMMIT").execute(connection).await?;
    if changed > 0 || !open.is_empty() {
        let reservations = open.len();
        tracing::warn!(reservations, %charged, "the last run did not end in order; its leases are revoked");
    }
    Ok(())
}
