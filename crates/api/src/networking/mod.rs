//! `networking.istio.io`: how traffic reaches what it is meant for.

mod entry;

pub use entry::{
    Location, Resolution, ServiceEntry, ServiceEntryAddress, ServiceEntrySpec, ServiceEntryStatus,
    ServicePort, LabelSelector, WorkloadEntry, WorkloadEntrySpec,
};
