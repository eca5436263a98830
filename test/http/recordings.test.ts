/**
 * Every recorded request, sent to a server of ours: the answer is what Consul's was, or differs as
 * a row of the table of deviations in docs/http-api.md says.
 * @module
 */
import assert from "node:assert/strict";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, it } from "node:test";
import { App } from "../../src/http/app.ts";
import { createTestCa } from "../fakes/ca.ts";
import { appOptions } from "../fixtures/app.ts";
import { makeDataDir, startServer } from "../fixtures/process.ts";
import { send } from "../fixtures/raw.ts";
import { makeRoot } from "../fixtures/supplied-root.ts";
import { tableOf } from "../fixtures/tables.ts";
import {
  comparable,
  expected,
  RECORDINGS,
  type RecordedCase,
  type RecordedGroup,
} from "./recordings.ts";

const rows = new Set(tableOf("Deviations").map(([id = ""]) => id));

interface Peer {
  readonly port: number;
  readonly trustDomain: string;
  stop(): Promise<unknown>;
}

/** A server without a CA yet: the counterpart of a Consul without a leader. */
async function startUninitialized(): Promise<Peer> {
  const app = new App(appOptions(await createTestCa({ started: false })));
  const server = Bun.serve({
    hostname: "127.0.0.1",
    port: 0,
    fetch: (request) => app.fetch(request),
  });
  return { port: server.port ?? 0, trustDomain: "", stop: () => server.stop(true) };
}

async function start(group: RecordedGroup["name"]): Promise<Peer> {
  if (group === "no leader") return startUninitialized();
  if (group !== "connect disabled") return startServer();
  const dataDir = makeDataDir();
  writeFileSync(join(dataDir, "meshca.json"), JSON.stringify({ connect: { enabled: false } }));
  const server = await startServer({
    MESHCA_DATA_DIR: dataDir,
    MESHCA_CONFIG: join(dataDir, "meshca.json"),
  });
  const stop = async () => {
    await server.stop();
    rmSync(dataDir, { recursive: true, force: true });
  };
  return { port: server.port, trustDomain: "", stop };
}

/** Puts our own indexes and a root of our own trust domain in place of the recorded ones. */
async function fill(text: string, peer: Peer): Promise<string> {
  let filled = text;
  if (/\{index/.test(text)) {
    const index = Number(
      (await send(peer.port, { method: "GET", target: "/v1/connect/ca/roots" }))?.header(
        "X-Consul-Index",
      ),
    );
    filled = filled.replace(/\{index([+-]\d+)?\}/g, (_, offset = "0") =>
      String(index + Number(offset)),
    );
  }
  if (text.includes("{modifyIndex}")) {
    const answer = await send(peer.port, { method: "GET", target: "/v1/connect/ca/configuration" });
    filled = filled.replaceAll(
      "{modifyIndex}",
      /"ModifyIndex":(\d+)/.exec(answer?.body ?? "")?.[1] ?? "",
    );
  }
  if (text.includes("{root}")) {
    const root = makeRoot(peer.trustDomain);
    const inJson = (pem: string) => JSON.stringify(pem).slice(1, -1);
    filled = filled.replace("{root}", inJson(root.certificate)).replace("{key}", inJson(root.key));
  }
  return filled;
}

describe("recorded answers of Consul 1.16.6", () => {
  let [equal, deviating] = [0, 0];
  after(() => console.log(`${equal} equal, ${deviating} deviate`));

  const check = async (
    peer: Peer,
    { request, answer: recorded, blocked = false, deviates = [], ours = {} }: RecordedCase,
  ) => {
    const target = await fill(request.target, peer);
    const body = request.body === undefined ? undefined : await fill(request.body, peer);
    const wait = Number(/wait=(\d+)s/.exec(target)?.[1] ?? 0);
    const started = performance.now();
    const answer = await send(peer.port, { ...request, target, body });
    const took = performance.now() - started;
    if (recorded === undefined) return;
    assert.ok(answer !== null, "the connection was closed without an answer");
    assert.equal(answer.header("X-Content-Type-Options"), "nosniff");
    for (const row of deviates)
      assert.ok(rows.has(row), `docs/http-api.md has no deviation ${row}`);
    // Timers may fire a little early.
    const waited = wait > 0 && took >= wait * 1000 - 50;
    const theirs = recorded ?? { status: 0, headers: [], body: "" };
    const compared = comparable(theirs, answer, { recorded: blocked, ours: waited });
    assert.deepEqual(compared.ours, expected(compared.recorded, ours));
    if (deviates.length === 0) equal++;
    else {
      assert.notDeepEqual(
        compared.ours,
        compared.recorded,
        `marked as ${deviates.join()}, but it is what Consul answers`,
      );
      deviating++;
    }
  };

  for (const { name, cases } of RECORDINGS)
    describe(name, () => {
      let peer: Promise<Peer> | undefined;
      after(async () => (await peer)?.stop());
      cases.forEach((recorded, at) => {
        const { method, target, body = "" } = recorded.request;
        it(`${name} ${at + 1}: ${method} ${target} ${body.slice(0, 160)}`.trim(), async () => {
          peer ??= start(name);
          await check(await peer, recorded);
        });
      });
    });
});
