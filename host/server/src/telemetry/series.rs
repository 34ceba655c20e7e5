//! Two registries as one: what is counted by a plugin's version is told as long as it moves, all else for good.
//!
//! A version has series of its own, and a host that runs for months sees thousands of them. Where one has not moved for
//! a day, nobody asks for it any more; a counter of the host's own must not vanish because nothing happened.

use std::time::Duration;

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use metrics_util::MetricKindMask;

/// Seconds: from a sandbox call to a slow model.
const SECONDS_BUCKETS: [f64; 15] = [
    0.000_02, 0.000_05, 0.000_1, 0.000_25, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.1, 0.25, 1.0, 2.5, 10.0,
    60.0,
];
/// How long a version's series is told after it has moved for the last time.
pub(super) const IDLE: Duration = Duration::from_secs(24 * 3_600);
/// What the names of versions' series begin with.
const OF_VERSIONS: &str = "version_";

/// What is counted, to be read.
#[derive(Debug, Clone)]
pub struct Metrics {
    all: PrometheusHandle,
    versions: PrometheusHandle,
}

impl Metrics {
    /// In the text format of Prometheus.
    pub fn render(&self) -> String {
        self.all.render() + &self.versions.render()
    }

    /// Takes in what was counted since the last time: to be called often.
    pub fn run_upkeep(&self) {
        self.all.run_upkeep();
        self.versions.run_upkeep();
    }
}

/// Where everything is counted.
pub(super) struct Series {
    all: PrometheusRecorder,
    versions: PrometheusRecorder,
}

impl Series {
    /// Empty; versions' series are told for `idle` after they have moved.
    pub(super) fn new(idle: Duration) -> Result<Self, BuildError> {
        let builder = || {
            PrometheusBuilder::new()
                .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        };
        let versions = builder()?.idle_timeout(MetricKindMask::ALL, Some(idle));
        Ok(Self { all: builder()?.build_recorder(), versions: versions.build_recorder() })
    }

    pub(super) fn metrics(&self) -> Metrics {
        Metrics { all: self.all.handle(), versions: self.versions.handle() }
    }

    fn of(&self, name: &str) -> &PrometheusRecorder {
        if name.starts_with(OF_VERSIONS) { &self.versions } else { &self.all }
    }
}

impl Recorder for Series {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.of(key.as_str()).describe_counter(key, unit, description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.of(key.as_str()).describe_gauge(key, unit, description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        self.of(key.as_str()).describe_histogram(key, unit, description);
    }

    fn register_counter(&self, key: &Key, metadata: &Metadata<'_>) -> Counter {
        self.of(key.name()).register_counter(key, metadata)
    }

    fn register_gauge(&self, key: &Key, metadata: &Metadata<'_>) -> Gauge {
        self.of(key.name()).register_gauge(key, metadata)
    }

    fn register_histogram(&self, key: &Key, metadata: &Metadata<'_>) -> Histogram {
        self.of(key.name()).register_histogram(key, metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_versions_that_do_not_move_go_and_all_others_stay() {
        let series = Series::new(Duration::from_nanos(1)).unwrap();
        let metrics = series.metrics();
        metrics::with_local_recorder(&series, || {
            metrics::counter!("version_calls_total", "version" => "a").increment(1);
            metrics::histogram!("version_call_seconds", "version" => "a").record(0.1);
            metrics::counter!("swap_lost_total").increment(1);
            metrics::histogram!("turn_duration_seconds").record(0.1);
        });
        let first = metrics.render();
        assert!(
            first.contains("version_calls_total") && first.contains("version_call_seconds_bucket"),
            "{first}"
        );
        let second = metrics.render();
        assert!(!second.contains("version_"), "{second}");
        assert!(
            second.contains("swap_lost_total 1") && second.contains("turn_duration_seconds_bucket"),
            "{second}"
        );
        metrics::with_local_recorder(&series, || {
            metrics::counter!("version_calls_total", "version" => "a").increment(1);
        });
        assert!(
            metrics.render().contains("version_calls_total{version=\"a\"} 1"),
            "it moves again, from nothing"
        );
    }
}
