fn main() { for c in tulle_api::crds() { println!("---\n{}", serde_saphyr::to_string(&c).unwrap()); } }
