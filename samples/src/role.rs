//! Which sample the program plays.

use std::str::FromStr;

/// The part to play.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Bookinfo's page: aggregates details and reviews.
    Productpage,
    /// Bookinfo's book data.
    Details,
    /// Bookinfo's reviews; versions differ by `ENABLE_RATINGS` and `STAR_COLOR`.
    Reviews,
    /// Bookinfo's stars.
    Ratings,
    /// Echoes requests.
    Httpbin,
    /// Says which version and pod answered.
    Helloworld,
    /// Says what arrived: over HTTP/1.1, HTTP/2, gRPC, WebSocket, TLS and TCP.
    Echo,
    /// Decides about requests when proxies ask.
    ExtAuthz,
    /// Gives out keys that tokens are verified with.
    Issuer,
}

impl Role {
    /// All roles, in the order of the help text.
    pub const ALL: [Role; 9] = [
        Role::Productpage,
        Role::Details,
        Role::Reviews,
        Role::Ratings,
        Role::Httpbin,
        Role::Helloworld,
        Role::Echo,
        Role::ExtAuthz,
        Role::Issuer,
    ];

    /// The name by which it is called on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Role::Productpage => "productpage",
            Role::Details => "details",
            Role::Reviews => "reviews",
            Role::Ratings => "ratings",
            Role::Httpbin => "httpbin",
            Role::Helloworld => "helloworld",
            Role::Echo => "echo",
            Role::ExtAuthz => "ext-authz",
            Role::Issuer => "issuer",
        }
    }

    /// The port that upstream's sample listens on.
    pub fn default_port(self) -> u16 {
        match self {
            Role::Httpbin | Role::Echo => 8080,
            Role::Helloworld => 5000,
            Role::ExtAuthz | Role::Issuer => 8000,
            _ => 9080,
        }
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        Role::ALL
            .into_iter()
            .find(|role| role.name() == name)
            .ok_or_else(|| {
                let known: Vec<_> = Role::ALL.into_iter().map(Role::name).collect();
                format!(
                    "no sample is called {name:?}; there are: {}",
                    known.join(", ")
                )
            })
    }
}
