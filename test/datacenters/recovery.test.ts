/**
 * The recovery of two datacenters in which everything has expired, as real processes with shifted
 * clocks: `meshca recover` in the primary once, and the secondaries follow without a restart. By
 * themselves if the primary's server has a certificate of another CA, else with the new root that an
 * operator gives them, and never to a server with another one.
 * @module
 */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { createHash, X509Certificate } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import { meshca } from "../cli/run.ts";
import { makeOtherCa } from "../client/tls-server.ts";
import { opensslCsr } from "../fakes/ca.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { copyOf, makeExpiredFolder, pinIn, TOKEN, WITH_ACL } from "../recovery/expired.ts";
import { type Service, shakeHandsInRing } from "../recovery/handshakes.ts";
import { freePort, until } from "../redis/server.ts";
import { shakeHandsByOpenssl } from "./openssl-handshake.ts";
import { answering, Peer } from "./peer.ts";
import { ask, call } from "./servers.ts";

const OPTIONS = { timeout: 240_000 };
const HEADERS = { "X-Consul-Token": TOKEN };
const OF_MESH = { ...WITH_ACL, MESHCA_PRIMARY_DATACENTER: "dc1" };
const SECONDARIES = ["dc2", "dc3"] as const;
type Name = "dc1" | (typeof SECONDARIES)[number];

describe("everything has expired in all datacenters", () => {
  const folders = new Map<Name, string>();
  let folder: string;
  let replicationToken = "";
  let oldRoots = "";
  const stops: (() => Promise<unknown>)[] = [];

  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-heal-"));
    const addSecondaries = async ({ url }: ServerProcess) => {
      for (const name of SECONDARIES)
        folders.set(
          name,
          await makeExpiredFolder(
            {
              ...{ ...OF_MESH, MESHCA_DATACENTER: name, MESHCA_PRIMARY_SERVERS: url },
              MESHCA_REPLICATION_TOKEN: replicationToken,
            },
            (secondary) =>
              until(async () => (await fetch(`${secondary.url}/v1/connect/ca/roots`)).ok),
          ),
        );
    };
    folders.set(
      "dc1",
      await makeExpiredFolder(OF_MESH, async (primary) => {
        const { url } = primary;
        const put = async (path: string, body: object) =>
          (await fetch(url + path, {
            ...{ method: "PUT", headers: HEADERS, body: JSON.stringify(body) },
          }).then((response) => response.json())) as Record<string, string>;
        const rules = 'intermediate = "write"';
        const { ID = "" } = await put("/v1/acl/policy", { Name: "dc", Rules: rules });
        const token = await put("/v1/acl/token", { Policies: [{ ID }] });
        replicationToken = token.SecretID ?? "";
        oldRoots = await (await fetch(`${url}/v1/connect/ca/roots?pem=true`)).text();
        await addSecondaries(primary);
      }),
    );
  }, OPTIONS);
  afterEach(async () => {
    for (const stop of stops.splice(0).toReversed()) await stop();
  });
  after(() => {
    for (const each of [folder, ...folders.values()])
      rmSync(each, { recursive: true, force: true });
  });

  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  /** A server on a copy of its expired folder, with the clock of this machine. */
  async function serve(name: Name, more: Readonly<Record<string, string>>): Promise<ServerProcess> {
    const MESHCA_DATA_DIR = copyOf(folders.get(name) ?? "");
    const own = name === "dc1" ? {} : { MESHCA_REPLICATION_TOKEN: replicationToken };
    const server = await startServer({
      ...{ ...OF_MESH, MESHCA_DATACENTER: name, MESHCA_DATA_DIR, MESHCA_TLS: "self" },
      ...{ ...own, ...more },
    });
    stops.push(async () => {
      await server.stop();
      rmSync(MESHCA_DATA_DIR, { recursive: true, force: true });
    });
    return server;
  }
  const readyz = async (server: ServerProcess) =>
    (await ask(server, "GET", "/readyz", null, HEADERS)).text;
  const activeOf = async (server: ServerProcess): Promise<string> =>
    JSON.parse(await call(server, "GET", "/v1/connect/ca/roots", null, HEADERS)).ActiveRootID;

  /** Runs `meshca recover` on the machine of a server. @returns the pin of the new root. */
  async function recover({ url, dataDir }: ServerProcess): Promise<{ readonly pin: string }> {
    const at = mkdtempSync(join(folder, "recover-"));
    const { code, stdout, stderr } = await meshca(
      ["recover", "--yes", "--json", "--http-addr", url, "--data-dir", dataDir],
      { MESHCA_HTTP_TOKEN: TOKEN },
      "",
      undefined,
      at,
    );
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as { pin: string };
  }

  /** Requires that services of each shake hands with those of each other, by two libraries. */
  async function requireHandshakes(
    servers: readonly (readonly [ServerProcess, Name])[],
  ): Promise<void> {
    const services: Service[] = [];
    for (const [server, name] of servers) {
      const { csr, key } = opensslCsr(
        `URI:spiffe://${server.trustDomain}/ns/default/dc/${name}/svc/web-${name}`,
      );
      const signed = await call(server, "PUT", "/v1/connect/ca/sign", csr, HEADERS);
      const roots = await call(server, "GET", "/v1/connect/ca/roots?pem=true", null, HEADERS);
      const at = join(mkdtempSync(join(folder, "leaf-")), name);
      mkdirSync(at, { mode: 0o700 });
      const { CertPEM } = JSON.parse(signed) as { CertPEM: string };
      for (const [to, text] of [
        ["tls.key", key],
        ["tls.crt", CertPEM],
        ["ca.crt", roots],
      ] as const)
        writeFileSync(join(at, to), text, { mode: 0o600 });
      services.push({ name: `web-${name}`, folder: at });
    }
    await shakeHandsInRing(services);
    await shakeHandsInRing(services.toReversed());
    for (const client of services)
      for (const server of services)
        if (server !== client) await shakeHandsByOpenssl(client, server);
  }

  it(
    "secondaries follow by themselves a primary whose server has a certificate of another CA",
    OPTIONS,
    async () => {
      const ca = makeOtherCa(null);
      const { key, cert } = ca.issue("DNS:localhost,IP:127.0.0.1");
      const primary = await serve("dc1", {
        ...{ MESHCA_TLS: "", MESHCA_TLS_CERT_FILE: file("server.pem", cert) },
        MESHCA_TLS_KEY_FILE: file("server.key", key),
      });
      const follows = {
        MESHCA_PRIMARY_SERVERS: primary.url,
        MESHCA_PRIMARY_CA_FILE: file("other-ca.pem", ca.pem),
      };
      const secondaries = [await serve("dc2", follows), await serve("dc3", follows)] as const;
      for (const server of secondaries)
        await until(async () =>
          /^primary: dc1, .*its active root \S+ expired at \S+; replace the root there/m.test(
            await readyz(server),
          ),
        );
      await recover(primary);
      const active = await activeOf(primary);
      for (const server of secondaries)
        await until(async () => (await activeOf(server)) === active);
      const [two, three] = secondaries;
      await requireHandshakes([
        [primary, "dc1"],
        [two, "dc2"],
        [three, "dc3"],
      ]);
      // Their own servers have a certificate under the new root.
      for (const server of secondaries) {
        await until(() =>
          server.stdout().includes("Serving TLS with a certificate of this CA again"),
        );
        assert.match(await readyz(server), /^ok\n/);
      }
    },
  );

  it(
    "secondaries that trust only expired roots take the new one by SIGHUP, from a file or by its pin, and from no other server",
    OPTIONS,
    async () => {
      const primary = await serve("dc1", { MESHCA_LISTEN: `127.0.0.1:${await freePort()}` });
      // It has the trust domain and the SPIFFE ID, under a root of its own.
      const id = `spiffe://${primary.trustDomain}`;
      const attackerCa = makeOtherCa(id);
      const attacker = await Peer.start(
        answering(200, "{}"),
        attackerCa.issue(`URI:${id}/agent/server/dc/dc1`),
      );
      stops.push(() => attacker.stop());
      const servers = [primary.url, attacker.url.origin];
      const caFile = file("dc1-roots.pem", oldRoots);
      const config = (primary_ca_pin: string) =>
        file("dc3.json", JSON.stringify({ primary_servers: servers.toReversed(), primary_ca_pin }));
      const two = await serve("dc2", {
        ...{ MESHCA_PRIMARY_SERVERS: servers.join(), MESHCA_PRIMARY_CA_FILE: caFile },
      });
      const three = await serve("dc3", { MESHCA_CONFIG: config(pinOf(oldRoots)) });
      const secondaries = [two, three] as const;
      const lineOf = async (server: ServerProcess) =>
        (await readyz(server)).split("\n").find((line) => line.startsWith("primary: ")) ?? "";
      const hangUp = async () => {
        for (const server of secondaries) {
          const before = server.stdout().length;
          process.kill(server.pid, "SIGHUP");
          await until(() => server.stdout().slice(before).includes("after SIGHUP"));
        }
      };
      for (const server of secondaries)
        await until(async () =>
          /every root that verifies its servers has expired, the last one at \S+: /.test(
            await lineOf(server),
          ),
        );
      const { pin } = await recover(primary);
      const active = await activeOf(primary);
      // Roots are public: the attacker publishes those of the primary.
      const listing = await call(primary, "GET", "/v1/connect/ca/roots", null, HEADERS);
      attacker.script = answering(200, listing, { "X-Consul-Index": "99" });
      // A root that is not the primary's lets nobody in.
      const wrong = makeOtherCa(id).pem;
      writeFileSync(caFile, wrong);
      config(pinOf(wrong));
      await hangUp();
      for (const [server, reason] of [
        [
          two,
          /cannot be verified \(\w+\); after a forced rotation write the new roots into the CA file, which is read again after SIGHUP/,
        ],
        [three, /The pin matches none of the \d roots that the server publishes/],
      ] as const)
        await until(async () => reason.test(await lineOf(server)));
      for (const server of secondaries) assert.notEqual(await activeOf(server), active);

      // As the log and /readyz have said, with the fingerprint that the primary has now.
      const [, typed = ""] =
        /"reason":"[^"]* run (meshca .*?) > FILE with the fingerprint/.exec(two.stdout()) ?? [];
      const program = `${process.execPath} ${join(ROOT, "src/cli/main.ts")}`;
      const command = typed
        .replace(/^meshca/, program)
        .replace("sha256:FINGERPRINT", pinIn(primary.dataDir));
      assert.equal(spawnSync("sh", ["-c", `${command} > ${caFile}`]).status, 0, typed);
      config(pin);
      await hangUp();
      for (const server of secondaries)
        await until(async () => (await activeOf(server)) === active);
      await requireHandshakes([
        [primary, "dc1"],
        [two, "dc2"],
        [three, "dc3"],
      ]);
      for (const server of secondaries)
        assert.doesNotMatch(await lineOf(server), /not followed since/);
      // All that it is ever asked are its roots, which are compared with the pin.
      for (const { target, head, body } of attacker.received)
        assert.deepEqual(
          [target, body, head.includes(replicationToken)],
          ["/v1/connect/ca/roots", "", false],
        );
    },
  );
});

/** `sha256:HEX` of a root. */
const pinOf = (pem: string): string =>
  `sha256:${createHash("sha256").update(new X509Certificate(pem).raw).digest("hex")}`;
