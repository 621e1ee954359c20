//! How workers reach their shards: over the LAN where they are in the same datacenter, over the WAN
//! where a parameter server is stretched over several.

use std::collections::BTreeMap;
use std::time::Duration;

use datacenter::client::Client;
use datacenter::local::{Port, REQUEST_QUEUE, Session};
use datacenter::message::{ReadReply, Request};
use datacenter::wire::{reply_len, request_len};
use datacenter::{NonFinite, ShardId, WorkerId};
use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use wan::driver::remote;
use wan::transport::{DialError, Path, Settings, peer_name};

use super::cluster::Cluster;
use super::site::{Running, server_address, server_id};
use super::watchdog::LONGEST_OUTAGE;
use super::worker::{Spent, Worker};
use super::{RunError, lan};
use crate::seeds::purpose;

impl Cluster<'_> {
    /// Connects every two sites of a stretched parameter server, and serves each other's workers.
    pub(super) async fn connect_stretched(&self, sites: &mut [Running]) -> Result<(), RunError> {
        let count = sites.len();
        for low in 0..count {
            for high in low + 1..count {
                let settings = self.stretched_path(low, high);
                let name = self.peer_name(high);
                let endpoints = [low, high].map(|at| &sites[at].servers[0].endpoint);
                let dialling = endpoints[0].connect(server_address(high, 0), &name, &settings);
                let accepting = async {
                    let incoming = endpoints[1].incoming().await.expect("the endpoint is open");
                    let settings = self.stretched_path(high, low);
                    Ok::<_, DialError>(endpoints[1].accept(incoming, &settings)?.await?)
                };
                let name = |at: usize| self.topology.sites[at].name.clone();
                let connected = tokio::try_join!(dialling, accepting);
                let (dialled, accepted) = connected.map_err(|source| RunError::Connect {
                    from: name(low),
                    to: name(high),
                    source,
                })?;
                debug_assert_eq!(peer_name(&accepted).ok(), Some(self.peer_name(low)));
                for (here, there, connection) in [(low, high, dialled), (high, low, accepted)] {
                    let site = &mut sites[here];
                    let payload = site.stretched_payload[there].clone();
                    let server = &site.servers[0];
                    server.traffic.begin(server_id(there, 0), [(&connection, payload.clone())]);
                    let (shapes, requests) = (self.shapes.clone(), server.requests.clone());
                    let answers = server.answers.clone();
                    tokio::spawn(remote::serve(connection.clone(), shapes, requests, answers, payload));
                    site.connections.insert(there, connection);
                }
            }
        }
        Ok(())
    }

    /// The settings of a connection of the stretched parameter server. There is no protocol above
    /// it that would make it again, so it has to live through any outage that ends.
    fn stretched_path(&self, from: usize, to: usize) -> Settings {
        let outages = self.simulation.links.iter().flat_map(|(_, _, link)| &link.outages);
        let path = self.path(from, to);
        let patience = outages.map(|outage| outage.length.min(LONGEST_OUTAGE)).sum::<Duration>();
        Path { idle_timeout: path.idle_timeout + patience, ..path }.data()
    }

    /// Trains with all workers of a site.
    pub(super) async fn train_site(&self, at: usize, sites: &[Running]) -> Result<Vec<Spent>, RunError> {
        let together: usize = self.topology.parts_of(at).iter().map(|&part| self.parts[part].len()).sum();
        let workers = self.topology.sites[at].workers.iter().enumerate().map(|(index, place)| {
            let examples = self.parts[place.part].clone();
            let share = examples.len() as f64 / together.max(1) as f64;
            let which = place.part as u64;
            let id = match self.topology.stretched {
                true => WorkerId(place.part as u32),
                false => WorkerId(index as u32),
            };
            Worker {
                part: place.part,
                learner: self.application.learner(examples, share, self.seed(purpose::LEARNER, which)),
                session: self.session(at, id, sites),
                tables: self.specs.len(),
                is_remote: self.topology.stretched,
                clocks: self.simulation.job.clocks,
                compute: self.simulation.compute,
                speed: place.speed,
                seed: self.seed(purpose::JITTER, which),
            }
            .run(self.time.clone(), &self.watchdog)
        });
        try_join_all(workers.collect::<Vec<_>>()).await
    }

    /// A session of a worker of site `at` with all shards: over the LAN where they are here, over
    /// the WAN elsewhere.
    pub(super) fn session(&self, at: usize, worker: WorkerId, sites: &[Running]) -> Session {
        let (replies, answers) = mpsc::channel::<ReadReply>(self.simulation.job.shards as usize);
        let mut routes: BTreeMap<ShardId, mpsc::Sender<(ShardId, Request)>> = BTreeMap::new();
        for (index, server) in sites[at].servers.iter().enumerate() {
            let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
            let [into, out] = server.ports.clone();
            let size = |(_, request): &(ShardId, Request)| request_len(request);
            tokio::spawn(lan::carry(self.time.clone(), into, size, queue, server.requests.clone()));
            let waiting = server.answers.lock().expect("no task panics with it").remove(&worker);
            let from_shards = waiting.expect("each worker has one session");
            tokio::spawn(lan::carry(self.time.clone(), out, reply_len, from_shards, replies.clone()));
            let hosted = &self.topology.sites[at].servers[index];
            routes.extend(hosted.iter().map(|&shard| (shard, requests.clone())));
        }
        for (&there, connection) in &sites[at].connections {
            let (requests, queue) = mpsc::channel(REQUEST_QUEUE);
            let (shapes, replies) = (self.shapes.clone(), replies.clone());
            let payload = sites[at].stretched_payload[there].clone();
            tokio::spawn(remote::call(connection.clone(), worker, shapes, queue, replies, payload));
            let hosted = &self.topology.sites[there].servers[0];
            routes.extend(hosted.iter().map(|&shard| (shard, requests.clone())));
        }
        // Of all shards, each hosted once, in their order.
        let port = Port { shards: routes.into_values().collect(), replies: answers };
        let client = Client::new(worker, &self.specs, self.placement, self.simulation.job.staleness);
        // A simulation shows also how a strategy diverges.
        Session::new(client.with_non_finite(NonFinite::Pass), port)
    }
}
