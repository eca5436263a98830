# meshca, small, as nobody, with nothing to write to but its data folder. Beyond loopback it wants to be told how it is
# reached: MESHCA_TLS=self or a certificate in files (below), or MESHCA_PLAIN_HTTP=behind-proxy.
#   docker build -t meshca .
#   docker run --read-only -v meshca:/data -p 127.0.0.1:8500:8500 -e MESHCA_TLS=self meshca
# With a certificate from elsewhere, which the user 65532 can read:
#   docker run ... -v /etc/meshca/tls:/tls:ro -e MESHCA_TLS_CERT_FILE=/tls/cert.pem -e MESHCA_TLS_KEY_FILE=/tls/key.pem meshca
# To pin the base image, give its digest: --build-arg BASE=oven/bun@sha256:...
ARG BASE=oven/bun:1.4.5-alpine

FROM ${BASE} AS build
WORKDIR /app
COPY package.json bun.lock bunfig.toml ./
# The package bun is for npm start; the base image has Bun already.
RUN bun install --production --omit=peer --frozen-lockfile && rm -rf node_modules/bun node_modules/@oven node_modules/.bin
COPY src src
COPY providers providers

FROM ${BASE}
WORKDIR /app
COPY --from=build --chown=root:root /app /app
RUN mkdir -m 700 /data /secrets && chown 65532:65532 /data /secrets
USER 65532:65532
VOLUME /data
ENV MESHCA_LISTEN=0.0.0.0:8500 MESHCA_DATA_DIR=/data MESHCA_ACL=deny
EXPOSE 8500
# By the same settings as the server: its address, and TLS or not. It says whether the process answers, not whether it can sign.
HEALTHCHECK --interval=10s --timeout=5s --start-period=10s CMD ["bun", "src/cli/main.ts", "healthcheck"]
ENTRYPOINT ["bun", "src/cli/main.ts"]
CMD ["serve"]
