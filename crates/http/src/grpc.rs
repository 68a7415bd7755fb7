//! gRPC in terms of HTTP: errors that a proxy answers, statuses that it counts, deadlines.

use std::time::Duration;

use ::http::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use ::http::{HeaderMap, Response, StatusCode};

use crate::body::Body;
use crate::limits;

/// `grpc-status`.
pub const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// `grpc-message`.
pub const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
/// `grpc-timeout`.
pub const TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");

/// A gRPC status code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are gRPC's")]
#[repr(u8)]
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// By number, as it is on the wire; others are none.
    pub fn from_number(number: u64) -> Option<Self> {
        Self::ALL.get(usize::try_from(number).ok()?).copied()
    }

    /// By name, as fault injection has it: `UNAVAILABLE`, or a number.
    pub fn from_name(name: &str) -> Option<Self> {
        const NAMES: [&str; 17] = [
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ];
        let number = NAMES.iter().position(|known| *known == name);
        match number {
            Some(number) => Self::from_number(number as u64),
            None => Self::from_number(name.parse().ok()?),
        }
    }

    /// What a proxy's HTTP status means to a gRPC client (gRPC's http-grpc-status-mapping).
    pub fn from_http(status: StatusCode) -> Self {
        match status.as_u16() {
            200 => Self::Ok,
            400 => Self::Internal,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::Unimplemented,
            429 | 502 | 503 | 504 => Self::Unavailable,
            _ => Self::Unknown,
        }
    }

    /// The HTTP status that says about the same, for metrics and retry conditions.
    pub fn to_http(self) -> StatusCode {
        match self {
            Self::Ok => StatusCode::OK,
            Self::Cancelled => StatusCode::from_u16(499).unwrap_or(StatusCode::REQUEST_TIMEOUT),
            Self::InvalidArgument | Self::FailedPrecondition | Self::OutOfRange => {
                StatusCode::BAD_REQUEST
            }
            Self::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::AlreadyExists | Self::Aborted => StatusCode::CONFLICT,
            Self::PermissionDenied => StatusCode::FORBIDDEN,
            Self::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Self::Unimplemented => StatusCode::NOT_IMPLEMENTED,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Unauthenticated => StatusCode::UNAUTHORIZED,
            Self::Unknown | Self::Internal | Self::DataLoss => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// In headers or trailers.
    pub fn of(headers: &HeaderMap) -> Option<Self> {
        let number = headers.get(STATUS)?.to_str().ok()?.parse().ok()?;
        Some(Self::from_number(number).unwrap_or(Self::Unknown))
    }
}

/// Whether a message is gRPC: `application/grpc`, with or without what it carries.
pub fn is_grpc(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE) else {
        return false;
    };
    match kind.as_bytes().strip_prefix(b"application/grpc") {
        Some(rest) => matches!(rest.first(), None | Some(b'+' | b';')),
        None => false,
    }
}

/// An answer without a body: status and message in the headers (a "trailers-only" answer).
pub fn answer(code: Code, message: &str) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    headers.insert(STATUS, HeaderValue::from(code as u16));
    if !message.is_empty()
        && let Ok(message) = HeaderValue::from_str(&percent_encode(message))
    {
        headers.insert(MESSAGE, message);
    }
    response
}

/// The answer to a request that went wrong here: for gRPC clients as gRPC says it.
pub fn local_answer(request_is_grpc: bool, status: StatusCode, text: &str) -> Response<Body> {
    if request_is_grpc {
        return answer(Code::from_http(status), text);
    }
    let mut response = Response::new(Body::full(text.to_owned()));
    *response.status_mut() = status;
    if !text.is_empty() {
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    }
    response
}

fn percent_encode(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for byte in message.bytes() {
        if text.len() >= limits::GRPC_MESSAGE {
            break;
        }
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            text.push(byte as char);
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// `grpc-timeout`: at most eight digits and a unit.
pub fn timeout(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A duration as `grpc-timeout`, in the finest unit that eight digits hold.
pub fn timeout_value(timeout: Duration) -> HeaderValue {
    const MOST: u128 = 99_999_999;
    let units = [
        (timeout.as_nanos(), 'n'),
        (timeout.as_micros(), 'u'),
        (timeout.as_millis(), 'm'),
        (u128::from(timeout.as_secs()), 'S'),
        (u128::from(timeout.as_secs() / 60), 'M'),
    ];
    let fits = units.into_iter().find(|(number, _)| *number <= MOST);
    let (number, unit) = fits.unwrap_or((u128::from(timeout.as_secs() / 3600).min(MOST), 'H'));
    HeaderValue::from_str(&format!("{number}{unit}"))
        .unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn kinds() {
        for (kind, grpc) in [
            ("application/grpc", true),
            ("application/grpc+proto", true),
            ("application/grpc;x", true),
            ("application/grpc-web", false),
            ("text/plain", false),
        ] {
            assert_eq!(is_grpc(&headers(CONTENT_TYPE, kind)), grpc, "{kind}");
        }
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn timeouts_there_and_back() {
        for (text, nanos) in [
            ("1H", 3_600_000_000_000u64),
            ("2M", 120_000_000_000),
            ("3S", 3_000_000_000),
            ("4m", 4_000_000),
            ("5u", 5_000),
            ("99999999n", 99_999_999),
        ] {
            assert_eq!(
                timeout(&headers(TIMEOUT, text)),
                Some(Duration::from_nanos(nanos))
            );
        }
        for bad in ["", "S", "1", "1x", "-1S", "123456789S", "1.5S"] {
            assert_eq!(timeout(&headers(TIMEOUT, bad)), None, "{bad}");
        }
        for (secs, text) in [
            (0, "0n"),
            (1, "1000000u"),
            (100, "100000m"),
            (10_000_000, "10000000S"),
        ] {
            assert_eq!(timeout_value(Duration::from_secs(secs)), text);
        }
        let forever = timeout_value(Duration::MAX);
        assert_eq!(forever, "99999999H");
    }

    #[test]
    fn errors_are_answers() {
        let response = local_answer(
            true,
            StatusCode::SERVICE_UNAVAILABLE,
            "no healthy upstream: 100%\n",
        );
        assert_eq!(response.status(), 200);
        assert_eq!(Code::of(response.headers()), Some(Code::Unavailable));
        assert_eq!(
            response.headers()[MESSAGE],
            "no healthy upstream: 100%25%0A"
        );
        assert!(response.body().is_end());
        let response = local_answer(false, StatusCode::NOT_FOUND, "");
        assert_eq!(response.status(), 404);
        for code in Code::ALL {
            assert_eq!(Code::from_number(code as u64), Some(code));
            assert_eq!(Code::from_name(&(code as u8).to_string()), Some(code));
        }
        assert_eq!(Code::from_name("UNAVAILABLE"), Some(Code::Unavailable));
        assert_eq!(Code::of(&headers(STATUS, "77")), Some(Code::Unknown));
        assert_eq!(Code::Unavailable.to_http(), 503);
    }
}
