use bytes::BytesMut;
use prop::collection::vec;
use proptest::prelude::*;
use prost::Message;
use tulle_proto::discovery::DeltaDiscoveryResponse;

use super::*;
use crate::wire;

proptest! {
    /// What is put together by hand is what prost reads, with either set of messages.
    #[test]
    fn answers_are_protobuf(
        version in ".{0,20}",
        nonce in ".{0,20}",
        resources in vec((".{0,40}", ".{0,20}", vec(".{0,10}", 0..3), vec(any::<u8>(), 0..300)), 0..8),
        removed in vec(".{0,200}", 0..8),
    ) {
        let answer = Answer {
            version: version.clone(),
            type_url: "a type".into(),
            nonce: nonce.clone(),
            resources: resources
                .iter()
                .map(|(name, version, aliases, body)| resource("a type", name, version, aliases, body))
                .collect(),
            removed: removed.iter().map(|name| name.as_str().into()).collect(),
        };
        let mut bytes = BytesMut::new();
        answer.encode(&mut bytes);
        prop_assert_eq!(bytes.len(), answer.encoded_len());

        let read = DeltaDiscoveryResponse::decode(&bytes[..]).unwrap();
        prop_assert_eq!(&read.system_version_info, &version);
        prop_assert_eq!(&read.nonce, &nonce);
        prop_assert_eq!(read.type_url, "a type");
        prop_assert_eq!(&read.removed_resources, &removed);
        prop_assert_eq!(read.resources.len(), resources.len());
        for (read, (name, version, aliases, body)) in read.resources.iter().zip(&resources) {
            prop_assert_eq!(&read.name, name);
            prop_assert_eq!(&read.version, version);
            prop_assert_eq!(&read.aliases, aliases);
            let any = read.resource.as_ref().unwrap();
            prop_assert_eq!(&any.type_url, "a type");
            prop_assert_eq!(&any.value, body);
        }
        let ours = wire::Answer::decode(bytes.freeze()).unwrap();
        prop_assert_eq!(ours.resources.len(), resources.len());
        for (read, (name, _, aliases, body)) in ours.resources.iter().zip(&resources) {
            prop_assert_eq!(&read.name, name);
            prop_assert_eq!(&read.aliases, aliases);
            prop_assert_eq!(&read.resource.as_ref().unwrap().value[..], &body[..]);
        }
    }
}
