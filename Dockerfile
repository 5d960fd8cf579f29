# iot-meter in an image of nothing else: the executable, the libraries it is linked with, and the list of them. There is no
# shell and no package manager to get into, and no base to keep up to date but the one it is built on.
#
#   docker build -t iot-meter .                                  `make image` also says what went in (labels)
#   docker build --build-arg FEATURES=s3 -t iot-meter .          without Postgres
#   docker build --build-arg BUILD_IMAGE=…/rust:1.95 .           on another base: Debian 12 or newer with a Rust toolchain
#
# The base is pinned by digest, that of the index of all architectures; the tag beside it says what it is. For another one:
#   docker buildx imagetools inspect rust:TAG
# What is built is for the kind of machine it is built on. .github/workflows/image.yml has one of amd64 and one of arm64, and
# tries each image where it was built.
ARG BUILD_IMAGE=docker.io/library/rust:1.95.0-slim-bookworm@sha256:d7482085ff5b415f84dba5647ae71606650bdef00db7aeb69f4b3d170c3e4082
ARG RUNTIME_IMAGE=scratch

FROM ${BUILD_IMAGE} AS build
# Upgraded, since libraries of the base end in the image, and the base is as old as its digest. No versions: Debian keeps only the
# newest of a package, so that a pinned one makes a Dockerfile that stops working.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get upgrade -y --no-install-recommends \
    && apt-get install -y --no-install-recommends ca-certificates gcc libc6-dev libpq-dev \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
ARG FEATURES=postgres,s3
# Small: no symbols, relocations packed (glibc 2.36 or newer, as in the base), and one unit, which has fewer copies of what is inlined.
# Debian 12's linker for arm64 cannot pack them, says so, and goes on.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    CARGO_PROFILE_RELEASE_STRIP=symbols CARGO_PROFILE_RELEASE_CODEGEN_UNITS=1 RUSTFLAGS="-C link-arg=-Wl,-z,pack-relative-relocs" \
    cargo build --release --locked --bin iot-meter --features "$FEATURES" \
    && install -D target/release/iot-meter /out/usr/bin/iot-meter \
    && deploy/image/root /out \
    && install -d -m 0700 /state/iot-meter

FROM ${RUNTIME_IMAGE}
COPY --from=build /out/ /
COPY --from=build --chown=10001:10001 /state/ /var/lib/
USER 10001:10001
WORKDIR /var/lib/iot-meter
VOLUME /var/lib/iot-meter
ENV PATH=/usr/bin \
    IOT_METER__DATA_DIR=/var/lib/iot-meter \
    IOT_METER__HTTP__LISTEN=0.0.0.0:8080 \
    IOT_METER__MQTT__LISTEN=0.0.0.0:1883
# The API and the console, MQTT, MQTT in TLS.
EXPOSE 8080 1883 8883
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 CMD ["iot-meter", "healthcheck"]
ENTRYPOINT ["iot-meter"]
CMD ["serve"]
ARG VERSION=unknown
ARG REVISION=unknown
LABEL org.opencontainers.image.title="iot-meter" \
      org.opencontainers.image.description="Collects power measurements from meters on trains: MQTT broker, collector, REST API, console and metrics in one binary" \
      org.opencontainers.image.source="https://github.com/iot-meter/iot-meter" \
      org.opencontainers.image.documentation="https://github.com/iot-meter/iot-meter#readme" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
