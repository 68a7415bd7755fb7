//! What every long-running part is made of: workers, signals, drain, readiness, admin pages.
