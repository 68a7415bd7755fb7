//! Resources to model and policy, with a typed rejection for everything refused.
