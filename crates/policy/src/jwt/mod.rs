//! Authentication of requests by tokens (JWT): which tokens a request carries, which issuer's rule they belong to, whether the
//! claims are acceptable, and what of them the application sees. Signatures are verified elsewhere.
//!
//! As in Istio: a request without token passes (authorization may still demand one); one with tokens passes if any of them is
//! valid, and is answered with 401 otherwise.

mod claims;
mod locations;
mod resource;
mod table;

pub use claims::{Claims, TokenError};
pub use locations::{Carrier, Location};
pub use resource::{Authentication, ClaimHeader, JwtRule, Keys, TokenHeader};
pub use table::{Authentications, Candidate, Plan, Refusal};

#[cfg(test)]
mod tests;
