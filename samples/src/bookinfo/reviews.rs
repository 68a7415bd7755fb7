//! Two opinions; with `ENABLE_RATINGS`, each with the stars that the ratings service gives.

use http::StatusCode;
use serde_json::{Value, json};

use super::product_id;
use crate::app::{Reply, Request, Settings, json as json_reply, not_found, pod_name};
use crate::upstream::{Upstream, forwarded};

/// `GET /reviews/N`.
pub(crate) struct Reviews {
    ratings: Option<Upstream>,
    star_color: String,
    pod: String,
    cluster: String,
}

const OPINIONS: [(&str, &str); 2] = [
    (
        "Reviewer1",
        "Two pairs of twins, one town, no end of confusion. I laughed all evening.",
    ),
    (
        "Reviewer2",
        "Light and quick. Great fun on stage, though other plays by Shakespeare go deeper.",
    ),
];

impl Reviews {
    pub(crate) fn new(settings: &dyn Settings) -> Self {
        let enabled = settings
            .get("ENABLE_RATINGS")
            .is_some_and(|on| on.eq_ignore_ascii_case("true"));
        Reviews {
            ratings: enabled.then(|| Upstream::from_settings("ratings", settings)),
            star_color: settings
                .get("STAR_COLOR")
                .unwrap_or_else(|| "black".to_owned()),
            pod: pod_name(settings),
            // Upstream prints Java's null here when the variable is not set; tools expect the word.
            cluster: settings
                .get("CLUSTER_NAME")
                .unwrap_or_else(|| "null".to_owned()),
        }
    }

    pub(crate) async fn answer(&self, request: &Request) -> Reply {
        if request.path == "/health" {
            return json_reply(StatusCode::OK, &json!({ "status": "Reviews is healthy" }));
        }
        let Some(Ok(id)) = product_id(&request.path, "reviews") else {
            return not_found();
        };
        let stars = self.stars(id, request).await;
        let reviews: Vec<Value> = OPINIONS
            .iter()
            .map(|(reviewer, text)| {
                let mut review = json!({ "reviewer": reviewer, "text": text });
                if let Some(stars) = &stars {
                    review["rating"] = self.rating(stars, reviewer);
                }
                review
            })
            .collect();
        let body = json!({
            "id": id.to_string(),
            "podname": self.pod,
            "clustername": self.cluster,
            "reviews": reviews,
        });
        json_reply(StatusCode::OK, &body)
    }

    /// The ratings by reviewer; `None` if this version shows none, an empty object if nobody answers.
    async fn stars(&self, id: u64, request: &Request) -> Option<Value> {
        let ratings = self.ratings.as_ref()?;
        let answer = ratings
            .get(&format!("/ratings/{id}"), forwarded(request))
            .await;
        Some(
            answer
                .map(|mut value| value["ratings"].take())
                .unwrap_or_default(),
        )
    }

    fn rating(&self, stars: &Value, reviewer: &str) -> Value {
        match stars.get(reviewer).and_then(Value::as_i64) {
            Some(stars) => json!({ "stars": stars, "color": self.star_color }),
            None => json!({ "error": "Ratings service is currently unavailable" }),
        }
    }
}
