use proptest::prelude::*;

use super::*;

fn message(length: usize) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend((length as u32).to_be_bytes());
    bytes.extend(std::iter::repeat_n(7, length));
    bytes
}

proptest! {
    #[test]
    fn messages_are_counted_however_they_are_cut(lengths in prop::collection::vec(0usize..300, 0..20), cut in 1usize..50) {
        let all: Vec<u8> = lengths.iter().flat_map(|l| message(*l)).collect();
        let messages = Messages::default();
        for piece in all.chunks(cut) {
            messages.follow(piece);
        }
        prop_assert_eq!(messages.count(), lengths.len() as u64);
        prop_assert_eq!(messages.left.get(), 0);
    }
}
