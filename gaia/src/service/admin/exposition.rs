//! From a [`Status`] to Prometheus' text format.
//!
//! Kind: time-free. The metrics of each scrape are made anew, from one value: nothing is global, no
//! series outlives what it tells of, and a metric cannot disagree with `/status`.
//!
//! The crate `metrics` with its Prometheus exporter was the first thought, but its counters are
//! whole numbers, and held, computed and waited seconds are not. `prometheus-client` has such
//! counters, but writes OpenMetrics, which `promtool check metrics` does not read.

use datacenter::printable;
use prometheus::{CounterVec, Encoder, GaugeVec, Opts, Registry, TextEncoder};

use super::metrics::{Kind, METRICS, Metric};
use super::sources::Sample;
use crate::service::status::Status;

/// The content type of [`text`].
pub(super) const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// All metrics of a process.
///
/// # Errors
///
/// If a label or name is none that Prometheus allows, which is our own mistake; the listener
/// answers with it.
pub fn text(status: &Status) -> Result<String, prometheus::Error> {
    let registry = Registry::new();
    for metric in METRICS {
        let samples = (metric.read)(status);
        if !samples.is_empty() {
            register(&registry, metric, status, &samples)?;
        }
    }
    let mut text = Vec::new();
    TextEncoder::new().encode(&registry.gather(), &mut text)?;
    String::from_utf8(text).map_err(|error| prometheus::Error::Msg(error.to_string()))
}

fn register(
    registry: &Registry,
    metric: &Metric,
    status: &Status,
    samples: &[Sample],
) -> Result<(), prometheus::Error> {
    let shown = |text: &String| printable::line(text).into_owned();
    let options = Opts::new(metric.name, metric.help)
        .const_label("datacenter", shown(&status.datacenter))
        .const_label("role", shown(&status.role));
    let labels = |sample: &Sample| sample.labels.iter().map(shown).collect::<Vec<_>>();
    match metric.kind {
        Kind::Counter => {
            let family = CounterVec::new(options, metric.labels)?;
            for sample in samples {
                // Were it negative or not a number, the counter would be broken for good.
                family.get_metric_with_label_values(&labels(sample))?.inc_by(sample.value.max(0.0));
            }
            registry.register(Box::new(family))
        }
        Kind::Gauge => {
            let family = GaugeVec::new(options, metric.labels)?;
            for sample in samples {
                family.get_metric_with_label_values(&labels(sample))?.set(sample.value);
            }
            registry.register(Box::new(family))
        }
    }
}
