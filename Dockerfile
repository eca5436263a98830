# meshca, small, as nobody, with nothing to write to but its data folder.
#   docker build -t meshca . && docker run --read-only -v meshca:/data -p 127.0.0.1:8500:8500 meshca
FROM oven/bun:1.4.5-alpine AS build
WORKDIR /app
COPY package.json bun.lock bunfig.toml ./
RUN bun install --production --omit=peer --frozen-lockfile
COPY src src
COPY providers providers

FROM oven/bun:1.4.5-alpine
WORKDIR /app
COPY --from=build --chown=root:root /app /app
RUN mkdir /data && chown 65532:65532 /data
USER 65532:65532
VOLUME /data
# Beyond loopback access control is on, and TLS is wanted or a reason why not.
ENV MESHCA_LISTEN=0.0.0.0:8500 MESHCA_DATA_DIR=/data MESHCA_ACL=deny MESHCA_PLAIN_HTTP=behind-proxy
EXPOSE 8500
HEALTHCHECK --interval=10s --timeout=3s CMD ["bun", "-e", "process.exit((await fetch('http://127.0.0.1:8500/healthz')).ok ? 0 : 1)"]
ENTRYPOINT ["bun", "src/cli/main.ts"]
CMD ["serve"]
