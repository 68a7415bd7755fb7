//! The helloworld sample: which version, which pod.

use http::StatusCode;

use crate::app::{Reply, Request, Settings, not_found, pod_name, reply};

/// `GET /hello`.
pub(crate) struct Helloworld {
    version: String,
    pod: String,
}

impl Helloworld {
    pub(crate) fn new(settings: &dyn Settings) -> Self {
        Helloworld {
            version: settings
                .get("SERVICE_VERSION")
                .unwrap_or_else(|| "v1".to_owned()),
            pod: pod_name(settings),
        }
    }

    pub(crate) fn answer(&self, request: &Request) -> Reply {
        let text = match request.path.as_str() {
            "/hello" => format!("Hello version: {}, instance: {}\n", self.version, self.pod),
            "/health" => "Helloworld is healthy".to_owned(),
            _ => return not_found(),
        };
        reply(StatusCode::OK, "text/html; charset=utf-8", text)
    }
}
