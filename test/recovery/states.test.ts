/**
 * Each expired state by a fake clock, before and after a restart: what the server answers, and that
 * the root of `tls ca create` brings it back by `connect ca set-config`, without force.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { createTlsCa } from "../../src/cli/tls/certificates.ts";
import { keyText } from "../../src/cli/tls/command-values.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import type { CaKeySpec } from "../../src/core/x509/keys.ts";
import { requireSigning } from "../core/ca/harness.ts";
import { createTestCa, opensslCsr, serviceUri, type TestCa, trustDomain } from "../fakes/ca.ts";
import { systemRandom } from "../fakes/clock.ts";
import { createTestApp, type TestApp } from "../fixtures/app.ts";

const DAY = 86_400_000;
/** Longer than RootCertTTL, 87600h. */
const ROOT_LIFE = 3651 * DAY;

const csrOf = ({ manager }: TestCa) => opensslCsr(`URI:${serviceUri(manager, "web")}`).csr;

/** Gives the CA a root of `tls ca create` by the route that `connect ca set-config` calls. */
async function supply(app: TestApp, days: number, key: CaKeySpec = { type: "ec", bits: 256 }) {
  const { certificate, key: made } = await createTlsCa({
    ...{ key, commonName: null, permitted: null, days, random: systemRandom },
    ...{ trustDomain: trustDomain(app.manager), now: app.clock.now() },
  });
  const Config = { RootCert: pemOf(certificate), PrivateKey: await keyText(made) };
  const answer = await app.fetch("/v1/connect/ca/configuration", {
    method: "PUT",
    body: JSON.stringify({ Provider: "consul", Config }),
  });
  assert.equal(answer.status, 200, await answer.text());
  return certificate.id;
}

const rotate = async ({ manager }: TestCa) =>
  manager.rotate({ forceWithoutCrossSigning: false, modifyIndex: null });

interface State {
  readonly name: string;
  /** Brings a fresh CA into the state; the clock passes. */
  readonly enter: (app: TestApp) => Promise<void>;
  /** The roots that are listed while nothing can be signed. */
  readonly listed: number;
}

const STATES: readonly State[] = [
  {
    name: "the active root has expired",
    enter: async ({ clock }) => clock.advance(ROOT_LIFE),
    listed: 1,
  },
  {
    name: "the active root has expired, and a retired root that cross-signed it is valid",
    enter: async (app) => {
      await supply(app, 30);
      app.clock.advance(31 * DAY);
    },
    listed: 2,
  },
  {
    name: "the active root and all that cross-signed it have expired",
    enter: async (app) => {
      for (let i = 0; i < 3; i++) {
        app.clock.advance(DAY / 24);
        await rotate(app);
      }
      app.clock.advance(ROOT_LIFE);
    },
    listed: 1,
  },
  {
    name: "a supplied root has expired, and the one that it followed too",
    enter: async (app) => {
      await supply(app, 4000, { type: "rsa", bits: 2048 });
      app.clock.advance(4001 * DAY);
    },
    listed: 1,
  },
];

/** The next process over the same store. */
async function restarted({ manager, backend, clock, sealer }: TestCa): Promise<TestApp> {
  await manager.close();
  return createTestApp({}, await createTestCa({ backend, clock, sealer }));
}

async function listedRoots(app: TestApp): Promise<readonly string[]> {
  const answer = await app.fetch("/v1/connect/ca/roots");
  const { Roots } = (await answer.json()) as { readonly Roots: readonly { readonly ID: string }[] };
  return Roots.map(({ ID }) => ID);
}

for (const { name, enter, listed } of STATES)
  for (const again of [false, true])
    describe(`${name}${again ? ", after a restart" : ""}`, () => {
      it("signing is refused with the reason, and a new root brings it back", async () => {
        const before = await createTestApp();
        await enter(before);
        const app = again ? await restarted(before) : before;
        await app.manager.tick();
        const sign = () => app.fetch("/v1/connect/ca/sign", { method: "PUT", body: csrOf(app) });
        const refused = await sign();
        assert.equal(refused.status, 503);
        assert.match(await refused.text(), /root expired: certificate expired, expiration date: /);
        assert.equal((await app.fetch("/readyz")).status, 503);
        assert.equal((await listedRoots(app)).length, listed);

        const id = await supply(app, 365);
        assert.equal((await app.fetch("/readyz")).status, 200);
        assert.equal((await sign()).status, 200);
        // Under every root that is valid, the retired one too.
        await requireSigning(app.manager, csrOf(app), app.clock.now());
        const now = await listedRoots(app);
        assert.ok(now.includes(id));
        assert.equal(now.length, listed, "expired roots are not listed beside it");
        // And after the next start.
        const next = await restarted(app);
        assert.equal(next.manager.require().active.id, id);
        await requireSigning(next.manager, csrOf(next), next.clock.now());
        await next.manager.close();
      });
    });

describe("the active root has expired", () => {
  it("and the built-in provider rotates to one of its own, without any file", async () => {
    const app = await createTestApp();
    app.clock.advance(ROOT_LIFE);
    const answer = await app.fetch("/v1/connect/ca/rotate", { method: "PUT" });
    assert.equal(answer.status, 200, await answer.text());
    await requireSigning(app.manager, csrOf(app), app.clock.now());
    await app.manager.close();
  });

  it("and a supplied root is refused a rotation, and followed by one of the CA's own", async () => {
    const app = await createTestApp();
    await supply(app, 30);
    app.clock.advance(31 * DAY);
    const refused = await app.fetch("/v1/connect/ca/rotate", { method: "PUT" });
    assert.equal(refused.status, 400);
    assert.match(await refused.text(), /Cannot rotate: the root was supplied by an operator/);
    // As the last lines of meshca recover say.
    const back = await app.fetch("/v1/connect/ca/configuration", {
      method: "PUT",
      body: JSON.stringify({ Provider: "consul", Config: { LeafCertTTL: "72h" } }),
    });
    assert.equal(back.status, 200, await back.text());
    await requireSigning(app.manager, csrOf(app), app.clock.now());
    await app.manager.close();
  });
});
