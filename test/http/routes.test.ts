/**
 * Every route is in docs/http-api.md, answers OPTIONS and refuses what it does not know; what machines
 * watch us by.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { routesOf } from "../../src/http/app.ts";
import type { AccessRule } from "../../src/http/route.ts";
import { createTestCa } from "../fakes/ca.ts";
import { accessThat } from "../fixtures/access.ts";
import { createTestApp } from "../fixtures/app.ts";
import { tableOf } from "../fixtures/tables.ts";

describe("routes", () => {
  it("docs/http-api.md has a row for every route and method, and no other", async () => {
    const { app, options } = await createTestApp();
    const routes = routesOf(options, app.watchers).flatMap(({ path, methods }) =>
      Object.keys(methods).map((method) => `${method} ${path}`),
    );
    const rows = tableOf("Routes").flatMap(([methods = "", path = ""]) =>
      methods.split(", ").map((method) => `${method} ${path}`),
    );
    assert.deepEqual(rows.toSorted(), routes.toSorted());
  });

  it("docs/http-api.md has the access rule of every route", async () => {
    const control = accessThat({ allows: () => true });
    const { app, options } = await createTestApp({ acl: { control } });
    const words = (rule: AccessRule): string => {
      const rules: Partial<Record<AccessRule, string>> = {
        public: "nothing",
        optional: "nothing, or a token",
        token: "a token",
        identity: "what the identity needs",
      };
      return rules[rule] ?? rule;
    };
    const asked = new Map(
      routesOf(options, app.watchers).flatMap(({ path, methods }) =>
        Object.entries(methods).map(
          ([method, { access }]) => [`${method} ${path}`, words(access)] as const,
        ),
      ),
    );
    for (const [methods = "", path = "", need = ""] of tableOf("Routes"))
      for (const method of methods.split(", "))
        assert.equal(asked.get(`${method} ${path}`), need, `${method} ${path}`);
  });

  it("every call that needs a right is refused without it, before its body is read", async () => {
    const { app, options, fetch } = await createTestApp({
      acl: { control: accessThat({ allows: () => false }) },
    });
    for (const { path, methods } of routesOf(options, app.watchers))
      for (const [method, { access }] of Object.entries(methods)) {
        if (!access.includes(":")) continue;
        const refused = await fetch(path, { method, ...(method === "GET" ? {} : { body: "{" }) });
        assert.equal(refused.status, 403, `${method} ${path}`);
        assert.match(await refused.text(), /^Permission denied: /);
      }
  });

  it("docs/http-api.md names each deviation once", () => {
    const ids = tableOf("Deviations").map(([id = ""]) => id);
    assert.deepEqual(ids, [...new Set(ids)]);
    assert.ok(ids.every((id) => /^[a-z0-9-]+$/.test(id)));
  });

  it("every route answers OPTIONS with its methods and refuses others with 405", async () => {
    const { app, options, fetch } = await createTestApp();
    for (const { path, methods, kind } of routesOf(options, app.watchers)) {
      // Consul refuses HEAD.
      const heads = kind === "operations" ? ["HEAD"] : [];
      const allow = ["OPTIONS", ...Object.keys(methods), ...heads].join();
      const asked = await fetch(path, { method: "OPTIONS" });
      assert.deepEqual(
        [asked.status, asked.headers.get("allow"), await asked.text()],
        [200, allow, ""],
        path,
      );
      for (const method of ["DELETE", "PATCH", "HEAD"].filter(
        (name) => !Object.hasOwn(methods, name) && !heads.includes(name),
      )) {
        const refused = await fetch(path, { method });
        assert.deepEqual(
          [refused.status, refused.headers.get("allow")],
          [405, allow],
          `${method} ${path}`,
        );
        // An answer to HEAD has the length of its text, and no text.
        assert.equal(await refused.text(), method === "HEAD" ? "" : `method ${method} not allowed`);
      }
    }
  });

  it("routes of Consul have Consul's headers and the others have not", async () => {
    const { app, options, fetch } = await createTestApp();
    for (const { path, kind } of routesOf(options, app.watchers)) {
      const { headers } = await fetch(path, { method: "OPTIONS" });
      assert.equal(
        headers.get("x-consul-default-acl-policy"),
        kind === "consul" ? "allow" : null,
        path,
      );
      assert.equal(headers.get("vary"), kind === "consul" ? "Accept-Encoding" : null, path);
    }
  });

  it("a path that only begins like a route is unknown", async () => {
    const { fetch } = await createTestApp();
    for (const path of [
      "/v1/connect/ca/roots/",
      "/v1/connect/ca/root",
      "/v1/connect/ca/roots/x/y",
      "/v1/connect/ca/ROOTS",
    ])
      assert.equal((await fetch(path)).status, 404, path);
  });

  // What Go's http.ServeMux answers, and with it Consul.
  for (const [path, location, link = location] of [
    ["//v1/connect/ca/roots", "/v1/connect/ca/roots"],
    [
      "///v1//status///leader?pretty&dc=dc1",
      "/v1/status/leader?pretty&dc=dc1",
      "/v1/status/leader?pretty&amp;dc=dc1",
    ],
    ["/v1/nosuch//", "/v1/nosuch/"],
    ["//evil.example/%22%3E", "/evil.example/%22%3E"],
    ["//", "/"],
  ] as const)
    it(`a path with two slashes in a row is redirected to the one without: ${path}`, async () => {
      const { fetch } = await createTestApp();
      const answer = await fetch(path);
      assert.deepEqual(
        [
          answer.status,
          answer.headers.get("location"),
          answer.headers.get("content-type"),
          await answer.text(),
        ],
        [301, location, "text/html; charset=utf-8", `<a href="${link}">Moved Permanently</a>.\n\n`],
      );
      const put = await fetch(path, { method: "PUT", body: "x" });
      assert.deepEqual(
        [put.status, put.headers.get("location"), await put.text()],
        [301, location, ""],
      );
    });

  it("HEAD is answered as GET without the body on routes for monitoring", async () => {
    const { fetch } = await createTestApp();
    for (const path of ["/healthz", "/readyz", "/metrics"]) {
      const [head, get] = [await fetch(path, { method: "HEAD" }), await fetch(path)];
      const body = await get.text();
      assert.deepEqual([head.status, await head.text()], [get.status, ""], path);
      assert.deepEqual(
        [head.headers.get("content-length"), head.headers.get("content-type")],
        [String(body.length), get.headers.get("content-type")],
      );
    }
  });
});

describe("GET /v1/status/leader", () => {
  it("GET /v1/status/leader names the replica that leads, as a JSON string", async () => {
    const { fetch } = await createTestApp();
    const answer = await fetch("/v1/status/leader");
    assert.deepEqual([answer.status, await answer.text()], [200, '"test"']);
  });

  it("GET /v1/status/leader answers the empty string without a leader", async () => {
    const { fetch } = await createTestApp({}, await createTestCa({ started: false }));
    const answer = await fetch("/v1/status/leader");
    assert.deepEqual([answer.status, await answer.text()], [200, '""']);
  });
});

describe("GET /healthz and GET /readyz", () => {
  it("GET /readyz answers 200 once a leaf can be signed", async () => {
    const { fetch } = await createTestApp();
    for (const [path, text] of [
      ["/healthz", /^ok\n$/],
      [
        "/readyz",
        /^ok\nrole: leader\nterm: 1\nindex: 1\nstaleness_ms: 0\nclock_offset_ms: 0\nreplicas: 1\n$/,
      ],
    ] as const) {
      const answer = await fetch(path);
      assert.equal(answer.status, 200);
      assert.match(await answer.text(), text);
    }
  });

  it("GET /readyz answers 503 with the reason before there is a CA, and GET /healthz 200", async () => {
    const { fetch } = await createTestApp({}, await createTestCa({ started: false }));
    const answer = await fetch("/readyz");
    assert.equal(answer.status, 503);
    assert.match(
      await answer.text(),
      /^Cannot sign: CA has not finished initializing\nrole: follower\nterm: 0\n/,
    );
    assert.equal((await fetch("/healthz")).status, 200);
  });

  it("GET /readyz answers 503 with Retry-After", async () => {
    const { fetch } = await createTestApp({}, await createTestCa({ started: false }));
    assert.equal((await fetch("/readyz")).headers.get("retry-after"), "1");
  });

  it("GET /readyz answers 503 once the root has expired", async () => {
    const { clock, fetch } = await createTestApp();
    clock.advance(87_600 * 3_600_000);
    const answer = await fetch("/readyz");
    assert.equal(answer.status, 503);
    assert.match(
      await answer.text(),
      /^Cannot sign: root expired: certificate expired, expiration date: \d{4}-\d\d-\d\d .* UTC\nrole: /,
    );
  });
});

describe("GET /metrics", () => {
  it("GET /metrics answers the text of the renderer, with its media type", async () => {
    const type = "text/plain; version=0.0.4; charset=utf-8";
    const { fetch } = await createTestApp({
      metrics: { render: async () => ({ type, text: "meshca_up 1\n" }) },
    });
    const answer = await fetch("/metrics");
    assert.deepEqual(
      [answer.status, answer.headers.get("content-type"), await answer.text()],
      [200, type, "meshca_up 1\n"],
    );
  });

  it("each answered request is counted by its route, never by its path", async () => {
    const counted: [string, number][] = [];
    const { fetch } = await createTestApp({
      metrics: { countRequest: (route, status) => counted.push([route, status]) },
    });
    await fetch("/v1/connect/ca/roots?index=abc");
    await fetch("/v1/connect/ca/roots");
    await fetch("/v1/connect/nosuch");
    assert.deepEqual(counted, [
      ["/v1/connect/ca/roots", 400],
      ["/v1/connect/ca/roots", 200],
      ["unknown", 404],
    ]);
  });
});

describe("an error that is not of the CA", () => {
  it("an unexpected error answers 500 without its text, and the log has the reason under the same request", async () => {
    const logged: Record<string, unknown>[] = [];
    const log = {
      debug() {},
      info() {},
      warn() {},
      error: (_: string, fields?: Record<string, unknown>) => logged.push(fields ?? {}),
    };
    const render = () => Promise.reject(new RangeError("secret of the renderer"));
    const { fetch } = await createTestApp({ runtime: { log }, metrics: { render } });
    const answer = await fetch("/metrics");
    const text = await answer.text();
    assert.equal(answer.status, 500);
    assert.match(
      text,
      /^Internal error; the server's log has the reason under request [0-9a-f-]{36}$/,
    );
    assert.equal(logged.length, 1);
    assert.ok(text.endsWith(String(logged[0]?.requestId)));
    assert.equal(logged[0]?.code, "RangeError");
    assert.ok(!JSON.stringify(logged).includes("secret of the renderer"));
  });
});
