//! Watch, translate, publish; the CA; status.
