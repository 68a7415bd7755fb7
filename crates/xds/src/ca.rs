//! The client of the certificate service: asks for certificates on behalf of the workloads of this node.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tokio::sync::Mutex;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tulle_identity::{BoxFuture, IssueError, IssuedPem, Issuer};
use tulle_model::Identity;
use tulle_proto::ca::IstioCertificateRequest;
use tulle_proto::ca::istio_certificate_service_client::IstioCertificateServiceClient;

use crate::endpoint::{ConnectError, Endpoint, causes};
use crate::limits::{CALL_DEADLINE, MAX_CERTIFICATE_ANSWER};

/// The metadata key under which a node proxy names the workload that it asks for.
pub(crate) const IMPERSONATED: &str = "ImpersonatedIdentity";

/// A certificate authority behind `IstioCertificateService`.
pub struct CertificateAuthority {
    endpoint: Endpoint,
    /// Calls that overlap share a connection; the last one closes it. Nothing is held between renewals.
    channel: Mutex<Weak<Channel>>,
}

impl CertificateAuthority {
    /// The authority at `endpoint`. No connection is made yet.
    pub fn new(endpoint: Endpoint) -> Self {
        Self {
            endpoint,
            channel: Mutex::new(Weak::new()),
        }
    }

    async fn channel(&self) -> Result<Arc<Channel>, ConnectError> {
        // Held over the connect on purpose: eight fetches that begin together make one connection.
        let mut shared = self.channel.lock().await;
        if let Some(channel) = shared.upgrade() {
            return Ok(channel);
        }
        let channel = Arc::new(self.endpoint.connect().await?);
        *shared = Arc::downgrade(&channel);
        Ok(channel)
    }

    async fn request(
        &self,
        identity: &Identity,
        csr: String,
        lifetime: Duration,
    ) -> Result<IssuedPem, IssueError> {
        // A token that cannot be read is our own trouble; what happens on the way is the network's.
        let metadata = match self.endpoint.metadata().await {
            Ok(metadata) => metadata,
            Err(error) => return Err(IssueError::Local(error.to_string())),
        };
        let unreachable = |why: String| IssueError::Unreachable {
            address: self.endpoint.authority().to_owned(),
            why,
        };
        let channel = self.channel().await.map_err(|error| match error {
            ConnectError::File { .. } | ConnectError::Roots(_) | ConnectError::Address(_) => {
                IssueError::Local(error.to_string())
            }
            other => unreachable(other.to_string()),
        })?;
        let name = Value {
            kind: Some(Kind::StringValue(identity.to_string())),
        };
        let mut request = Request::new(IstioCertificateRequest {
            csr,
            validity_duration: i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX),
            metadata: Some(Struct {
                fields: BTreeMap::from([(IMPERSONATED.to_owned(), name)]),
            }),
        });
        *request.metadata_mut() = metadata;
        let mut client = IstioCertificateServiceClient::new(Channel::clone(&channel))
            .max_decoding_message_size(MAX_CERTIFICATE_ANSWER);
        let answered = timeout(CALL_DEADLINE, client.create_certificate(request))
            .await
            .unwrap_or_else(|_| {
                let why = format!("no answer within {} s", CALL_DEADLINE.as_secs());
                Err(Status::deadline_exceeded(why))
            });
        match answered {
            Ok(response) => Ok(IssuedPem {
                chain: response.into_inner().cert_chain,
            }),
            Err(status) => Err(match status.code() {
                // What a broken connection, or a server that cannot decide now, looks like.
                Code::Unavailable | Code::Unknown | Code::Cancelled | Code::DeadlineExceeded => {
                    // A connection that broke must not be shared any further.
                    self.retire(&channel).await;
                    let cause = std::error::Error::source(&status).map(causes);
                    unreachable(cause.unwrap_or_else(|| status.message().to_owned()))
                }
                _ => IssueError::Refused {
                    identity: identity.clone(),
                    why: status.message().to_owned(),
                },
            }),
        }
    }

    async fn retire(&self, broken: &Arc<Channel>) {
        let mut shared = self.channel.lock().await;
        if shared.as_ptr() == Arc::as_ptr(broken) {
            *shared = Weak::new();
        }
    }
}

impl Issuer for CertificateAuthority {
    fn issue<'a>(
        &'a self,
        identity: &'a Identity,
        csr_pem: String,
        lifetime: Duration,
    ) -> BoxFuture<'a, Result<IssuedPem, IssueError>> {
        Box::pin(self.request(identity, csr_pem, lifetime))
    }
}
