# The agent alone, for a node whose /proc, cgroups and containerd socket are mounted in; config/ has the manifests that do it.
FROM rust:1.95-bookworm AS build
RUN apt-get update && apt-get install -y --no-install-recommends protobuf-compiler libprotobuf-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /build
COPY . .
RUN cargo build --locked --release --bin stallspan

FROM debian:bookworm-slim
RUN apt-get update && apt-get install -y --no-install-recommends ca-certificates && rm -rf /var/lib/apt/lists/*
COPY --from=build /build/target/release/stallspan /usr/local/bin/stallspan
COPY --from=build /build/config/stallspan.yaml /etc/stallspan/stallspan.yaml
EXPOSE 4317 4318 13133
ENTRYPOINT ["/usr/local/bin/stallspan"]
CMD ["run", "--config", "/etc/stallspan/stallspan.yaml"]
