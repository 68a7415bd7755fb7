//! Authorization: compile, evaluate, explain.
