/**
 * nginx, HAProxy and Envoy as verifiers: a listener that wants a client certificate, and one without TLS
 * that passes each request on to the presenter, whose certificate it verifies.
 * @module
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { clientCommand } from "../../interop/clients.ts";
import { freeAddress, type RunningProgram, startProgram } from "../../interop/programs.ts";

export interface ProxyFiles {
  /** An empty folder, to keep. */
  readonly folder: string;
  /** Its own leaf and key, and the roots that it trusts, in PEM. */
  readonly chain: string;
  readonly key: string;
  readonly roots: string;
  /** The port of the presenter on 127.0.0.1. */
  readonly upstream: number;
}

export interface RunningProxy {
  /** HOST:PORT with TLS, and without. */
  readonly inbound: string;
  readonly outbound: string;
  readonly program: RunningProgram;
}

/** @param depth for ssl_verify_depth and proxy_ssl_verify_depth */
export async function startNginx(
  { folder, chain, key, roots, upstream }: ProxyFiles,
  depth: number,
): Promise<RunningProxy> {
  const [inbound, outbound] = await addresses();
  const file = join(folder, "nginx.conf");
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"];
  writeFileSync(
    file,
    `daemon off;
pid ${folder}/nginx.pid;
error_log stderr info;
worker_processes 1;
events { worker_connections 64; }
http {
  access_log off;
  ${temporary.map((name) => `${name}_temp_path ${folder}/${name};`).join("\n  ")}
  server {
    listen ${inbound} ssl;
    ssl_certificate ${chain};
    ssl_certificate_key ${key};
    ssl_client_certificate ${roots};
    ssl_verify_client on;
    ssl_verify_depth ${depth};
    location / { return 200 "ok"; }
  }
  server {
    listen ${outbound};
    location / {
      proxy_pass https://127.0.0.1:${upstream};
      proxy_ssl_name localhost;
      proxy_ssl_trusted_certificate ${roots};
      proxy_ssl_verify on;
      proxy_ssl_verify_depth ${depth};
      proxy_ssl_session_reuse off;
    }
  }
}
`,
  );
  const command = ["nginx", "-e", "stderr", "-p", folder, "-c", file] as const;
  return { inbound, outbound, program: await startProgram(command, signOf(outbound)) };
}

export async function startHaproxy(files: ProxyFiles): Promise<RunningProxy> {
  const { folder, chain, key, roots, upstream } = files;
  const [inbound, outbound] = await addresses();
  const combined = join(folder, "own.pem");
  writeFileSync(combined, readFileSync(chain, "utf8") + readFileSync(key, "utf8"));
  const file = join(folder, "haproxy.cfg");
  writeFileSync(
    file,
    `global
  log stderr format raw local0 info
defaults
  mode http
  timeout client 20s
  timeout server 20s
  timeout connect 20s
  retries 0
  log global
frontend inbound
  bind ${inbound} ssl crt ${combined} ca-file ${roots} verify required
  http-request return status 200 content-type text/plain string ok
listen outbound
  bind ${outbound}
  server presenter 127.0.0.1:${upstream} ssl ca-file ${roots} verify required sni str(localhost) no-ssl-reuse
`,
  );
  const command = ["haproxy", "-W", "-f", file] as const;
  return { inbound, outbound, program: await startProgram(command, signOf(outbound)) };
}

export async function startEnvoy(files: ProxyFiles): Promise<RunningProxy> {
  const { folder, chain, key, roots, upstream } = files;
  const [inbound, outbound] = await addresses();
  const [program, ...args] = await clientCommand("envoy");
  const tls = (kind: "Upstream" | "Downstream", more: object) => ({
    name: "envoy.transport_sockets.tls",
    typed_config: {
      "@type": `type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.${kind}TlsContext`,
      common_tls_context: {
        tls_certificates: [
          { certificate_chain: { filename: chain }, private_key: { filename: key } },
        ],
        validation_context: { trusted_ca: { filename: roots } },
      },
      ...more,
    },
  });
  const listener = (address: string, action: object, more: object) => ({
    name: address,
    address: socketOf(address),
    filter_chains: [{ filters: [http(action)], ...more }],
  });
  const config = {
    static_resources: {
      clusters: [
        {
          name: "presenter",
          type: "STATIC",
          load_assignment: {
            cluster_name: "presenter",
            endpoints: [
              { lb_endpoints: [{ endpoint: { address: socketOf(`127.0.0.1:${upstream}`) } }] },
            ],
          },
          // A session that is resumed presents no certificate.
          transport_socket: tls("Upstream", { sni: "localhost", max_session_keys: 0 }),
        },
      ],
      listeners: [
        listener(
          inbound,
          { direct_response: { status: 200, body: { inline_string: "ok" } } },
          {
            transport_socket: tls("Downstream", { require_client_certificate: true }),
          },
        ),
        listener(outbound, { route: { cluster: "presenter" } }, {}),
      ],
    },
  };
  const file = join(folder, "envoy.json");
  writeFileSync(file, JSON.stringify(config));
  const command = [
    ...([program, ...args, "--config-path", file] as const),
    ...["--disable-hot-restart", "--concurrency", "1", "--log-level", "warning"],
  ] as const;
  return { inbound, outbound, program: await startProgram(command, signOf(outbound)) };
}

/** Envoy's filter that answers each request by an action. */
const http = (action: object) => ({
  name: "envoy.filters.network.http_connection_manager",
  typed_config: {
    "@type":
      "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    stat_prefix: "http",
    http_protocol_options: { accept_http_10: true },
    // By default Envoy waits for a second before it closes.
    delayed_close_timeout: "0s",
    http_filters: [
      {
        name: "envoy.filters.http.router",
        typed_config: {
          "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
        },
      },
    ],
    route_config: {
      virtual_hosts: [
        { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, ...action }] },
      ],
    },
  },
});

async function addresses(): Promise<[inbound: string, outbound: string]> {
  const both = [await freeAddress(), await freeAddress()];
  return both.map(({ host, port }) => `${host}:${port}`) as [string, string];
}

function signOf(address: string): { host: string; port: number } {
  const [host = "", port = ""] = address.split(":");
  return { host, port: Number(port) };
}

function socketOf(address: string) {
  const { host, port } = signOf(address);
  return { socket_address: { address: host, port_value: port } };
}

/** A folder of its own for a proxy. */
export function proxyFolder(parent: string, name: string): string {
  const folder = join(parent, name);
  mkdirSync(folder, { recursive: true });
  return folder;
}
