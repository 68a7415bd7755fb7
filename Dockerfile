# UNTESTED: no container engine was at hand when this was written. `make image` writes the same files as an OCI archive, and that is
# what the tests install.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN cargo build --locked --release -p tulle \
 && host=$(rustc -vV | sed -n 's/^host: //p') \
 && env CARGO_TARGET_$(echo "$host" | tr 'a-z-' 'A-Z_')_RUSTFLAGS="-C target-feature=+crt-static" \
    cargo build --locked --release --target "$host" -p tulle-cni-plugin \
 && cp target/release/tulle target/$host/release/tulle-cni /usr/local/bin/

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends nftables iproute2 && rm -rf /var/lib/apt/lists/*
COPY --from=build /usr/local/bin/tulle /usr/local/bin/tulle-cni /usr/local/bin/
ENTRYPOINT ["/usr/local/bin/tulle"]
