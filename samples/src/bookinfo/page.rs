//! The page's HTML.

use http::StatusCode;
use serde_json::{Value, json};

/// What a service said: its status, and its JSON or `{"error": …}`.
pub(super) type Part = (StatusCode, Value);

const SUMMARY: &str = "One of Shakespeare's earliest and shortest plays: two pairs of twins, \
separated at birth, meet in one town without knowing it.";

/// The one product.
pub(super) fn product() -> Value {
    json!({ "id": 0, "title": "The Comedy of Errors", "descriptionHtml": SUMMARY })
}

/// The whole page.
pub(super) fn render(user: Option<&str>, details: &Part, reviews: &Part) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Simple Bookstore App</title>\n<style>{STYLE}</style>\n</head>\n<body>\n\
         <header><b>BookInfo Sample</b>{}</header>\n<main>\n<h1>The Comedy of Errors</h1>\n\
         <p>{}</p>\n<div class=\"columns\">\n<section>\n<h2>Book Details</h2>\n{}</section>\n\
         <section>\n<h2>Book Reviews</h2>\n{}</section>\n</div>\n</main>\n</body>\n</html>\n",
        sign_in(user),
        escape(SUMMARY),
        render_details(details),
        render_reviews(reviews),
    )
}

const STYLE: &str = "body{font:16px/1.5 sans-serif;margin:0;color:#222}\
header{background:#234;color:#fff;padding:.7em 1.5em;display:flex;justify-content:space-between}\
header a{color:#fff}main{max-width:60em;margin:auto;padding:1em}\
.columns{display:flex;flex-wrap:wrap;gap:3em}section{flex:1 1 20em}\
blockquote{margin:0 0 1.2em;border-left:3px solid #9ab;padding-left:1em}\
dt{font-weight:bold}dd{margin:0 0 .4em}.error{color:#a00}";

fn sign_in(user: Option<&str>) -> String {
    match user {
        Some(user) => {
            format!(
                "<span>{} <a href=\"logout\">sign out</a></span>",
                escape(user)
            )
        }
        None => {
            "<form method=\"post\" action=\"login\"><input name=\"username\" aria-label=\"User\" \
                 placeholder=\"user\"> <button>Sign in</button></form>"
                .to_owned()
        }
    }
}

fn render_details((status, details): &Part) -> String {
    if *status != StatusCode::OK {
        return render_error("Error fetching product details!", details);
    }
    let rows = [
        ("ISBN-10", "ISBN-10"),
        ("Publisher", "publisher"),
        ("Pages", "pages"),
        ("Type", "type"),
        ("Language", "language"),
    ];
    let rows: String = rows
        .iter()
        .map(|(title, key)| {
            format!(
                "<dt>{title}</dt><dd>{}</dd>\n",
                escape(&text(&details[*key]))
            )
        })
        .collect();
    format!("<dl>\n{rows}</dl>\n")
}

fn render_reviews((status, reviews): &Part) -> String {
    if *status != StatusCode::OK {
        return render_error("Error fetching product reviews!", reviews);
    }
    let served = format!(
        "<p>Reviews served by <u>{}</u>{}</p>\n",
        escape(&text(&reviews["podname"])),
        match reviews["clustername"].as_str() {
            Some(cluster) if cluster != "null" => format!(" on cluster <u>{}</u>", escape(cluster)),
            _ => String::new(),
        }
    );
    let all = reviews["reviews"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    served + &all.iter().map(render_review).collect::<String>()
}

fn render_review(review: &Value) -> String {
    let rating = &review["rating"];
    let stars = match (rating["stars"].as_u64(), rating["error"].as_str()) {
        (Some(count), _) => {
            let count = usize::try_from(count.min(5)).unwrap_or(5);
            format!(
                "<p style=\"color:{}\" title=\"{count} of 5\">{}{}</p>",
                escape(&text(&rating["color"])),
                "★".repeat(count),
                "☆".repeat(5 - count),
            )
        }
        (None, Some(error)) => format!("<p class=\"error\">{}</p>", escape(error)),
        (None, None) => String::new(),
    };
    format!(
        "<blockquote><p>{}</p><small>{}</small>{stars}</blockquote>\n",
        escape(&text(&review["text"])),
        escape(&text(&review["reviewer"])),
    )
}

fn render_error(title: &str, value: &Value) -> String {
    format!(
        "<h3 class=\"error\">{title}</h3>\n<p>{}</p>\n",
        escape(&text(&value["error"]))
    )
}

/// A JSON value as a reader expects it: strings without quotes, null as nothing.
fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

/// Text that may stand in HTML, also inside a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}
