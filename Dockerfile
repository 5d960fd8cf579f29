# syntax=docker/dockerfile:1
# Build: a Rust toolchain and a C compiler (bundled SQLite). Run: the one executable, an unprivileged user, no shell needed.
# With Postgres: --build-arg FEATURES=postgres
ARG FEATURES=""
FROM rust:1-slim-bookworm AS build
ARG FEATURES
RUN apt-get update && apt-get install -y --no-install-recommends gcc libc6-dev libpq-dev && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/src/target \
    cargo build --release --locked --bin iot-meter --features "$FEATURES" && cp target/release/iot-meter /iot-meter && mkdir /data

FROM debian:bookworm-slim
ARG FEATURES
RUN case "$FEATURES" in *postgres*) apt-get update && apt-get install -y --no-install-recommends libpq5 ca-certificates \
    && rm -rf /var/lib/apt/lists/* ;; esac
COPY --from=build /iot-meter /usr/local/bin/iot-meter
COPY --from=build --chown=10001:10001 --chmod=0700 /data /data
USER 10001:10001
VOLUME /data
WORKDIR /data
ENV IOT_METER__DATA_DIR=/data \
    IOT_METER__HTTP__LISTEN=0.0.0.0:8080 \
    IOT_METER__MQTT__LISTEN=0.0.0.0:1883
EXPOSE 8080 1883 8883
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s --retries=3 CMD ["iot-meter", "healthcheck"]
ENTRYPOINT ["iot-meter"]
CMD ["serve"]
