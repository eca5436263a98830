/**
 * Dockerfile and compose.yaml. The latter is read by Compose, which refuses a mapping with a key twice, as YAML 1.2 section
 * 3.2.1.3 has it.
 * @module
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, it } from "node:test";

const readText = (name: string) => readFileSync(new URL(`../../${name}`, import.meta.url), "utf8");
const FILE = readText("compose.yaml");

/** Keys that a block mapping has twice, each with the number of its line. */
function duplicateKeys(yaml: string): string[] {
  const duplicates: string[] = [];
  /** The keys of the mappings that are open, from the outermost one, by their indentation. */
  const open: { readonly indent: number; readonly keys: Set<string> }[] = [];
  for (const [at, line] of yaml.split("\n").entries()) {
    const [, blanks, key] = /^( *)([\w<-]+):(?: |$)/.exec(line) ?? [];
    if (blanks === undefined || key === undefined) continue;
    while ((open.at(-1)?.indent ?? -1) > blanks.length) open.pop();
    if (open.at(-1)?.indent !== blanks.length)
      open.push({ indent: blanks.length, keys: new Set() });
    const { keys } = open.at(-1) ?? { keys: new Set<string>() };
    if (keys.has(key)) duplicates.push(`${at + 1}: ${key}`);
    keys.add(key);
  }
  return duplicates;
}

describe("compose.yaml", () => {
  it("has no key twice in a mapping, which Compose refuses", () => {
    assert.deepEqual(duplicateKeys("a:\n  b: 1\nc:\n  b: 1\n"), []);
    assert.deepEqual(duplicateKeys("a:\n  b: 1\n  c:\n    d: 1\n  b: 2\n"), ["5: b"]);
    assert.deepEqual(duplicateKeys(FILE), []);
  });

  it("gives each replica its own name, data folder and port", () => {
    for (const n of [1, 2, 3]) {
      const replica = FILE.split(`  replica-${n}:\n`)[1]?.split(/\n {2}\S/)[0] ?? "";
      assert.match(replica, new RegExp(`MESHCA_ADVERTISE: replica-${n}:8500`));
      assert.match(replica, new RegExp(`"replica-${n}:/data"`));
      assert.ok(replica.includes(`"127.0.0.1:\${REPLICA_${n}_PORT:-850${n}}:8500"`), replica);
    }
  });

  it("has a default for every variable, so that each command works without any", () => {
    const variables = FILE.split("\n")
      .filter((line) => !line.startsWith("#"))
      .flatMap((line) => [...line.matchAll(/(?<!\$)\$\{?(\w+)([^}]*)/g)]);
    assert.ok(variables.length > 5);
    for (const [text, , fallback] of variables) assert.match(fallback ?? "", /^:-./, text);
  });

  it("publishes ports on loopback only, and has no secret in itself", () => {
    for (const [, host] of FILE.matchAll(/ports: \["([^:]*):/g)) assert.equal(host, "127.0.0.1");
    assert.doesNotMatch(FILE, /(PASSWORD|KEK|MANAGEMENT_TOKEN): /);
    assert.match(readText("deploy/compose/secrets.ts"), /requirepass/);
  });
});

describe("Dockerfile", () => {
  const dockerfile = readText("Dockerfile");

  it("has the version of package.json, and takes Bun from the lock file", () => {
    const { version } = JSON.parse(readText("package.json")) as { version: string };
    const { dependencies } = JSON.parse(readText("bin/runtime/package.json")) as {
      dependencies: Record<string, string>;
    };
    assert.match(dockerfile, new RegExp(`^ARG VERSION=${version.replaceAll(".", "\\.")}$`, "m"));
    assert.match(dockerfile, new RegExp(`^ARG BUILDER=oven/bun:${dependencies.bun}$`, "m"));
    assert.match(dockerfile, /--frozen-lockfile --ignore-scripts/);
    assert.match(readText("bun.lock"), /"@oven\/bun-linux-x64": \[.*"sha512-[^"]{80,}"\]/);
  });

  it("runs as an unprivileged user and checks health by meshca healthcheck", () => {
    const last = dockerfile.slice(dockerfile.lastIndexOf("\nFROM "));
    assert.match(last, /^USER 65532:65532$/m);
    assert.doesNotMatch(last, /^RUN /m);
    assert.match(last, /^HEALTHCHECK .* CMD \["meshca", "healthcheck"\]$/m);
  });

  it("uses the same base images as compose.yaml", () => {
    for (const name of ["BASE", "BUILDER"]) {
      const image = new RegExp(`^ARG ${name}=(.*)$`, "m").exec(dockerfile)?.[1] ?? "none";
      assert.ok(FILE.includes(`\${${name}:-${image}}`), image);
    }
  });
});
