//! Who tells the metrics what they ask at a scrape.

use std::sync::Arc;

use ottla_cluster::image::TopicImage;
use ottla_protocol::ids::BrokerId;
use ottla_transport::server::Server;

use crate::Shell;
use crate::config::effective;
use crate::metrics::{ClusterView, LogSize, LogsView, NetworkView};
use crate::state::State;

/// Has the process's metrics ask the server, the groups, the metadata and the logs.
pub fn observe(shell: &Shell, state: &Arc<State>, server: &Server) {
    let stats = server.stats().clone();
    shell.metrics.set_network(move || NetworkView {
        received_bytes: stats.bytes_in(),
        sent_bytes: stats.bytes_out(),
        connections: stats.connections_now(),
        connections_accepted: stats.connections_total(),
        connections_refused: stats.connections_rejected(),
        accept_errors: stats.accept_errors(),
        request_memory_bytes: stats.request_bytes_now(),
    });
    // The state holds the metrics, which must not hold it.
    let groups = Arc::downgrade(&state.groups);
    shell.metrics.set_groups(move || groups.upgrade().map(|groups| groups.view()).unwrap_or_default());
    let (images, config) = (state.image.clone(), state.config.clone());
    shell.metrics.set_cluster(move || {
        let image = images.borrow().clone();
        let min_isr = |topic: &TopicImage| {
            let config = effective::topic(&config, &image, &topic.name);
            usize::try_from(config.min_insync_replicas).unwrap_or(1)
        };
        ClusterView::of(&image, BrokerId(config.node_id), min_isr)
    });
    let state = Arc::downgrade(state);
    shell.metrics.set_logs(move || {
        let mut view = LogsView::default();
        let Some(state) = state.upgrade() else { return view };
        for topic in state.topics.all() {
            let mut size = LogSize { topic: topic.name.to_string(), partitions: 0, size_bytes: 0 };
            for (_, partition) in topic.partitions() {
                size.partitions += 1;
                size.size_bytes += partition.with_open_log(|log| log.size_bytes()).unwrap_or(0);
                view.partitions_offline += u64::from(partition.failure().is_some());
            }
            view.topics.push(size);
        }
        view.topics.sort_by(|a, b| a.topic.cmp(&b.topic));
        view.log_dirs_offline = state.logs.directories().filter(|directory| directory.failed).count() as u64;
        view
    });
}
