/**
 * A root that is dropped under real processes: two datacenters, an agent in each, and services that
 * shake hands across them by the files that the agents write.
 * @module
 */
import assert from "node:assert/strict";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { readPem } from "../../src/core/pem.ts";
import { readCertificate, readCertificatePem } from "../../src/core/x509/certificate.ts";
import { couldHaveIssued } from "../../src/core/x509/chain.ts";
import { meshca } from "../cli/run.ts";
import { type AgentProcess, startAgent } from "../fixtures/agent.ts";
import type { ServerProcess } from "../fixtures/process.ts";
import { type Service, shakeHandsInRing } from "../recovery/handshakes.ts";
import { until } from "../redis/server.ts";
import { rootsOf } from "./members.ts";
import { call, type Datacenters, MANAGEMENT, startDatacenters } from "./servers.ts";

const byText = (a: string, b: string) => (a < b ? -1 : 1);

/** Far above what it takes on a machine that is busy. */
const OPTIONS = { timeout: 300_000 };

describe("a dropped root under real agents", () => {
  let all: Datacenters;
  let folder: string;
  let servers: readonly ServerProcess[];
  const agents: AgentProcess[] = [];
  const services: Service[] = [];
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-drop-"));
    all = await startDatacenters();
    servers = [all.primary, await all.start("dc2")];
  });
  after(async () => {
    for (const agent of agents) await agent.stop();
    await all.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const file = (name: string, text: string) => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  const certificatesIn = (service: Service, name: string) =>
    readPem(readFileSync(join(service.folder, name), "utf8")).map(({ bytes }) =>
      readCertificate(bytes),
    );
  /** Whether every service has these roots, and a chain whose last certificate is under one of them. */
  const haveOnly = (ids: readonly string[]) =>
    services.every((service) => {
      if (!existsSync(join(service.folder, "tls.crt"))) return false;
      const roots = certificatesIn(service, "ca.crt");
      if (
        roots
          .map(({ id }) => id)
          .toSorted(byText)
          .join() !== ids.toSorted(byText).join()
      )
        return false;
      const last = certificatesIn(service, "tls.crt").at(-1);
      return last !== undefined && roots.some((root) => couldHaveIssued(root, last));
    });
  /** Starts an agent in each datacenter, and waits for their leaves. */
  async function startAgents(): Promise<void> {
    const token_file = file("token", MANAGEMENT);
    for (const [i, { url }] of servers.entries()) {
      const names = [1, 2, 3].map((n) => `service-${i + 1}-${n}`);
      const folders = names.map((name) => ({ name, folder: join(folder, name) }));
      const config = {
        ...{ servers: [url], ca_file: all.caFile, token_file },
        identities: names.map((service) => ({ service })),
        folders: folders.map((each) => ({ path: each.folder, identity: each.name })),
        listen: "127.0.0.1:0",
      };
      agents.push(await startAgent(["--config", file(`agent-${i}.json`, JSON.stringify(config))]));
      services.push(...folders);
    }
  }
  const run = async (...args: readonly string[]) => {
    const ran = await meshca([...args, "--yes"], {
      ...{ MESHCA_HTTP_ADDR: all.primary.url, MESHCA_CACERT: all.caFile },
      MESHCA_HTTP_TOKEN: MANAGEMENT,
    });
    assert.equal(ran.code, 0, ran.stderr);
    return ran.stdout;
  };
  /** Waits until both datacenters publish these roots only, and every service has leaves under them. */
  const come = async (ids: readonly string[]) => {
    await until(async () => {
      const listings = await Promise.all(servers.map(rootsOf));
      return listings.every(
        ({ Roots }) =>
          Roots.map(({ ID }) => ID)
            .toSorted(byText)
            .join() === ids.toSorted(byText).join(),
      );
    });
    await until(() => haveOnly(ids));
  };

  it(
    "the agents of both datacenters have leaves under the root that stays, and all services shake hands",
    OPTIONS,
    async () => {
      const first = (await rootsOf(all.primary)).ActiveRootID;
      await run("rotate");
      const second = (await rootsOf(all.primary)).ActiveRootID;
      await until(async () => (await rootsOf(servers[1] as ServerProcess)).ActiveRootID === second);
      await startAgents();
      await come([first, second]);
      // Each has a leaf under the root that is dropped now.
      const stolen = readCertificatePem(
        (await rootsOf(all.primary)).Roots.find(({ ID }) => ID === second)?.RootCert ?? "",
      );
      const isUnderStolen = (service: Service) =>
        certificatesIn(service, "tls.crt").some((certificate) =>
          couldHaveIssued(stolen, certificate),
        );
      assert.ok(services.every(isUnderStolen));
      await shakeHandsInRing(services);

      const began = performance.now();
      assert.match(await run("drop-root", second), new RegExp(`The active root is ${first}`));
      await come([first]);
      await until(() => !services.some(isUnderStolen));
      const ms = performance.now() - began;
      await shakeHandsInRing(services);
      console.log(
        `From the drop of the active root to ${services.length} services of two datacenters with leaves under the other one: ${(ms / 1000).toFixed(1)} s`,
      );
      for (const server of servers) {
        const ready = await call(server, "GET", "/readyz");
        assert.match(ready, new RegExp(`^dropped_root: ${second} is trusted until`, "m"));
      }

      // The last one, with a new one in its place, which nothing certifies.
      await run("drop-root", first, "--new-root");
      const third = (await rootsOf(all.primary)).ActiveRootID;
      await come([third]);
      await shakeHandsInRing(services);
      for (const server of servers)
        assert.doesNotMatch(await call(server, "GET", "/readyz"), /^dropped_root/m);
    },
  );
});
