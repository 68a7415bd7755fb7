//! Admin pages.

use std::sync::Arc;

use serde_json::{Value, json};
use tulle_daemon::admin::{Page, Pages, Visit};
use tulle_daemon::{DrainTrigger, Readiness};
use tulle_telemetry::{Registry, write_rfc3339};

use crate::worker::Shared;

/// What the pages need.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) shared: Arc<Shared>,
    pub(crate) end: DrainTrigger,
}

impl Admin {
    /// On loopback only: these tell and change what no neighbour may know or change.
    pub(crate) fn private_pages(self) -> Pages {
        let dump = self.clone();
        Pages::new()
            .on("/", |_| async { Page::html(INDEX) })
            .on("/config_dump", move |_| {
                let page = Page::json(&dump.config_dump());
                async move { page }
            })
            .on("/quitquitquit", move |visit| {
                let page = self.quit(&visit);
                async move { page }
            })
            .with_logging()
    }

    fn quit(&self, visit: &Visit) -> Page {
        if !visit.is_post() {
            return Page::text(405, "usage: POST /quitquitquit\n");
        }
        self.end.begin(self.shared.options.drain);
        Page::text(200, "shutdown now\n")
    }

    /// Everything but keys, sorted, so that two dumps can be compared.
    fn config_dump(&self) -> Value {
        let shared = &self.shared;
        let snapshot = shared.state.load();
        let mut services: Vec<_> = snapshot.mesh.services().collect();
        services.sort_by_key(|s| s.key());
        let served = services
            .iter()
            .filter(|s| s.waypoints().any(|w| snapshot.own.is(w)))
            .map(|s| s.key().to_string());
        let mut workloads: Vec<&str> = snapshot.mesh.workloads().map(|w| &*w.uid).collect();
        workloads.sort_unstable();
        let mut policies: Vec<_> = snapshot.policies.iter().collect();
        policies.sort_by(|a, b| a.name.cmp(&b.name));
        let mut destinations: Vec<_> = snapshot.destinations.values().collect();
        destinations.sort_by(|a, b| a.service.cmp(&b.service));
        let mut secrets: Vec<&Arc<str>> = snapshot.certificates.keys().collect();
        secrets.sort_unstable();
        let mut routes: Vec<_> = snapshot.routes.http_routes().collect();
        routes.sort_by(|a, b| a.object.cmp(&b.object));
        let mut streams: Vec<_> = snapshot.routes.stream_routes().collect();
        streams.sort_by(|a, b| a.object.cmp(&b.object));
        let own = shared.certificates.dump();
        json!({
            "gateways": snapshot.gateways.values().collect::<Vec<_>>(),
            "servedServices": served.collect::<Vec<_>>(),
            "services": services.iter().map(|s| s.key().to_string()).collect::<Vec<_>>(),
            "workloads": workloads,
            "policies": policies,
            "routes": routes.iter().map(|r| r.rules.len()).sum::<usize>(),
            "httpRoutes": routes,
            "streamRoutes": streams,
            "destinations": destinations,
            "telemetry": snapshot.telemetry.values().collect::<Vec<_>>(),
            "rateLimits": snapshot.limits.policies().collect::<Vec<_>>(),
            "settings": &*snapshot.settings,
            "secrets": secrets,
            "certificates": own.iter().map(|d| json!({
                "identity": d.identity.to_string(),
                "chain": d.chain.iter().map(|c| json!({
                    "serialNumber": c.serial,
                    "validFrom": write_rfc3339(c.not_before),
                    "expirationTime": write_rfc3339(c.not_after),
                })).collect::<Vec<_>>(),
            })).collect::<Vec<_>>(),
            "generation": snapshot.generation,
            "config": {
                "xdsAddress": shared.options.discovery.address,
                "caAddress": shared.options.authority.address,
                "identity": shared.options.identity.to_string(),
                "clusterId": shared.options.cluster_id,
                "network": shared.options.network,
                "numWorkerThreads": shared.options.workers,
                "drain": format!("{}s", shared.options.drain.as_secs()),
            },
            "connections": shared.board.loads(),
            "version": { "version": env!("CARGO_PKG_VERSION") },
        })
    }
}

/// `/metrics` and `/stats/prometheus`.
pub(crate) fn metrics_pages(registry: &Registry) -> Pages {
    Pages::new().with_metrics(registry)
}

/// `/healthz/ready`.
pub(crate) fn ready_pages(readiness: &Readiness) -> Pages {
    Pages::new().with_readiness(readiness)
}

const INDEX: &str = "<!DOCTYPE html><html><head><title>waypoint</title></head><body><h1>waypoint</h1><ul>\
<li><a href=\"config_dump\">config_dump</a>: what the proxy knows and does</li>\
<li>logging (POST): says or changes log levels</li>\
<li>quitquitquit (POST): ends the proxy</li>\
</ul></body></html>\n";
