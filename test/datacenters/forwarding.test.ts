/**
 * Two servers of two datacenters as real processes: a request for the other one, on every server
 * runtime.
 * @module
 */
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { meshca } from "../cli/run.ts";
import { linesOf, makeDataDir, type ServerProcess, startServer } from "../fixtures/process.ts";
import { until } from "../redis/server.ts";
import { COMMANDS } from "../runtimes/targets.ts";

const ROOTS = "/v1/connect/ca/roots";
const AGENT_ROOTS = "/v1/agent/connect/ca/roots";
const CONFIGURATION = "/v1/connect/ca/configuration";
/** The management token of dc2. */
const TOKEN = "0123456789abcdef0123456789abcdef";
const WITH_TOKEN = { "X-Consul-Token": TOKEN };

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  readonly body: string;
}

interface Ask {
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string;
  readonly signal?: AbortSignal;
}

/** One request over a connection of its own; the server is not verified. */
function ask(url: string, { method = "GET", headers = {}, body, signal }: Ask = {}) {
  return new Promise<Answer>((resolve, reject) => {
    const isTls = url.startsWith("https:");
    const outgoing = (isTls ? httpsRequest : httpRequest)(
      url,
      {
        ...{ method, headers, agent: false, rejectUnauthorized: false },
        ...(signal === undefined ? {} : { signal }),
      },
      (response) => {
        let text = "";
        response.setEncoding("utf8").on("data", (chunk: string) => {
          text += chunk;
        });
        response.on("error", reject);
        response.on("end", () =>
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text }),
        );
      },
    );
    outgoing.on("error", reject);
    outgoing.end(body);
  });
}

const rootsIn = ({ body }: Answer) =>
  (JSON.parse(body) as { Roots: { RootCert: string }[] }).Roots.map(({ RootCert }) => RootCert);

const leafTtl = (ttl: string) =>
  JSON.stringify({
    Provider: "consul",
    Config: { IntermediateCertTTL: "8760h", LeafCertTTL: ttl, RootCertTTL: "87600h" },
  });

/** The blocking queries that wait at a server. */
async function watchersOf({ url }: ServerProcess): Promise<number> {
  const { status, body } = await ask(`${url}/metrics`, { headers: WITH_TOKEN });
  assert.equal(status, 200, body);
  return Number(/^meshca_watchers (\d+)$/m.exec(body)?.[1]);
}

for (const runtime of ["bun", "node", "deno"] as const)
  describe(`a server of dc1 on ${runtime}, and one of dc2`, () => {
    const folder = makeDataDir();
    const secondFolder = makeDataDir();
    const config = join(secondFolder, "meshca.json");
    let first: ServerProcess;
    let second: ServerProcess;
    before(
      async () => {
        writeFileSync(config, "{}");
        second = await startServer({
          ...{ MESHCA_DATACENTER: "dc2", MESHCA_TLS: "self", MESHCA_ACL: "deny" },
          MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
          ...{ MESHCA_CONFIG: config, MESHCA_DATA_DIR: secondFolder },
        });
        const caFile = join(folder, "dc2-roots.pem");
        writeFileSync(caFile, rootsIn(await ask(`${second.url}${ROOTS}`)).join(""));
        const datacenters = {
          dc2: { servers: [second.url], ca_file: caFile },
          // What the other side takes for its own, and what it would send back.
          dc3: { servers: [second.url], ca_file: caFile },
        };
        first = await startServer(
          { MESHCA_DATACENTERS: JSON.stringify(datacenters), MESHCA_DATA_DIR: folder },
          [],
          COMMANDS[runtime](folder),
        );
      },
      { timeout: 60_000 },
    );
    after(async () => {
      for (const server of [first, second])
        assert.deepEqual([(await server.stop()).code, server.stderr()], [0, ""]);
      for (const each of [folder, secondFolder]) rmSync(each, { recursive: true, force: true });
    });

    it("reads the roots of dc2 as dc2 has them, in JSON and PEM, and as an agent", async () => {
      for (const [path, query] of [
        [ROOTS, ""],
        [ROOTS, "&pem=true"],
        [ROOTS, "&pretty"],
        [AGENT_ROOTS, ""],
      ] as const) {
        const there = await ask(`${second.url}${path}?dc=dc2${query}`);
        const here = await ask(`${first.url}${path}?dc=DC2${query}`);
        assert.deepEqual([here.status, here.body], [200, there.body], path);
        for (const name of ["content-type", "x-consul-index", "etag", "x-consul-knownleader"])
          assert.equal(here.headers[name], there.headers[name], name);
      }
      const own = await ask(`${first.url}${ROOTS}`);
      const other = await ask(`${first.url}${ROOTS}?dc=dc2`);
      assert.notDeepEqual(rootsIn(own), rootsIn(other));
      const tag = { "If-None-Match": String(other.headers.etag) };
      const same = await ask(`${first.url}${ROOTS}?dc=dc2`, { headers: tag });
      assert.deepEqual([same.status, same.body], [304, ""]);
    });

    it("has dc2 decide on the token, though everybody on this machine may do all in dc1", async () => {
      const target = `${first.url}${CONFIGURATION}?dc=dc2`;
      assert.equal((await ask(`${first.url}${CONFIGURATION}`)).status, 200);
      const anonymous = await ask(target);
      assert.equal(anonymous.status, 403);
      assert.match(
        anonymous.body,
        /^Permission denied: anonymous token lacks permission 'operator:/,
      );
      const unknown = await ask(target, { headers: { "X-Consul-Token": "nobody" } });
      assert.deepEqual([unknown.status, unknown.body], [403, "ACL not found"]);
      const allowed = await ask(target, { headers: WITH_TOKEN });
      const there = await ask(`${second.url}${CONFIGURATION}`, { headers: WITH_TOKEN });
      assert.deepEqual([allowed.status, allowed.body], [200, there.body]);
      for (const headers of [{}, { "X-Consul-Token": "nobody" }]) {
        const refused = await ask(target, { method: "PUT", body: leafTtl("9h"), headers });
        assert.equal(refused.status, 403, refused.body);
      }
      assert.equal(there.body, (await ask(target, { headers: WITH_TOKEN })).body);
    });

    it("changes the configuration of dc2, and not its own", async () => {
      const own = (await ask(`${first.url}${CONFIGURATION}`)).body;
      const target = `${first.url}${CONFIGURATION}?dc=dc2`;
      const put = { method: "PUT", headers: WITH_TOKEN };
      const changed = await ask(target, { ...put, body: leafTtl("7h") });
      assert.deepEqual([changed.status, changed.body], [200, ""]);
      assert.match((await ask(target, { headers: WITH_TOKEN })).body, /"LeafCertTTL":"7h"/);
      assert.equal((await ask(`${first.url}${CONFIGURATION}`)).body, own);
      const refused = await ask(target, { ...put, body: leafTtl("1m") });
      assert.equal(refused.status, 400);
      assert.match(refused.body, /leaf cert TTL must be greater or equal than 1h0m0s/);
      assert.ok(
        linesOf(first.stdout()).some(
          ({ message, status }) =>
            message === "Forwarded a change to another datacenter" && status === 200,
        ),
      );
      assert.ok(!first.stdout().includes(TOKEN));
    });

    it("waits in dc2 for a change, as a watcher of both, and only as long as its caller", async () => {
      const { headers } = await ask(`${first.url}${ROOTS}?dc=dc2`);
      const target = `${first.url}${ROOTS}?dc=dc2&index=${headers["x-consul-index"]}&wait=10m`;
      const caller = new AbortController();
      const left = ask(target, { signal: caller.signal }).catch(() => null);
      const blocked = ask(target);
      await until(async () => (await watchersOf(second)) === 2);
      assert.equal(await watchersOf(first), 2);
      caller.abort();
      await left;
      await until(async () => (await watchersOf(second)) === 1);
      await until(async () => (await watchersOf(first)) === 1);
      const rotated = await ask(`${second.url}/v1/connect/ca/rotate`, {
        ...{ method: "PUT", headers: WITH_TOKEN },
      });
      assert.equal(rotated.status, 200, rotated.body);
      const answer = await blocked;
      assert.equal(answer.status, 200);
      assert.equal(rootsIn(answer).length, 2);
      assert.equal(await watchersOf(first), 0);
      // Its certificate is under the new root, which the CA file does not have.
      const after = await ask(`${first.url}${ROOTS}?dc=dc2`);
      assert.equal(rootsIn(after).length, 2, after.body);
    });

    it("gives up on a name that the other side has not, and sends no loop around", async () => {
      // dc2 learns of dc1, and of dc3 as if it were dc1.
      const back = { servers: [first.url] };
      const before = second.stdout().split("after SIGHUP").length;
      writeFileSync(config, JSON.stringify({ datacenters: { dc1: back, dc3: back } }));
      process.kill(second.pid, "SIGHUP");
      await until(() => second.stdout().split("after SIGHUP").length > before);
      const list = async ({ url }: ServerProcess) =>
        JSON.parse((await ask(`${url}/v1/catalog/datacenters`)).body);
      assert.deepEqual(await list(first), ["dc1", "dc2", "dc3"]);
      assert.deepEqual(await list(second), ["dc2", "dc1", "dc3"]);
      const own = await ask(`${first.url}${ROOTS}`);
      assert.equal((await ask(`${second.url}${ROOTS}?dc=dc1`)).body, own.body);
      // The command line takes the certificate of a server of dc2 for what it asks of dc1.
      const ran = await meshca(["connect", "ca", "get-config", "-datacenter", "dc1"], {
        CONSUL_HTTP_ADDR: second.url,
        CONSUL_CACERT: join(folder, "dc2-roots.pem"),
      });
      // Everybody on this machine may do all in dc1, but not through dc2.
      assert.equal(ran.stdout, "");
      assert.match(
        ran.stderr,
        /403 \(Permission denied: a request of another datacenter needs a token/,
      );
      const around = await ask(`${first.url}${ROOTS}?dc=dc3`);
      assert.equal(around.status, 503, around.body);
      // A server of dc2 does not prove to be of dc3.
      assert.match(around.body, /^Cannot reach datacenter "dc3": server 1 .*\/dc\/dc3/);
      const plain = await ask(`${second.url}${ROOTS}?dc=dc3`);
      assert.match(
        plain.body,
        /server 1 is a server of another datacenter than the configuration names/,
      );
      const unknown = await ask(`${first.url}${ROOTS}?dc=dc9`);
      assert.deepEqual([unknown.status, unknown.body], [400, "No path to datacenter"]);
    });

    it("answers what waits in dc2 when it stops, and 503 while dc2 is away", async () => {
      const { headers } = await ask(`${first.url}${ROOTS}?dc=dc2`);
      const blocked = ask(
        `${first.url}${ROOTS}?dc=dc2&index=${headers["x-consul-index"]}&wait=10m`,
      );
      await until(async () => (await watchersOf(first)) === 1);
      const own = await ask(`${first.url}${ROOTS}`);
      const stopped = second.stop();
      // A server that stops answers its blocking queries.
      assert.equal((await blocked).status, 200);
      assert.equal((await stopped).code, 0);
      const away = await ask(`${first.url}${ROOTS}?dc=dc2`);
      assert.equal(away.status, 503);
      assert.match(away.body, /^Cannot reach datacenter "dc2": server 1 cannot be reached/);
      assert.equal(away.headers["retry-after"], "1");
      const still = await ask(`${first.url}${ROOTS}`);
      assert.deepEqual([still.status, still.body], [200, own.body]);
    });
  });
