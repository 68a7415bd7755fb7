//! Admin pages.

mod dump;

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};
use tulle_daemon::admin::{Page, Pages, Visit};
use tulle_daemon::{DrainTrigger, Readiness};
use tulle_telemetry::Registry;

use crate::connections::Shown;
use crate::pods::PodState;
use crate::worker::{Command, Shared};

/// What the pages need.
#[derive(Clone)]
pub(crate) struct Admin {
    pub(crate) shared: Arc<Shared>,
    pub(crate) workers: Vec<mpsc::Sender<Command>>,
    pub(crate) pods: watch::Receiver<BTreeMap<String, PodState>>,
    pub(crate) end: DrainTrigger,
}

impl Admin {
    /// On loopback only: these tell and change what no neighbour may know or change.
    pub(crate) fn private_pages(self) -> Pages {
        let dump = self.clone();
        Pages::new()
            .on("/", |_| async { Page::html(INDEX) })
            .on("/config_dump", move |_| {
                let admin = dump.clone();
                async move { admin.config_dump().await }
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

    async fn config_dump(&self) -> Page {
        let mut connections: Vec<Shown> = Vec::new();
        for worker in &self.workers {
            let (to, from) = oneshot::channel();
            if worker.send(Command::Show(to)).await.is_ok()
                && let Ok(shown) = from.await
            {
                connections.extend(shown);
            }
        }
        let pods = self.pods.borrow().clone();
        Page::json(&dump::dump(&self.shared, &pods, &connections))
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

const INDEX: &str = "<!DOCTYPE html><html><head><title>ztunnel</title></head><body><h1>ztunnel</h1><ul>\
<li><a href=\"config_dump\">config_dump</a>: what the proxy knows and does</li>\
<li>logging (POST): says or changes log levels</li>\
<li>quitquitquit (POST): ends the proxy</li>\
</ul></body></html>\n";

#[cfg(test)]
mod tests;
