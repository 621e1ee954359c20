//! What Prometheus is answered: its text format, as `metrics-exporter-prometheus` writes it.
//!
//! Two recorders make a page. What happens goes into one that lives as long as the process
//! ([`Recorded`]). What is so goes into one that is made anew for each scrape, from one [`Status`]:
//! in a recorder that lives, the round trip of a link that is down, or a region that has gone,
//! would be told for ever. No metric is in both.
//!
//! The recorder of what happens is the process's own, since drivers are tasks and threads that
//! have nothing else in common; a process runs one part of one region. What it says carries the
//! names of both, like all the rest.
//!
//! Kind: driver.

use std::time::Duration;

use datacenter::metrics::Kind;
use metrics::with_local_recorder;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use tracing::warn;

use super::metrics::{STATE, begin_refusals, events, label_value};
use crate::service::status::Status;

/// The content type of [`text`].
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// How often what was recorded is added up: until then each value of a histogram is kept, also
/// where nobody scrapes.
const ADD_UP: Duration = Duration::from_secs(5);

/// What the drivers of all crates record while this process lives.
#[derive(Clone)]
pub struct Recorded(PrometheusHandle);

impl Recorded {
    /// Has the whole process record into it from now on, as the part `role` of a region. Drivers
    /// take their handles when they start, so it comes before them. None if the process has a
    /// recorder already, as a program around this crate may: what happens goes there then.
    pub fn install(region: &str, role: &str) -> Option<Self> {
        let (recorder, recorded) = Self::recorder(region, role);
        if metrics::set_global_recorder(recorder).is_err() {
            warn!(
                "this process records metrics elsewhere already: /metrics has no waits, sizes and refusals"
            );
            return None;
        }
        begin_refusals();
        Some(recorded)
    }

    /// A recorder, and what it will have.
    pub(super) fn recorder(region: &str, role: &str) -> (PrometheusRecorder, Self) {
        let builder = events().fold(builder(region, role), |builder, metric| match metric.kind {
            Kind::Histogram(bounds) => builder
                .set_buckets_for_metric(Matcher::Full(metric.name.to_owned()), bounds)
                .expect("bounds are constants, and there are some"),
            Kind::Counter | Kind::Gauge => builder,
        });
        let recorder = builder.build_recorder();
        with_local_recorder(&recorder, || events().for_each(|metric| metric.describe()));
        let recorded = Self(recorder.handle());
        (recorder, recorded)
    }

    /// Adds up what was recorded, for ever.
    pub async fn add_up(self) {
        loop {
            tokio::time::sleep(ADD_UP).await;
            self.0.run_upkeep();
        }
    }
}

/// All metrics of a process: what is so, and what was recorded.
pub(super) fn page(status: &Status, recorded: Option<&Recorded>) -> String {
    let mut page = text(status);
    page.extend(recorded.map(|recorded| recorded.0.render()));
    page
}

/// What is so.
pub fn text(status: &Status) -> String {
    let recorder = builder(&status.datacenter, &status.role).build_recorder();
    with_local_recorder(&recorder, || {
        for state in STATE {
            state.metric.describe();
            state.tell(status);
        }
    });
    recorder.handle().render()
}

fn builder(region: &str, role: &str) -> PrometheusBuilder {
    PrometheusBuilder::new()
        .add_global_label("datacenter", label_value(region))
        .add_global_label("role", label_value(role))
}
