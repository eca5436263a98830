/**
 * The steps of the runbooks in docs/datacenters.md, as an operator does them: files and environment of
 * the servers, signals, restarts, and the command line.
 * @module
 */
import assert from "node:assert/strict";
import { join } from "node:path";
import { meshca, meshcaOnTerminal, type Ran } from "../cli/run.ts";
import { until } from "../redis/server.ts";
import type { Mesh } from "./mesh.ts";
import type { DatacenterPlan, MeshDatacenter } from "./mesh-datacenter.ts";
import { call, MANAGEMENT } from "./servers.ts";

/** dc2 is two replicas on a Redis. dc1 is lost for a while, and the leaf of its service lives on. */
export const DRILL_PLANS: readonly DatacenterPlan[] = [
  { name: "dc1", runtimes: ["bun"], agent: "bun", leafTtl: "2h" },
  { name: "dc2", runtimes: ["node", "bun"], agent: "bun" },
  { name: "dc3", runtimes: ["deno"], agent: "node" },
];

/** What `meshca datacenter promote --json` prints. */
export interface Promoted {
  readonly ActiveRootID: string;
  readonly ModifyIndex: number;
  readonly Promotions: number;
  readonly PreparedRootID?: string;
  readonly ActivateAt?: string;
}

export class Runbook {
  /** A datacenter's copy of the CA file. */
  readonly #caFiles = new Map<string, string>();
  readonly #mesh: Mesh;
  #backups = 0;

  constructor(mesh: Mesh) {
    this.#mesh = mesh;
  }

  /**
   * What has to be there before: every datacenter in the file of each, and in each a token for each
   * other one.
   */
  async prepare(): Promise<void> {
    const pem = await call(this.#mesh.primary.server, "GET", "/v1/connect/ca/roots?pem=true");
    const { datacenters } = this.#mesh;
    for (const each of datacenters) {
      const caFile = each.writeFile("mesh-roots.pem", pem);
      this.#caFiles.set(each.name, caFile);
      each.configure({
        datacenters: Object.fromEntries(
          datacenters.map(({ name, urls }) => [name, { servers: urls, ca_file: caFile }]),
        ),
      });
      for (const { name } of datacenters) if (name !== each.name) await each.replicationToken(name);
    }
  }

  /** Does something while the services call each other, and prints how often they did. */
  async passes(what: string, work: () => Promise<void>): Promise<void> {
    const began = performance.now();
    const { handshakes } = await this.#mesh.during(work);
    const seconds = Math.round((performance.now() - began) / 1000);
    console.log(`${what}: ${handshakes} handshakes in ${seconds} s, 0 failed`);
  }

  /** `meshca`, at a server of a datacenter. */
  run(of: MeshDatacenter, ...args: readonly string[]): Promise<Ran> {
    return meshca(args, this.#environment(of));
  }

  /** `meshca`, at a server of a datacenter, on a terminal. */
  onTerminal(
    of: MeshDatacenter,
    args: readonly string[],
    type: readonly (readonly [string, string])[] = [],
  ): Promise<{ readonly code: number | null; readonly screen: string }> {
    return meshcaOnTerminal(args, this.#environment(of), { columns: 200, type });
  }

  /** `meshca backup save`. @returns the file. */
  async saveBackup(of: MeshDatacenter): Promise<string> {
    const file = join(of.folder, `${of.name}-${++this.#backups}.backup`);
    const { code, stderr } = await this.run(of, "backup", "save", file);
    assert.equal(code, 0, stderr);
    return file;
  }

  /** Adds the key-encryption key of another datacenter after the own one. */
  addKek(to: MeshDatacenter, from: MeshDatacenter): Promise<void> {
    return to.restart({ MESHCA_KEK: `${to.kek},${from.kek}` });
  }

  /** `meshca datacenter promote --yes --json`, with these flags. */
  async promote(of: MeshDatacenter, ...flags: readonly string[]): Promise<Promoted> {
    const { code, stdout, stderr } = await this.run(
      ...([of, "datacenter", "promote", ...flags, "--yes", "--json"] as const),
    );
    assert.deepEqual([code, stderr], [0, ""], stdout);
    return JSON.parse(stdout) as Promoted;
  }

  /** Names the promoted datacenter as the primary one in its own file. */
  lead(of: MeshDatacenter): void {
    of.configure({ primary_datacenter: of.name });
  }

  /** Has a datacenter follow another one, by its file and SIGHUP. */
  async repoint(datacenter: MeshDatacenter, to: MeshDatacenter): Promise<void> {
    const replication = await to.replicationToken(datacenter.name);
    datacenter.configure({
      primary_datacenter: to.name,
      primary_servers: to.urls,
      primary_ca_file: this.#caFiles.get(datacenter.name),
      acl: { tokens: { replication } },
    });
  }

  /** Waits until a server of a datacenter says that it follows another one. */
  async follows(datacenter: MeshDatacenter, primary: MeshDatacenter): Promise<void> {
    const line = new RegExp(
      `^primary: ${primary.name}, last contact \\S+, index \\d+, followed index \\d+$`,
      "m",
    );
    await until(async () => {
      const texts = await Promise.all(datacenter.servers.map((each) => datacenter.readyz(each)));
      return texts.some((text) => line.test(text));
    });
  }

  #environment(of: MeshDatacenter): Readonly<Record<string, string>> {
    const caFile = this.#caFiles.get(of.name);
    assert.ok(caFile !== undefined, "the datacenters are not listed yet");
    return {
      MESHCA_HTTP_ADDR: of.server.url,
      MESHCA_HTTP_TOKEN: MANAGEMENT,
      MESHCA_CACERT: caFile,
    };
  }
}
