/**
 * The scenarios of a mesh: who speaks with whom, and how each gets its certificate.
 * @module
 */
import { realpathSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { join } from "node:path";
import { type Client, clientCommand, type Program } from "./clients.ts";
import { envoyCommand, type SecretSource } from "./envoy.ts";
import { fail } from "./failure.ts";
import type { Running, Scenario, Site } from "./mesh.ts";
import { PeerProcess, RepeatedClient } from "./peer.ts";
import {
  type Credentials,
  caddyReload,
  freeAddress,
  HAPROXY_RELOAD,
  postgresReload,
  postgresUser,
  type RunningProgram,
  redisReload,
  startCaddy,
  startHaproxy,
  startNginx,
  startPostgres,
  startProgram,
  startRedisWithTls,
} from "./programs.ts";

/** A scenario with what must be installed for it. */
export interface Interop extends Scenario {
  readonly clients: readonly Client[];
  readonly programs: readonly Program[];
}

const WEB = "web.service.consul";

const uri = (path: string) => `unix://${path}`;

/** The files of the agent in a folder (docs/workloads.md). */
const filesIn = (folder: string): Credentials => ({
  chain: join(folder, "tls.crt"),
  key: join(folder, "tls.key"),
  combined: join(folder, "tls.pem"),
  roots: join(folder, "ca.crt"),
});

/**
 * The files of a folder's present generation. A program that opens chain and key one after the other
 * could get them of two generations by their own names.
 */
const generationIn = (folder: string): Credentials => filesIn(realpathSync(join(folder, "..data")));

/** A program of `clients/` with arguments. */
async function peer(name: string, client: Client, ...args: readonly string[]) {
  const [program, ...first] = await clientCommand(client);
  return new PeerProcess(name, [program, ...first, ...args]);
}

/** go-spiffe's dialer with the identity api, against a server that shows only its own leaf. */
async function goDialer(site: Site, address: string): Promise<PeerProcess> {
  return peer("go-spiffe", "go-spiffe", "dial", "-socket", uri(site.sockets.api), "-to", address);
}

/** A server and a client on one library, each on its own socket of the Workload API. */
const bothSides = (
  client: "go-spiffe" | "py-spiffe" | "java-spiffe",
  args: (command: "serve" | "dial", socket: string, to: string) => string[],
): Interop => ({
  name: `${client} on both sides`,
  clients: [client],
  programs: [],
  async start({ sockets }) {
    const server = await peer(`${client}'s server`, client, ...args("serve", sockets.web, ""));
    const to = await server.address;
    const dialer = await peer(`${client}'s client`, client, ...args("dial", sockets.api, to));
    return {
      peers: [dialer, server],
      presents: [
        [dialer, "peer"],
        [dialer, "own"],
        [server, "peer"],
        [server, "own"],
      ],
      programs: [],
    };
  },
});

const goSpiffe = bothSides("go-spiffe", (command, socket, to) =>
  command === "serve"
    ? ["serve", "-socket", uri(socket)]
    : ["dial", "-socket", uri(socket), "-to", to],
);
const pySpiffe = bothSides("py-spiffe", (command, socket, to) =>
  command === "serve" ? ["serve", uri(socket)] : ["dial", uri(socket), to],
);
const javaSpiffe = bothSides("java-spiffe", (command, socket, to) =>
  command === "serve" ? ["serve", uri(socket)] : ["dial", uri(socket), to],
);

/** Resolves once a server behind a proxy answers: a proxy may listen before it has its secrets. */
async function answers(address: string, proxy: RunningProgram): Promise<void> {
  const [host, port] = address.split(":");
  for (let tries = 0; tries < 600; tries++) {
    const text = await new Promise<string>((resolve) => {
      let read = "";
      const socket = connect(Number(port), host ?? "");
      socket.setEncoding("utf8").on("data", (chunk: string) => {
        read += chunk;
      });
      socket.once("close", () => resolve(read)).once("error", () => undefined);
      socket.write("GET / HTTP/1.1\r\nHost: mesh\r\nConnection: close\r\n\r\n");
    });
    if (text.startsWith("HTTP/1.1 200")) return;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  fail(`Nothing answers behind ${address}: ${proxy.output()}`);
}

const text = ({ host, port }: { readonly host: string; readonly port: number }) =>
  `${host}:${port}`;

/** Envoy with mutual TLS on both of its sides: to a client and to a server on go-spiffe. */
const envoy = (name: string, source: (site: Site) => SecretSource): Interop => ({
  name,
  clients: ["envoy", "go-spiffe"],
  programs: [],
  async start(site) {
    const origin = await peer("origin", "go-spiffe", "origin");
    const server = await peer("server", "go-spiffe", "serve", "-socket", uri(site.sockets.web));
    const [inbound, outbound] = [await freeAddress(), await freeAddress()];
    const [program, ...args] = envoyCommand(
      await clientCommand("envoy"),
      site.folder,
      source(site),
      {
        inbound: text(inbound),
        outbound: text(outbound),
        origin: await origin.address,
        server: await server.address,
      },
    );
    const proxy = await startProgram([program, ...args], inbound);
    await answers(text(outbound), proxy);
    const toInbound = await goDialer(site, text(inbound));
    const toOutbound = await peer("plain", "go-spiffe", "dial", "-plain", "-to", text(outbound));
    return {
      peers: [toInbound, toOutbound, server],
      presents: [
        [toInbound, "peer"],
        [server, "peer"],
      ],
      programs: [proxy, { ...NOTHING, stop: () => origin.stop() }],
    };
  },
});
const NOTHING = { address: "", output: () => "" };

const envoyByGrpc = envoy("Envoy by gRPC", ({ sockets }) => ({ kind: "grpc", path: sockets.web }));
const envoyByRest = envoy("Envoy by REST", ({ listen }) => ({ kind: "rest", address: listen }));

const spiffeHelper: Interop = {
  name: "spiffe-helper in front of nginx",
  clients: ["spiffe-helper", "go-spiffe"],
  programs: ["nginx"],
  async start(site) {
    const files = filesIn(site.folder);
    const config = join(site.folder, "helper.conf");
    const pid = join(site.folder, "nginx.pid");
    // spiffe-helper wants to read a process there; it is nginx's from its start on.
    writeFileSync(
      config,
      `agent_address = ${JSON.stringify(site.sockets.web)}
cert_dir = ${JSON.stringify(site.folder)}
svid_file_name = "tls.crt"
svid_key_file_name = "tls.key"
svid_bundle_file_name = "ca.crt"
pid_file_name = ${JSON.stringify(pid)}
renew_signal = "SIGHUP"
`,
    );
    const [program, ...args] = await clientCommand("spiffe-helper");
    const helper = await startProgram(
      [program, ...args, "-config", config],
      [files.chain, files.key, files.roots],
    );
    const nginx = await startNginx(site.folder, files);
    const dialer = await goDialer(site, nginx.address);
    return { peers: [dialer], presents: [[dialer, "peer"]], programs: [helper, nginx] };
  },
};

const consulConnect: Interop = {
  name: "Consul's connect SDK on both sides",
  clients: ["consul-connect"],
  programs: [],
  async start({ listen }) {
    const agent = ["-agent", listen, "-service"];
    const server = await peer("SDK's service", "consul-connect", "serve", ...agent, "sdk-web");
    const dial = [...agent, "sdk-api", "-to", await server.address, "-target", "sdk-web"];
    const client = await peer("SDK's client", "consul-connect", "dial", ...dial);
    return {
      peers: [client, server],
      presents: [
        [client, "peer"],
        [client, "own"],
        [server, "peer"],
        [server, "own"],
      ],
      programs: [],
    };
  },
};

const consulTemplate: Interop = {
  name: "consul-template in front of HAProxy",
  clients: ["consul-template", "go-spiffe"],
  programs: ["haproxy"],
  async start(site) {
    const files = filesIn(site.folder);
    const config = join(site.folder, "template.hcl");
    const script = join(site.folder, "reload.sh");
    writeFileSync(script, HAPROXY_RELOAD);
    const reload = `sh ${script} ${site.folder}/haproxy.pid`;
    const template = (content: string, to: string) => `template {
  contents = ${JSON.stringify(content)}
  destination = ${JSON.stringify(to)}
  perms = 0600
  exec { command = ${JSON.stringify(reload)} }
}
`;
    writeFileSync(
      config,
      `consul { address = ${JSON.stringify(site.listen)} }
${template('{{ with caLeaf "template-web" }}{{ .CertPEM }}{{ .PrivateKeyPEM }}{{ end }}', files.combined)}
${template("{{ range caRoots }}{{ .RootCertPEM }}{{ end }}", files.roots)}`,
    );
    const [program, ...args] = await clientCommand("consul-template");
    const templates = await startProgram(
      [program, ...args, "-config", config],
      [files.combined, files.roots],
    );
    const haproxy = await startHaproxy(site.folder, files);
    const dialer = await goDialer(site, haproxy.address);
    return { peers: [dialer], presents: [[dialer, "peer"]], programs: [templates, haproxy] };
  },
};

/** Clients that check a server's DNS name: curl and Node. Each has the agent's files, too. */
function curl(address: string, folder: string): RepeatedClient {
  const [host = "", port = ""] = address.split(":");
  const command = () => {
    const { roots, combined } = generationIn(folder);
    return [
      ...(["curl", "--silent", "--show-error", "--fail", "--write-out", "%{certs}"] as const),
      ...["--connect-to", `${WEB}:${port}:${host}:${port}`, "--output", "/dev/null"],
      ...["--cacert", roots, "--cert", combined, `https://${WEB}:${port}/`],
    ] as const;
  };
  return new RepeatedClient("curl", command, firstCertificate);
}

const PEM_CERTIFICATE = /-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----\n/;

function firstCertificate(stdout: string): string {
  return PEM_CERTIFICATE.exec(stdout)?.[0] ?? "";
}

const NODE = join(import.meta.dirname, "../../node_modules/.bin/node");
const NODE_PEER = join(import.meta.dirname, "node-peer.ts");

const nodeDialer = (address: string, { combined, roots }: Credentials) =>
  new PeerProcess("Node's https", [NODE, NODE_PEER, "dial", combined, roots, WEB, address]);

/** crypto/tls with the credential bundle of a folder, which checks the DNS name. */
const filesDialer = (folder: string, address: string, ...more: readonly string[]) =>
  peer(
    "crypto/tls",
    "go-spiffe",
    // Caddy compares Host with the name in the handshake.
    ...["dial", "-folder", folder, "-name", WEB, "-to", address],
    ...["-send", `GET / HTTP/1.1\r\nHost: ${WEB}\r\nConnection: close\r\n\r\n`],
    ...more,
  );

/** The server's folder is web's; its clients take theirs from api's. */
const API = { api: { service: "api" } } as const;

const nginxFromFiles: Interop = {
  name: "nginx with curl by DNS name",
  clients: [],
  programs: ["nginx", "curl"],
  folders: (folder) => ({
    ...API,
    web: { service: "web", onChange: { signal: "HUP", pid_file: join(folder, "nginx.pid") } },
  }),
  async start(site) {
    const nginx = await startNginx(site.folder, filesIn(site.credentials("web")));
    const client = curl(nginx.address, site.credentials("api"));
    return { peers: [client], presents: [[client, "peer"]], programs: [nginx] };
  },
};

const haproxyFromFiles: Interop = {
  name: "HAProxy with Node's https by DNS name",
  clients: [],
  programs: ["haproxy"],
  folders: (folder) => ({
    ...API,
    web: {
      service: "web",
      onChange: { command: ["sh", "-c", HAPROXY_RELOAD, "reload", join(folder, "haproxy.pid")] },
    },
  }),
  async start(site) {
    const haproxy = await startHaproxy(site.folder, filesIn(site.credentials("web")));
    const client = nodeDialer(haproxy.address, filesIn(site.credentials("api")));
    return { peers: [client], presents: [[client, "peer"]], programs: [haproxy] };
  },
};

const caddyFromFiles: Interop = {
  name: "Caddy with Go's crypto/tls by DNS name",
  clients: ["go-spiffe"],
  programs: ["caddy"],
  folders: (folder) => ({
    ...API,
    web: { service: "web", onChange: { command: caddyReload(folder) } },
  }),
  async start(site) {
    const caddy = await startCaddy(site.folder, filesIn(site.credentials("web")), WEB);
    const client = await filesDialer(site.credentials("api"), caddy.address);
    return { peers: [client], presents: [[client, "peer"]], programs: [caddy] };
  },
};

const nodeFromFiles: Interop = {
  name: "Node's https server with curl by DNS name",
  clients: [],
  programs: ["curl"],
  folders: (folder) => ({
    ...API,
    web: { service: "web", onChange: { signal: "HUP", pid_file: join(folder, "node.pid") } },
  }),
  async start(site) {
    const { chain, key, roots } = filesIn(site.credentials("web"));
    const pid = join(site.folder, "node.pid");
    const server = new PeerProcess("server", [NODE, NODE_PEER, "serve", chain, key, roots, pid]);
    const client = curl(await server.address, site.credentials("api"));
    return {
      peers: [client, server],
      presents: [
        [client, "peer"],
        [server, "peer"],
      ],
      programs: [],
    };
  },
};

const redisFromFiles: Interop = {
  name: "Redis",
  clients: ["go-spiffe"],
  programs: ["redis-server"],
  folders(folder) {
    const files = filesIn(join(folder, "web"));
    return { ...API, web: { service: "web", onChange: { command: redisReload(folder, files) } } };
  },
  async start(site) {
    const redis = await startRedisWithTls(site.folder, filesIn(site.credentials("web")));
    const ping = ["-send", "PING\r\n", "-expect", "+PONG"];
    const client = await filesDialer(site.credentials("api"), redis.address, ...ping);
    return { peers: [client], presents: [[client, "peer"]], programs: [redis] };
  },
};

const postgresFromFiles: Interop = {
  name: "PostgreSQL with psql by DNS name",
  clients: ["go-spiffe"],
  programs: ["postgresql"],
  folders: (folder) => ({
    ...API,
    web: {
      service: "web",
      ...(postgresUser === null ? {} : { owner: postgresUser }),
      onChange: { command: postgresReload(folder) },
    },
  }),
  async start(site): Promise<Running> {
    const files = filesIn(site.credentials("web"));
    const postgres = await startPostgres(site.folder, files);
    const [host = "", port = ""] = postgres.address.split(":");
    const command = () => {
      const { chain, key, roots } = generationIn(site.credentials("api"));
      const conninfo = [
        ...[`host=${WEB}`, `hostaddr=${host}`, `port=${port}`, "user=mesh", "dbname=postgres"],
        ...["sslmode=verify-full", `sslrootcert=${roots}`, `sslcert=${chain}`, `sslkey=${key}`],
      ].join(" ");
      return ["psql", "-X", "-q", "-c", "", conninfo] as const;
    };
    const psql = new RepeatedClient("psql", command, null);
    const client = await filesDialer(site.credentials("api"), postgres.address, "-postgres");
    return { peers: [psql, client], presents: [[client, "peer"]], programs: [postgres] };
  },
};

/** What depends on the agent's runtime: all that it serves by gRPC and HTTP. */
export const ON_EACH_RUNTIME: readonly Interop[] = [
  goSpiffe,
  pySpiffe,
  javaSpiffe,
  envoyByGrpc,
  envoyByRest,
  spiffeHelper,
  consulConnect,
  consulTemplate,
];

/** Files, and a command or signal after them: two of the servers on each runtime. */
export const FROM_FILES = {
  node: [nginxFromFiles, postgresFromFiles],
  bun: [haproxyFromFiles, redisFromFiles],
  deno: [caddyFromFiles, nodeFromFiles],
} as const satisfies Readonly<Record<string, readonly Interop[]>>;
