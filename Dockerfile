# The service in an image: `docker build -t ordersystem .`
#
# Nothing but crates.io is downloaded while building: the compiler of the protos is a crate, SQLite is built from source.

# `docker buildx imagetools inspect IMAGE --format '{{.Manifest.Digest}}'` prints the digest; renew it together with the tag.
ARG RUST_IMAGE=rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082
# glibc and libgcc, without a shell: no command is run in this stage. Another image with both works as well, such as debian:bookworm-slim.
ARG RUNTIME_IMAGE=gcr.io/distroless/cc-debian12:nonroot@sha256:9dac0a79194e45a7da0158a9c6da57b217585af0786db3845d1f0ec1a0dd182f

FROM ${RUST_IMAGE} AS builder
WORKDIR /build

# The dependencies, in a layer that is reused until Cargo.toml or Cargo.lock change: built for an empty program.
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
RUN mkdir src \
    && for file in src/main.rs build.rs; do echo 'fn main() {}' > "$file"; done \
    && touch src/lib.rs \
    && cargo build --locked --release --bin ordersystem

# The service itself. The copied files may be older than the build of the stand-ins, which cargo would mistake for up to date.
COPY build.rs ./
COPY proto proto
COPY src src
# For the metric with information on the build.
ARG REVISION=unknown
RUN touch build.rs src/main.rs src/lib.rs \
    && ORDERSYSTEM_REVISION="$REVISION" cargo build --locked --release --bin ordersystem
RUN mkdir -p /image/var/lib/ordersystem \
    && cp target/release/ordersystem /image/

FROM ${RUNTIME_IMAGE}
ARG RUNTIME_IMAGE
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="ordersystem" \
      org.opencontainers.image.description="An event-sourced CQRS order service: gRPC first, with a thin REST gateway on the same port" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.base.name="${RUNTIME_IMAGE}"

# For TLS to a broker.
COPY --from=builder /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=builder /image/ordersystem /usr/local/bin/ordersystem
COPY --from=builder --chown=65532:65532 /image/var/lib/ordersystem /var/lib/ordersystem

# In the environment and not as flags, so that the health check and every other command of the program see the same settings.
ENV ORDERSYSTEM_BIND=0.0.0.0 \
    ORDERSYSTEM_PORT=5000 \
    ORDERSYSTEM_DATA_DIR=/var/lib/ordersystem
# A number, so that Kubernetes can verify that it is not root.
USER 65532:65532
WORKDIR /var/lib/ordersystem
VOLUME ["/var/lib/ordersystem"]
EXPOSE 5000
# SIGTERM drains: docker stop must wait longer than --shutdown-grace-ms, 25 s; its default is 10 s.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=5s --timeout=3s --start-period=30s --retries=3 CMD ["ordersystem", "health"]
ENTRYPOINT ["ordersystem"]
CMD ["serve"]
