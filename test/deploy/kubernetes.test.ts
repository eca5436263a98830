/**
 * The manifests of deploy/kubernetes: kustomize builds them, they are valid by the schemas of
 * Kubernetes' API, their pods are allowed by the Pod Security Standards, and their settings and
 * configurations are those of meshca.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { before, describe, it } from "node:test";
import { rootCertificates } from "node:tls";
import { readAgentSettings } from "../../src/config/agent-settings.ts";
import { readSettings } from "../../src/config/settings.ts";
import { ROOT } from "../fixtures/root.ts";
import { type KubernetesTools, kubernetesTools } from "../kubernetes/build.ts";

const FOLDER = join(ROOT, "deploy/kubernetes");
const OVERLAYS = readdirSync(FOLDER).filter((name) => statSync(join(FOLDER, name)).isDirectory());
/** A certificate in place of the roots, which the agent parses. */
const ROOT_PEM = rootCertificates[0] ?? "";
/** How long building the tools may take, in milliseconds. */
const BUILD_MS = 900_000;

/** Why the tools cannot be built, or false. With CI=true nothing is skipped. */
const noGo: string | false =
  process.env.CI === "true" || spawnSync("go", ["version"]).status === 0
    ? false
    : "Go is not installed";

describe("deploy/kubernetes", { skip: noGo }, () => {
  let tools: KubernetesTools;
  const built = new Map<string, string>();
  before(
    async () => {
      tools = await kubernetesTools();
      for (const name of OVERLAYS)
        built.set(
          name,
          execFileSync(tools.kustomize, ["build", join(FOLDER, name)], { encoding: "utf8" }),
        );
    },
    { timeout: BUILD_MS },
  );
  const textOf = (name: string) => built.get(name) ?? "";
  const kindsOf = (name: string) =>
    [...textOf(name).matchAll(/^kind: (\w+)$/gm)].map(([, kind = ""]) => kind);

  /** The findings of kubeconform; kinds that Kubernetes itself does not have are left out. */
  const conform = (manifests: string) => {
    const location = `${tools.schemas}/{{.Group}}_{{.ResourceAPIVersion}}_{{.ResourceKind}}.json`;
    const { status, stdout, stderr } = spawnSync(
      tools.kubeconform,
      ["-strict", "-skip", "ServiceMonitor", "-schema-location", location, "-verbose"],
      { input: manifests, encoding: "utf8" },
    );
    return { status, text: `${stdout}${stderr}` };
  };
  const podPolicy = (manifests: string) =>
    spawnSync(tools.podPolicy, ["restricted"], { input: manifests, encoding: "utf8" });

  it("has a server, a sidecar, a DaemonSet and a ServiceMonitor", () => {
    assert.deepEqual(new Set(OVERLAYS), new Set(built.keys()));
    for (const kind of [
      ...["Deployment", "PodDisruptionBudget", "Service", "ServiceAccount", "NetworkPolicy"],
      ...["Namespace", "ClusterRoleBinding", "Secret"],
    ])
      assert.ok(kindsOf("server").includes(kind), kind);
    assert.ok(kindsOf("agent-daemonset").includes("DaemonSet"));
    assert.ok(kindsOf("agent-sidecar").includes("Deployment"));
    assert.deepEqual(kindsOf("monitoring"), ["ServiceMonitor"]);
    assert.match(textOf("server"), /^ {2}replicas: 3$/m);
  });

  for (const name of OVERLAYS)
    it(`${name} is valid by the schemas of Kubernetes`, () => {
      const { status, text } = conform(textOf(name));
      assert.equal(status, 0, text);
      const checked = [...text.matchAll(/ is valid$/gm)].length;
      const own = kindsOf(name).filter((kind) => kind !== "ServiceMonitor");
      assert.equal(checked, own.length, text);
    });

  it("a field that does not exist and a value of another type are refused", () => {
    const server = textOf("server");
    for (const [from, to, wanted] of [
      ["minReadySeconds:", "minReadySecond:", /minReadySecond/],
      ["replicas: 3", 'replicas: "three"', /replicas/],
      ["minAvailable: 2", "minAvailable: [2]", /minAvailable/],
      ["policyTypes:", "colour: red\n  policyTypes:", /colour/],
    ] as const) {
      assert.ok(server.includes(from), from);
      const { status, text } = conform(server.replace(from, to));
      assert.equal(status, 1, `${to}: ${text}`);
      assert.match(text, wanted);
    }
    const monitor = textOf("monitoring").replace("serverName:", "serverNames:");
    assert.match(podPolicy(monitor).stderr, /unknown field.*serverNames/);
  });

  it("the pods are allowed by the restricted policy, but for the folder of the node of the DaemonSet", () => {
    for (const name of ["server", "agent-sidecar", "monitoring"]) {
      const { status, stdout, stderr } = podPolicy(textOf(name));
      assert.deepEqual([status, stdout], [0, ""], stderr);
    }
    assert.deepEqual(
      podPolicy(textOf("agent-daemonset"))
        .stdout.trim()
        .split("\n")
        .map((line) => line.replace(/ \(.*/, "")),
      [
        "DaemonSet meshca-agent: unrestricted capabilities",
        "DaemonSet meshca-agent: restricted volume types",
        "DaemonSet meshca-agent: runAsNonRoot != true",
        "DaemonSet meshca-agent: runAsUser=0",
      ],
    );
    const open = textOf("server").replace("readOnlyRootFilesystem: true", "privileged: true");
    assert.match(podPolicy(open).stdout, /privileged/);
  });

  it("every container of ours has a read-only file system, and no token but the one of its login", () => {
    for (const name of ["server", "agent-daemonset", "agent-sidecar"]) {
      const text = textOf(name);
      const images = [...text.matchAll(/image: (\S+)/g)].map(([, image = ""]) => image);
      const ours = images.filter((image) => image.startsWith("meshca:"));
      assert.ok(ours.length > 0);
      assert.equal([...text.matchAll(/readOnlyRootFilesystem: true/g)].length, ours.length, name);
      assert.doesNotMatch(text, /automountServiceAccountToken: true/);
      assert.match(text, /automountServiceAccountToken: false/);
    }
  });

  it("the settings of the server are those of meshca, and name the image's version", () => {
    const variables = Object.fromEntries(
      [...textOf("server").matchAll(/- name: (MESHCA_\w+)\n +value: (.*)$/gm)].map(
        ([, key = "", value = ""]) => [key, value],
      ),
    );
    const files: Readonly<Record<string, string>> = {
      "/secrets/store": "redis://:secret@redis:6379",
      "/secrets/kek": "1:x",
      "/secrets/management-token": "6f3c7b52-6f0c-4a1e-8d0f-5d1b7c3a9e21",
    };
    const settings = readSettings(variables, (path) => files[path] ?? "", []);
    assert.equal(settings.store.kind, "redis");
    assert.equal(settings.acl, "deny");
    const names = settings.tls?.source.kind === "self" ? settings.tls.source.names.dnsNames : [];
    assert.ok(names.includes("meshca.mesh.svc"));
    const { version } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
      version: string;
    };
    for (const name of ["server", "agent-daemonset", "agent-sidecar"])
      assert.ok(textOf(name).includes(`image: meshca:${version}`), name);
  });

  for (const name of ["agent-daemonset", "agent-sidecar"])
    it(`the configuration of ${name} is one of the agent, and reaches the server by a name of its certificate`, () => {
      const text = readFileSync(join(FOLDER, name, "agent.hcl"), "utf8");
      const settings = readAgentSettings(
        { config: ["agent.hcl"] },
        {},
        {
          readFile: (path) => (path === "agent.hcl" ? text : ROOT_PEM),
          resolve: (path) => path,
        },
      );
      assert.match(JSON.stringify(settings), /https:\/\/meshca\.mesh\.svc:8500/);
      // Mounted where the configuration names it.
      for (const [, path = ""] of text.matchAll(/(?:ca|token)_file += "(.*)\/[^/]+"/g))
        assert.ok(textOf(name).includes(`mountPath: ${path}`), path);
    });
});
