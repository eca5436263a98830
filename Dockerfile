# meshca on a minimal base without a shell: one runtime, an unprivileged user, a read-only root file system. The server
# serves TLS or plain HTTP by its settings: MESHCA_TLS=self, a certificate in files, or MESHCA_PLAIN_HTTP=behind-proxy.
#   docker build -t meshca .
#   docker run --read-only --cap-drop ALL -v meshca:/data -p 127.0.0.1:8500:8500 -e MESHCA_TLS=self meshca
# With a certificate in files that the user 65532 can read:
#   docker run ... -v /etc/meshca/tls:/tls:ro -e MESHCA_TLS_CERT_FILE=/tls/cert.pem -e MESHCA_TLS_KEY_FILE=/tls/key.pem meshca
# Bases are named by tag. To pin them: --build-arg BUILDER=oven/bun@sha256:... --build-arg BASE=gcr.io/distroless/base-nossl-debian12@sha256:...

# Installs the packages. Its Bun is not in the image: that one is of the lock file, and verified by the lock file's hash.
ARG BUILDER=oven/bun:1.4.5
# glibc, certificates of public CAs, the user nonroot (65532).
ARG BASE=gcr.io/distroless/base-nossl-debian12:nonroot

FROM ${BUILDER} AS build
WORKDIR /app
COPY package.json bun.lock bunfig.toml ./
COPY bin/runtime bin/runtime
RUN set -eu; \
    bun install --production --omit=peer --frozen-lockfile --ignore-scripts; \
    mkdir -p /image/usr/local/bin /image/app /data; \
    mv node_modules/@oven/bun-linux-*/bin/bun /image/usr/local/bin/bun; \
    rm -rf node_modules/bun node_modules/meshca-runtime node_modules/@oven node_modules/.bin node_modules/@types; \
    find node_modules -type f \( -name '*.d.ts' -o -name '*.d.mts' -o -name '*.d.cts' -o -name '*.map' \) -exec rm {} +; \
    mv node_modules package.json /image/app/; \
    printf '#!/usr/local/bin/bun\nimport "/app/src/cli/main.ts";\n' >/image/usr/local/bin/meshca; \
    chmod 755 /image/usr/local/bin/meshca; \
    chmod 700 /data
COPY LICENSE /image/app/
COPY src /image/app/src
COPY providers /image/app/providers

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="meshca" \
      org.opencontainers.image.description="The certificate authority of a service mesh, as a small HTTP service that speaks Consul Connect's CA API" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=build /image /
# Volumes that are mounted here take the owner.
COPY --from=build --chown=65532:65532 /data /data
COPY --from=build --chown=65532:65532 /data /secrets
COPY --from=build --chown=65532:65532 /data /run/meshca
# Bun's cache of compiled files needs a folder that can be written.
ENV MESHCA_LISTEN=0.0.0.0:8500 MESHCA_DATA_DIR=/data MESHCA_ACL=deny BUN_RUNTIME_TRANSPILER_CACHE_PATH=0
USER 65532:65532
WORKDIR /data
VOLUME /data
EXPOSE 8500
# By the same settings as the server: its address, and TLS or not. It reports whether the process answers, not whether it
# can sign.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["meshca", "healthcheck"]
ENTRYPOINT ["meshca"]
CMD ["serve"]
