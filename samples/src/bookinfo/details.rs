//! The book's data.

use http::StatusCode;
use serde_json::json;

use super::product_id;
use crate::app::{Reply, Request, json as json_reply, not_found};

/// `GET /details/N`.
pub(crate) struct Details;

impl Details {
    pub(crate) fn answer(&self, request: &Request) -> Reply {
        if request.path == "/health" {
            return json_reply(StatusCode::OK, &json!({ "status": "Details is healthy" }));
        }
        match product_id(&request.path, "details") {
            Some(Ok(id)) => json_reply(
                StatusCode::OK,
                &json!({
                    "id": id,
                    "author": "William Shakespeare",
                    "year": 1595,
                    "type": "paperback",
                    "pages": 200,
                    "publisher": "PublisherA",
                    "language": "English",
                    "ISBN-10": "1234567890",
                    "ISBN-13": "123-1234567890",
                }),
            ),
            Some(Err(())) => {
                let error = json!({ "error": "please provide numeric product id" });
                json_reply(StatusCode::BAD_REQUEST, &error)
            }
            None => not_found(),
        }
    }
}
