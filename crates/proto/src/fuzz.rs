//! Resources from the wire, as `fuzz/` brings them: any bytes may come in, and a broken promise panics.

use prost::Message as _;
use tulle_model::Interner;

use crate::workload::zds::{WorkloadRequest, WorkloadResponse, ZdsHello};
use crate::{
    AddressItem, decode_address, decode_authorization, encode_policy, encode_service,
    encode_workload,
};

/// A workload or service: what was understood can be said again, and means the same.
pub fn address(data: &[u8]) {
    let mut texts = Interner::default();
    let Ok(item) = decode_address(data, &mut texts) else {
        return;
    };
    let said = match &item {
        AddressItem::Workload(workload) => encode_workload(workload),
        AddressItem::Service(service) => encode_service(service),
    };
    assert_eq!(decode_address(&said, &mut texts), Ok(item));
}

/// A policy: what was understood in full can be said again, and means the same.
pub fn authorization(data: &[u8]) {
    let Ok(policy) = decode_authorization(data) else {
        return;
    };
    if policy.unenforceable.is_none() {
        let said = encode_policy(&policy);
        assert_eq!(decode_authorization(&said), Ok(policy));
    }
}

/// Messages between node agent and node proxy: a message is the same again after it was written and read.
pub fn zds(data: &[u8]) {
    if let Ok(message) = WorkloadRequest::decode(data) {
        assert_eq!(
            WorkloadRequest::decode(&*message.encode_to_vec()),
            Ok(message)
        );
    }
    if let Ok(message) = WorkloadResponse::decode(data) {
        assert_eq!(
            WorkloadResponse::decode(&*message.encode_to_vec()),
            Ok(message)
        );
    }
    let _ = ZdsHello::decode(data);
}
