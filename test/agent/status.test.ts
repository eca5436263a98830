/**
 * The agent's routes for monitoring: what keeps it from being ready, and its metrics.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AgentPrometheus } from "../../src/agent/prometheus.ts";
import {
  type AgentParts,
  isReady,
  statusApp,
  statusLines,
  summaryOf,
} from "../../src/agent/status.ts";
import { MutableSource } from "../../src/client/source.ts";
import type { TrustBundle, X509Svid } from "../../src/client/svid.ts";

const NOW = new Date("2026-06-01T12:00:00Z");
const svidUntil = (notAfter: Date): X509Svid => ({
  ...{ spiffeId: "spiffe://a.consul/ns/default/dc/dc1/svc/web", chain: [], index: 7, notAfter },
  ...{ privateKey: new Uint8Array(), serialNumber: "01:02", notBefore: NOW },
});
const BUNDLE: TrustBundle = {
  ...{ trustDomain: "a.consul", roots: [], activeRootId: "", index: 12, json: "{}" },
};

function partsWith(changes: Partial<AgentParts> = {}) {
  const svid = new MutableSource<X509Svid>();
  const bundle = new MutableSource<TrustBundle>();
  svid.set(svidUntil(new Date("2026-06-01T13:00:00Z")));
  bundle.set(BUNDLE);
  const parts: AgentParts = {
    ...{ started: true, bundle, rootsProblem: null },
    workloads: [{ service: "web", svid, problem: null }],
    sockets: [{ name: "/run/web.sock", problem: null }],
    listeners: [{ name: "127.0.0.1:8502", problem: null }],
    folders: [{ name: "/run/web", problem: null, hookProblem: null }],
    contact: { lastContact: NOW, problem: null, clockProblem: null },
    ...{ trustProblem: null, loginProblem: null },
    ...changes,
  };
  return { parts, svid, bundle };
}

const LINES = [
  "server: last contact 2026-06-01T12:00:00.000Z",
  "roots: index 12",
  "identity: web: valid until 2026-06-01T13:00:00.000Z",
  "socket: /run/web.sock is listening",
  "listener: 127.0.0.1:8502 is listening",
  "folder: /run/web is written",
];
const metrics = new AgentPrometheus({ version: "0", runtime: "test" });

async function readyz(parts: AgentParts) {
  const app = statusApp({ lines: () => statusLines(parts, NOW), metrics });
  const response = await app.request("/readyz");
  assert.equal(response.headers.get("Cache-Control"), "no-store");
  assert.equal(response.headers.get("Retry-After"), response.status === 503 ? "1" : null);
  return { status: response.status, lines: (await response.text()).trimEnd().split("\n") };
}

describe("/readyz", () => {
  it("is 200 with a line for each part", async () => {
    assert.deepEqual(await readyz(partsWith().parts), { status: 200, lines: ["ok", ...LINES] });
  });

  const away = "No CA server answered: http://127.0.0.1:1 cannot be reached";
  const workload = (problem: string) => [{ ...partsWith().parts.workloads[0], problem }];
  for (const [what, changes, line] of [
    [
      "a server that is away",
      { contact: { lastContact: NOW, problem: away, clockProblem: null } },
      `server: last contact 2026-06-01T12:00:00.000Z: ${away}`,
    ],
    [
      "a clock that is wrong",
      { contact: { lastContact: NOW, problem: null, clockProblem: "The clock is 90 s behind" } },
      "clock: The clock is 90 s behind",
    ],
    ["roots that may be old", { rootsProblem: "not confirmed" }, "roots: index 12: not confirmed"],
    [
      "a certificate that could not be renewed",
      { workloads: workload("refused") as AgentParts["workloads"] },
      "identity: web: valid until 2026-06-01T13:00:00.000Z: refused",
    ],
    [
      "a hook that failed",
      { folders: [{ name: "/run/web", problem: null, hookProblem: "Command ended with 1" }] },
      "hook: Command ended with 1",
    ],
  ] as const satisfies readonly (readonly [string, Partial<AgentParts>, string])[])
    it(`is 200 with a line for ${what}`, async () => {
      const { status, lines } = await readyz(partsWith(changes).parts);
      assert.equal(status, 200);
      assert.equal(lines[0], "ok");
      assert.ok(lines.includes(line), lines.join("\n"));
    });

  for (const [what, changes, line] of [
    ["an agent that starts", { started: false }, "agent: starting"],
    [
      "a socket that does not listen",
      { sockets: [{ name: "/run/web.sock", problem: "/run/web.sock is in use" }] },
      "socket: /run/web.sock is in use",
    ],
    [
      "a listener that does not listen",
      { listeners: [{ name: "127.0.0.1:8502", problem: "127.0.0.1:8502 is not listening" }] },
      "listener: 127.0.0.1:8502 is not listening",
    ],
    [
      "a folder that is not written",
      { folders: [{ name: "/run/web", problem: "The disk is full" }] },
      "folder: The disk is full",
    ],
  ] as const satisfies readonly (readonly [string, Partial<AgentParts>, string])[])
    it(`is 503 for ${what}`, async () => {
      const { status, lines } = await readyz(partsWith(changes).parts);
      assert.equal(status, 503);
      assert.equal(lines[0], "not ready");
      assert.ok(lines.includes(line), lines.join("\n"));
    });

  it("is 503 for roots that are not known", async () => {
    const { parts, bundle } = partsWith({ rootsProblem: away });
    bundle.set(null);
    const { status, lines } = await readyz(parts);
    assert.deepEqual([status, lines[2]], [503, `roots: not known yet: ${away}`]);
  });

  it("is 503 for an identity without a certificate, and for one whose certificate expired", async () => {
    const { parts, svid } = partsWith();
    svid.set(svidUntil(NOW));
    const expired = await readyz(parts);
    svid.set(null);
    const missing = await readyz(parts);
    for (const { status, lines } of [expired, missing])
      assert.deepEqual([status, lines[3]], [503, "identity: web: no certificate"]);
  });
});

describe("statusApp()", () => {
  for (const path of ["/healthz", "/readyz", "/metrics"])
    it(`answers a wrong method of ${path} as the server does`, async () => {
      const app = statusApp({ lines: () => [], metrics });
      for (const method of ["POST", "DELETE", "PUT", "PATCH"]) {
        const response = await app.request(path, { method });
        assert.equal(response.status, 405);
        assert.equal(response.headers.get("Allow"), "OPTIONS,GET,HEAD");
        assert.equal(response.headers.get("Cache-Control"), "no-store");
        assert.equal(await response.text(), `method ${method} not allowed`);
      }
      const options = await app.request(path, { method: "OPTIONS" });
      assert.deepEqual([options.status, options.headers.get("Allow")], [200, "OPTIONS,GET,HEAD"]);
    });

  it("answers /healthz also before anything is served", async () => {
    const app = statusApp({ lines: () => [], metrics });
    const health = await app.request("/healthz");
    assert.deepEqual([health.status, await health.text()], [200, "ok\n"]);
    assert.equal((await app.request("/healthz", { method: "HEAD" })).status, 200);
  });

  it("summarizes what is not ready in one line", () => {
    const { parts, svid } = partsWith({ started: false });
    svid.set(null);
    const lines = statusLines(parts, NOW);
    assert.equal(isReady(lines), false);
    assert.equal(summaryOf(lines), "Not ready: agent: starting (and 1 more)");
    assert.equal(summaryOf(statusLines(partsWith().parts, NOW)), "Serving 1 identity");
  });
});

describe("/metrics", () => {
  it("has the life left of each identity, counters by their labels, and no unknown value", async () => {
    const own = new AgentPrometheus({ version: "1", runtime: "test" });
    const { parts, svid, bundle } = partsWith({
      contact: { lastContact: null, problem: "away", clockProblem: null },
    });
    own.observe(() => ({ parts, now: NOW, ready: false }));
    own.streams("workload-api", 1);
    own.streams("workload-api", 1);
    own.streams("workload-api", -1);
    own.refused("consul-api", "origin");
    own.delivered("files", "failed");
    own.renewal("refused");
    const app = statusApp({ lines: () => [], metrics: own });
    const samples = async () =>
      (await (await app.request("/metrics")).text())
        .split("\n")
        .filter((line) => line.startsWith("meshca_agent_") && !line.includes("build_info"));
    assert.deepEqual((await samples()).toSorted(), [
      'meshca_agent_delivered_total{delivery="files",outcome="failed"} 1',
      "meshca_agent_last_contact_timestamp_seconds 0",
      "meshca_agent_ready 0",
      'meshca_agent_refused_total{delivery="consul-api",reason="origin"} 1',
      'meshca_agent_renewals_total{outcome="refused"} 1',
      "meshca_agent_roots_index 12",
      "meshca_agent_server_reachable 0",
      'meshca_agent_streams{delivery="workload-api"} 1',
      'meshca_agent_svid_life_seconds{service="web"} 3600',
      'meshca_agent_svid_not_after_timestamp_seconds{service="web"} 1780318800',
    ]);
    svid.set(null);
    bundle.set(null);
    const without = await samples();
    assert.ok(without.includes('meshca_agent_svid_life_seconds{service="web"} 0'));
    assert.ok(without.includes("meshca_agent_roots_index 0"));
    assert.ok(!without.some((line) => line.includes("not_after")));
  });
});
