//! Bookinfo: a page about one book, made of four services.

mod details;
mod page;
mod productpage;
mod ratings;
mod reviews;

pub(crate) use details::Details;
pub(crate) use productpage::Productpage;
pub(crate) use ratings::Ratings;
pub(crate) use reviews::Reviews;

/// The number at the end of `/<collection>/<number>`; `Some(Err)` if there is something else there.
fn product_id(path: &str, collection: &str) -> Option<Result<u64, ()>> {
    let id = path
        .strip_prefix('/')?
        .strip_prefix(collection)?
        .strip_prefix('/')?;
    Some(id.parse().map_err(|_| ()))
}
