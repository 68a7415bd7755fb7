//! The stars. `SERVICE_VERSION` gives upstream's misbehaving variants: `v-faulty` fails every second time,
//! `v-delayed` is seven seconds late every second time, `v-unavailable` fails in every second minute.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde_json::{Value, json};

use super::product_id;
use crate::app::{Reply, Request, Settings, json as json_reply, not_found};
use crate::limits::MAX_RATED_PRODUCTS;

/// `GET` and `POST /ratings/N`.
pub(crate) struct Ratings {
    posted: Mutex<HashMap<u64, Value>>,
    manner: Manner,
    requests: AtomicU64,
    started: Instant,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Good,
    Faulty,
    Delayed,
    Unavailable,
}

const LATE: Duration = Duration::from_secs(7);

impl Ratings {
    pub(crate) fn new(settings: &dyn Settings) -> Self {
        let manner = match settings.get("SERVICE_VERSION").as_deref() {
            Some("v-faulty") => Manner::Faulty,
            Some("v-delayed") => Manner::Delayed,
            Some("v-unavailable") => Manner::Unavailable,
            _ => Manner::Good,
        };
        Ratings {
            posted: Mutex::default(),
            manner,
            requests: AtomicU64::new(0),
            started: Instant::now(),
        }
    }

    pub(crate) async fn answer(&self, request: &Request) -> Reply {
        if request.path == "/health" {
            return json_reply(StatusCode::OK, &json!({ "status": "Ratings is healthy" }));
        }
        let id = match product_id(&request.path, "ratings") {
            Some(Ok(id)) => id,
            Some(Err(())) => return bad_request("please provide numeric product ID"),
            None => return not_found(),
        };
        if request.method == Method::POST {
            return self.post(id, request);
        }
        if self.fails().await {
            let error = json!({ "error": "Service unavailable" });
            return json_reply(StatusCode::SERVICE_UNAVAILABLE, &error);
        }
        json_reply(StatusCode::OK, &json!({ "id": id, "ratings": self.of(id) }))
    }

    fn post(&self, id: u64, request: &Request) -> Reply {
        let Ok(ratings) = serde_json::from_slice::<Value>(&request.body) else {
            return bad_request("please provide valid ratings JSON");
        };
        let mut posted = self
            .posted
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if posted.len() >= MAX_RATED_PRODUCTS && !posted.contains_key(&id) {
            return bad_request("too many products have ratings already");
        }
        posted.insert(id, ratings.clone());
        json_reply(StatusCode::OK, &json!({ "id": id, "ratings": ratings }))
    }

    fn of(&self, id: u64) -> Value {
        let posted = self
            .posted
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        posted
            .get(&id)
            .cloned()
            .unwrap_or_else(|| json!({ "Reviewer1": 5, "Reviewer2": 4 }))
    }

    /// Misbehaves as its variant demands; true if this request is to fail.
    async fn fails(&self) -> bool {
        let every_second = self.requests.fetch_add(1, Ordering::Relaxed) % 2 == 1;
        match self.manner {
            Manner::Good => false,
            Manner::Faulty => every_second,
            Manner::Delayed => {
                if every_second {
                    tokio::time::sleep(LATE).await;
                }
                false
            }
            Manner::Unavailable => self.started.elapsed().as_secs() / 60 % 2 == 1,
        }
    }
}

fn bad_request(error: &str) -> Reply {
    json_reply(StatusCode::BAD_REQUEST, &json!({ "error": error }))
}
