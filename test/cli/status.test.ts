/**
 * `meshca status`: a server that is well, one without a token's rights, what is wrong, --watch.
 * @module
 */
import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, describe, it } from "node:test";
import { problemsOf } from "../../src/cli/commands/status/problems.ts";
import type { StatusFacts } from "../../src/cli/commands/status/types.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { meshca, meshcaOnTerminal, plain } from "./run.ts";

const OPTIONS = { timeout: 120_000 };

describe("meshca status", () => {
  let server: ServerProcess;
  let environment: Readonly<Record<string, string>>;
  before(async () => {
    server = await startServer({ MESHCA_STORE: "memory:" });
    environment = { MESHCA_HTTP_ADDR: server.url, CONSUL_HTTP_ADDR: "http://127.0.0.1:1" };
  });
  after(() => server.stop());

  it("is one screen, coloured, and 0 if nothing is wrong", OPTIONS, async () => {
    const { code, screen } = await meshcaOnTerminal(["status"], environment, { columns: 120 });
    assert.equal(code, 0, screen);
    assert.notEqual(plain(screen), screen);
    for (const line of [
      `server        ${server.url}`,
      "state         ok",
      `trust domain  ${server.trustDomain}`,
      "provider      consul, leaves live 72h",
      "store         ok",
      "changes       possible",
    ])
      assert.ok(plain(screen).split("\n").includes(line), `${line}\n${screen}`);
    assert.match(plain(screen), /\nthis replica {2}leader, index \d+\n/);
    assert.match(plain(screen), /\nactive root {3}\d+d \d+h left \(\d{4}-\d\d-\d\d\)\n/);
    assert.match(plain(screen), /\nROOT +LIFE +STATE\n[0-9a-f:]{59} {2}\d+d \d+h left {2}active\n/);
  });

  it("fits 40 columns as blocks", OPTIONS, async () => {
    const { screen } = await meshcaOnTerminal(["status"], environment, { columns: 40 });
    assert.match(plain(screen), /\nROOT: {2}[0-9a-f:]{59}\nLIFE: {2}\d+d/);
  });

  it("prints JSON", OPTIONS, async () => {
    const { code, stdout } = await meshca(["status", "-json"], environment);
    assert.equal(code, 0);
    const status = JSON.parse(stdout) as StatusFacts & { readonly problems: readonly unknown[] };
    assert.deepEqual(
      [status.ready, status.reason, status.trustDomain, status.problems],
      [true, null, server.trustDomain, []],
    );
    assert.deepEqual(status.provider, { name: "consul", leafCertTtl: "72h" });
    assert.equal(status.roots[0]?.state, "active");
    assert.deepEqual(status.details?.changes, ["possible"]);
  });

  it("--watch shows it again until Ctrl-C", OPTIONS, async () => {
    const { code, screen } = await meshcaOnTerminal(
      ["status", "--watch", "--interval", "0.1"],
      environment,
      { type: [["trust domain", "\u0003", 2]] },
    );
    assert.equal(code, 0, screen);
    assert.ok(plain(screen).split("state         ok").length > 2, screen);
  });

  it("shows what is wrong when the server is gone, and what is no meshca", OPTIONS, async () => {
    const gone = await meshca(["status"], { MESHCA_HTTP_ADDR: "127.0.0.1:1" });
    assert.equal(gone.code, 69);
    assert.match(gone.stderr, /^The server at http:\/\/127\.0\.0\.1:1 refused the connection; /);
    const other = createServer((_, response) => {
      response.setHeader("Content-Type", "text/html");
      response.end("<html></html>");
    });
    await new Promise<void>((resolve) => other.listen(0, "127.0.0.1", resolve));
    const { port } = other.address() as AddressInfo;
    const foreign = await meshca(["status"], { MESHCA_HTTP_ADDR: `127.0.0.1:${port}` });
    other.close();
    assert.equal(foreign.code, 76);
    assert.match(
      foreign.stderr,
      /does not speak the API of meshca and Consul: it answered GET \/readyz with 200; check the address\n$/,
    );
  });
});

describe("problemsOf()", () => {
  const NOW = new Date("2030-01-01T00:00:00Z");
  const DAY = 86_400_000;
  const at = (days: number) => new Date(NOW.getTime() + days * DAY).toISOString();
  const facts: Omit<StatusFacts, "problems"> = {
    ...{ server: "http://a", ready: true, reason: null, trustDomain: "a.consul" },
    roots: [{ id: "aa", state: "active", notBefore: at(-1000), notAfter: at(1000), key: "ec 256" }],
    ...{ leader: "10.0.0.1:8500", replicas: ["10.0.0.1:8500"], provider: null },
    ...{ datacenter: null, leaves: null },
    details: { store: ["ok"], changes: ["possible"], audit: ["ok"] },
  };
  const every = () => true;
  const root = (state: string, notBefore: number, notAfter: number) => [
    { id: "aa", state, notBefore: at(notBefore), notAfter: at(notAfter), key: "ec 256" },
  ];

  it("is empty if nothing is wrong", () => {
    assert.deepEqual(problemsOf(facts, NOW, every), []);
    // A short life that has only begun.
    assert.deepEqual(problemsOf({ ...facts, roots: root("active", -1, 10) }, NOW, every), []);
    // A retired root goes by itself.
    assert.deepEqual(problemsOf({ ...facts, roots: root("retired", -900, 1) }, NOW, every), []);
    assert.deepEqual(problemsOf({ ...facts, roots: root("expired", -900, -1) }, NOW, every), []);
  });

  for (const [what, change, text, command] of [
    [
      "a root near its end",
      { roots: root("active", -900, 29) },
      "The active root aa: 29d left",
      "meshca rotate",
    ],
    [
      "an expired root",
      { ready: false, reason: "root expired: x", roots: root("expired", -900, -1) },
      "Leaves cannot be signed: root expired: x",
      "meshca recover",
    ],
    [
      "an expired issuer",
      { ready: false, reason: "expired: certificate expired, expiration date: 2029" },
      "Leaves cannot be signed: expired: certificate expired, expiration date: 2029",
      "meshca recover",
    ],
    [
      "what the server says of an expired root, and nothing of its own",
      {
        roots: root("expired", -900, -1),
        details: {
          remedy: [
            "the root has expired at 2029: no leaf can be signed; run meshca recover on a machine of the server, which does what meshca tls ca create does",
          ],
        },
      },
      "The root has expired at 2029: no leaf can be signed; run meshca recover on a machine of the server, which does what meshca tls ca create does",
      "meshca recover",
    ],
    [
      "a primary datacenter that is not followed",
      {
        details: {
          primary: ["dc1, no contact yet; not followed since 2029: No CA server answered"],
        },
      },
      "The primary datacenter dc1, no contact yet; not followed since 2029: No CA server answered",
      "meshca doctor",
    ],
    [
      "no leader",
      { leader: null },
      "No replica is the leader: the CA is not maintained",
      "meshca doctor",
    ],
    [
      "a store that is away",
      { details: { store: ["away since 2029"] } },
      "The store is away since 2029",
      "meshca doctor",
    ],
    [
      "lost writes",
      { details: { conflict: ["the store lost writes: x"] } },
      "The store lost writes: x",
      "meshca conflict show",
    ],
    [
      "changes that are stopped",
      { details: { changes: ["not possible: y"] } },
      "The CA cannot be changed: y",
      "meshca doctor",
    ],
    ["Vault", { details: { provider: ["Vault: z"] } }, "Provider: Vault: z", "meshca doctor"],
    [
      "leaves that outlive their root",
      { details: { leaves_alarm: ["at least 2 leaves of root aa"] } },
      "At least 2 leaves of root aa",
      null,
    ],
    ["a lost audit log", { details: { audit: ["lost 3"] } }, "Audit log: lost 3", "meshca doctor"],
  ] as const)
    it(`shows ${what}, and the command`, () => {
      const problems = problemsOf({ ...facts, ...change }, NOW, every);
      assert.deepEqual(
        problems.map((problem) => [problem.text, problem.command]),
        [[text, command]],
      );
      // A command that this program does not have is not named.
      for (const problem of problemsOf({ ...facts, ...change }, NOW, () => false))
        assert.equal(problem.command, null);
    });
});
