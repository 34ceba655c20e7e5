//! Kills around a rollback that the watch orders: a build that fails lands in its folder, and the host dies before it has
//! found it, while it fails, or when it has been sent back.

use std::time::Duration;

use rand::RngExt;
use tokio::time::sleep;

use super::{Build, Kill, Rig, Stage, Standing, Swapped};
use crate::wait::eventually;

/// The latest moment of a kill after a build has landed: it is compiled, and fails, before that.
const AFTER_LANDING: Duration = Duration::from_millis(2_500);
/// And after it has begun to serve.
const AFTER_SERVING: Duration = Duration::from_millis(200);
/// Each kill that came too late, beyond those that came early, halves that; so often at most.
const HALVINGS_MAX: u32 = 6;

impl Rig {
    /// The next build of a plugin, which fails; not landed yet.
    pub fn next_bad(&mut self, plugin: Swapped) -> Build {
        Build { is_bad: true, ..self.next(plugin) }
    }

    /// Lets a bad build land, kills soon after that, or soon after it has begun to serve, and reads what is left. The
    /// change is deployed once it is written down that the bad build was sent back.
    pub async fn attack_watch(&mut self, (old, bad): (Build, Build), is_serving: bool) -> Kill {
        let (way, logged) = (self.way(), self.process.log().len());
        self.may_serve(&[old, bad]);
        self.land(bad, way);
        let mut within = AFTER_LANDING;
        if is_serving {
            let said = format!("plugin {} is version ", bad.plugin.name());
            eventually("the bad build serves", async || {
                self.process.log().get(logged..).is_some_and(|log| log.contains(&said))
            })
            .await;
            within = AFTER_SERVING;
        }
        let within = within / 2_u32.pow(self.late().min(HALVINGS_MAX));
        let moment = Duration::from_micros(self.random.random_range(0..within.as_micros() as u64));
        // The moment is the test.
        sleep(moment).await;
        self.process.kill().await;
        self.left((old, bad), (false, logged), |left| left.refused.contains(&bad)).await
    }

    /// How many more kills came late than early.
    fn late(&self) -> u32 {
        let count = |is_late: bool| {
            let hits = self.hits().iter().filter(|(stage, _)| (**stage >= Stage::Deployed) == is_late);
            hits.map(|(_, count)| count).sum::<u32>()
        };
        count(true).saturating_sub(count(false))
    }

    /// Starts again, and waits until the bad build is sent back, for the first time or again; looks whether everything
    /// is whole, and returns how its plugin stands.
    pub async fn start_until_sent_back(&mut self, bad: Build) -> Standing {
        self.process.start();
        self.process.ready().await;
        self.until(bad, "refused").await;
        self.is_whole(bad.plugin).await
    }
}
