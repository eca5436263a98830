/**
 * Envoy with secrets from an agent, by gRPC on its socket or by REST on its listener.
 * @module
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { ProgramCommand } from "./clients.ts";

/** Where Envoy finds secrets: the socket of an agent, or its listener, `HOST:PORT` or `unix:PATH`. */
export type SecretSource =
  | { readonly kind: "grpc"; readonly path: string }
  | { readonly kind: "rest"; readonly address: string };

export interface EnvoyAddresses {
  /** Its listener with mutual TLS, in front of `origin`. */
  readonly inbound: string;
  /** Its listener without TLS, which connects to `server` with mutual TLS. */
  readonly outbound: string;
  /** A server without TLS. */
  readonly origin: string;
  /** A server with mutual TLS. */
  readonly server: string;
}

/** How often Envoy asks by REST. */
const REFRESH_DELAY = "0.5s";
const TLS = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";

const socketAddress = (address: string) => {
  if (address.startsWith("unix:")) return { pipe: { path: address.slice("unix:".length) } };
  const [host = "", port = ""] = address.split(":");
  return { socket_address: { address: host, port_value: Number(port) } };
};

const endpoints = (name: string, address: object) => ({
  cluster_name: name,
  endpoints: [{ lb_endpoints: [{ endpoint: { address } }] }],
});

/** The cluster of the agent, and the source of secrets that names it. */
function secretSource(source: SecretSource) {
  if (source.kind === "rest") {
    // Envoy sends the name of the cluster as Host, which the agent's listener wants to be loopback.
    const name = "localhost";
    return {
      cluster: {
        name,
        type: "STATIC",
        connect_timeout: "5s",
        load_assignment: endpoints(name, socketAddress(source.address)),
      },
      api: {
        api_type: "REST",
        transport_api_version: "V3",
        cluster_names: [name],
        refresh_delay: REFRESH_DELAY,
      },
    };
  }
  return {
    cluster: {
      name: "agent",
      type: "STATIC",
      connect_timeout: "5s",
      typed_extension_protocol_options: {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
          "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
          explicit_http_config: { http2_protocol_options: {} },
        },
      },
      load_assignment: endpoints("agent", { pipe: { path: source.path } }),
    },
    api: {
      api_type: "GRPC",
      transport_api_version: "V3",
      grpc_services: [{ envoy_grpc: { cluster_name: "agent" } }],
    },
  };
}

/**
 * Envoy's command, with a configuration in `folder`.
 * @param names of the secrets: the own certificate, and whose roots verify clients and servers.
 */
export function envoyCommand(
  [program, ...args]: ProgramCommand,
  folder: string,
  source: SecretSource,
  at: EnvoyAddresses,
): ProgramCommand {
  const { cluster, api } = secretSource(source);
  const secret = (name: string) => ({
    name,
    sds_config: { resource_api_version: "V3", api_config_source: api },
  });
  const common = (roots: string) => ({
    tls_certificate_sds_secret_configs: [secret("default")],
    validation_context_sds_secret_config: secret(roots),
  });
  const proxy = (to: string) => ({
    name: "envoy.filters.network.tcp_proxy",
    typed_config: {
      "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
      stat_prefix: to,
      cluster: to,
    },
  });
  const config = {
    node: { id: "mesh", cluster: "mesh" },
    static_resources: {
      clusters: [
        cluster,
        {
          name: "origin",
          type: "STATIC",
          load_assignment: endpoints("origin", socketAddress(at.origin)),
        },
        {
          name: "server",
          type: "STATIC",
          load_assignment: endpoints("server", socketAddress(at.server)),
          transport_socket: {
            name: "envoy.transport_sockets.tls",
            typed_config: {
              "@type": `${TLS}.UpstreamTlsContext`,
              // A session that is resumed presents no certificate.
              max_session_keys: 0,
              common_tls_context: common("ALL"),
            },
          },
        },
      ],
      listeners: [
        {
          name: "inbound",
          address: socketAddress(at.inbound),
          filter_chains: [
            {
              filters: [proxy("origin")],
              transport_socket: {
                name: "envoy.transport_sockets.tls",
                typed_config: {
                  "@type": `${TLS}.DownstreamTlsContext`,
                  require_client_certificate: true,
                  common_tls_context: common("ROOTCA"),
                },
              },
            },
          ],
        },
        {
          name: "outbound",
          address: socketAddress(at.outbound),
          filter_chains: [{ filters: [proxy("server")] }],
        },
      ],
    },
  };
  const file = join(folder, "envoy.json");
  writeFileSync(file, JSON.stringify(config, null, 2));
  return [
    program,
    ...args,
    ...["--config-path", file, "--disable-hot-restart", "--concurrency", "1"],
    ...["--log-level", "warning"],
  ];
}
