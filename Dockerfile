# haproxy-stapler's image: one static binary and the directory for its state. `make image` builds it, and so does
# `docker build --tag haproxy-stapler .`, by BuildKit or the classic builder, on amd64 and arm64.

# Its Debian's OpenSSL becomes part of the program: 3.0 here; rust:1-trixie would bring 3.5, and three megabytes more.
ARG RUST_IMAGE=rust:1-bookworm

FROM ${RUST_IMAGE} AS build
SHELL ["/bin/bash", "-euo", "pipefail", "-c"]
WORKDIR /build
# A C library and an OpenSSL of its own, and addresses to relocate in a form that is a tenth as large. What a newer compiler
# warns about is no reason not to build.
ENV OPENSSL_STATIC=1 \
    OPENSSL_INCLUDE_DIR=/usr/include \
    RUSTFLAGS="-C target-feature=+crt-static -C link-arg=-Wl,-z,pack-relative-relocs --cap-lints warn"

ARG CARGO_AUDITABLE=0.7.7
# The dependencies first, under a program that does nothing: this layer lasts until they change.
COPY Cargo.toml Cargo.lock ./
COPY container/crates container/cargo /usr/local/share/haproxy-stapler/
RUN sed -i '/^\[\[bench\]\]/,/^$/d' Cargo.toml \
    && mkdir src && echo '//! None of it yet.' | tee src/lib.rs >src/main.rs && echo 'fn main() {}' >>src/main.rs \
    && /usr/local/share/haproxy-stapler/build

COPY src src
COPY templates templates
ARG REVISION=unknown
# Newer than the program that did nothing, which cargo would take for this one.
RUN touch src/main.rs src/lib.rs \
    && STAPLER_BUILD_REVISION="$REVISION" /usr/local/share/haproxy-stapler/build \
    && install -D -m 0555 target/haproxy-stapler /image/haproxy-stapler \
    # For https: responders behind a proxy, issuers to download.
    && install -D -m 0444 /etc/ssl/certs/ca-certificates.crt /image/etc/ssl/certs/ca-certificates.crt \
    # A volume takes over owner and mode, and whoever runs this container may be any user.
    && install -d -m 0777 /image/var/lib/haproxy-stapler

FROM scratch
ARG VERSION=unknown
ARG REVISION=unknown
ARG CREATED=unknown
LABEL org.opencontainers.image.title="haproxy-stapler" \
      org.opencontainers.image.description="Keeps the OCSP staple of every certificate HAProxy serves fresh, verified, persistent and visible" \
      org.opencontainers.image.licenses="MIT OR Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.created="${CREATED}"
COPY --from=build /image /
USER 65532:65532
EXPOSE 10093
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=6s --start-period=30s --retries=3 CMD ["/haproxy-stapler", "healthcheck"]
ENTRYPOINT ["/haproxy-stapler"]
CMD ["run"]
