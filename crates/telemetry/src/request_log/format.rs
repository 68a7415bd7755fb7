//! Formats: texts with `%OPERATOR(ARGUMENT):LENGTH%`, compiled once.

use crate::limits::LOG_FORMAT_PIECES;

/// Istio's default line.
const DEFAULT_TEXT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" %RESPONSE_CODE% ",
    "%RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% ",
    "\"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" %BYTES_RECEIVED% %BYTES_SENT% %DURATION% ",
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% \"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" ",
    "\"%REQ(X-REQUEST-ID)%\" \"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
);

/// Istio's default JSON, in its order.
const DEFAULT_JSON: [(&str, &str); 23] = [
    ("start_time", "%START_TIME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    (
        "connection_termination_details",
        "%CONNECTION_TERMINATION_DETAILS%",
    ),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    (
        "upstream_service_time",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    ),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
];

/// Why a format cannot be used. The user erred.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FormatError {
    /// A `%` without its other one.
    #[error("the access log format {0:?} has a % that is not closed; write %% for the character")]
    Open(String),
    /// An operator that needs an argument.
    #[error("the access log operator {0:?} needs a header name in parentheses")]
    Argument(String),
    /// More than we take.
    #[error("the access log format has more than {LOG_FORMAT_PIECES} parts")]
    Long,
}

/// A compiled format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestFormat {
    pub(super) text: Vec<Piece>,
    pub(super) json: Option<Vec<(Box<str>, Vec<Piece>)>>,
    request: Vec<Box<str>>,
    response: Vec<Box<str>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Piece {
    Text(Box<str>),
    Field(Field),
}

/// What an operator stands for. Headers are kept by their place in the format's lists.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Start,
    Request {
        at: usize,
        or: Option<usize>,
        cut: Option<usize>,
    },
    PathWithoutQuery {
        at: usize,
        or: Option<usize>,
    },
    Response {
        at: usize,
        cut: Option<usize>,
    },
    Protocol,
    Code,
    Flags,
    Details,
    Termination,
    UpstreamFailure,
    BytesReceived,
    BytesSent,
    Duration,
    UpstreamTime,
    UpstreamHost,
    UpstreamCluster,
    UpstreamLocal,
    DownstreamLocal,
    DownstreamRemote,
    DownstreamRemoteIp,
    ServerName,
    Route,
    Peer,
    GrpcStatus,
    Trace,
    /// An operator of Envoy's that has no value here.
    Unknown,
}

impl Field {
    pub(super) fn is_number(&self) -> bool {
        matches!(
            self,
            Self::Code
                | Self::BytesReceived
                | Self::BytesSent
                | Self::Duration
                | Self::UpstreamTime
                | Self::GrpcStatus
        )
    }
}

impl RequestFormat {
    /// A text; a line feed is added when it ends without.
    ///
    /// # Errors
    /// If it is not well-formed.
    pub fn text(format: &str) -> Result<Self, FormatError> {
        let mut compiled = Self::empty();
        compiled.text = compiled.compile(format)?;
        if !format.ends_with('\n') {
            compiled.text.push(Piece::Text("\n".into()));
        }
        Ok(compiled)
    }

    /// One JSON object a line, keys in this order.
    ///
    /// # Errors
    /// If a value is not well-formed.
    pub fn json<'a>(
        keys: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, FormatError> {
        let mut compiled = Self::empty();
        let mut all = Vec::new();
        for (key, format) in keys {
            all.push((key.into(), compiled.compile(format)?));
        }
        compiled.json = Some(all);
        Ok(compiled)
    }

    /// A text (Istio's when it is `None`), and beside it texts by name: [`RequestRecord::text`](crate::RequestRecord::text) and
    /// [`RequestRecord::labels`](crate::RequestRecord::labels).
    ///
    /// # Errors
    /// If one of them is not well-formed.
    pub fn labelled<'a>(
        text: Option<&str>,
        labels: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Result<Self, FormatError> {
        let mut compiled = Self::empty();
        compiled.text = compiled.compile(text.unwrap_or(DEFAULT_TEXT))?;
        let mut all = Vec::new();
        for (name, format) in labels {
            all.push((name.into(), compiled.compile(format)?));
        }
        compiled.json = Some(all);
        Ok(compiled)
    }

    /// Istio's line.
    pub fn default_text() -> Self {
        // A test holds that both defaults compile.
        Self::text(DEFAULT_TEXT).unwrap_or_else(|_| Self::empty())
    }

    /// Istio's JSON.
    pub fn default_json() -> Self {
        let keys = DEFAULT_JSON
            .into_iter()
            .chain([("route_name", "%ROUTE_NAME%")]);
        Self::json(keys).unwrap_or_else(|_| Self::empty())
    }

    /// Names, lower case, of the request's headers that the format shows; `:method`, `:path`, `:authority` and `:scheme` too.
    pub fn request_headers(&self) -> impl Iterator<Item = &str> {
        self.request.iter().map(|name| &**name)
    }

    /// Names, lower case, of the answer's headers that the format shows.
    pub fn response_headers(&self) -> impl Iterator<Item = &str> {
        self.response.iter().map(|name| &**name)
    }

    fn empty() -> Self {
        Self {
            text: Vec::new(),
            json: None,
            request: Vec::new(),
            response: Vec::new(),
        }
    }

    fn compile(&mut self, format: &str) -> Result<Vec<Piece>, FormatError> {
        let mut pieces: Vec<Piece> = Vec::new();
        let mut plain = String::new();
        let mut rest = format;
        while let Some((before, after)) = rest.split_once('%') {
            plain.push_str(before);
            if let Some(escaped) = after.strip_prefix('%') {
                plain.push('%');
                rest = escaped;
                continue;
            }
            let open = || FormatError::Open(format.to_owned());
            let (operator, after) = after.split_once('%').ok_or_else(open)?;
            if !plain.is_empty() {
                pieces.push(Piece::Text(std::mem::take(&mut plain).into()));
            }
            pieces.push(Piece::Field(self.operator(operator)?));
            if pieces.len() > LOG_FORMAT_PIECES {
                return Err(FormatError::Long);
            }
            rest = after;
        }
        plain.push_str(rest);
        if !plain.is_empty() {
            pieces.push(Piece::Text(plain.into()));
        }
        Ok(pieces)
    }

    fn operator(&mut self, operator: &str) -> Result<Field, FormatError> {
        let (name, rest) = operator
            .find(['(', ':'])
            .map_or((operator, ""), |at| operator.split_at(at));
        let (argument, rest) = match rest.strip_prefix('(').and_then(|r| r.rsplit_once(')')) {
            Some((argument, rest)) => (Some(argument), rest),
            None => (None, rest),
        };
        let cut = rest.strip_prefix(':').and_then(|n| n.parse().ok());
        let needed = || FormatError::Argument(operator.to_owned());
        Ok(match name {
            "START_TIME" => Field::Start,
            "REQ" => {
                let (at, or) = self.request_header(argument.ok_or_else(needed)?);
                Field::Request { at, or, cut }
            }
            "REQ_WITHOUT_QUERY" => {
                let (at, or) = self.request_header(argument.ok_or_else(needed)?);
                Field::PathWithoutQuery { at, or }
            }
            "RESP" => {
                let argument = argument.ok_or_else(needed)?;
                if argument.eq_ignore_ascii_case("X-ENVOY-UPSTREAM-SERVICE-TIME") {
                    Field::UpstreamTime
                } else if argument.eq_ignore_ascii_case("grpc-status") {
                    Field::GrpcStatus
                } else {
                    let name = argument.split('?').next().unwrap_or(argument);
                    let at = place(&mut self.response, name);
                    Field::Response { at, cut }
                }
            }
            other => plain_operator(other),
        })
    }

    /// `NAME` or `NAME?OTHER`.
    fn request_header(&mut self, argument: &str) -> (usize, Option<usize>) {
        match argument.split_once('?') {
            Some((name, other)) => (
                place(&mut self.request, name),
                Some(place(&mut self.request, other)),
            ),
            None => (place(&mut self.request, argument), None),
        }
    }
}

fn plain_operator(name: &str) -> Field {
    match name {
        "PROTOCOL" => Field::Protocol,
        "RESPONSE_CODE" => Field::Code,
        "RESPONSE_FLAGS" => Field::Flags,
        "RESPONSE_CODE_DETAILS" => Field::Details,
        "CONNECTION_TERMINATION_DETAILS" => Field::Termination,
        "UPSTREAM_TRANSPORT_FAILURE_REASON" => Field::UpstreamFailure,
        "BYTES_RECEIVED" => Field::BytesReceived,
        "BYTES_SENT" => Field::BytesSent,
        "DURATION" => Field::Duration,
        "RESPONSE_DURATION" => Field::UpstreamTime,
        "UPSTREAM_HOST" | "UPSTREAM_REMOTE_ADDRESS" => Field::UpstreamHost,
        "UPSTREAM_CLUSTER" | "UPSTREAM_CLUSTER_RAW" => Field::UpstreamCluster,
        "UPSTREAM_LOCAL_ADDRESS" => Field::UpstreamLocal,
        "DOWNSTREAM_LOCAL_ADDRESS" => Field::DownstreamLocal,
        "DOWNSTREAM_REMOTE_ADDRESS" | "DOWNSTREAM_DIRECT_REMOTE_ADDRESS" => Field::DownstreamRemote,
        "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT" => Field::DownstreamRemoteIp,
        "REQUESTED_SERVER_NAME" => Field::ServerName,
        "ROUTE_NAME" => Field::Route,
        "DOWNSTREAM_PEER_URI_SAN" => Field::Peer,
        "GRPC_STATUS" | "GRPC_STATUS_NUMBER" => Field::GrpcStatus,
        "TRACE_ID" => Field::Trace,
        _ => Field::Unknown,
    }
}

fn place(names: &mut Vec<Box<str>>, name: &str) -> usize {
    let name = name.to_ascii_lowercase();
    match names.iter().position(|known| **known == *name) {
        Some(at) => at,
        None => {
            names.push(name.into());
            names.len() - 1
        }
    }
}
