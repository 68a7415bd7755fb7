//! How an answer becomes bytes: the resources were encoded when they were published and are only put together here.

use std::sync::Arc;

use bytes::{BufMut, Bytes};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};
use tonic::Status;
use tonic::codec::{Codec, EncodeBuf, Encoder};
use tonic_prost::ProstDecoder;
use tulle_proto::discovery::DeltaDiscoveryRequest;

/// Field numbers of `DeltaDiscoveryResponse` and of the messages in it.
const ANSWER_VERSION: u32 = 1;
const ANSWER_RESOURCES: u32 = 2;
const ANSWER_TYPE: u32 = 4;
const ANSWER_NONCE: u32 = 5;
const ANSWER_REMOVED: u32 = 6;
const RESOURCE_VERSION: u32 = 1;
const RESOURCE_BODY: u32 = 2;
const RESOURCE_NAME: u32 = 3;
const RESOURCE_ALIAS: u32 = 4;
const ANY_TYPE: u32 = 1;
const ANY_VALUE: u32 = 2;

/// One `DeltaDiscoveryResponse`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) version: String,
    pub(super) type_url: Arc<str>,
    pub(super) nonce: String,
    /// Each as [`resource`] made it, shared by all streams.
    pub(super) resources: Vec<Bytes>,
    pub(super) removed: Vec<Arc<str>>,
}

/// A resource as a field of an answer: key, length, message.
pub(super) fn resource(
    type_url: &str,
    name: &str,
    version: &str,
    aliases: &[String],
    body: &[u8],
) -> Bytes {
    let any = field_len(ANY_TYPE, type_url.len()) + field_len(ANY_VALUE, body.len());
    let aliased: usize = aliases
        .iter()
        .map(|alias| field_len(RESOURCE_ALIAS, alias.len()))
        .sum();
    let message = field_len(RESOURCE_VERSION, version.len())
        + field_len(RESOURCE_BODY, any)
        + field_len(RESOURCE_NAME, name.len())
        + aliased;
    let mut out = Vec::with_capacity(field_len(ANSWER_RESOURCES, message));
    head(&mut out, ANSWER_RESOURCES, message);
    field(&mut out, RESOURCE_VERSION, version.as_bytes());
    head(&mut out, RESOURCE_BODY, any);
    field(&mut out, ANY_TYPE, type_url.as_bytes());
    field(&mut out, ANY_VALUE, body);
    field(&mut out, RESOURCE_NAME, name.as_bytes());
    for alias in aliases {
        field(&mut out, RESOURCE_ALIAS, alias.as_bytes());
    }
    out.into()
}

fn head(out: &mut impl BufMut, tag: u32, length: usize) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(length as u64, out);
}

fn field(out: &mut impl BufMut, tag: u32, bytes: &[u8]) {
    head(out, tag, bytes.len());
    out.put_slice(bytes);
}

fn field_len(tag: u32, length: usize) -> usize {
    key_len(tag) + encoded_len_varint(length as u64) + length
}

impl Answer {
    fn encode(&self, out: &mut impl BufMut) {
        field(out, ANSWER_VERSION, self.version.as_bytes());
        for resource in &self.resources {
            out.put_slice(resource);
        }
        field(out, ANSWER_TYPE, self.type_url.as_bytes());
        field(out, ANSWER_NONCE, self.nonce.as_bytes());
        for name in &self.removed {
            field(out, ANSWER_REMOVED, name.as_bytes());
        }
    }

    fn encoded_len(&self) -> usize {
        let resources: usize = self.resources.iter().map(Bytes::len).sum();
        let removed: usize = self
            .removed
            .iter()
            .map(|name| field_len(ANSWER_REMOVED, name.len()))
            .sum();
        field_len(ANSWER_VERSION, self.version.len())
            + field_len(ANSWER_TYPE, self.type_url.len())
            + field_len(ANSWER_NONCE, self.nonce.len())
            + resources
            + removed
    }
}

/// Requests in, answers out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DeltaCodec;

impl Codec for DeltaCodec {
    type Encode = Answer;
    type Decode = DeltaDiscoveryRequest;
    type Encoder = AnswerEncoder;
    type Decoder = ProstDecoder<DeltaDiscoveryRequest>;

    fn encoder(&mut self) -> AnswerEncoder {
        AnswerEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstDecoder::new(tonic::codec::BufferSettings::default())
    }
}

#[derive(Debug, Clone, Copy)]
pub(super) struct AnswerEncoder;

impl Encoder for AnswerEncoder {
    type Item = Answer;
    type Error = Status;

    fn encode(&mut self, answer: Answer, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(answer.encoded_len());
        answer.encode(out);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
