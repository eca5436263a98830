/**
 * `consul acl`, `consul login` and `consul logout` and ours, side by side on the same server.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { createIssuer, type TokenIssuer } from "../cli/issuer.ts";
import { meshca, type Ran } from "../cli/run.ts";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { clientCommand, noClient, type ProgramCommand } from "./clients.ts";
import { runConsul } from "./consul-command.ts";

const skip = noClient("consul-cli");
const TOKEN = "5d6f0a52-2c53-4c1e-9c6d-0b7c8a4f1e22";
const OPTIONS = { timeout: 300_000 };
const RULES = 'service "web" { policy = "write" }\n';
const TEMPLATES = 'TemplatedPolicy "builtin/service" {\n  Name = "api"\n}\n';
const FORMS = [[], ["-format=json"], ["-meta"], ["-format", "pretty"]];

/** What differs between two records of the same content. */
const normal = (text: string): string =>
  text
    // Consul's help after an error.
    .replace(/\nUsage: consul .*/s, "\n")
    .replaceAll(/[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/g, "UUID")
    .replaceAll(/\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?(?: \+0000 UTC|Z)/g, "TIME")
    .replaceAll(/(Index"?: +)\d+/g, "$1N")
    .replaceAll(/[0-9a-f]{64}|"Hash": "[^"]*"/g, "HASH");

describe("consul acl and meshca acl", { skip }, () => {
  let consul: ProgramCommand;
  let server: ServerProcess;
  let folder: string;
  let issuer: TokenIssuer;
  let environment: Readonly<Record<string, string>>;
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };

  before(async () => {
    consul = await clientCommand("consul-cli");
    folder = mkdtempSync(join(tmpdir(), "meshca-acl-side-"));
    issuer = createIssuer();
    server = await startServer({
      MESHCA_STORE: "memory:",
      MESHCA_ACL: "deny",
      MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN,
    });
    environment = { CONSUL_HTTP_ADDR: server.url, CONSUL_HTTP_TOKEN: TOKEN };
  });
  after(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const theirs = (args: readonly string[]): Promise<Ran> => runConsul(consul, args, environment);
  const ours = (args: readonly string[]): Promise<Ran> => meshca(args, environment);

  /**
   * Both print the same, and on failure our exit code is not 0 either.
   * @param undo removes what Consul's command line made
   */
  async function same(args: readonly string[], undo: readonly string[] = []): Promise<Ran> {
    const first = await theirs(args);
    if (undo.length > 0) assert.equal((await theirs(undo)).code, 0, undo.join(" "));
    const second = await ours(args);
    assert.deepEqual(
      [normal(second.stdout), normal(second.stderr), second.code === 0],
      [normal(first.stdout), normal(first.stderr), first.code === 0],
      args.join(" "),
    );
    return second;
  }

  it("policies", OPTIONS, async () => {
    const rules = ["-rules", `@${file("rules.hcl", RULES)}`];
    const remove = ["acl", "policy", "delete", "-name", "p1"];
    const create = ["acl", "policy", "create", "-name", "p1", ...rules];
    for (const form of FORMS) {
      await same([...create, "-description", "d", ...form], remove);
      await same(remove, create);
    }
    await same([...create, "-valid-datacenter", "dc1"], remove);
    for (const form of FORMS) {
      await same(["acl", "policy", "list", ...form]);
      await same(["acl", "policy", "read", "-name", "p1", ...form]);
    }
    await same(["acl", "policy", "update", "-name", "p1", "-description", "other"]);
    const merged = await same(["acl", "policy", "read", "-name", "p1"]);
    assert.match(merged.stdout, /service "web"/);
    await same(["acl", "policy", "update", "-name", "p1", "-no-merge", "-description", "x"]);
    // A name that exists, no name, rules that do not parse, a record that does not exist.
    await same(create);
    const bad = ["-rules", `@${file("bad.hcl", 'service "web" { polcy = ')}`];
    await same(["acl", "policy", "create", "-name", "p2", ...bad]);
    await same(["acl", "policy", "delete"]);
    await same(["acl", "policy", "delete", "-name", "none"]);
    await same(["acl", "policy", "update", "-name", "none"]);
    await same(["acl", "policy", "read", "-id", "none"]);
    // Namespaces and partitions are Consul Enterprise's: the server refuses both alike.
    await same(["acl", "policy", "list", "-namespace", "default"]);
    await same(["acl", "policy", "list", "-partition", "x"]);
  });

  it("roles", OPTIONS, async () => {
    await theirs(["acl", "policy", "create", "-name", "p2", "-rules", RULES]);
    const remove = ["acl", "role", "delete", "-name", "r1"];
    const create = [
      ...["acl", "role", "create", "-name", "r1", "-policy-name", "p2", "-description", "d"],
      ...["-service-identity", "web", "-service-identity", "db:dc1,dc2"],
      ...["-node-identity", "n:dc1", "-templated-policy", "builtin/service", "-var", "name:api"],
    ];
    for (const form of FORMS) await same([...create, ...form], remove).then(() => ours(remove));
    await ours(create);
    const file1 = ["-templated-policy-file", file("templates.hcl", TEMPLATES)];
    await same(
      ["acl", "role", "create", "-name", "r2", ...file1],
      ["acl", "role", "delete", "-name", "r2"],
    );
    for (const form of FORMS) {
      await same(["acl", "role", "list", ...form]);
      await same(["acl", "role", "read", "-name", "r1", ...form]);
    }
    const { ID } = JSON.parse((await ours(["acl", "role", "read", "-name", "r1", "-json"])).stdout);
    const update = ["acl", "role", "update", "-id", String(ID)];
    await same([...update, "-service-identity", "more"]);
    await same([...update, "-append-templated-policy", "builtin/dns"]);
    await same([...update, "-replace-templated-policy", "builtin/node", "-var", "name:n1"]);
    await same([...update, "-no-merge", "-name", "r1", "-node-identity", "n:dc1", "-format=json"]);
    await same(create);
    await same(["acl", "role", "create", "-name", "r3", "-policy-name", "none"]);
    await same(["acl", "role", "create", "-name", "r3", "-service-identity", "a:b:c"]);
    await same(["acl", "role", "create", "-name", "r3", "-node-identity", "a"]);
    await same(["acl", "role", "delete", "-name", "none"]);
  });

  it("tokens", OPTIONS, async () => {
    await theirs(["acl", "policy", "create", "-name", "p3", "-rules", RULES]);
    await theirs(["acl", "policy", "create", "-name", "p4", "-rules", RULES]);
    await theirs(["acl", "role", "create", "-name", "r3", "-policy-name", "p3"]);
    const id = "00000000-0000-4000-8000-000000000010";
    const remove = ["acl", "token", "delete", "-accessor-id", id];
    const create = [
      ...["acl", "token", "create", "-accessor", id, "-policy-name", "p3", "-role-name", "r3"],
      ...["-service-identity", "web:dc1", "-node-identity", "n:dc1", "-description", "x y"],
      ...["-templated-policy", "builtin/service", "-var", "name:api"],
    ];
    for (const form of FORMS) await same([...create, ...form], remove).then(() => ours(remove));
    const limited = ["acl", "token", "create", "-accessor", id, "-policy-name", "p3", "-local"];
    await same([...limited, "-expires-ttl", "1h"], remove);
    await same(remove, create);
    await ours(create);
    for (const form of FORMS) {
      await same(["acl", "token", "read", "-accessor-id", id, ...form]);
      await same(["acl", "token", "read", "-self", ...form]);
      await same(["acl", "token", "list", ...form]);
    }
    await same(["acl", "token", "read", "-accessor-id", id, "-expanded", "-format=json"]);
    // The beginning of an id is enough.
    await same(["acl", "token", "read", "-accessor-id", id.slice(0, -2)]);
    const update = ["acl", "token", "update", "-accessor-id", id];
    await same([...update, "-description", "new"]);
    await same([...update, "-append-policy-name", "p4"]);
    await same([...update, "-policy-name", "p4"]);
    await same([...update, "-append-service-identity", "more", "-append-node-identity", "m:dc1"]);
    await same([...update, "-replace-templated-policy", "builtin/dns", "-format=json"]);
    await same([...update, "-append-templated-policy", "builtin/node", "-var", "name:x"]);
    await same([...update, "-merge-service-identities", "-service-identity", "third"]);
    await same(["acl", "token", "clone", "-accessor-id", id]);
    await same(["acl", "token", "clone", "-accessor-id", id, "-description", "c", "-format=json"]);
    await same(["acl", "token", "create"]);
    await same([...create]);
    await same(["acl", "token", "create", "-role-name", "none"]);
    await same(["acl", "token", "create", "-role-name", "r3", "-expires-ttl", "1s"]);
    await same(["acl", "token", "read"]);
    await same(["acl", "token", "read", "-accessor-id", "none"]);
    await same(["acl", "token", "delete"]);
    await same(["acl", "token", "delete", "-accessor-id", "none"]);
    await same(["acl", "bootstrap"]);
  });

  it("templated policies", OPTIONS, async () => {
    for (const form of [[], ["-format=json"]]) {
      await same(["acl", "templated-policy", "list", ...form]);
      const preview = ["acl", "templated-policy", "preview"];
      await same([...preview, "-name", "builtin/service", "-var", "name:api", ...form]);
      await same([...preview, "-file", file("one.hcl", TEMPLATES), ...form]);
    }
    await same(["acl", "templated-policy", "read", "-name", "builtin/dns", "-format=json"]);
    await same(["acl", "templated-policy", "read"]);
    await same(["acl", "templated-policy", "read", "-name", "none"]);
    await same(["acl", "templated-policy", "preview", "-name", "builtin/service"]);
  });

  it("auth methods, binding rules and logins", OPTIONS, async () => {
    const config = ["-config", `@${file("jwt.json", JSON.stringify(issuer.config))}`];
    const create = ["acl", "auth-method", "create", "-type", "jwt", "-name", "ci"];
    const remove = ["acl", "auth-method", "delete", "-name", "ci"];
    const more = ["-description", "d", "-display-name", "D", "-max-token-ttl", "5m", ...config];
    for (const form of FORMS) {
      await same([...create, ...more, ...form], remove);
      await same(remove, [...create, ...config]);
    }
    await theirs([...create, ...more]);
    for (const form of FORMS) {
      await same(["acl", "auth-method", "list", ...form]);
      await same(["acl", "auth-method", "read", "-name", "ci", ...form]);
    }
    await same(["acl", "auth-method", "update", "-name", "ci", "-description", "e"]);
    await same(["acl", "auth-method", "update", "-name", "ci", "-no-merge", ...config]);
    await same(["acl", "auth-method", "create", "-type", "oidc", "-name", "x", ...config]);
    await same(["acl", "auth-method", "create"]);

    await theirs(["acl", "role", "create", "-name", "ops", "-service-identity", "web"]);
    const rule = ["acl", "binding-rule", "create", "-method", "ci", "-bind-name"];
    for (const form of FORMS) {
      await same([...rule, "ops", "-bind-type", "role", "-selector", "value.team==ops", ...form]);
      const template = ["builtin/service", "-bind-type", "templated-policy"];
      await same([...rule, ...template, "-bind-vars", `name=${"$"}{value.team}`, ...form]);
      await same(["acl", "binding-rule", "list", ...form]);
    }
    const listed = await ours(["acl", "binding-rule", "list", "-json"]);
    const [{ ID: id }] = JSON.parse(listed.stdout) as [{ ID: string }];
    for (const form of FORMS) await same(["acl", "binding-rule", "read", "-id", id, ...form]);
    const update = ["acl", "binding-rule", "update", "-id", id, "-bind-type"];
    await same([...update, "service", "-bind-name", "x", "-description", "e"]);
    await same([...update, "role", "-no-merge"]);
    await same([...update, "role", "-no-merge", "-bind-name", "ops"]);
    await same(["acl", "binding-rule", "delete"]);
    await same(["acl", "binding-rule", "delete", "-id", "00000000-0000-4000-8000-000000000099"]);
    await same([...rule, "x", "-bind-type", "unknown"]);
    await same([...rule, "ops", "-bind-type", "role", "-selector", "value.team == "]);
    await same(["acl", "binding-rule", "list", "-method", "none"]);

    // Each JWT is accepted once.
    const next = () => file("id.jwt", issuer.token({ team: "ops" }));
    const [jwt, sink] = [next(), join(folder, "sink")];
    const quiet = { code: 0, stdout: "", stderr: "" };
    const login = ["login", "-method", "ci", "-bearer-token-file", jwt, "-token-sink-file", sink];
    for (const args of [login, [...login, "-meta", "pod=web-1"]]) {
      next();
      assert.deepEqual(await ours(args), quiet);
      assert.equal(statSync(sink).mode & 0o777, 0o600);
      assert.match(readFileSync(sink, "utf8"), /^[0-9a-f-]{36}$/);
      // Each logs the other's token out.
      const self = ["acl", "token", "read", "-self", "-token-file", sink];
      const one = await same(self);
      assert.match(one.stdout, /^Auth Method: +ci \(Namespace: \)$/m);
      assert.deepEqual(await theirs(["logout", "-token-file", sink]), quiet);
      next();
      assert.deepEqual(await theirs(args), quiet);
      assert.deepEqual(await ours(["logout", "-token-file", sink]), quiet);
      await same(["logout", "-token-file", sink]);
    }
    await same(["login"]);
    await same(["login", "-method", "none", ...login.slice(3)]);
    await same(["login", "-method", "ci", "-bearer-token-file", jwt]);
  });
});
