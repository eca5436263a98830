/**
 * `meshca status` and `meshca doctor` against datacenters as real processes: well, and each thing
 * that keeps a secondary datacenter from following, broken for real.
 * @module
 */
import assert from "node:assert/strict";
import { cpSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, afterEach, before, describe, it } from "node:test";
import type { Status } from "../../src/cli/commands/status/types.ts";
import type { CheckId } from "../../src/cli/doctor/types.ts";
import { makeKek } from "../../src/seal/kek.ts";
import {
  ask,
  call,
  type Datacenters,
  MANAGEMENT,
  startDatacenters,
} from "../datacenters/servers.ts";
import { type Command, type ServerProcess, startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { noRedis, startRedis, until } from "../redis/server.ts";
import { doctor } from "./doctor.ts";
import { meshca } from "./run.ts";

const OPTIONS = { timeout: 180_000 };
const HOUR = 3_600_000;
const KEK = makeKek();
const SHIFTED: Command = [
  process.execPath,
  "--preload",
  join(ROOT, "test/recovery/shifted-clock.ts"),
];
const OF_SECONDARY = [
  "intermediate.renewal",
  "primary.reachable",
  "primary.token",
  "primary.role",
  "primary.trust_domain",
  "primary.followed",
  "primary.clock",
] as const satisfies CheckId[];

/** Without access control. */
const OPEN = { MESHCA_ACL: "", MESHCA_INITIAL_MANAGEMENT_TOKEN: "" };

/** The checks of other datacenters that found something. */
const foundIn = ({ results }: Awaited<ReturnType<typeof doctor>>) =>
  results
    .filter(({ outcome, id }) => outcome === "found" && /^(?:primary|intermediate|data)/.test(id))
    .map(({ id }) => id);

const readyz = async (server: ServerProcess) => (await ask(server, "GET", "/readyz")).text;

describe("meshca status and doctor, and datacenters with access control and TLS", () => {
  let all: Datacenters;
  let two: ServerProcess;
  before(async () => {
    all = await startDatacenters();
    two = await all.start("dc2");
  });
  after(() => all.stop());
  const at = ({ url }: ServerProcess) => ({
    ...{ MESHCA_HTTP_ADDR: url, MESHCA_CACERT: all.caFile, MESHCA_HTTP_TOKEN: MANAGEMENT },
  });
  // Before there is a state no token can be checked, and TLS has a self-signed certificate.
  const openAt = ({ url }: ServerProcess) => ({
    ...{ MESHCA_HTTP_ADDR: url, MESHCA_HTTP_SSL_VERIFY: "false" },
  });
  const statusOf = async (server: ServerProcess) => {
    const { stdout, stderr } = await meshca(["status", "--json"], at(server));
    assert.notEqual(stdout, "", stderr);
    return JSON.parse(stdout) as Status;
  };

  it(
    "are well: contact, lag and life of the secondary, what the primary signed",
    OPTIONS,
    async () => {
      const { datacenter, problems } = await statusOf(two);
      assert.deepEqual(problems, []);
      assert.ok(datacenter?.primary != null && datacenter.intermediate !== null);
      const { lastContact, index, ...primary } = datacenter.primary;
      assert.deepEqual(primary, {
        ...{ datacenter: "dc1", asked: true, followedIndex: index, lag: 0, fault: null },
      });
      assert.ok(index !== null && Math.abs(Date.parse(lastContact ?? "") - Date.now()) < HOUR);
      assert.equal(datacenter.name, "dc2");
      const { stdout } = await meshca(["status"], at(two));
      assert.match(stdout, /^follows +dc1, last contact \d+[ms].* ago, index \d+, lag 0$/m);
      assert.match(stdout, /^intermediate +36\dd \d+h left \(\d{4}-\d\d-\d\d\)$/m);
      const ofPrimary = await statusOf(all.primary);
      assert.deepEqual(
        [ofPrimary.datacenter?.primary, ofPrimary.datacenter?.intermediates.unexpired],
        [null, 1],
      );
      const text = (await meshca(["status"], at(all.primary))).stdout;
      assert.match(text, /^signed for others +1 intermediate, the first: 36\dd \d+h left$/m);
      const found = await doctor(at(two));
      for (const id of OF_SECONDARY) assert.equal(found.of(id).outcome, "ok", id);
      assert.deepEqual(foundIn(found), []);
      assert.equal(found.of("issuer.expiry").outcome, "skipped");
      assert.equal(found.of("datacenters.listed").outcome, "skipped");
    },
  );

  it(
    "datacenters.listed: the primary signed for datacenters that it does not list",
    OPTIONS,
    async () => {
      const found = await doctor(at(all.primary));
      const { severity, what } = found.finding("datacenters.listed");
      assert.equal(severity, "warning");
      assert.match(what, /^1 intermediate was signed .* none is listed in MESHCA_DATACENTERS$/);
      for (const id of OF_SECONDARY) assert.equal(found.of(id).outcome, "skipped", id);
    },
  );

  it("/v1/status/datacenter is for operators and callers on the machine", OPTIONS, async () => {
    const path = "/v1/status/datacenter";
    const { Primary } = JSON.parse(await call(two, "GET", path)) as {
      readonly Primary: { readonly Fault: unknown };
    };
    assert.equal(Primary.Fault, null);
    const wrong = await ask(two, "GET", path, null, {
      "X-Consul-Token": "22222222-2222-4333-8444-555555555555",
    });
    assert.equal(wrong.status, 403);
  });

  it(
    "primary.token: at the first start without the right, and once the right is gone",
    OPTIONS,
    async () => {
      const waiting = await all.start("dc4", {
        ...OPEN,
        MESHCA_REPLICATION_TOKEN: "22222222-2222-4333-8444-555555555555",
      });
      await until(async () => /\(refused\): /.test(await readyz(waiting)));
      const first = await doctor(openAt(waiting));
      const { severity, what, fix } = first.finding("primary.token");
      assert.equal(severity, "critical");
      assert.match(what, /refused \(403\): ACL not found/);
      assert.match(fix, /^In datacenter dc1, .* intermediate = "write"/);
      assert.deepEqual(foundIn(first), ["primary.token"]);
      await waiting.stop();
      const policy = JSON.parse(await call(all.primary, "GET", "/v1/acl/policy/name/dc")) as object;
      const rules = (text: string) =>
        call(all.primary, "PUT", `/v1/acl/policy/${(policy as { ID: string }).ID}`, {
          ...policy,
          Rules: text,
        });
      await rules('operator = "read"');
      const later = await doctor(at(two));
      await rules('intermediate = "write"');
      assert.equal(later.finding("primary.token").severity, "warning");
      assert.match(later.finding("primary.token").what, /lacks the right intermediate:write/);
      assert.deepEqual(foundIn(later), ["primary.token"]);
      assert.equal((await doctor(at(two))).of("primary.token").outcome, "ok");
    },
  );

  it("primary.role: the primary is a secondary one itself", OPTIONS, async () => {
    const three = await all.start("dc3", {
      ...OPEN,
      MESHCA_PRIMARY_DATACENTER: "dc2",
      MESHCA_PRIMARY_SERVERS: two.url,
      MESHCA_REPLICATION_TOKEN: MANAGEMENT,
    });
    await until(async () => /\(not_primary\): /.test(await readyz(three)));
    const found = await doctor(openAt(three));
    await three.stop();
    assert.match(
      found.finding("primary.role").what,
      /^Datacenter dc2 is a secondary one itself: Cannot follow datacenter dc2: it is not the primary datacenter, and follows dc1; set the name and the servers of the primary datacenter to those of dc1$/,
    );
    assert.deepEqual(foundIn(found), ["primary.role"]);
  });

  it(
    "primary.reachable: the certificate of the primary is not the one that is expected",
    OPTIONS,
    async () => {
      const server = await all.start("dc5", {
        ...OPEN,
        ...{ MESHCA_PRIMARY_CA_FILE: "", MESHCA_PRIMARY_CA_PIN: `sha256:${"0".repeat(64)}` },
      });
      await until(async () => /\(untrusted\): /.test(await readyz(server)));
      const found = await doctor(openAt(server));
      await server.stop();
      const { severity, what, fix } = found.finding("primary.reachable");
      assert.equal(severity, "critical");
      assert.ok(what.includes(all.primary.url), what);
      assert.match(fix, /^Correct MESHCA_PRIMARY_CA_FILE or MESHCA_PRIMARY_CA_PIN/);
      assert.deepEqual(foundIn(found), ["primary.reachable"]);
    },
  );
});

describe("meshca status and doctor, and datacenters on this machine", () => {
  const servers: ServerProcess[] = [];
  const folders: string[] = [];
  afterEach(async () => {
    for (const server of servers.splice(0).toReversed()) await server.stop();
    for (const folder of folders.splice(0)) rmSync(folder, { recursive: true, force: true });
  });
  const folder = () => {
    const made = mkdtempSync(join(tmpdir(), "meshca-doctor-"));
    folders.push(made);
    return made;
  };
  const start = async (environment: Readonly<Record<string, string>>, command?: Command) => {
    const server = await startServer(
      { MESHCA_PRIMARY_DATACENTER: "dc1", ...environment },
      [],
      command,
    );
    servers.push(server);
    return server;
  };
  const follow = (
    { url }: Pick<ServerProcess, "url">,
    more: Readonly<Record<string, string>> = {},
    command?: Command,
  ) => start({ MESHCA_DATACENTER: "dc2", MESHCA_PRIMARY_SERVERS: url, ...more }, command);
  const examine = ({ url }: ServerProcess) => doctor({ MESHCA_HTTP_ADDR: url });
  const details = async ({ url }: ServerProcess) => (await fetch(`${url}/readyz`)).text();
  const put = async ({ url }: ServerProcess, path: string, body: object | null = null) => {
    const answer = await fetch(`${url}${path}`, {
      method: "PUT",
      ...(body === null ? {} : { body: JSON.stringify(body) }),
    });
    assert.equal(answer.status, 200, await answer.text());
  };
  const problemsOf = async ({ url }: ServerProcess) => {
    const { stdout } = await meshca(["status", "--json"], { MESHCA_HTTP_ADDR: url });
    return (JSON.parse(stdout) as Status).problems;
  };

  it(
    "datacenters.listed: is well with a list; no token is needed without access control",
    OPTIONS,
    async () => {
      const primary = await start({
        MESHCA_DATACENTERS: '{"dc2": {"servers": ["http://127.0.0.1:1"]}}',
      });
      const unused = await examine(primary);
      assert.equal(unused.of("datacenters.listed").outcome, "skipped");
      const two = await follow(primary);
      assert.equal((await examine(two)).of("primary.token").outcome, "ok");
      assert.equal((await examine(primary)).of("datacenters.listed").detail, "dc2");
    },
  );

  it(
    "primary.reachable: at the first start, and once it is away; the address is named",
    OPTIONS,
    async () => {
      const alone = await follow({ url: "http://127.0.0.1:1" });
      await until(async () => /\(unreachable\): /.test(await details(alone)));
      const first = await examine(alone);
      assert.equal(first.finding("primary.reachable").severity, "critical");
      assert.match(first.finding("primary.reachable").what, /http:\/\/127\.0\.0\.1:1 /);
      assert.deepEqual(foundIn(first), ["primary.reachable"]);
      const primary = await start({});
      const two = await follow(primary);
      await primary.stop();
      await until(async () => /\(unreachable\): /.test(await details(two)));
      const later = await examine(two);
      const { severity, what, why } = later.finding("primary.reachable");
      assert.equal(severity, "warning");
      assert.ok(what.includes(primary.url), what);
      assert.match(why, /leaves are signed until \d{4}-/);
      assert.deepEqual(foundIn(later), ["primary.reachable"]);
      assert.equal(later.of("primary.token").outcome, "unchecked");
      const problems = await problemsOf(two);
      assert.deepEqual(
        problems.map(({ level, command }) => [level, command]),
        [["warning", "meshca doctor"]],
      );
      assert.match(
        problems[0]?.text ?? "",
        /^The primary datacenter dc1, last contact \S+, index \d+, followed index \d+; not followed since/,
      );
    },
  );

  it(
    "primary.token: none is given, and the primary allows every caller what no rule forbids",
    OPTIONS,
    async () => {
      const primary = await start({
        ...{ MESHCA_ACL: "allow", MESHCA_INITIAL_MANAGEMENT_TOKEN: MANAGEMENT },
      });
      const joined = { MESHCA_DATA_DIR: folder() };
      const two = await follow(primary, { ...joined, MESHCA_REPLICATION_TOKEN: MANAGEMENT });
      assert.equal((await examine(two)).of("primary.token").outcome, "ok");
      await two.stop();
      const found = await examine(await follow(primary, joined));
      assert.equal(found.finding("primary.token").severity, "warning");
      assert.deepEqual(foundIn(found), ["primary.token"]);
    },
  );

  it("primary.trust_domain: the addresses are those of another mesh", OPTIONS, async () => {
    const primary = await start({});
    const dataDir = folder();
    const two = await follow(primary, { MESHCA_DATA_DIR: dataDir });
    await two.stop();
    const other = await start({});
    const moved = await follow(other, { MESHCA_DATA_DIR: dataDir });
    await until(async () => /\(cluster_differs\): /.test(await details(moved)));
    const found = await examine(moved);
    assert.match(
      found.finding("primary.trust_domain").what,
      /^Cannot follow datacenter dc1: it has the trust domain /,
    );
    assert.deepEqual(foundIn(found), ["primary.trust_domain"]);
  });

  it("primary.followed: the primary came back with older roots", OPTIONS, async () => {
    const [newer, older, dataDir] = [folder(), folder(), folder()];
    const first = await start({ MESHCA_DATA_DIR: newer });
    await (await follow(first, { MESHCA_DATA_DIR: dataDir })).stop();
    await first.stop();
    cpSync(newer, older, { recursive: true });
    const primary = await start({ MESHCA_DATA_DIR: newer });
    const two = await follow(primary, { MESHCA_DATA_DIR: dataDir });
    await put(primary, "/v1/connect/ca/rotate");
    const active = async ({ url }: ServerProcess) =>
      ((await (await fetch(`${url}/v1/connect/ca/roots`)).json()) as { ActiveRootID: string })
        .ActiveRootID;
    const root = await active(primary);
    await until(async () => (await active(two)) === root);
    await two.stop();
    await primary.stop();
    const restored = await start({ MESHCA_DATA_DIR: older });
    const again = await follow(restored, { MESHCA_DATA_DIR: dataDir });
    await until(async () => /\(transition_invalid\): /.test(await details(again)));
    const found = await examine(again);
    assert.match(found.finding("primary.followed").what, /its roots went back from index \d+ to/);
    assert.deepEqual(foundIn(found), ["primary.followed"]);
    const line = /^primary: .* index (\d+), followed index (\d+);/m.exec(await details(again));
    assert.ok(line !== null && Number(line[1]) < Number(line[2]));
  });

  it("primary.clock: this server is 20 s, and then 2 min ahead", OPTIONS, async () => {
    const primary = await start({});
    for (const [seconds, severity] of [
      [20, "warning"],
      [120, "critical"],
    ] as const) {
      const shift = { TEST_CLOCK_SHIFT_MS: String(seconds * 1000) };
      const two = await follow(primary, shift, SHIFTED);
      const found = (await examine(two)).finding("primary.clock");
      await two.stop();
      assert.equal(found.severity, severity);
      assert.match(found.what, /^The clock of datacenter dc1 is .* behind this server's$/);
    }
  });

  it("primary.other: another datacenter was promoted in place of this one", OPTIONS, async () => {
    const dataDir = folder();
    const first = await start({ MESHCA_DATA_DIR: dataDir });
    assert.equal((await examine(first)).of("primary.other").outcome, "skipped");
    const two = await follow(first);
    assert.equal((await examine(two)).of("primary.other").outcome, "skipped");
    await first.stop();
    const listing = {
      MESHCA_DATA_DIR: dataDir,
      MESHCA_DATACENTERS: JSON.stringify({ dc2: { servers: [two.url] } }),
    };
    const well = await start(listing);
    assert.equal((await examine(well)).of("primary.other").detail, "none of dc2 is");
    await well.stop();
    await put(two, "/v1/connect/ca/promote", { NewRoot: true });
    const again = await start(listing);
    await until(async () => /^other_primary: /m.test(await details(again)));
    const found = await examine(again);
    const { severity, what, fix } = found.finding("primary.other");
    assert.deepEqual(
      [severity, what],
      ["critical", "Datacenter dc2 is the primary one by promotion 1, as a server of dc2 reports"],
    );
    assert.match(fix, /^Configure this datacenter to follow dc2 and restart its servers; or run /);
    assert.deepEqual(foundIn(found), ["primary.other"]);
    const problems = await problemsOf(again);
    assert.ok(
      problems.some(
        ({ text, command }) =>
          text.startsWith("Datacenter dc2 is the primary one by promotion 1") &&
          command === "meshca doctor",
      ),
    );
  });

  it("intermediate.renewal: past half of its life while the primary is away", OPTIONS, async () => {
    const primary = await start({});
    const config = { IntermediateCertTTL: "3h", LeafCertTTL: "1h" };
    await put(primary, "/v1/connect/ca/configuration", { Provider: "consul", Config: config });
    const dataDir = folder();
    const two = await follow(primary, { MESHCA_DATA_DIR: dataDir });
    await put(two, "/v1/connect/ca/configuration", { Provider: "consul", Config: config });
    assert.equal((await examine(two)).of("intermediate.renewal").outcome, "ok");
    await two.stop();
    await primary.stop();
    for (const [hours, severity, text] of [
      [1.75, "warning", /^Leaves are signed until then; the line primary of \/readyz/],
      [2.5, "critical", /^It should have been renewed at half of its life; no leaf outlives it/],
    ] as const) {
      const late = await follow(
        primary,
        { MESHCA_DATA_DIR: dataDir, TEST_CLOCK_SHIFT_MS: String(hours * HOUR) },
        SHIFTED,
      );
      await until(async () => /\(unreachable\): /.test(await details(late)));
      const found = await examine(late);
      const finding = found.finding("intermediate.renewal");
      assert.equal(finding.severity, severity);
      assert.match(finding.what, /^The intermediate \S+ was not renewed at half of its life: /);
      assert.match(finding.fix, text);
      assert.deepEqual(foundIn(found), ["intermediate.renewal", "primary.reachable"]);
      const problems = await problemsOf(late);
      assert.deepEqual(
        problems.map(({ text: problem, command }) => [problem.split(/ (?:dc1|was)/)[0], command]),
        [
          ["The primary datacenter", "meshca doctor"],
          ["The intermediate", "meshca doctor"],
        ],
      );
      await late.stop();
    }
  });
});

describe("meshca doctor and a secondary datacenter on Redis", { skip: noRedis }, () => {
  it("checks the primary on the leader, and says so on another replica", OPTIONS, async () => {
    const redis = await startRedis();
    const servers = [await startServer({ MESHCA_PRIMARY_DATACENTER: "dc1" })];
    try {
      for (let i = 0; i < 2; i++)
        servers.push(
          await startServer({
            ...{ MESHCA_PRIMARY_DATACENTER: "dc1", MESHCA_DATACENTER: "dc2" },
            MESHCA_PRIMARY_SERVERS: servers[0]?.url ?? "",
            MESHCA_STORE: `redis://127.0.0.1:${redis.port}`,
            MESHCA_KEK: KEK,
          }),
        );
      const replicas = await Promise.all(
        servers.slice(1).map(async (server) => ({
          found: await doctor({ MESHCA_HTTP_ADDR: server.url }),
          isLeader: /^role: leader$/m.test(await (await fetch(`${server.url}/readyz`)).text()),
        })),
      );
      assert.deepEqual(replicas.map(({ isLeader }) => isLeader).toSorted(), [false, true]);
      for (const { found, isLeader } of replicas) {
        assert.equal(found.of("primary.followed").outcome, isLeader ? "ok" : "unchecked");
        // Both ask by themselves what the token is allowed.
        for (const id of ["primary.reachable", "primary.token", "intermediate.renewal"] as const)
          assert.equal(found.of(id).outcome, "ok", id);
        if (!isLeader)
          assert.match(
            found.of("primary.followed").detail,
            /^this replica does not ask datacenter dc1: check the leader, \S+$/,
          );
      }
    } finally {
      for (const server of servers.toReversed()) await server.stop();
      await redis.stop();
    }
  });
});
