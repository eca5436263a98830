/**
 * The documents name every setting, limit, field, metric and line of `/readyz` that the code has,
 * and nothing that it does not have; links resolve, and quoted texts are those of the code. Routes
 * are compared by test/http/routes.test.ts.
 * @module
 */
import assert from "node:assert/strict";
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import { describe, it } from "node:test";
import { CONSUL_CONFIG_NAMES, parseConsulConfig } from "../../providers/consul/config.ts";
import {
  parseTransitConfig,
  parseVaultConfig,
  VAULT_CONFIG_NAMES,
} from "../../providers/vault/config.ts";
import { permissionsOf } from "../../providers/vault/permissions.ts";
import type { Step } from "../../providers/vault/plan.ts";
import { CONFIG_FIELDS } from "../../src/acl/auth-methods.ts";
import { DEFAULT_MAX_TOKENS } from "../../src/acl/login-quota.ts";
import { NAMED, WHOLE } from "../../src/acl/rules.ts";
import { FILE, trustBundleName } from "../../src/agent/files/content.ts";
import { AgentPrometheus } from "../../src/agent/prometheus.ts";
import { type AgentParts, statusLines } from "../../src/agent/status.ts";
import { CHECK_IDS } from "../../src/cli/doctor/types.ts";
import { MutableSource } from "../../src/client/source.ts";
import type { TrustBundle, X509Svid } from "../../src/client/svid.ts";
import { Report } from "../../src/compose/report.ts";
import { AGENT_FILE_KEYS } from "../../src/config/agent-schema.ts";
import { readAgentSettings } from "../../src/config/agent-settings.ts";
import {
  AGENT_SETTING_NAMES,
  AGENT_SOURCES,
  agentVariable,
} from "../../src/config/agent-sources.ts";
import { CLIENT_VARIABLES } from "../../src/config/client-variables.ts";
import { readConfigFile } from "../../src/config/file.ts";
import { LIMIT_KEYS, limitVariable, REQUEST_LIMIT_KEYS } from "../../src/config/limits.ts";
import { readSettings } from "../../src/config/settings.ts";
import { SETTING_NAMES } from "../../src/config/settings-schema.ts";
import { readStoreUrl } from "../../src/config/store-url.ts";
import type { LeafSummary } from "../../src/core/ca/leaf-summary.ts";
import { DEFAULT_POLICY } from "../../src/core/ca/timing-and-limits.ts";
import type { Audit } from "../../src/core/ports/audit.ts";
import { SCHEMAS } from "../../src/core/state.ts";
import { DEFAULT_DNS_TEMPLATES } from "../../src/core/x509/service-names.ts";
import { STATUSES } from "../../src/http/errors.ts";
import { DEFAULT_HTTP_LIMITS } from "../../src/http/limits.ts";
import { PrometheusMetrics } from "../../src/telemetry/prometheus.ts";
import { pair } from "../datacenters/pair.ts";
import { DEFAULT_BOOTSTRAP, silentLog } from "../fakes/ca.ts";
import { accessThat } from "../fixtures/access.ts";
import { createTestApp } from "../fixtures/app.ts";
import { ROOT } from "../fixtures/root.ts";
import {
  anchorsOf,
  codeIn,
  linksOf,
  markdownFiles,
  proseOf,
  readText,
  rowsOf,
  sectionOf,
} from "./markdown.ts";

const CONFIGURATION = readText("docs/configuration.md");
const OPERATIONS = readText("docs/operations.md");
const DOCUMENTS = readdirSync(join(ROOT, "docs"))
  .filter((name) => name.endsWith(".md"))
  .map((name) => `docs/${name}`);

const inOrder = (names: Iterable<string>): string[] =>
  [...names].toSorted((a, b) => (a < b ? -1 : a > b ? 1 : 0));

/** Counts with leaves of a root that is not published any more. */
const leavesOf = (until: Date): LeafSummary => ({
  ...{ isCounting: true, completeSince: null, isLowerBound: false },
  roots: [
    {
      id: "a",
      status: "unpublished",
      leaves: 2,
      until,
      removableAt: null,
      overdue: 1,
      issuers: [],
    },
  ],
});

/** The names in the first column of the table under a heading; a cell may hold several. */
const namesIn = (text: string, heading: string): string[] =>
  rowsOf(sectionOf(text, heading)).flatMap(([first = ""]) => codeIn(first));

const settingsWith = (environment: Readonly<Record<string, string>>) =>
  readSettings(environment, (path) => `the file ${path}`, CONSUL_CONFIG_NAMES);

/** The message with which something is refused. */
function refusalOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  return assert.fail("Nothing was refused");
}

/** The names that a refusal of an unknown one lists. */
const knownIn = (refusal: string): string[] =>
  /known are ([A-Za-z_]+(?:, [A-Za-z_]+)*)/.exec(refusal)?.[1]?.split(", ") ?? [];

describe("docs/operations.md", () => {
  it("has a row for each check of meshca doctor, the most urgent first, and no other", () => {
    assert.deepEqual(
      namesIn(OPERATIONS, "Doctor").filter((name) => name.includes(".")),
      CHECK_IDS,
    );
  });
});

describe("docs/configuration.md", () => {
  const entries = [
    ...sectionOf(CONFIGURATION, "Settings").matchAll(/^- `(MESHCA_\w+)`: (?:`([^`]+)`)?/gm),
  ];
  const limitKeys = [...LIMIT_KEYS, ...REQUEST_LIMIT_KEYS];
  const limitVariables = limitKeys.map(limitVariable);
  const ofWorkers = [...readText("src/config/worker.ts").matchAll(/MESHCA_[A-Z]\w*/g)]
    .map(([name]) => name)
    .filter((name) => !SETTING_NAMES.includes(name));
  const settings = new Set([
    ...SETTING_NAMES.filter((name) => !limitVariables.includes(name)),
    ...ofWorkers,
  ]);

  it("has an entry for each setting, and no other", () => {
    assert.deepEqual(inOrder(entries.map(([, name = ""]) => name)), inOrder([...settings]));
  });

  it("has the default of each setting that has one", () => {
    const defaults = settingsWith({});
    for (const [, name = "", value] of entries)
      if (value !== undefined && !value.includes("<") && !ofWorkers.includes(name))
        assert.deepEqual(settingsWith({ [name]: value }), defaults, name);
  });

  it("has each limit with its default, and no other", () => {
    assert.deepEqual(inOrder(namesIn(CONFIGURATION, "Limits")), inOrder(limitKeys));
    const defaults: Readonly<Record<string, unknown>> = {
      ...DEFAULT_HTTP_LIMITS,
      maxPendingLeaves: DEFAULT_POLICY.maxPendingLeaves,
      tokensPerLogin: DEFAULT_MAX_TOKENS,
    };
    for (const [key = "", value = ""] of rowsOf(sectionOf(CONFIGURATION, "Limits"))) {
      const variable = limitVariable(codeIn(key)[0] ?? "");
      const { limits } = settingsWith({ [variable]: value.replaceAll("`", "") });
      for (const [name, limit] of Object.entries(limits))
        assert.deepEqual(limit, defaults[name] ?? limit, name);
      assert.equal(Object.keys(limits).length, 1);
    }
  });

  it("has keys of the configuration file that are read, and all of connect", () => {
    const keys = namesIn(CONFIGURATION, "Configuration file");
    /** An object with a value of the wrong type for a key. */
    const wrong = (key: string): object =>
      key.split(".").reduceRight<unknown>((value, name) => ({ [name]: value }), 0.5) as object;
    for (const key of keys) {
      const refusal = refusalOf(() => readConfigFile(JSON.stringify(wrong(key)), []));
      assert.ok(refusal.startsWith(`${key}: `) && !refusal.includes("is not a key"), refusal);
    }
    const connect = keys.flatMap((key) => /^connect\.(\w+)$/.exec(key)?.[1] ?? []);
    const known = knownIn(
      refusalOf(() => readConfigFile(JSON.stringify({ connect: { zzzzzzzzzz: 1 } }), [])),
    );
    assert.deepEqual(inOrder(connect), inOrder(known));
  });

  it("has an example of a configuration file that is accepted, without ignored keys", () => {
    const [, example = ""] = /```hcl\n(.*?)```/s.exec(
      sectionOf(CONFIGURATION, "Configuration file"),
    ) ?? [""];
    const names = [...CONSUL_CONFIG_NAMES, ...VAULT_CONFIG_NAMES];
    const { ignored, bootstrap, settings: given } = readConfigFile(example, names, "hcl");
    assert.deepEqual(ignored, []);
    assert.equal(parseConsulConfig(bootstrap?.config ?? null).leafTtlMs, 24 * 3_600_000);
    assert.equal(given.MESHCA_LISTEN, "0.0.0.0:8501");
    assert.equal(given.MESHCA_LIMITS_READ_RATE, "1000");
  });

  it("has each field of the provider consul with its default, and no other", () => {
    const common = namesIn(CONFIGURATION, "Fields of both providers");
    const own = namesIn(CONFIGURATION, "Fields of provider `consul`");
    assert.deepEqual(inOrder([...common, ...own]), inOrder(CONSUL_CONFIG_NAMES));
    const rows = rowsOf(sectionOf(CONFIGURATION, "Fields of both providers"));
    for (const [name = "", value = ""] of rows)
      if (value !== "")
        assert.deepEqual(
          parseConsulConfig({ [codeIn(name)[0] ?? ""]: value.replaceAll("`", "") }),
          parseConsulConfig({}),
          name,
        );
  });

  it("has the default templates of ServiceDNSNames", () => {
    const text = sectionOf(CONFIGURATION, "Fields of both providers").replace(/\s+/g, " ");
    const [, listed = ""] = /The default templates are ([^;]*);/.exec(text) ?? [];
    assert.deepEqual(codeIn(listed), DEFAULT_DNS_TEMPLATES);
  });

  it("has each field of the provider vault, and no other", () => {
    const common = namesIn(CONFIGURATION, "Fields of both providers");
    const own = namesIn(CONFIGURATION, "Fields of provider `vault`");
    assert.deepEqual(inOrder([...common, ...own]), inOrder(VAULT_CONFIG_NAMES));
  });

  it("has each parameter of each auth method of Vault, and no other", () => {
    const login = (AuthMethod: unknown) =>
      refusalOf(() =>
        parseVaultConfig({
          ...{ Address: "https://vault.example:8200", AuthMethod },
          ...{ RootPKIPath: "root", IntermediatePKIPath: "intermediate" },
        }),
      );
    const rows = rowsOf(sectionOf(CONFIGURATION, "Vault auth methods"));
    const types = rows.map(([type = ""]) => codeIn(type)[0] ?? "");
    const listed = /Type must be one of ([a-z]+(?:, [a-z]+)*)/.exec(login({ Type: "?" }))?.[1];
    assert.deepEqual(inOrder(types), inOrder(listed?.split(", ") ?? []));
    for (const [i, [, params = ""]] of rows.entries()) {
      const names = codeIn(params).filter((name) => /^[a-z_]+$/.test(name));
      const known = knownIn(login({ Type: types[i], Params: { zzzzzzzzzz: "" } }));
      assert.deepEqual(inOrder([...new Set(names)]), inOrder(known), types[i] ?? "");
    }
  });

  it("has each field of Transit in addition to those of a connection, and no other", () => {
    const known = knownIn(refusalOf(() => parseTransitConfig({ Zzzzzzzzzz: "" })));
    const own = known.filter((name) => !VAULT_CONFIG_NAMES.includes(name));
    assert.deepEqual(inOrder(namesIn(CONFIGURATION, "Transit")), inOrder(own));
  });

  it("has each field of each type of auth method, and no other", () => {
    const { jwt, kubernetes } = CONFIG_FIELDS;
    const documented = namesIn(CONFIGURATION, "Auth methods");
    assert.deepEqual(inOrder(documented), inOrder([...new Set([...jwt, ...kubernetes])]));
    const [, both = "", ofJwt = "", ofKubernetes = ""] = sectionOf(
      CONFIGURATION,
      "Auth methods",
    ).split(/^`Config` of .*:$/m);
    const fields = (text: string) => rowsOf(text).flatMap(([first = ""]) => codeIn(first));
    assert.deepEqual(inOrder([...fields(both), ...fields(ofJwt)]), inOrder(jwt));
    assert.deepEqual(inOrder([...fields(both), ...fields(ofKubernetes)]), inOrder(kubernetes));
  });

  it("has each resource of a policy, and no other", () => {
    const expected = [...WHOLE, ...NAMED.flatMap((name) => [name, `${name}_prefix`])];
    assert.deepEqual(inOrder(namesIn(CONFIGURATION, "Policies")), inOrder(expected));
  });
});

describe("docs/http-api.md", () => {
  it("has each error code with its status, and no other", () => {
    const found = Object.entries(STATUSES).map(([code, status]) => `${status} ${code}`);
    const documented = rowsOf(sectionOf(readText("docs/http-api.md"), "Error codes")).flatMap(
      ([status = "", codes = ""]) => codeIn(codes).map((code) => `${status.slice(0, 3)} ${code}`),
    );
    assert.ok(found.length > 40);
    assert.deepEqual(inOrder(documented), inOrder(found));
  });
});

describe("docs/vault.md", () => {
  it("has the policy that the steps of a change need, and no other path", () => {
    const [root, intermediate] = ["mesh-root", "mesh-int"].map((path) => ({ path, namespace: "" }));
    assert.ok(root !== undefined && intermediate !== undefined);
    const steps: Step[] = [
      { kind: "lookup-token", namespace: "" },
      { kind: "renew-token", namespace: "" },
      { kind: "read-mount", mount: root },
      { kind: "mount-pki", mount: root, purpose: "root" },
      { kind: "generate-root", mount: root, beside: false },
      { kind: "generate-root", mount: root, beside: true },
      { kind: "certify-intermediate", mount: root },
      { kind: "cross-sign", mount: root, issuerId: "+" },
      { kind: "read-mount", mount: intermediate },
      { kind: "mount-pki", mount: intermediate, purpose: "intermediate" },
      { kind: "generate-key", mount: intermediate },
      { kind: "import-intermediate", mount: intermediate, accessor: null, isOurs: true },
      { kind: "ensure-role", mount: intermediate },
      { kind: "sign-leaves", mount: intermediate },
      { kind: "delete-superseded", mount: intermediate },
    ];
    const needed = new Map<string, Set<string>>([["sys/capabilities-self", new Set(["update"])]]);
    for (const { path, capabilities } of steps.flatMap(permissionsOf))
      needed.set(path, new Set([...(needed.get(path) ?? []), ...capabilities]));
    const [, policy = ""] =
      /```hcl\n(.*?)```/s.exec(sectionOf(readText("docs/vault.md"), "Policy")) ?? [];
    const documented = new Map(
      [...policy.matchAll(/^path "([^"]+)" +\{ capabilities = \[(.*)\] \}$/gm)].map(
        ([, path = "", list = ""]) => [
          path,
          // Beyond the needs of the code: a policy for mounts usually grants "create" with "update".
          new Set(
            list
              .replaceAll('"', "")
              .split(", ")
              .filter((name) => name !== "create"),
          ),
        ],
      ),
    );
    assert.deepEqual(inOrder(documented.keys()), inOrder(needed.keys()));
    for (const [path, capabilities] of needed)
      assert.deepEqual(documented.get(path), capabilities, path);
  });
});

describe("docs/storage.md", () => {
  it("has each schema, and no other", () => {
    const rows = rowsOf(sectionOf(readText("docs/storage.md"), "Schemas"));
    assert.deepEqual(
      rows.map(([schema]) => Number(schema)),
      SCHEMAS,
    );
  });
});

const CERTIFICATE = {
  notBefore: new Date(0),
  notAfter: new Date(86_400_000),
  fingerprint: "00",
  fallback: null,
};
const FAILING_AUDIT: Audit = {
  record: () => undefined,
  beforeChange: async () => undefined,
  refusal: () => undefined,
  failure: "ENOSPC",
  stopsSigning: false,
  stopsChanges: true,
  lost: 1,
  reserveLeft: 1,
};

/** The name, type and labels of each metric of a text in Prometheus' format. */
function seriesIn(text: string): string[] {
  return [...text.matchAll(/^# TYPE (\w+) (\w+)$/gm)].map(([, name = "", type = ""]) => {
    const sample = new RegExp(`^${name}(?:_count)?\\{(.*?)\\} `, "m").exec(text)?.[1] ?? "";
    const labels = [...sample.matchAll(/(\w+)="/g)].map(([, label = ""]) => label);
    return `${name} ${type} ${inOrder(labels).join()}`;
  });
}

describe("docs/operations.md", () => {
  it("has each option of the URL of Redis, and no other", () => {
    const faults = readStoreUrl("redis://localhost?zzzzzzzzzzzzzz=1", readText);
    const listed = /[a-z_]+(?:, [a-z_]+)+/.exec(Array.isArray(faults) ? faults.join() : "")?.[0];
    const rows = rowsOf(sectionOf(OPERATIONS, "Redis")).filter(([first = ""]) =>
      codeIn(first).every((code) => /^[a-z_]+$/.test(code)),
    );
    const documented = rows.flatMap(([first = ""]) => codeIn(first));
    assert.deepEqual(inOrder(documented), inOrder(listed?.split(", ") ?? []));
  });

  it("has each field of a line of the audit log, and no other", () => {
    const [, line = ""] =
      /JSON\.stringify\(\{\s*kind: "audit",(.*?)\}\)/s.exec(readText("src/telemetry/audit.ts")) ??
      [];
    const fields = [...line.matchAll(/^\s*(\w+)(?=[:,])/gm)].map(([, field = ""]) => field);
    assert.deepEqual(inOrder(namesIn(OPERATIONS, "Audit log")), inOrder(fields));
  });

  it("has each change as an action of the audit log", () => {
    const [, kinds = ""] =
      /readonly kind:((?:\s*\| "[\w-]+")+)/.exec(readText("src/core/ca/change.ts")) ?? [];
    const actions = [...kinds.matchAll(/"([\w-]+)"/g)].map(([, kind = ""]) => kind);
    assert.ok(actions.length > 10);
    const [, listed = ""] =
      /of a change (.*?); for/s.exec(sectionOf(OPERATIONS, "Audit log")) ?? [];
    assert.deepEqual(inOrder(codeIn(listed)), inOrder(actions));
  });

  it("has each metric with its type and its labels, and no other", async () => {
    // A secondary datacenter, whose series have labels.
    const { two, primary } = await pair();
    primary.clockOffsetMs = 0;
    const { manager, clock } = two;
    const usage = {
      ...{ cpuUserSeconds: 1, cpuSystemSeconds: 1, startTime: 1, residentBytes: 1 },
      ...{ virtualBytes: 1, openFiles: 1, maxFiles: 1 },
    };
    const metrics = new PrometheusMetrics({ version: "0", runtime: "test" }, () => usage);
    metrics.leafIssued("service", 1);
    metrics.leafRefused("csr_malformed");
    metrics.change("RENEWING", "ok");
    metrics.request("/healthz", 200, 1);
    metrics.forwarded("dc2", "answered");
    metrics.primaryFailed("read", "unreachable");
    metrics.intermediateRequested("ok");
    const { snapshot } = manager;
    const other = {
      by: "dc3",
      trustDomain: "d",
      datacenter: "dc3",
      promotions: 1,
      leafTtlMs: null,
    };
    const status = { ...manager.status, otherPrimary: other };
    const { text } = await metrics.render({
      leaves: leavesOf(clock.now()),
      ...{ snapshot, now: clock.now(), watchers: 0, signing: 0, renewWindowMs: 30_000, status },
      ...{ audit: FAILING_AUDIT, obstacle: null, changeObstacle: null, certificate: CERTIFICATE },
    });
    const found = seriesIn(text);
    const documented = rowsOf(sectionOf(OPERATIONS, "Metrics")).map(
      ([name = "", type = "", labels = ""]) =>
        `${codeIn(name)[0]} ${type} ${inOrder(codeIn(labels)).join()}`,
    );
    assert.deepEqual(inOrder(documented), inOrder(found));
  });

  it("has each line of /readyz, and no other", async () => {
    const bootstrap = { ...DEFAULT_BOOTSTRAP, config: { RootAutoRotate: 0.8 } };
    // A primary datacenter that signed an intermediate.
    const { manager, clock } = (await pair({ one: { bootstrap } })).one;
    const status = {
      ...manager.status,
      ...{ clockAlarm: true, stopped: "a reason", notes: ["a note"] },
      primary: {
        ...{ datacenter: "dc1", isAsked: true, lastContact: null, index: null },
        ...{ followedIndex: null, clockOffsetMs: null, fault: null },
      },
      otherPrimary: { by: "dc2", trustDomain: "d", datacenter: "dc2", promotions: 1 },
      preparedRoot: { rootId: "a", activateAt: clock.now() },
      trustOfDropped: [{ droppedId: "a", rootId: "b", until: clock.now() }],
    };
    const leaves = leavesOf(clock.now());
    const troubled = new Proxy(manager, {
      get(target, name) {
        if (name === "status") return status;
        if (name === "leaves") return leaves;
        const value: unknown = Reflect.get(target, name, target);
        return typeof value === "function" ? value.bind(target) : value;
      },
    });
    const parts = { ca: troubled, audit: FAILING_AUDIT, clock, log: silentLog };
    const linesWith = (fallback: string | null) =>
      new Report({ ...parts, serverCertificate: () => ({ ...CERTIFICATE, fallback }) }).lines();
    const access = accessThat({ allows: () => true });
    const { fetch } = await createTestApp({
      ...{ ca: troubled, audit: FAILING_AUDIT },
      acl: { control: { ...access, state: { ...access.state, stopped: "a reason" } } },
      details: () => [...linesWith(null), ...linesWith("a reason")],
    });
    const names = [...(await (await fetch("/readyz")).text()).matchAll(/^(\w+): /gm)];
    const [table = ""] = sectionOf(OPERATIONS, "readyz").split("The reasons after");
    assert.deepEqual(
      inOrder(rowsOf(table).flatMap(([first = ""]) => codeIn(first))),
      inOrder(new Set(names.map(([, name = ""]) => name))),
    );
  });

  it("quotes the texts of /readyz and of alarms as the code has them", () => {
    const sources = ["src", "providers"]
      .flatMap((folder) =>
        readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" })
          .filter((path) => path.endsWith(".ts"))
          .map((path) => readFileSync(join(ROOT, folder, path), "utf8")),
      )
      .join("\n");
    const [, reasons = ""] = sectionOf(OPERATIONS, "readyz").split("The reasons after");
    const quoted = [reasons, sectionOf(OPERATIONS, "Alarms")].map((texts) =>
      codeIn(texts.replaceAll(/\s+/g, " ")).filter((code) => code.includes(" ")),
    );
    assert.ok(quoted.every((texts) => texts.length > 15));
    const parts = quoted.flat().flatMap((text) => text.split(/<[^>]*>/).map((part) => part.trim()));
    assert.deepEqual(
      parts.filter((part) => !sources.includes(part)),
      [],
    );
  });
});

const WORKLOADS = readText("docs/workloads.md");
const HOOK_VARIABLES = [
  ...readText("src/agent/hook-command.ts").matchAll(/^ +(SPIFFE_\w+|MESHCA_HOOK_\w+): /gm),
].map(([, name = ""]) => name);

describe("docs/workloads.md", () => {
  const settings = rowsOf(sectionOf(WORKLOADS, "Settings"));
  const agentSettings = (environment: Readonly<Record<string, string>>, file = "{}") =>
    readAgentSettings({}, environment, {
      readFile: (path) => (/agent\.(hcl|json)$/.test(path) ? file : "-----BEGIN CERTIFICATE-----"),
      resolve: (path) => path,
    });

  it("has each setting of the agent with its flag, and no other", () => {
    const documented = settings.map(([key = "", flag = ""]) =>
      `${codeIn(key)[0]} ${codeIn(flag)[0] ?? ""}`.trim(),
    );
    const expected = AGENT_SOURCES.map(({ key, flag }) =>
      flag === null ? key : `${key} --${flag}`,
    );
    assert.deepEqual(inOrder(documented), inOrder(["config --config", ...expected]));
    const variables = settings.map(([key = ""]) => agentVariable(codeIn(key)[0] ?? ""));
    assert.deepEqual(inOrder(variables), inOrder(AGENT_SETTING_NAMES));
  });

  it("has the default of each setting of the agent that has one", () => {
    const given = { MESHCA_AGENT_LISTEN: "127.0.0.1:0" };
    for (const [key = "", , value = ""] of settings) {
      const [text] = codeIn(value);
      if (text === undefined) continue;
      const variable = agentVariable(codeIn(key)[0] ?? "");
      assert.deepEqual(agentSettings({ ...given, [variable]: text }), agentSettings(given), key);
    }
  });

  it("has each key of the agent's configuration file, and no other", () => {
    const ofIdentity = AGENT_SOURCES.filter(({ identity }) => identity === true);
    const notInFile = ["config", "token", ...ofIdentity.map(({ key }) => key)];
    const keys = namesIn(WORKLOADS, "Settings").filter(
      (name) => !name.startsWith("--") && !notInFile.includes(name),
    );
    const blocks = rowsOf(sectionOf(WORKLOADS, "Configuration file")).map(
      ([key = ""]) => codeIn(key)[0] ?? "",
    );
    assert.deepEqual(inOrder([...keys, ...blocks]), inOrder(AGENT_FILE_KEYS));
  });

  it("has an example of the agent's configuration file that is accepted", () => {
    const [, example = ""] =
      /```hcl\n(.*?)```/s.exec(sectionOf(WORKLOADS, "Configuration file")) ?? [];
    const { identities, folders } = agentSettings({ MESHCA_AGENT_CONFIG: "agent.hcl" }, example);
    assert.deepEqual([identities.length, folders.length], [2, 2]);
  });

  it("has each file of a credential folder, and no other", () => {
    const names = [...Object.values(FILE), trustBundleName("<trust domain>")];
    const [section = ""] = sectionOf(WORKLOADS, "Files").split("\n### ");
    const documented = rowsOf(section).map(([name = ""]) => codeIn(name)[0] ?? "");
    assert.deepEqual(inOrder(documented), inOrder(names));
  });

  it("has configurations of folders that are accepted", () => {
    const blocks = [...sectionOf(WORKLOADS, "Files").matchAll(/^```hcl\n(.*?)^```$/gms)];
    assert.ok(blocks.length > 5);
    for (const [, block = ""] of blocks)
      assert.equal(agentSettings({ MESHCA_AGENT_CONFIG: "agent.hcl" }, block).folders.length, 1);
  });

  it("has each variable of a hook's command, and no other", () => {
    assert.deepEqual(inOrder(namesIn(WORKLOADS, "Commands and signals")), inOrder(HOOK_VARIABLES));
  });

  const svid = new MutableSource<X509Svid>();
  const troubled: AgentParts = {
    ...{ started: false, workloads: [{ service: "web", svid, problem: null }] },
    ...{ bundle: new MutableSource<TrustBundle>(), rootsProblem: null },
    sockets: [{ name: "s", problem: null }],
    listeners: [{ name: "l", problem: null }],
    folders: [{ name: "f", problem: null, hookProblem: "failed" }],
    contact: { lastContact: null, problem: "away", clockProblem: "wrong" },
    ...{ trustProblem: "expired", loginProblem: "none" },
  };

  it("has each line of the agent's /readyz, and no other", () => {
    const found = statusLines(troubled, new Date(0)).map(({ name }) => name);
    assert.deepEqual(
      inOrder(namesIn(WORKLOADS, "readyz").filter((name) => !name.includes(" "))),
      inOrder(found),
    );
  });

  it("has each metric of the agent with its type and its labels, and no other", async () => {
    const usage = {
      ...{ cpuUserSeconds: 1, cpuSystemSeconds: 1, startTime: 1, residentBytes: 1 },
      ...{ virtualBytes: 1, openFiles: 1, maxFiles: 1 },
    };
    const metrics = new AgentPrometheus({ version: "0", runtime: "test" }, () => usage);
    svid.set({
      ...{ spiffeId: "", chain: [], privateKey: new Uint8Array(), serialNumber: "", index: 1 },
      ...{ notBefore: new Date(0), notAfter: new Date(1) },
    });
    metrics.observe(() => ({ parts: troubled, now: new Date(0), ready: false }));
    metrics.streams("sds", 1);
    metrics.refused("sds", "a reason");
    metrics.delivered("files", "ok");
    metrics.renewal("ok");
    const { text } = await metrics.render();
    const documented = rowsOf(sectionOf(WORKLOADS, "Metrics")).map(
      ([name = "", type = "", labels = ""]) =>
        `${codeIn(name)[0]} ${type} ${inOrder(codeIn(labels)).join()}`,
    );
    assert.deepEqual(inOrder(documented), inOrder(seriesIn(text)));
  });
});

describe("src/README.md", () => {
  const text = readText("src/README.md");
  const index = [...sectionOf(text, "core/ca by file").matchAll(/^- `([^`]+)`: /gm)].map(
    ([, file = ""]) => file,
  );

  it("has each file of core/ca, and no other", () => {
    assert.deepEqual(inOrder(index), inOrder(readdirSync(join(ROOT, "src/core/ca"))));
  });

  it("names only files and folders that exist", () => {
    const named = codeIn(proseOf(text)).filter((code) => /^[\w./-]+(?:\/|\.ts|\.md)$/.test(code));
    assert.deepEqual(
      named.filter(
        (path) =>
          !index.includes(path) &&
          !existsSync(join(ROOT, "src", path)) &&
          !existsSync(join(ROOT, path)),
      ),
      [],
    );
  });
});

describe("all documents", () => {
  it("have links whose files and anchors exist", () => {
    const broken: string[] = [];
    for (const file of markdownFiles())
      for (const link of linksOf(readText(file))) {
        if (/^[a-z]+:/.test(link)) continue;
        const [path = "", anchor] = link.split("#");
        const target = path === "" ? file : normalize(join(dirname(file), path));
        const exists = existsSync(join(ROOT, target));
        const isAnchor =
          anchor === undefined || (exists && anchorsOf(readText(target)).has(anchor));
        if (!exists || !isAnchor) broken.push(`${file}: ${link}`);
      }
    assert.deepEqual(broken, []);
  });

  it("name only scripts of package.json", () => {
    const { scripts } = JSON.parse(readText("package.json")) as { scripts: Record<string, string> };
    for (const file of markdownFiles())
      for (const [, name = ""] of readText(file).matchAll(/\bnpm run (?:-\S+ )*([a-z][a-z:-]*)/g))
        assert.ok(Object.hasOwn(scripts, name), `${file}: npm run ${name}`);
  });

  it("name only settings that exist", () => {
    const known = new Set([
      ...SETTING_NAMES,
      ...AGENT_SETTING_NAMES,
      ...HOOK_VARIABLES,
      ...CLIENT_VARIABLES,
    ]);
    for (const name of ["MESHCA_MAX_AGE", "MESHCA_LIMITS"]) known.add(name);
    for (const file of ["README.md", ".github/SECURITY.md", ...DOCUMENTS])
      for (const [name] of readText(file).matchAll(/MESHCA_[A-Z]+(?:_[A-Z]+)*(?!\w)/g))
        assert.ok(known.has(name), `${file}: ${name}`);
  });

  it("are reachable from README.md", () => {
    const linked = linksOf(readText("README.md"));
    assert.deepEqual(
      DOCUMENTS.filter((file) => !linked.includes(file)),
      [],
    );
  });

  it("in docs/ are wrapped at 100 columns, but for tables, code and links", () => {
    for (const file of ["README.md", "CHANGELOG.md", "src/README.md", ...DOCUMENTS])
      for (const line of proseOf(readText(file)).split("\n"))
        assert.ok(
          line.length <= 100 || /^\||^`|^ *\S+$/.test(line),
          `${file}: ${line.length} characters: ${line}`,
        );
  });
});
