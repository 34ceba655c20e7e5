//! What the host counts while it is attacked: a metric whose labels a guest can choose would grow without end, and would
//! hold people's words.

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::{Arc, OnceLock};

/// Series that this process has made, whatever their values. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Labels(Arc<Mutex<HashSet<Key>>>);

impl Labels {
    /// From here on this process counts into these. Where another recorder is installed already, nothing is seen.
    pub fn install() -> Self {
        static INSTALLED: OnceLock<Labels> = OnceLock::new();
        let install = || {
            let labels = Self::default();
            // Another one counts already: these stay empty, and say so by it.
            let _ = metrics::set_global_recorder(labels.clone());
            labels
        };
        INSTALLED.get_or_init(install).clone()
    }

    /// Series so far.
    pub(crate) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// Whether this text stands in a name or a label.
    pub(crate) fn hold(&self, text: &str) -> bool {
        let holds = |key: &Key| {
            key.name().contains(text)
                || key.labels().any(|label| label.key().contains(text) || label.value().contains(text))
        };
        self.0.lock().iter().any(holds)
    }

    fn see(&self, key: &Key) {
        self.0.lock().insert(key.clone());
    }
}

impl Recorder for Labels {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.see(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.see(key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.see(key);
        Histogram::noop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_label_holds_is_found() {
        let labels = Labels::default();
        metrics::with_local_recorder(&labels, || {
            metrics::counter!("turns_total", "agent" => "support").increment(1);
            metrics::counter!("turns_total", "agent" => "support").increment(1);
            metrics::counter!("turns_total", "agent" => "what a person wrote").increment(1);
        });
        assert_eq!(labels.count(), 2);
        assert!(labels.hold("person") && labels.hold("turns") && !labels.hold("hr"));
    }
}
