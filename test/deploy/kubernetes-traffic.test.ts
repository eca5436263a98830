/**
 * Which pods the objects of deploy/kubernetes select, as kustomize builds them, and which connections
 * their network policies allow.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { YAML } from "bun";
import { ROOT } from "../fixtures/root.ts";
import { kubernetesTools } from "../kubernetes/build.ts";

/** How long building the tools may take, in milliseconds. */
const BUILD_MS = 900_000;

/** Why the tools cannot be built, or false. With CI=true nothing is skipped. */
const noGo: string | false =
  process.env.CI === "true" || spawnSync("go", ["version"]).status === 0
    ? false
    : "Go is not installed";

type Labels = Readonly<Record<string, string>>;
interface Selector {
  readonly matchLabels?: Labels;
}
interface Peer {
  readonly namespaceSelector?: Selector;
}
interface Rule {
  readonly from?: readonly Peer[];
  readonly to?: readonly Peer[];
  readonly ports?: readonly { readonly protocol: string; readonly port: number }[];
}
interface Container {
  readonly name: string;
  readonly lifecycle?: { readonly preStop?: unknown };
}
interface Manifest {
  readonly kind: string;
  readonly spec: {
    readonly selector?: Selector | Labels;
    readonly podSelector?: Selector;
    readonly template?: {
      readonly metadata: { readonly labels: Labels };
      readonly spec: { readonly containers: readonly Container[] };
    };
    readonly policyTypes?: readonly string[];
    readonly ingress?: readonly Rule[];
    readonly egress?: readonly Rule[];
  };
}

const SERVER: Labels = {
  "app.kubernetes.io/name": "meshca",
  "app.kubernetes.io/component": "server",
};
const AGENT: Labels = { ...SERVER, "app.kubernetes.io/component": "agent" };

/** The namespace of the other end; null: an address that is not of a pod. */
type Place = string | null;

/** Whether one of the rules allows a connection, by the rules of networking.k8s.io/v1. */
const allows = (rules: readonly Rule[], place: Place, protocol: string, port: number): boolean =>
  rules.some(
    ({ from, to, ports = [] }) =>
      ports.some((allowed) => allowed.protocol === protocol && allowed.port === port) &&
      ((from ?? to) === undefined ||
        (place !== null &&
          (from ?? to ?? []).some(({ namespaceSelector }) =>
            Object.values(namespaceSelector?.matchLabels ?? {}).every((name) => name === place),
          ))),
  );

describe("deploy/kubernetes, selectors and traffic", { skip: noGo }, () => {
  const built = new Map<string, readonly Manifest[]>();
  before(
    async () => {
      const { kustomize } = await kubernetesTools();
      for (const name of ["server", "agent-daemonset"]) {
        const folder = join(ROOT, "deploy/kubernetes", name);
        const text = execFileSync(kustomize, ["build", folder], { encoding: "utf8" });
        built.set(name, YAML.parse(text) as readonly Manifest[]);
      }
    },
    { timeout: BUILD_MS },
  );
  const specOf = (name: string, kind: string) => {
    const found = (built.get(name) ?? []).filter((manifest) => manifest.kind === kind);
    assert.equal(found.length, 1, `${kind} of ${name}`);
    return found[0]?.spec ?? assert.fail();
  };

  it("the server's pods have the labels that its Service and its budget select", () => {
    assert.deepEqual(specOf("server", "Deployment").template?.metadata.labels, SERVER);
    assert.deepEqual(specOf("server", "Service").selector, SERVER);
    // Without a selector a budget protects no pod.
    const { selector } = specOf("server", "PodDisruptionBudget");
    assert.deepEqual(selector, { matchLabels: SERVER });
  });

  it("each network policy is one of meshca's pods, not of all pods of their namespace", () => {
    assert.deepEqual(specOf("server", "NetworkPolicy").podSelector, { matchLabels: SERVER });
    assert.deepEqual(specOf("agent-daemonset", "NetworkPolicy").podSelector, {
      matchLabels: AGENT,
    });
    assert.deepEqual(specOf("agent-daemonset", "DaemonSet").template?.metadata.labels, AGENT);
  });

  it("a server takes connections of every namespace on its port only", () => {
    const { policyTypes, ingress = [] } = specOf("server", "NetworkPolicy");
    assert.deepEqual(policyTypes, ["Ingress", "Egress"]);
    for (const place of ["mesh", "mesh-agent", "default", "monitoring"])
      assert.ok(allows(ingress, place, "TCP", 8500), place);
    assert.ok(!allows(ingress, "default", "TCP", 6379));
    assert.ok(!allows(ingress, "default", "UDP", 8500));
    assert.ok(!allows(ingress, null, "TCP", 8500));
  });

  it("a server reaches DNS, Redis, Sentinel, the API server and Vault, in the cluster and outside", () => {
    const { egress = [] } = specOf("server", "NetworkPolicy");
    for (const place of ["kube-system", "redis", null])
      for (const port of [53, 6379, 26379, 443, 6443, 8200])
        assert.ok(allows(egress, place, "TCP", port), `${port} in ${place}`);
    for (const port of [22, 80, 8500]) assert.ok(!allows(egress, null, "TCP", port), String(port));
  });

  it("an agent reaches the servers and DNS, and takes no connection", () => {
    const spec = specOf("agent-daemonset", "NetworkPolicy");
    const { policyTypes, ingress, egress = [] } = spec;
    assert.deepEqual([policyTypes, ingress], [["Ingress", "Egress"], undefined]);
    assert.ok(allows(egress, "mesh", "TCP", 8500));
    assert.ok(!allows(egress, "default", "TCP", 8500));
    assert.ok(!allows(egress, null, "TCP", 443));
  });

  for (const name of ["server", "agent-daemonset"])
    it(`the policy of ${name} allows DNS that is not of a pod: a cache on the node, OpenShift's port`, () => {
      const { egress = [] } = specOf(name, "NetworkPolicy");
      for (const place of ["kube-system", "openshift-dns", null])
        for (const protocol of ["UDP", "TCP"])
          for (const port of [53, 5353])
            assert.ok(allows(egress, place, protocol, port), `${protocol} ${port} in ${place}`);
    });

  it("a server listens on while its endpoint is removed from the Service", () => {
    const { containers = [] } = specOf("server", "Deployment").template?.spec ?? {};
    assert.deepEqual(
      containers.map(({ name, lifecycle }) => [name, lifecycle]),
      [
        [
          "meshca",
          { preStop: { exec: { command: ["bun", "-e", "setTimeout(() => undefined, 5000)"] } } },
        ],
      ],
    );
  });
});
