/**
 * The plan of a change in Vault, without a server: which steps follow from the state found, in
 * which order, what is refused, and which permissions the steps need.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { parseVaultConfig } from "../../../providers/vault/config.ts";
import type { FoundMount } from "../../../providers/vault/mounts.ts";
import { type Permission, permissionsOf } from "../../../providers/vault/permissions.ts";
import {
  type Found,
  type FoundEngine,
  type Previous,
  planIntermediate,
  planKey,
  planVault,
  type Step,
  standingSteps,
} from "../../../providers/vault/plan.ts";
import type { VaultRoot } from "../../../providers/vault/root.ts";
import { ConfigError } from "../../../src/core/errors.ts";
import type { ConfigMap } from "../../../src/core/state.ts";
import { createIntermediate, createRoot, generateCaKey } from "../../../src/core/x509/authority.ts";
import { systemRandom } from "../../fakes/clock.ts";
import { clusterOf } from "../../fakes/cluster.ts";

const HOUR = 3_600_000;
const NOW = new Date("2026-03-01T12:00:00Z");
const CLUSTER = "11111111-2222-3333-4444-555555555555";
const OWNER = { clusterId: CLUSTER, datacenter: null };
const ROOT = { path: "mesh-root", namespace: "" };
const INT = { path: "mesh-int", namespace: "" };
const NONE: FoundEngine = { mount: { kind: "none" }, issuers: [] };
const PKI: FoundMount = { kind: "pki", accessor: "pki_1", maxLeaseTtlMs: 0, isOurs: true };
const TOKEN = { renewable: true, expiresAt: null, failure: null };

const key = await generateCaKey({ type: "ec", bits: 256 });
const options = { ...clusterOf(CLUSTER), provider: "vault", now: NOW, random: systemRandom };
const rootCertificate = await createRoot(key, { ...options, ttlMs: 10_000 * HOUR });
const certificate = await createIntermediate(
  (await generateCaKey({ type: "ec", bits: 256 })).info,
  { certificate: rootCertificate, privateKey: key.privateKey },
  { ...options, ttlMs: 1000 * HOUR },
);
const rootOf = (isOurs: boolean): VaultRoot => ({
  certificate: rootCertificate,
  state: { mount: ROOT, issuerId: "root-issuer", isOurs },
  path: [],
});

const configOf = (more: ConfigMap = {}) =>
  parseVaultConfig({
    Address: "https://vault.example.com:8200",
    Token: "t",
    RootPKIPath: "mesh-root",
    IntermediatePKIPath: "mesh-int",
    ...more,
  });

/** What a configuration in use has left. */
function previousOf(root: VaultRoot, more: ConfigMap = {}): Previous {
  const isLocal = more.LeafSigning === "local";
  const ids = isLocal
    ? { issuerId: null, keyId: null }
    : { issuerId: "int-issuer", keyId: "int-key" };
  return {
    config: configOf(more),
    state: {
      address: "https://vault.example.com:8200",
      cluster: null,
      root: root.state,
      path: [],
      intermediate: { mount: INT, accessor: "pki_1", isOurs: true, certificate, ...ids },
      superseded: [],
    },
    root,
    key: isLocal ? "sealed" : null,
  };
}

const issuer = (id: string, keyId: string, isDefault = true, name = "") => ({
  id,
  name,
  keyId,
  isDefault,
});
const IN_USE = { mount: PKI, issuers: [issuer("int-issuer", "int-key")] };

function foundWith(more: Partial<Found> = {}): Found {
  return {
    server: { address: "https://vault.example.com:8200", cluster: null },
    previous: null,
    root: { ...NONE, candidate: null },
    intermediate: NONE,
    ...more,
  };
}

const plan = (found: Found, more: ConfigMap = {}, fresh = false, now = NOW) =>
  planVault(found, configOf(more), { owner: OWNER, now, fresh });
const kinds = (steps: readonly Step[]) => steps.map(({ kind }) => kind);
const refused = (act: () => unknown, message: RegExp) =>
  assert.throws(act, (error: unknown) => {
    assert.ok(error instanceof ConfigError);
    assert.match(error.message, message);
    return true;
  });

const NEW_INTERMEDIATE = [
  "generate-key",
  "certify-intermediate",
  "import-intermediate",
  "ensure-role",
];

describe("planVault()", () => {
  it("mounts, generates and imports everything if nothing is there, in this order", () => {
    assert.deepEqual(plan(foundWith()), [
      { kind: "mount-pki", mount: ROOT, purpose: "root" },
      { kind: "generate-root", mount: ROOT, beside: false },
      { kind: "mount-pki", mount: INT, purpose: "intermediate" },
      { kind: "generate-key", mount: INT },
      { kind: "certify-intermediate", mount: ROOT },
      { kind: "import-intermediate", mount: INT, accessor: null, isOurs: false },
      { kind: "ensure-role", mount: INT },
    ]);
  });

  it("with LeafSigning local changes nothing in Vault but the root", () => {
    assert.deepEqual(kinds(plan(foundWith({ intermediate: null }), { LeafSigning: "local" })), [
      "mount-pki",
      "generate-root",
      "generate-local-key",
      "certify-intermediate",
      "seal-local-key",
    ]);
  });

  it("adopts the default issuer of a mount that an operator made, and generates in an empty one", () => {
    const candidate = rootOf(false);
    const root = { mount: PKI, issuers: [issuer("root-issuer", "k")], candidate };
    const intermediate = { mount: { ...PKI, isOurs: false }, issuers: [] };
    assert.deepEqual(plan(foundWith({ root, intermediate })), [
      { kind: "use-root", root: candidate },
      { kind: "generate-key", mount: INT },
      { kind: "certify-intermediate", mount: ROOT },
      { kind: "import-intermediate", mount: INT, accessor: "pki_1", isOurs: false },
      { kind: "ensure-role", mount: INT },
    ]);
    const empty = { mount: PKI, issuers: [], candidate: null };
    assert.deepEqual(plan(foundWith({ root: empty }))[0], {
      kind: "generate-root",
      mount: ROOT,
      beside: false,
    });
  });

  const root = rootOf(true);
  const rootEngine = { mount: PKI, issuers: [issuer("root-issuer", "k")], candidate: null };
  const inUse = foundWith({ previous: previousOf(root), root: rootEngine, intermediate: IN_USE });

  it("keeps root and intermediate of a configuration that does not concern them", () => {
    assert.deepEqual(kinds(plan(inUse, { LeafCertTTL: "71h" })), [
      "use-root",
      "keep-intermediate",
      "ensure-role",
    ]);
    const local = previousOf(root, { LeafSigning: "local" });
    const steps = plan({ ...inUse, previous: local, intermediate: null }, { LeafSigning: "local" });
    assert.deepEqual(steps.at(-1), {
      kind: "keep-intermediate",
      intermediate: local.state.intermediate,
      key: "sealed",
    });
  });

  it("creates another intermediate if the old one is past half its life, lost, or elsewhere", () => {
    const later = new Date(NOW.getTime() + 501 * HOUR);
    assert.deepEqual(kinds(plan(inUse, {}, false, later)), ["use-root", ...NEW_INTERMEDIATE]);
    for (const issuers of [[], [issuer("int-issuer", "another")], [issuer("other", "int-key")]])
      assert.deepEqual(
        kinds(plan({ ...inUse, intermediate: { mount: PKI, issuers } })),
        ["use-root", ...NEW_INTERMEDIATE],
        JSON.stringify(issuers),
      );
    assert.deepEqual(kinds(plan({ ...inUse, intermediate: NONE })), [
      "use-root",
      "mount-pki",
      ...NEW_INTERMEDIATE,
    ]);
    assert.deepEqual(kinds(plan(inUse, { IntermediatePKIPath: "other" })), [
      "use-root",
      ...NEW_INTERMEDIATE,
    ]);
    assert.ok(
      kinds(plan({ ...inUse, intermediate: null }, { LeafSigning: "local" })).includes(
        "seal-local-key",
      ),
    );
  });

  it("creates another root next to ours when one is wanted, and refuses next to an operator's", () => {
    const steps = plan(inUse, {}, true);
    assert.deepEqual(steps[0], { kind: "generate-root", mount: ROOT, beside: true });
    assert.ok(!kinds(steps).includes("keep-intermediate"));
    const theirs = { ...inUse, previous: previousOf(rootOf(false)) };
    refused(
      () => plan(theirs, {}, true),
      /^Cannot rotate: the root at "mesh-root" was not made by meshca\. To rotate, generate another root in Vault \(vault write mesh-root\/root\/rotate\/internal .* make it the default/,
    );
    const gone = { ...theirs, root: { ...rootEngine, issuers: [] } };
    assert.deepEqual(plan(gone, {}, true)[0], {
      kind: "generate-root",
      mount: ROOT,
      beside: false,
    });
  });

  it("takes a root in another mount for a new one", () => {
    const other = { mount: { kind: "none" }, issuers: [], candidate: null } as const;
    const steps = plan({ ...inUse, root: other }, { RootPKIPath: "other-root" });
    assert.deepEqual(kinds(steps), ["mount-pki", "generate-root", ...NEW_INTERMEDIATE]);
  });

  it("refuses another kind of key in the same mount, with Consul's text", () => {
    refused(
      () => plan(inUse, { PrivateKeyType: "rsa", PrivateKeyBits: 2048 }),
      /^cannot update the PrivateKeyType field without choosing a new PKI mount for the root CA$/,
    );
    refused(() => plan(inUse, { PrivateKeyBits: 384 }), /^cannot update the PrivateKeyBits field/);
  });

  it("refuses a mount whose limit would cut leaves short, unless leaves were as long before", () => {
    const mount = { ...PKI, maxLeaseTtlMs: 2 * HOUR };
    const intermediate = { ...IN_USE, mount };
    refused(
      () => plan({ ...inUse, intermediate }, { LeafCertTTL: "71h" }),
      /LeafCertTTL: 255600s is beyond max_lease_ttl of the mount "mesh-int", which is 7200s; raise it \(vault secrets tune -max-lease-ttl=255600s mesh-int\) or configure less$/,
    );
    assert.deepEqual(kinds(plan({ ...inUse, intermediate })), [
      "use-root",
      "keep-intermediate",
      "ensure-role",
    ]);
  });

  it("refuses a mount with issuers of the meshca of another cluster", () => {
    const issuers = [issuer("a", "b", true, "meshca-99999999-int-0a0b0c")];
    refused(
      () => plan(foundWith({ intermediate: { mount: PKI, issuers } })),
      /IntermediatePKIPath: the mount "mesh-int" has issuers of the meshca of another cluster/,
    );
    const ours = [issuer("a", "b", true, "meshca-11111111-int-0a0b0c")];
    plan(foundWith({ intermediate: { mount: PKI, issuers: ours } }));
  });

  it("refuses a mount with issuers of another datacenter of the cluster, and names it", () => {
    const found = (name: string, more: Partial<Found> = {}) => {
      const issuers = [issuer("int-issuer", "int-key", true, `meshca-11111111-int-${name}`)];
      return foundWith({ intermediate: { mount: PKI, issuers }, ...more });
    };
    const planIn = (datacenter: string | null, at: Found) =>
      planVault(at, configOf(), { owner: { ...OWNER, datacenter }, now: NOW, fresh: false });
    for (const name of ["dc2", "dc-1", "dc1-", "1", "root", "0a0b0c0d0e0f"])
      refused(
        () => planIn("dc1", found(`${name}-0a0b0c0d0e0f`)),
        new RegExp(
          `the mount "mesh-int" belongs to datacenter ${name} of this cluster; choose another path`,
        ),
      );
    planIn("dc1", found("dc1-0a0b0c0d0e0f"));
    // Of the time when there was one datacenter, which is the primary now.
    planIn("dc1", found("0a0b0c0d0e0f"));
    refused(() => planIn(null, found("dc1-0a0b0c0d0e0f")), /belongs to datacenter dc1/);
    const config = configOf();
    const { intermediate } = found("0a0b0c0d0e0f");
    const use = { owner: { ...OWNER, datacenter: "dc2" }, datacenter: "secondary" } as const;
    refused(
      () => planKey(intermediate, config, { ...use, recorded: false }),
      /belongs to the primary datacenter, which used it before there were others/,
    );
    planKey(intermediate, config, { ...use, recorded: true });
  });

  it("asks for the right to read a mount that the token cannot see, before anything else in it", () => {
    const denied: FoundEngine = { mount: { kind: "denied" }, issuers: [] };
    const steps = plan(foundWith({ root: { ...denied, candidate: null }, intermediate: denied }));
    assert.deepEqual(kinds(steps), ["read-mount", "read-mount", ...NEW_INTERMEDIATE]);
    assert.deepEqual(
      steps
        .slice(0, 2)
        .flatMap(permissionsOf)
        .map(({ path, capabilities }) => [path, capabilities]),
      [
        ["sys/mounts/mesh-root", ["read"]],
        ["sys/mounts/mesh-int", ["read"]],
      ],
    );
  });
});

describe("planIntermediate()", () => {
  it("has the permissions that the standing steps need, so that a renewal finds its permissions checked", () => {
    for (const LeafSigning of ["vault", "local"]) {
      const config = configOf({ LeafSigning });
      const use = { owner: OWNER, datacenter: "primary", recorded: false } as const;
      const engine: FoundEngine | null =
        LeafSigning === "vault" ? { mount: PKI, issuers: [] } : null;
      const renewal: Permission[] = planIntermediate(engine, config, use).flatMap(permissionsOf);
      const standing = standingSteps(config, TOKEN, "primary").flatMap(permissionsOf);
      for (const { path, capabilities } of renewal)
        for (const capability of capabilities)
          assert.ok(
            standing.some((each) => each.path === path && each.capabilities.includes(capability)),
            `${capability} on ${path}`,
          );
    }
  });
});

describe("permissionsOf()", () => {
  /** Path to capabilities, as in a policy. */
  const policy = (steps: readonly Step[]) => {
    const paths: Record<string, string[]> = {};
    for (const { path, capabilities } of steps.flatMap(permissionsOf))
      paths[path] = [...new Set([...(paths[path] ?? []), ...capabilities])];
    return paths;
  };
  const AUTH = {
    "auth/token/lookup-self": ["read"],
    "auth/token/renew-self": ["update"],
  };
  const CERTIFY = { "mesh-root/issuer/+/sign-intermediate": ["update"] };
  const INTERMEDIATE = {
    "mesh-int/intermediate/generate/internal": ["update"],
    "mesh-int/intermediate/set-signed": ["update"],
    "mesh-int/issuer/+": ["read", "update", "delete"],
    "mesh-int/roles/leaf-cert": ["read", "update", "delete"],
    "mesh-int/issuer/+/sign/leaf-cert": ["update"],
    "mesh-int/key/+": ["delete"],
    "mesh-int/config/issuers": ["read", "update"],
  };

  it("is the least for each kind of use", () => {
    assert.deepEqual(policy(standingSteps(configOf(), TOKEN, "primary")), {
      ...AUTH,
      ...CERTIFY,
      ...INTERMEDIATE,
    });
    const local = configOf({ LeafSigning: "local" });
    assert.deepEqual(policy(standingSteps(local, TOKEN, "primary")), { ...AUTH, ...CERTIFY });
    assert.deepEqual(policy(standingSteps(configOf(), TOKEN, "secondary")), {
      ...AUTH,
      ...INTERMEDIATE,
    });
    assert.deepEqual(policy(standingSteps(local, { ...TOKEN, renewable: false }, "secondary")), {
      "auth/token/lookup-self": ["read"],
    });
  });

  it("has, for what a change creates, what its rollback needs", () => {
    assert.deepEqual(policy(plan(foundWith()).slice(0, 3)), {
      "sys/mounts/mesh-root": ["read", "update", "delete"],
      "mesh-root/root/generate/internal": ["update"],
      "mesh-root/issuer/+": ["delete"],
      "mesh-root/key/+": ["delete"],
      "sys/mounts/mesh-int": ["read", "update", "delete"],
    });
    assert.deepEqual(
      Object.keys(policy([{ kind: "generate-root", mount: ROOT, beside: true }]))[0],
      "mesh-root/root/rotate/internal",
    );
    assert.deepEqual(policy([{ kind: "cross-sign", mount: ROOT, issuerId: "i" }]), {
      "mesh-root/issuer/i/sign-self-issued": ["update"],
    });
  });
});
