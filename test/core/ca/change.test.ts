/**
 * A change as a unit of work: which providers it opens and closes, and what it rolls back.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { DEFAULT_POLICY } from "../../../src/core/ca/timing-and-limits.ts";
import { ConflictError, ProviderError, StoreError } from "../../../src/core/errors.ts";
import { NOBODY } from "../../../src/core/ports/audit.ts";
import type { Provider } from "../../../src/core/ports/provider.ts";
import type { Store } from "../../../src/core/ports/store.ts";
import { createCodec } from "../../../src/store/state-document.ts";
import { configuration, createTestCa, opensslCsr, trustDomain } from "../../fakes/ca.ts";
import { passing } from "../../fakes/clock.ts";
import {
  BOOTSTRAP,
  GOOD_EXTENSIONS,
  gatedProviders,
  opensslKey,
  providersWith,
  replica,
  suppliedRoot,
} from "./harness.ts";

const NOW = { forceWithoutCrossSigning: false, modifyIndex: null };

/** The built-in provider; counts how often it was opened and closed. */
function countingProviders() {
  const counts = { opened: 0, closed: 0 };
  const providers = providersWith((type) => ({
    ...type,
    async open(...opening) {
      counts.opened++;
      const provider = await type.open(...opening);
      return {
        ...provider,
        async close() {
          counts.closed++;
          await provider.close();
        },
      };
    },
  }));
  return { counts, providers };
}

/** A store whose methods can be replaced one by one. */
const parts = (store: Store): Store => ({
  read: () => store.read(),
  now: () => store.now(),
  stop: (mark) => store.stop(mark),
  stopMark: () => store.stopMark(),
  watch: (commitId, signal) => store.watch(commitId, signal),
  commit: (next, expected) => store.commit(next, expected),
});

describe("the providers of a change", () => {
  it("stay as they are if only LeafCertTTL changes, and are opened again if the built-in one must sign differently", async () => {
    const { counts, providers } = countingProviders();
    const { manager } = await createTestCa({ bootstrap: BOOTSTRAP, providers });
    assert.deepEqual(counts, { opened: 1, closed: 0 });
    await manager.configure(configuration({ LeafCertTTL: "5h" }));
    assert.deepEqual(counts, { opened: 1, closed: 0 });
    assert.equal(manager.require().config.leafTtlMs, 5 * 3_600_000);
    await manager.configure(configuration({ LeafCertTTL: "5h", IntermediateCertTTL: "100h" }));
    assert.deepEqual(counts, { opened: 2, closed: 1 });
  });

  it("are closed with the change: those of retired roots, and a new one that is not committed", async () => {
    const { counts, providers } = countingProviders();
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, providers });
    await ca.manager.rotate(NOW);
    assert.deepEqual(counts, { opened: 2, closed: 1 });
    // The third root is also certified by the first one, whose provider is opened for that.
    await ca.manager.rotate(NOW);
    assert.equal(counts.opened - counts.closed, 1);

    const other = countingProviders();
    const { store } = ca.backend.open(createCodec(ca.sealer), "other");
    const refusing: Store = {
      ...parts(store),
      commit: () =>
        Promise.reject(new ConflictError("index_mismatch", "Another change came first")),
    };
    const refused = await replica(ca, "other", { providers: other.providers, store: refusing });
    await refused.refresh();
    assert.deepEqual(other.counts, { opened: 1, closed: 0 });
    await assert.rejects(refused.rotate(NOW), /Another change came first/);
    assert.equal(other.counts.opened - other.counts.closed, 1);
    await refused.close();
    assert.equal(other.counts.opened, other.counts.closed);
  });
});

describe("a change that keeps root and key", () => {
  it("serves an open provider, also if its commit is read before it is answered", async () => {
    const closed = new Set<Provider["template"]>();
    const providers = providersWith((type) => ({
      ...type,
      async open(...opening) {
        const provider = await type.open(...opening);
        return { ...provider, close: async () => void closed.add(provider.template) };
      },
    }));
    const ca = await createTestCa({ bootstrap: BOOTSTRAP });
    const ports = ca.backend.open(createCodec(ca.sealer), "other");
    const other = await replica(ca, "other", {
      providers,
      store: {
        ...parts(ports.store),
        async commit(next, expected) {
          await ports.store.commit(next, expected);
          await other.refresh();
        },
      },
    });
    await other.refresh();
    const isOpen = () => !closed.has((other.require().provider as Provider).template);
    await other.configure(configuration({ LeafCertTTL: "5h" }));
    assert.deepEqual([isOpen(), other.require().config.leafTtlMs], [true, 5 * 3_600_000]);
    await other.configure(configuration({ LeafCertTTL: "5h", PrivateKeyBits: 384 }));
    assert.deepEqual([isOpen(), closed.size], [true, 3]);
  });

  it("is refused if the root forbids a name that the server has since been given", async () => {
    const { cert, key } = suppliedRoot({
      extensions: [...GOOD_EXTENSIONS, "nameConstraints=critical,excluded;DNS:forbidden.example"],
    });
    const config = { RootCert: cert, PrivateKey: key };
    const ca = await createTestCa({ bootstrap: { ...BOOTSTRAP, config } });
    const forbidden = { dnsNames: ["ca.forbidden.example"], ipAddresses: [] };
    const renamed = await replica(ca, "renamed", { serverNames: forbidden });
    await renamed.refresh();
    const shorter = configuration({ ...config, PrivateKey: "hidden", LeafCertTTL: "5h" });
    await assert.rejects(renamed.configure(shorter), {
      code: "config_invalid",
      message:
        /^The root cannot be used: .*ca\.forbidden\.example, which the certificate of this server has$/,
    });
    assert.equal(await ca.manager.configure(shorter), true);
  });
});

describe("an aborted change", () => {
  /** A CA whose next `prepare` registers two compensating actions, and then goes on as `after` does. */
  async function setUp(after: () => void, store?: (of: Store) => Partial<Store>) {
    const rolledBack: string[] = [];
    let creates = false;
    const providers = providersWith((type) => ({
      ...type,
      async prepare(config, request, context) {
        if (creates) {
          request.onRollback(async () => void rolledBack.push("mount"));
          request.onRollback(async () => void rolledBack.push("key"));
          after();
        }
        return type.prepare(config, request, context);
      },
    }));
    const ca = await createTestCa({ bootstrap: BOOTSTRAP, providers });
    const ports = ca.backend.open(createCodec(ca.sealer), "other");
    const manager = await replica(ca, "other", {
      providers,
      ...(store === undefined ? {} : { store: { ...parts(ports.store), ...store(ports.store) } }),
    });
    await manager.refresh();
    creates = true;
    return { ca, manager, rolledBack };
  }

  it("rolls back what its provider created, the latest first", async () => {
    const { manager, rolledBack } = await setUp(() => {
      throw new ProviderError("provider_rejected", "the key cannot be created");
    });
    await assert.rejects(manager.rotate(NOW), /the key cannot be created/);
    assert.deepEqual(rolledBack, ["key", "mount"]);
  });

  it("is not rolled back while the outcome of its commit is unknown", async () => {
    let away = false;
    const failing = async <T>(call: () => Promise<T>): Promise<T> => {
      if (away) throw new StoreError("store_unavailable", "away");
      return call();
    };
    const { ca, manager, rolledBack } = await setUp(
      () => undefined,
      (store) => ({
        read: () => failing(() => store.read()),
        async commit(next, expected) {
          away = true;
          await store.commit(next, expected);
          throw new StoreError("store_unavailable", "the answer was lost");
        },
      }),
    );
    const running = manager.rotate(NOW);
    const outcome = assert.rejects(running, { code: "outcome_unknown" });
    while (!away) await new Promise((resolve) => setImmediate(resolve));
    await passing(ca.clock, outcome);
    assert.deepEqual(rolledBack, []);
    away = false;
    await manager.refresh();
    assert.equal(manager.require().state.roots.length, 2);
  });

  it("keeps the repairs of its provider if nothing has to be committed", async () => {
    let prepared = 0;
    const { manager, rolledBack } = await setUp(() => void prepared++);
    const PrivateKey = opensslKey();
    assert.equal(await manager.configure(configuration({ PrivateKey })), true);
    assert.equal(await manager.configure(configuration({ PrivateKey })), false);
    assert.deepEqual([prepared, rolledBack], [2, []]);
  });
});

describe("an intermediate for another datacenter", () => {
  it("waits for its turn: all datacenters that ask at the same time get one", async () => {
    const { manager, sign } = await signing();
    const paths = await Promise.all([sign(), sign(), sign()]);
    assert.equal(new Set(paths.map(([certificate]) => certificate?.id)).size, 3);
    assert.equal(manager.require().state.intermediates.length, 3);
    assert.equal(manager.require().state.index, 4);
  });

  it("waits for another change as long as another replica does, and is then refused", async () => {
    const { manager, clock, gate, sign } = await signing();
    const { reached, open } = gate.close();
    const running = manager.configure(configuration({ PrivateKeyBits: 384 }));
    await reached;
    const started = clock.now().getTime();
    await assert.rejects(passing(clock, sign()), {
      code: "operation_running",
      message: 'CA is already in state "RECONFIGURING"',
    });
    const waited = clock.now().getTime() - started;
    assert.ok(waited >= DEFAULT_POLICY.operationWaitMs && waited < 5000, String(waited));
    const signed = sign();
    open();
    assert.equal(await running, true);
    assert.equal((await signed).length, 1);
    assert.equal(manager.require().state.intermediates.length, 1);
  });
});

/** A primary datacenter, and a request of another one. */
async function signing() {
  const gate = gatedProviders();
  const { providers } = gate;
  const ca = await createTestCa({ bootstrap: BOOTSTRAP, hasDatacenters: true, providers });
  const { manager, clock } = ca;
  let requests = 0;
  const sign = () => {
    const subject = ["-subj", `/CN=sec-${requests++}.consul`];
    const { csr } = opensslCsr(`URI:spiffe://${trustDomain(manager)}`, undefined, subject);
    return manager.signIntermediate({ csr, caller: NOBODY, permit: () => undefined });
  };
  return { manager, clock, gate, sign };
}
