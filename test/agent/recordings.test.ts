/**
 * Every recorded request for a leaf or an authorization, sent to a server of one machine, which
 * answers an agent's routes: the answer is what Consul's agent's was, or differs as a row of the
 * table of deviations in docs/http-api.md says. Not recorded here: redirects of Go's ServeMux, dot
 * segments, which URLs do not keep, and waits that ended before the first leaf.
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, describe, it } from "node:test";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { type RawAnswer, send } from "../fixtures/raw.ts";
import { tableOf } from "../fixtures/tables.ts";
import { comparable, expected, type RecordedCase } from "../http/recordings.ts";

const CASES = JSON.parse(
  readFileSync(new URL("../vectors/consul-1.16.6/agent.json", import.meta.url), "utf8"),
) as readonly RecordedCase[];
const rows = new Set(tableOf("Deviations").map(([id = ""]) => id));
const LEAF = "/v1/agent/connect/ca/leaf/web";

/** The seconds in Age are those of each run. */
const withoutAge = <T extends Pick<RawAnswer, "headers">>(answer: T): T => ({
  ...answer,
  headers: answer.headers.map(([name, value]) => [name, name === "Age" ? "<age>" : value]),
});

describe("recorded answers of the agent of Consul 1.16.6", () => {
  let server: ServerProcess;
  before(async () => {
    server = await startServer();
  });
  after(() => server?.stop());

  const fill = async (text: string): Promise<string> => {
    const known = text.replaceAll("{trustDomain}", server.trustDomain);
    if (!known.includes("{index")) return known;
    const answer = await send(server.port, { method: "GET", target: LEAF });
    const index = Number(answer?.header("x-consul-index"));
    return known.replace(/\{index([+-]\d+)?\}/g, (_, offset = "0") =>
      String(index + Number(offset)),
    );
  };

  CASES.forEach(({ request, answer: recorded, blocked = false, deviates = [], ours }, at) => {
    const { method, target, body } = request;
    it(`agent ${at + 1}: ${method} ${target} ${(body ?? "").slice(0, 160)}`.trim(), async () => {
      assert.ok(recorded, "the case has an answer");
      const filled = {
        ...request,
        target: await fill(target),
        body: body === undefined ? undefined : await fill(body),
      };
      const wait = Number(/wait=(\d+)s/.exec(target)?.[1] ?? 0);
      const started = performance.now();
      const answer = await send(server.port, filled);
      // Timers may fire a little early.
      const waited = wait > 0 && performance.now() - started >= wait * 1000 - 50;
      assert.ok(answer !== null, "the connection was closed without an answer");
      for (const row of deviates)
        assert.ok(rows.has(row), `docs/http-api.md has no deviation ${row}`);
      const theirs = { ...recorded, body: await fill(recorded.body) };
      const compared = comparable(withoutAge(theirs), withoutAge(answer), {
        recorded: blocked,
        ours: waited,
      });
      const differing = ours?.body === undefined ? {} : { body: await fill(ours.body) };
      assert.deepEqual(compared.ours, expected(compared.recorded, { ...ours, ...differing }));
      if (deviates.length > 0) assert.notDeepEqual(compared.ours, compared.recorded);
    });
  });
});
