/**
 * The agent's settings: flags, environment and file, every fault with its name, and no secret in
 * one.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { type AgentFlags, readAgentSettings } from "../../src/config/agent-settings.ts";
import { AGENT_SETTING_NAMES } from "../../src/config/agent-sources.ts";
import { ConfigError } from "../../src/core/errors.ts";

type Files = Readonly<Record<string, string>>;
interface Given {
  readonly flags?: AgentFlags;
  readonly environment?: Readonly<Record<string, string>>;
  /** The configuration file: an object is JSON, a text is HCL. */
  readonly file?: object | string;
  readonly files?: Files;
}

const PEM = "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n";

function read({ flags = {}, environment = {}, file, files = {} }: Given) {
  const name = typeof file === "string" ? "/etc/agent.hcl" : "/etc/agent.json";
  const content = typeof file === "string" ? file : JSON.stringify(file);
  const all: Files = {
    "/roots.pem": PEM,
    ...(file === undefined ? {} : { [name]: content }),
    ...files,
  };
  const config = file === undefined ? {} : { MESHCA_AGENT_CONFIG: name };
  return readAgentSettings(
    flags,
    { ...config, ...environment },
    {
      readFile: (path) => {
        const text = all[path];
        if (text === undefined) throw Object.assign(new Error("absent"), { code: "ENOENT" });
        return text;
      },
      resolve: (path) => (path.startsWith("/") ? path : `/cwd/${path}`),
    },
  );
}

function faultsOf(given: Given): string[] {
  try {
    read(given);
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    const [head, ...lines] = error.message.split("\n");
    assert.equal(head, "Cannot start the agent:");
    return lines.map((line) => line.trim());
  }
  throw new Error("The settings were accepted");
}

const DEFAULTS = {
  ...{ servers: ["http://127.0.0.1:8500"], caFile: null, caPin: null, datacenter: null },
  ...{ token: null, tokenFile: null, login: null, identities: [], sockets: [], folders: [] },
  ...{ listen: null, defaultIntentionPolicy: null, cacheDir: null, logLevel: "info" },
  onceTimeoutMs: 60_000,
};
const WEB = { service: "web", dnsNames: [], ipAddresses: [], ttlMs: null };

describe("readAgentSettings()", () => {
  it("reads one identity and its deliveries from flags", () => {
    const flags = {
      ...{
        server: ["https://ca.example:8501", "https://CA-2.example/"],
        "ca-file": ["/roots.pem"],
      },
      ...{ service: ["web"], "dns-name": ["web", "WEB.example"], "ip-address": ["10.0.0.1"] },
      ...{ ttl: ["1h"], socket: ["web.sock"], dir: ["/run/web"], listen: ["127.0.0.1:8502"] },
      ...{ "on-change": ["nginx  -s reload"], "token-file": ["token"], "log-level": ["WARN"] },
      ...{ "cache-dir": ["/cache"], "default-intention-policy": ["deny"], datacenter: ["DC2"] },
    };
    assert.deepEqual(read({ flags }), {
      ...DEFAULTS,
      ...{ servers: ["https://ca.example:8501", "https://ca-2.example"], caFile: "/roots.pem" },
      ...{ datacenter: "dc2", tokenFile: "/cwd/token", logLevel: "warning", cacheDir: "/cache" },
      identities: [
        {
          ...{ service: "web", dnsNames: ["web", "web.example"], ipAddresses: ["10.0.0.1"] },
          ttlMs: 3_600_000,
        },
      ],
      sockets: [{ at: { path: "/cwd/web.sock" }, identities: [0], mode: 0o600, group: null }],
      folders: [
        {
          ...{ path: "/run/web", identity: 0, mode: null, owner: null, group: null },
          isShared: false,
          onChange: { kind: "command", command: ["nginx", "-s", "reload"], timeoutMs: null },
        },
      ],
      listen: { host: "127.0.0.1", port: 8502 },
      defaultIntentionPolicy: "deny",
    });
  });

  it("reads every setting from a file in HCL", () => {
    const file = `
      servers = ["https://[2001:db8::1]:8501"]
      ca_pin = "SHA256:${"AB:".repeat(31)}ab"
      login { auth_method = "kubernetes" token_file = "/var/jwt" }
      identities = [
        { service = "web", ttl = "24h" },
        { service = "api" },
      ]
      sockets = [
        { path = "/run/all.sock", mode = "0660", group = "web" },
        { listen = "127.0.0.1:8503", identities = ["api"] },
      ]
      folders = [{
        path = "/run/api", identity = "api", mode = "0640", owner = "api", group = "101"
        shared = true
        on_change { signal = "SIGHUP" pid_file = "/run/nginx.pid" timeout = "5s" }
      }]
      listen = "unix:///run/agent.sock"
      once_timeout = "5m"
    `;
    assert.deepEqual(read({ file }), {
      ...DEFAULTS,
      ...{ servers: ["https://[2001:db8::1]:8501"], caPin: "ab".repeat(32) },
      login: { authMethod: "kubernetes", tokenFile: "/var/jwt" },
      identities: [
        { ...WEB, ttlMs: 86_400_000 },
        { ...WEB, service: "api" },
      ],
      sockets: [
        { at: { path: "/run/all.sock" }, identities: [0, 1], mode: 0o660, group: "web" },
        { at: { host: "127.0.0.1", port: 8503 }, identities: [1], mode: 0o600, group: null },
      ],
      folders: [
        {
          ...{ path: "/run/api", identity: 1, mode: 0o640, owner: "api", group: "101" },
          isShared: true,
          onChange: { kind: "signal", signal: "HUP", pidFile: "/run/nginx.pid", timeoutMs: 5000 },
        },
      ],
      listen: { path: "/run/agent.sock" },
      onceTimeoutMs: 300_000,
    });
  });

  it("reads every variable, and prefers a flag to a variable and a variable to the file", () => {
    const environment = {
      ...{ MESHCA_AGENT_SERVERS: "http://localhost:1, http://[::1]:2", MESHCA_AGENT_TTL: "2h" },
      ...{ MESHCA_AGENT_SERVICE: "web", MESHCA_AGENT_DNS_NAMES: "web web.example" },
      ...{ MESHCA_AGENT_SOCKET: "/run/web.sock", MESHCA_AGENT_LOGIN_AUTH_METHOD: "k8s" },
      ...{ MESHCA_AGENT_LOGIN_TOKEN_FILE: "/jwt", MESHCA_AGENT_LISTEN: "", MESHCA_LISTEN: "x" },
    };
    const file = { log_level: "debug", login: { auth_method: "other" }, listen: "127.0.0.1:1" };
    const settings = read({
      environment,
      file,
      flags: { service: ["api"], "log-level": ["error"] },
    });
    assert.deepEqual(settings, {
      ...DEFAULTS,
      ...{ servers: ["http://localhost:1", "http://[::1]:2"], logLevel: "error" },
      login: { authMethod: "k8s", tokenFile: "/jwt" },
      identities: [{ ...WEB, service: "api", dnsNames: ["web", "web.example"], ttlMs: 7_200_000 }],
      sockets: [{ at: { path: "/run/web.sock" }, identities: [0], mode: 0o600, group: null }],
      listen: { host: "127.0.0.1", port: 1 },
    });
  });

  it("takes the identity of a token, without the name of a service", () => {
    const socket = { socket: ["/run/s"] };
    const { token, identities } = read({
      flags: socket,
      environment: { MESHCA_AGENT_TOKEN: "a-secret-token" },
    });
    assert.deepEqual([token, identities], ["a-secret-token", [{ ...WEB, service: null }]]);
    const withFile = read({ flags: { ...socket, "token-file": ["/token"] } });
    assert.deepEqual([withFile.token, withFile.tokenFile], [null, "/token"]);
  });

  it("needs no identity for the listener", () => {
    assert.deepEqual(read({ flags: { listen: ["unix:run.sock"] } }), {
      ...DEFAULTS,
      listen: { path: "/cwd/run.sock" },
    });
  });

  it("reports the faults of all sources at once, and no secret", () => {
    const faults = faultsOf({
      flags: { ttl: ["1s"] },
      environment: {
        ...{ MESHCA_AGENT_TOKEN: "a-secret-token", MESHCA_AGENT_TOKEN_FIEL: "another-secret" },
        ...{ MESHCA_AGENT_SERVERS: "http://user:password@127.0.0.1" },
      },
      file: { token_file: "/token", listen: 5 },
    });
    assert.deepEqual(
      faults,
      [
        "MESHCA_AGENT_TOKEN_FIEL: is not a setting of the agent; did you mean MESHCA_AGENT_TOKEN_FILE?",
        "MESHCA_AGENT_TOKEN: is given together with a token file; give one of them",
        "MESHCA_AGENT_SERVERS: must be the URL of a server without a path, user and query, for example https://ca.example:8501",
        "--ttl: must be a duration from 1m to 8760h, for example 1h",
        "listen: must be HOST:PORT with a loopback address, for example 127.0.0.1:8502, or unix:PATH",
      ].toSorted((a, b) => faults.indexOf(a) - faults.indexOf(b)),
    );
    assert.doesNotMatch(faults.join(), /secret|password/);
  });
});

const LISTEN = { listen: "127.0.0.1:8502" };
const IDENTITIES = [{ service: "web" }, { service: "api" }];
const SOCKET = { path: "/run/s" };

/** What is wrong, and the one fault that it has. */
const FAULTS: readonly (readonly [what: string, given: Given, fault: string])[] = [
  [
    "nothing to deliver",
    {},
    "configuration: has nothing to deliver: give --socket, --dir or --listen, or sockets, folders or listen in the configuration file",
  ],
  [
    "a variable without a near name",
    { environment: { MESHCA_AGENT_ZZZZZZZZZZZZ: "1" } },
    "MESHCA_AGENT_ZZZZZZZZZZZZ: is not a setting of the agent; docs/workloads.md lists all settings",
  ],
  [
    "an unknown key",
    { file: { ...LISTEN, sockts: [] } },
    "sockts: is not a key of the agent's configuration; did you mean sockets?",
  ],
  [
    "an unknown key in a list, with its place",
    { file: `listen = "127.0.0.1:1"\nidentities = [{\n  servce = "web"\n}]` },
    "identities.0.servce (line 3, column 3): is not a key of the agent's configuration; did you mean service?",
  ],
  [
    "an unknown key without a near name",
    { file: { ...LISTEN, login: { zzzzzzzzz: 1 } } },
    "login.zzzzzzzzz: is not a key of the agent's configuration; known are auth_method, token_file",
  ],
  [
    "a token in the file",
    { file: { ...LISTEN, token: "secret" } },
    "token: is not a key of the agent's configuration; known are servers, ca_file, ca_pin, datacenter, token_file, login, identities, sockets, folders, listen, default_intention_policy, cache_dir, log_level, once_timeout",
  ],
  [
    "a file that is missing",
    { environment: { MESHCA_AGENT_CONFIG: "/none" } },
    'The configuration file: cannot read "/none": there is no such file',
  ],
  [
    "a file that is not JSON",
    { environment: { MESHCA_AGENT_CONFIG: "/f" }, files: { "/f": "secret" } },
    '"/f": invalid JSON; a file in HCL has a name that ends in .hcl',
  ],
  [
    "a file with a list",
    { environment: { MESHCA_AGENT_CONFIG: "/f" }, files: { "/f": "[]" } },
    '"/f": the configuration must be an object at its top level',
  ],
  [
    "a key that is given twice",
    { environment: { MESHCA_AGENT_CONFIG: "/f" }, files: { "/f": '{"listen":"a","listen":"b"}' } },
    '"/f": "listen" is given twice in one object',
  ],
  ["a list in place of an object", { file: { ...LISTEN, login: [] } }, "login: must be an object"],
  [
    "an object in place of a list",
    { file: { ...LISTEN, identities: {} } },
    "identities: must be a list of identities",
  ],
  [
    "a folder without a path",
    { file: { ...LISTEN, identities: [{ service: "web" }], folders: [{}] } },
    "folders.0.path: is required",
  ],
  ["no server", { file: { ...LISTEN, servers: [] } }, "servers: must have at least one server"],
  [
    "a server twice",
    { file: { ...LISTEN, servers: ["http://127.0.0.1", "http://127.0.0.1:80/"] } },
    "servers.1: http://127.0.0.1 is given twice",
  ],
  [
    "a server with a path",
    { flags: { listen: ["127.0.0.1:1"], server: ["http://127.0.0.1/v1"] } },
    "--server: must be the URL of a server without a path, user and query, for example https://ca.example:8501",
  ],
  [
    "plain HTTP beyond loopback",
    {
      flags: { listen: ["127.0.0.1:1"], server: ["http://ca.example"], "ca-file": ["/roots.pem"] },
    },
    "--server: http://ca.example is plain HTTP, which is allowed to loopback addresses only: use https",
  ],
  [
    "a first contact that nothing verifies",
    { file: { ...LISTEN, servers: ["https://ca.example"] } },
    "servers.0: https://ca.example cannot be verified: give ca_file (--ca-file), or ca_pin (--ca-pin) with the SHA-256 of a root",
  ],
  [
    "a pin and a file",
    { file: { ...LISTEN, ca_file: "/roots.pem", ca_pin: "0".repeat(64) } },
    "ca_pin: is given together with ca_file; give one of them",
  ],
  [
    "a pin that is SHA-1",
    { file: { ...LISTEN, ca_pin: "0".repeat(40) } },
    "ca_pin: must be the SHA-256 of a root's DER: 64 hexadecimal digits, with or without colons",
  ],
  [
    "a CA file that is missing",
    { flags: { listen: ["127.0.0.1:1"], "ca-file": ["/none"] } },
    '--ca-file: cannot read "/none": there is no such file',
  ],
  [
    "a CA file with a key",
    {
      flags: { listen: ["127.0.0.1:1"], "ca-file": ["/key"] },
      files: { "/key": "-----BEGIN PRIVATE KEY-----" },
    },
    '--ca-file: "/key" has no certificate in PEM',
  ],
  [
    "half a login",
    { file: { ...LISTEN, login: { auth_method: "m" } } },
    "login.token_file: is required for a login",
  ],
  [
    "the other half of a login",
    { environment: { MESHCA_AGENT_LOGIN_TOKEN_FILE: "/jwt" }, flags: { listen: ["127.0.0.1:1"] } },
    "login.auth_method: is required for a login",
  ],
  [
    "a token and a login",
    { file: { ...LISTEN, token_file: "/t", login: { auth_method: "m", token_file: "/jwt" } } },
    "login: is given together with a token; give one of them",
  ],
  [
    "an identity without a service and without a token",
    { flags: { socket: ["/run/s"] } },
    "--service: is required without a token or a login whose identity could be taken",
  ],
  [
    "several identities, one without a service",
    { file: { ...LISTEN, token_file: "/t", identities: [{ service: "web" }, {}] } },
    "identities.1.service: is required if there are several identities",
  ],
  [
    "a service twice",
    { file: { ...LISTEN, identities: [{ service: "web" }, { service: "web" }] } },
    'identities.1.service: "web" is the service of another identity',
  ],
  [
    "a service that no SPIFFE ID can have",
    { flags: { socket: ["/s"], service: ["a b"] } },
    `--service: Invalid service: "a b" has a character that a SPIFFE ID cannot carry; only letters, digits, '.', '-' and '_' are allowed`,
  ],
  [
    "a DNS name with a blank",
    { flags: { socket: ["/s"], service: ["web"], "dns-name": ["web", "a b"] } },
    "--dns-name: must be a DNS name: labels of letters, digits and hyphens",
  ],
  [
    "an address as a DNS name",
    { flags: { socket: ["/s"], service: ["web"], "dns-name": ["10.0.0.1"] } },
    "--dns-name: must be a DNS name: labels of letters, digits and hyphens",
  ],
  [
    "a host as an IP address",
    {
      environment: {
        MESHCA_AGENT_SERVICE: "web",
        MESHCA_AGENT_IP_ADDRESSES: "localhost",
        MESHCA_AGENT_DIR: "/d",
      },
    },
    "MESHCA_AGENT_IP_ADDRESSES: must be an IP address",
  ],
  [
    "an unknown identity of a socket",
    {
      file: {
        identities: [{ service: "web" }],
        sockets: [{ path: "/s" }, { path: "/r", identities: ["wb"] }],
      },
    },
    'sockets.1.identities.0: no identity has the service "wb"; did you mean web?',
  ],
  [
    "an unknown identity of a folder",
    {
      file: {
        identities: IDENTITIES,
        sockets: [SOCKET],
        folders: [{ path: "/f", identity: "zzzzzzz" }],
      },
    },
    'folders.0.identity: no identity has the service "zzzzzzz"; known are web, api',
  ],
  [
    "a folder of one of several identities",
    { file: { identities: IDENTITIES, sockets: [SOCKET], folders: [{ path: "/f" }] } },
    "folders.0.identity: is required: there are several identities, web, api",
  ],
  [
    "an identity twice on a socket",
    {
      file: {
        identities: [{ service: "web" }],
        sockets: [{ path: "/s", identities: ["web", "web"] }],
      },
    },
    'sockets.0.identities.1: names "web" a second time',
  ],
  [
    "a socket without identities",
    {
      file: { identities: [{ service: "web" }], sockets: [SOCKET, { path: "/t", identities: [] }] },
    },
    "sockets.1.identities: must name at least one identity",
  ],
  [
    "sockets without an identity",
    { file: { sockets: [SOCKET] } },
    "sockets: need an identity: give --service, or identities in the configuration file",
  ],
  [
    "an identity that is delivered nowhere",
    { file: { identities: IDENTITIES, sockets: [{ path: "/s", identities: ["web"] }] } },
    "identities.1: is delivered on no socket and in no folder, and listen is not set",
  ],
  [
    "a socket with two places",
    {
      file: { identities: [{ service: "web" }], sockets: [{ path: "/s", listen: "127.0.0.1:1" }] },
    },
    "sockets.0: must have either path or listen",
  ],
  [
    "a mode of an address",
    {
      file: {
        identities: [{ service: "web" }],
        sockets: [{ listen: "127.0.0.1:1", mode: "0600" }],
      },
    },
    "sockets.0: has listen, and mode and group are of a path: every user of this machine can connect to an address",
  ],
  [
    "a folder whose key every user may read",
    { file: { identities: [{ service: "web" }], folders: [{ path: "/f", mode: "0644" }] } },
    'folders.0.mode: must be a mode in octal as text, at most 0640, for example "0640"',
  ],
  [
    "a shared folder that is not true or false",
    { file: { identities: [{ service: "web" }], folders: [{ path: "/f", shared: "yes" }] } },
    "folders.0.shared: must be true or false",
  ],
  [
    "a mode that is a number",
    { file: { identities: [{ service: "web" }], sockets: [{ path: "/s", mode: 600 }] } },
    'sockets.0.mode: must be a mode in octal as text, at most 0777, for example "0660"',
  ],
  [
    "a path of 108 octets",
    { flags: { service: ["web"], socket: [`/${"ä".repeat(53)}x`] } },
    `--socket: the path of a Unix socket has at most 107 octets, and "/${"ä".repeat(53)}x" has 108: choose a shorter one`,
  ],
  [
    "a path of the listener of 108 octets",
    { flags: { listen: [`unix:/${"x".repeat(107)}`] } },
    `--listen: the path of a Unix socket has at most 107 octets, and "/${"x".repeat(107)}" has 108: choose a shorter one`,
  ],
  [
    "the same socket twice",
    { file: { identities: [{ service: "web" }], sockets: [SOCKET, SOCKET] } },
    'sockets.1.path: "/run/s" is the path of sockets.0.path, too',
  ],
  [
    "a socket that is the listener's",
    { file: { listen: "unix:/run/s", identities: [{ service: "web" }], sockets: [SOCKET] } },
    'listen: "/run/s" is the path of sockets.0.path, too',
  ],
  [
    "the same folder twice",
    { file: { identities: [{ service: "web" }], folders: [{ path: "/f" }, { path: "/f" }] } },
    'folders.1.path: "/f" is the folder of folders.0.path, too',
  ],
  [
    "a folder inside another",
    { file: { identities: [{ service: "web" }], folders: [{ path: "/f/a" }, { path: "/f" }] } },
    'folders.1.path: "/f" and the folder of folders.0.path, "/f/a", are one inside the other',
  ],
  [
    "the cache inside a folder",
    { file: { identities: [{ service: "web" }], folders: [{ path: "/f" }], cache_dir: "/f/c" } },
    'cache_dir: "/f/c" and the folder of folders.0.path, "/f", are one inside the other',
  ],
  [
    "a socket inside a folder",
    { flags: { service: ["web"], dir: ["/f"], socket: ["/f/s"] } },
    '--socket: "/f/s" is in the folder of folders.0.path, whose content the agent replaces',
  ],
  [
    "an address that is not loopback",
    { flags: { listen: ["0.0.0.0:1"] } },
    "--listen: 0.0.0.0:1 is not a loopback address: private keys are handed out there; use 127.0.0.1, [::1] or a Unix socket",
  ],
  [
    "a socket's address that is not loopback",
    { file: { identities: [{ service: "web" }], sockets: [{ listen: "10.0.0.1:1" }] } },
    "sockets.0.listen: 10.0.0.1:1 is not a loopback address: private keys are handed out there; use 127.0.0.1, [::1] or a Unix socket",
  ],
  [
    "the same address twice",
    { file: { ...LISTEN, identities: [{ service: "web" }], sockets: [LISTEN] } },
    "listen: 127.0.0.1:8502 is the address of sockets.0.listen, too",
  ],
  [
    "a hook with a command and a signal",
    {
      file: {
        identities: [{ service: "web" }],
        folders: [{ path: "/f", on_change: { command: ["a"], signal: "HUP", pid_file: "/p" } }],
      },
    },
    "folders.0.on_change: must have either command or signal",
  ],
  [
    "a signal without a pid file",
    {
      file: {
        identities: [{ service: "web" }],
        folders: [{ path: "/f", on_change: { signal: "HUP" } }],
      },
    },
    "folders.0.on_change: must have signal and pid_file together: the signal is sent to the process of the pid file",
  ],
  [
    "a command with a pid file",
    {
      file: {
        identities: [{ service: "web" }],
        folders: [{ path: "/f", on_change: { command: ["a"], pid_file: "/p" } }],
      },
    },
    "folders.0.on_change: must have signal and pid_file together: the signal is sent to the process of the pid file",
  ],
  [
    "another signal",
    {
      file: {
        identities: [{ service: "web" }],
        folders: [{ path: "/f", on_change: { signal: "KILL", pid_file: "/p" } }],
      },
    },
    "folders.0.on_change.signal: must be HUP, USR1 or USR2",
  ],
  [
    "a command that is a text",
    {
      file: {
        identities: [{ service: "web" }],
        folders: [{ path: "/f", on_change: { command: "nginx -s reload" } }],
      },
    },
    "folders.0.on_change.command: must be a list of words",
  ],
  [
    "an empty command",
    { flags: { service: ["web"], dir: ["/f"], "on-change": [" "] } },
    "--on-change: must have at least one word: the program",
  ],
  [
    "a hook without a folder",
    { flags: { service: ["web"], socket: ["/s"], "on-change": ["a"] } },
    "--on-change: has no effect without --dir: give the folder whose change it is for",
  ],
  [
    "a flag of the one identity with the identities of a file",
    { flags: { service: ["web"] }, file: { ...LISTEN, identities: IDENTITIES } },
    "--service: describes the one identity of an agent without identities in its configuration file, and this file has them: add the identity to the file",
  ],
];

describe("readAgentSettings() refuses", () => {
  for (const [what, given, fault] of FAULTS)
    it(what, () => {
      assert.deepEqual(faultsOf(given), [fault]);
    });

  it("a wrong value of each variable", () => {
    const wrong: Readonly<Record<string, string>> = { MESHCA_AGENT_CA_FILE: "/none" };
    for (const name of AGENT_SETTING_NAMES) {
      if (/TOKEN|AUTH_METHOD|SOCKET|DIR$|ON_CHANGE|CONFIG|DATACENTER/.test(name)) continue;
      const faults = faultsOf({
        environment: { [name]: wrong[name] ?? "?", MESHCA_AGENT_DIR: "/d" },
      });
      assert.ok(
        faults.some((fault) => fault.startsWith(`${name}: `)),
        `${name}: ${faults.join()}`,
      );
    }
  });
});
