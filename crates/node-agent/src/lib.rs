//! Enrols pods: watch, network namespace, redirect rules, ZDS server; answers the CNI plugin.
