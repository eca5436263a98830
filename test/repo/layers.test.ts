/**
 * The import table of the architecture: arrows point down only.
 * @module
 */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";
import { describe, it } from "node:test";
import { ROOT } from "../fixtures/root.ts";

interface Rule {
  /** The files it is for, by how their path begins; the first rule that fits counts. */
  readonly files: string;
  /** Folders and files of ours that they may import, by how the path begins. */
  readonly ours: readonly string[];
  /** Packages and runtime modules. */
  readonly packages: readonly string[];
}

const RULES: readonly Rule[] = [
  { files: "src/version.ts", ours: ["package.json"], packages: [] },
  { files: "src/schemas.ts", ours: ["src/core/"], packages: ["valibot"] },
  {
    files: "src/core/x509/peculiar.ts",
    ours: ["src/core/"],
    packages: ["@peculiar/x509", "reflect-metadata"],
  },
  // Two digests a leaf, several times cheaper than through WebCrypto.
  { files: "src/core/bytes.ts", ours: ["src/core/"], packages: ["@noble/hashes"] },
  { files: "src/core/", ours: ["src/core/"], packages: [] },
  {
    files: "src/store/sqlite",
    ours: ["src/core/", "src/store/"],
    packages: ["node:sqlite", "valibot"],
  },
  // Where a connection lives as long as a request, a full client is most of what there is to load.
  {
    files: "src/store/redis/wire.ts",
    ours: ["src/core/", "src/store/"],
    packages: ["node:net", "node:tls"],
  },
  {
    files: "src/store/redis/connection.ts",
    ours: ["src/core/", "src/store/"],
    packages: ["ioredis"],
  },
  {
    files: "src/store/",
    ours: ["src/core/", "src/schemas.ts", "src/store/"],
    packages: ["valibot"],
  },
  { files: "src/seal/", ours: ["src/core/", "src/seal/"], packages: [] },
  { files: "src/consul/", ours: ["src/core/", "src/consul/"], packages: ["valibot"] },
  { files: "src/net/ip.ts", ours: [], packages: ["ipaddr.js"] },
  { files: "src/net/", ours: ["src/core/", "src/net/"], packages: ["valibot"] },
  {
    files: "src/acl/",
    ours: ["src/core/", "src/schemas.ts", "src/consul/", "src/net/", "src/acl/"],
    packages: ["jose", "valibot"],
  },
  {
    files: "src/telemetry/",
    ours: ["src/core/", "src/telemetry/"],
    packages: ["node:async_hooks", "prom-client"],
  },
  {
    files: "src/config/",
    ours: ["src/core/", "src/consul/", "src/net/", "src/config/", "src/store/redis/settings.ts"],
    packages: ["valibot"],
  },
  {
    files: "src/tls/node-server.ts",
    ours: ["src/tls/"],
    packages: ["@hono/node-server", "node:http", "node:http2", "node:net"],
  },
  { files: "src/tls/plain-server.ts", ours: ["src/tls/"], packages: ["node:http"] },
  {
    files: "src/tls/server.ts",
    ours: ["src/tls/", "src/config/tls.ts"],
    packages: ["node:http2", "node:net", "node:tls"],
  },
  {
    files: "src/tls/",
    ours: [
      "src/core/",
      "src/tls/",
      "src/config/tls.ts",
      "src/config/faults.ts",
      "src/config/file-errors.ts",
    ],
    packages: ["node:crypto", "node:tls"],
  },
  {
    files: "src/http/",
    ours: ["src/core/", "src/consul/", "src/net/", "src/http/"],
    packages: ["hono", "valibot"],
  },
  { files: "providers/index.ts", ours: ["src/core/", "providers/"], packages: [] },
  { files: "providers/faults.ts", ours: ["src/core/"], packages: [] },
  {
    files: "providers/service-names.ts",
    ours: ["src/core/", "src/net/ip.ts", "providers/faults.ts"],
    packages: [],
  },
  {
    files: "providers/common-config.ts",
    ours: ["src/core/", "src/consul/", "providers/faults.ts", "providers/service-names.ts"],
    packages: ["valibot"],
  },
  {
    files: "providers/consul/",
    ours: ["src/core/", "providers/consul/", "providers/common-config.ts", "providers/faults.ts"],
    packages: ["valibot"],
  },
  // Sockets of its own: fetch cannot be told where to connect to, and the files of a TLS connection
  // differ by configuration.
  ...["transport", "tls-agent"].map((name) => ({
    files: `providers/vault/${name}.ts`,
    ours: ["src/core/", "src/net/", "providers/vault/"],
    packages: ["node:http", "node:https"],
  })),
  {
    files: "providers/vault/node-vault.ts",
    ours: ["providers/vault/"],
    packages: ["node-vault"],
  },
  {
    files: "providers/vault/",
    ours: [
      "src/core/",
      "src/schemas.ts",
      "src/net/",
      "providers/vault/",
      "providers/common-config.ts",
      "providers/faults.ts",
    ],
    packages: ["valibot"],
  },
  {
    files: "src/compose/",
    ours: [
      "src/compose/",
      "src/agent/consul-api/",
      "src/client/",
      "src/version.ts",
      "src/core/",
      "src/store/",
      "src/seal/",
      "src/acl/",
      "src/consul/",
      "src/net/",
      "src/telemetry/",
      "src/config/",
      "src/http/",
      "providers/",
    ],
    packages: [],
  },
  // A Worker has a composition root of its own: each request is one, and its settings are bindings.
  {
    files: "src/entry/worker.ts",
    ours: [
      "src/compose/worker.ts",
      "src/config/worker.ts",
      "src/core/errors.ts",
      "src/entry/worker-platform.ts",
      "providers/consul/config.ts",
    ],
    packages: [],
  },
  {
    files: "src/entry/",
    ours: [
      "src/compose/platform.ts",
      "src/compose/process.ts",
      "src/compose/start.ts",
      "src/config/",
      "src/core/",
      "src/telemetry/",
      "src/tls/",
      "src/entry/",
    ],
    packages: [
      "node:fs",
      "node:path",
      "node:dns/promises",
      "node:http",
      "node:https",
      "node:net",
      "node:os",
      "node:stream",
    ],
  },
  {
    files: "src/cli/",
    ours: [
      "src/agent/",
      "src/client/",
      "src/consul/",
      "src/net/",
      "src/entry/",
      "src/compose/backend.ts",
      "src/compose/process.ts",
      "src/version.ts",
      "src/config/",
      "src/core/",
      "src/telemetry/logger.ts",
      "src/tls/key-pair.ts",
      "src/cli/",
      "providers/consul/config.ts",
      "providers/consul/private-key.ts",
      "providers/vault/config.ts",
    ],
    packages: [
      "commander",
      "node:child_process",
      "node:crypto",
      "node:fs",
      "node:http",
      "node:https",
      "node:net",
      "node:os",
      "node:path",
      "node:readline",
      "node:tls",
      "node:url",
      "node:util",
      "valibot",
    ],
  },
  // What a runtime with node:http adds to the client: sockets, TLS, files.
  {
    files: "src/client/node/",
    ours: ["src/core/", "src/client/"],
    packages: [
      "node:crypto",
      "node:fs",
      "node:http",
      "node:https",
      "node:net",
      "node:path",
      "node:tls",
    ],
  },
  {
    files: "src/client/",
    ours: [
      "src/core/",
      "src/consul/",
      "src/net/server-address.ts",
      "src/schemas.ts",
      "src/client/",
    ],
    packages: ["jose", "valibot"],
  },
  // Routes in the form of the server's, which serves them too if nothing has to be checked.
  {
    files: "src/agent/consul-api/",
    ours: ["src/agent/", "src/client/", "src/consul/", "src/core/", "src/http/"],
    packages: ["hono"],
  },
  {
    files: "src/agent/",
    ours: [
      "src/agent/",
      "src/client/",
      "src/config/",
      "src/consul/",
      "src/core/",
      "src/http/client.ts",
      "src/http/responses.ts",
      "src/http/route.ts",
      "src/net/",
      "src/schemas.ts",
      "src/telemetry/",
      "src/tls/plain-server.ts",
      "src/version.ts",
    ],
    packages: ["@grpc", "bun:ffi", "hono", "node", "prom-client", "protobufjs", "valibot"],
  },
  { files: "src/index.ts", ours: ["src/"], packages: [] },
];

/**
 * The floors of core, the lowest first, by how a path begins; the longest that fits counts. A file
 * imports its own floor and those below it.
 */
const FLOORS: readonly (readonly string[])[] = [
  ["src/core/", "src/core/ports/clock.ts", "src/core/ports/log.ts"],
  ["src/core/spiffe/"],
  ["src/core/x509/"],
  ["src/core/state.ts"],
  ["src/core/ports/"],
  ["src/core/acl/"],
  ["src/core/ca/"],
];

/** Every source file, with what it imports: types, side effects and dynamic imports too. */
function sources(): { file: string; imports: string[] }[] {
  return ["src", "providers"]
    .flatMap((folder) =>
      readdirSync(join(ROOT, folder), { recursive: true, encoding: "utf8" }).map((name) =>
        join(folder, name),
      ),
    )
    .filter((file) => file.endsWith(".ts"))
    .map((file) => {
      const text = readFileSync(join(ROOT, file), "utf8");
      const found = text.matchAll(
        /(?:^\s*(?:import|export)\s[^;]*?from\s*|^\s*import\s*|import\(\s*)"([^"]+)"/gms,
      );
      return { file, imports: [...found].map((match) => match[1] as string) };
    });
}

/** The files of ours that a file imports, from the root of the tree. */
function importsOfOurs({ file, imports }: { file: string; imports: string[] }): string[] {
  return imports
    .filter((specifier) => specifier.startsWith("."))
    .map((specifier) => relative(ROOT, join(ROOT, dirname(file), specifier)));
}

/** Files that import each other in a circle, each circle once (Tarjan's strongly connected components). */
function circlesOf(graph: ReadonlyMap<string, readonly string[]>): string[][] {
  const found: string[][] = [];
  const index = new Map<string, number>();
  const stack: string[] = [];
  const visit = (node: string): number => {
    const own = index.size;
    index.set(node, own);
    let low = own;
    stack.push(node);
    for (const next of graph.get(node) ?? []) {
      if (!index.has(next)) low = Math.min(low, visit(next));
      else if (stack.includes(next)) low = Math.min(low, index.get(next) ?? own);
    }
    if (low === own) {
      const circle = stack.splice(stack.indexOf(node));
      if (circle.length > 1) found.push(circle.toSorted((a, b) => (a < b ? -1 : 1)));
    }
    return low;
  };
  for (const node of graph.keys()) if (!index.has(node)) visit(node);
  return found;
}

/** The floor that a file of core stands on. */
function floorOf(file: string): number {
  const length = (floor: readonly string[]) =>
    Math.max(0, ...floor.filter((prefix) => file.startsWith(prefix)).map(({ length }) => length));
  return FLOORS.reduce((best, floor, at) => {
    return length(floor) > length(FLOORS[best] ?? []) ? at : best;
  }, 0);
}

function allowed(rule: Rule, file: string, specifier: string): boolean {
  if (specifier.startsWith(".")) {
    const target = relative(ROOT, join(ROOT, dirname(file), specifier));
    return rule.ours.some((prefix) => target.startsWith(prefix));
  }
  return rule.packages.some(
    (name) =>
      specifier === name ||
      specifier.startsWith(`${name}/`) ||
      // Every module of the runtime.
      (name === "node" && specifier.startsWith("node:")),
  );
}

describe("layers", () => {
  const all = sources();

  it("imports are found at all", () => {
    assert.ok(all.length > 50);
    assert.ok(
      all
        .find(({ file }) => file === "src/core/ca/ca-ports.ts")
        ?.imports.includes("../ports/store.ts"),
    );
  });

  it("every folder has a rule", () => {
    assert.deepEqual(
      all
        .map(({ file }) => file)
        .filter((file) => !RULES.some((rule) => file.startsWith(rule.files))),
      [],
    );
  });

  it("no file imports what its layer must not know", () => {
    const broken = all.flatMap(({ file, imports }) => {
      const rule = RULES.find((candidate) => file.startsWith(candidate.files));
      return rule === undefined
        ? []
        : imports
            .filter((specifier) => !allowed(rule, file, specifier))
            .map((specifier) => `${file} imports ${specifier}`);
    });
    assert.deepEqual(broken, []);
  });

  it("no files import each other in a circle", () => {
    assert.deepEqual(
      circlesOf(
        new Map([
          ["a", ["b"]],
          ["b", ["c", "a"]],
          ["c", []],
        ]),
      ),
      [["a", "b"]],
    );
    const imports = new Map(all.map((source) => [source.file, importsOfOurs(source)]));
    assert.deepEqual(circlesOf(imports), []);
  });

  it("no file of core imports a floor above its own", () => {
    const core = all.filter(({ file }) => file.startsWith("src/core/"));
    const upward = core.flatMap((source) =>
      importsOfOurs(source)
        .filter((target) => floorOf(target) > floorOf(source.file))
        .map((target) => `${source.file} imports ${target}`),
    );
    assert.deepEqual(upward, []);
  });

  for (const [what, ambient] of [
    [
      "does not look at the clock, at chance or at the environment",
      /Date\.now\(\)|new Date\(\)|Math\.random|process\.|setTimeout|setInterval|getRandomValues|randomUUID/,
    ],
    ["names no route and no setting", /MESHCA_[A-Z]|\/v1\/|\/readyz/],
  ] as const)
    it(`core ${what}`, () => {
      const broken = all
        .filter(({ file }) => file.startsWith("src/core/"))
        .filter(({ file }) =>
          readFileSync(join(ROOT, file), "utf8")
            .split("\n")
            .some((line) => ambient.test(line) && !/^\s*(\*|\/\/|\/\*\*)/.test(line)),
        )
        .map(({ file }) => file);
      assert.deepEqual(broken, []);
    });

  it("nothing imports an entry or the command but themselves", () => {
    const broken = all
      .filter(({ file }) => !file.startsWith("src/cli/") && !file.startsWith("src/entry/"))
      .filter(({ imports }) => imports.some((specifier) => /\/(cli|entry)\//.test(specifier)))
      .map(({ file }) => file);
    assert.deepEqual(broken, []);
  });

  it("an entry is at most 80 lines", () => {
    const entries = all.filter(
      ({ file }) => file.startsWith("src/entry/") && !file.endsWith("platform.ts"),
    );
    for (const { file } of entries)
      assert.ok(readFileSync(join(ROOT, file), "utf8").split("\n").length <= 81, file);
  });
});
