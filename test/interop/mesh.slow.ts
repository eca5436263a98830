/**
 * Clients that nobody here wrote, through three rotations of different key kinds with a handshake
 * every 100 ms: no handshake fails, and each peer presents leaves below each root. Two minutes for
 * each runtime of the agent.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { AGENT_RUNTIMES } from "../fixtures/agent.ts";
import { noClient, noProgram } from "./clients.ts";
import { type Outcome, runMesh } from "./mesh.ts";
import { FROM_FILES, type Interop, ON_EACH_RUNTIME } from "./scenarios.ts";

/** Of a whole mesh: more than its own bounds together. */
const TIMEOUT_MS = 1_200_000;
/** At least one for each second of the shortest run, on a machine that does much else. */
const LEAST_HANDSHAKES = 40;

/** Why a scenario cannot run here, or false. */
function missing({ clients, programs }: Interop): string | false {
  const reasons = [...clients.map(noClient), ...programs.map(noProgram)];
  return reasons.find((reason) => reason !== false) ?? false;
}

for (const runtime of AGENT_RUNTIMES) {
  describe(`clients of an agent on ${runtime}`, () => {
    const scenarios: readonly Interop[] = [...ON_EACH_RUNTIME, ...FROM_FILES[runtime]];
    let outcomes: Promise<ReadonlyMap<string, Outcome>> | null = null;
    /** All run concurrently in one mesh, which the first test starts. */
    const run = () => {
      outcomes ??= runMesh(
        runtime,
        scenarios.filter((scenario) => missing(scenario) === false),
      );
      return outcomes;
    };
    for (const scenario of scenarios)
      it(`${scenario.name}: no handshake fails through three rotations`, {
        skip: missing(scenario),
        timeout: TIMEOUT_MS,
      }, async () => {
        const outcome = (await run()).get(scenario.name);
        assert.equal(outcome?.missing, null);
        assert.deepEqual(outcome.failures, []);
        console.log(`${runtime}, ${scenario.name}: ${outcome.handshakes} handshakes`);
        assert.ok(outcome.handshakes >= LEAST_HANDSHAKES, `${outcome.handshakes}`);
      });
  });
}
