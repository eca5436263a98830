/**
 * `meshca acl`, `login` and `logout` against a real server: on a terminal, in JSON, and bad input.
 * @module
 */
import assert from "node:assert/strict";
import {
  chmodSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { type ServerProcess, startServer } from "../fixtures/process.ts";
import { createIssuer, type TokenIssuer } from "./issuer.ts";
import { meshca, meshcaOnTerminal, plain, type Ran } from "./run.ts";

const TOKEN = "2b9f1c6e-7d4a-4a51-9a0e-3f6d8c1b2a90";
const SECRET = "7c0de3f2-52d1-4f0e-8a63-1d0f6f0a9b11";
const OPTIONS = { timeout: 180_000 };

describe("meshca acl", () => {
  let server: ServerProcess;
  let folder: string;
  let issuer: TokenIssuer;
  let environment: Readonly<Record<string, string>>;
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "meshca-acl-"));
    issuer = createIssuer();
    server = await startServer({ MESHCA_ACL: "deny", MESHCA_INITIAL_MANAGEMENT_TOKEN: TOKEN });
    environment = { MESHCA_HTTP_ADDR: server.url, MESHCA_HTTP_TOKEN: TOKEN };
  });
  after(async () => {
    await server?.stop();
    rmSync(folder, { recursive: true, force: true });
  });
  const run = (...args: readonly string[]) => meshca(args, environment);
  const file = (name: string, text: string): string => {
    writeFileSync(join(folder, name), text, { mode: 0o600 });
    return join(folder, name);
  };
  /** Runs on a terminal. @returns its screen, without the ends of lines that are blank */
  const screenOf = async (...args: readonly string[]): Promise<string> => {
    const { code, screen } = await meshcaOnTerminal(args, environment);
    assert.equal(code, 0, screen);
    return plain(screen);
  };
  const jsonOf = async (...args: readonly string[]): Promise<Record<string, unknown>> => {
    const { code, stdout, stderr } = await run(...args, "--json");
    assert.equal(code, 0, stderr);
    return JSON.parse(stdout) as Record<string, unknown>;
  };
  const fails = async (code: number, stderr: RegExp, ...args: readonly string[]): Promise<Ran> => {
    const ran = await run(...args);
    assert.deepEqual([ran.code, ran.stdout], [code, ""], ran.stderr);
    assert.match(ran.stderr, stderr);
    return ran;
  };

  it("policy, role and token on a terminal and in JSON", OPTIONS, async () => {
    const rules = ["-rules", `@${file("ops.hcl", 'operator = "write"\n')}`];
    const policy = await screenOf("acl", "policy", "create", "-name", "ops", ...rules);
    assert.match(policy, /^ID: {11}\S{36}\nName: {9}ops\n.*Rules:\noperator = "write"\n/s);
    const read = await jsonOf("acl", "policy", "read", "-name", "ops");
    assert.deepEqual(
      [read.Name, read.Rules, read.Datacenters],
      ["ops", 'operator = "write"\n', null],
    );
    const { stdout } = await meshca(
      ["acl", "policy", "create", "-name", "web", "-rules", "-", "-json"],
      environment,
      'service "web" { policy = "write" }',
    );
    assert.equal(
      (JSON.parse(stdout) as { Rules: string }).Rules,
      'service "web" { policy = "write" }',
    );

    const role = ["acl", "role", "create", "-name", "deploy", "-policy-name", "ops"];
    assert.match(await screenOf(...role), /Policies:\n {3}\S{36} - ops\n/);
    const made = await jsonOf("acl", "token", "create", "-role-name", "deploy", "-secret", SECRET);
    assert.equal(made.SecretID, SECRET);
    const id = String(made.AccessorID);
    const shown = await screenOf("acl", "token", "read", "-accessor-id", id);
    assert.match(shown, /SecretID: +<hidden>\n.*Roles:\n {3}\S{36} - deploy\n/s);
    assert.doesNotMatch(await screenOf("acl", "token", "list"), new RegExp(SECRET));
    const roles = await screenOf("acl", "role", "list");
    assert.match(roles, /^deploy:\n {3}ID: +\S{36}\n/);
    // Without a question, as in scripts written for Consul.
    const deleted = await run("acl", "token", "delete", "-id", id);
    assert.deepEqual(deleted, {
      ...{ code: 0, stdout: `Token "${id}" deleted successfully\n`, stderr: "" },
    });
    await fails(65, /Cannot find token/, "acl", "token", "delete", "-accessor-id", id);
  });

  it("an update keeps what no flag names, unless -no-merge is given", OPTIONS, async () => {
    await run("acl", "policy", "create", "-name", "kept", "-rules", 'mesh = "read"');
    const merged = await jsonOf("acl", "policy", "update", "-name", "kept", "-description", "d");
    assert.equal(merged.Rules, 'mesh = "read"');
    const update = ["acl", "policy", "update", "-name", "kept", "-no-merge=false"];
    assert.equal((await jsonOf(...update)).Description, "d");
    const replaced = await jsonOf("acl", "policy", "update", "-name", "kept", "-no-merge");
    assert.deepEqual([replaced.Rules, replaced.Description], ["", ""]);
  });

  it("a token that is read and written keeps its secret", OPTIONS, async () => {
    const made = await jsonOf("acl", "token", "create", "-service-identity", "web");
    const id = String(made.AccessorID);
    const expanded = await screenOf("acl", "token", "read", "-accessor-id", id, "-expanded");
    assert.match(expanded, /SecretID: +<hidden>\n.*\tRules:\n\t\tservice "web" \{/s);
    assert.match(expanded, /\nDefault Policy: deny\n/);
    const append = ["-append-service-identity", "api", "-append-templated-policy", "builtin/dns"];
    const changed = await jsonOf("acl", "token", "update", "-accessor-id", id, ...append);
    assert.deepEqual(changed.ServiceIdentities, [{ ServiceName: "web" }, { ServiceName: "api" }]);
    const self = await meshca(["acl", "token", "read", "-self", "-json"], {
      ...{ MESHCA_HTTP_ADDR: server.url, MESHCA_HTTP_TOKEN: String(made.SecretID) },
    });
    assert.equal((JSON.parse(self.stdout) as { AccessorID: string }).AccessorID, id);
    const copy = await jsonOf("acl", "token", "clone", "-accessor-id", id);
    assert.notEqual(copy.SecretID, made.SecretID);
    assert.deepEqual(copy.ServiceIdentities, changed.ServiceIdentities);
  });

  it("-expanded shows what roles and their identities grant", OPTIONS, async () => {
    await run("acl", "policy", "create", "-name", "in-role", "-rules", 'mesh = "read"');
    const links = ["-policy-name", "in-role", "-node-identity", "n:dc1"];
    await run("acl", "role", "create", "-name", "wide", ...links);
    const made = await jsonOf(
      "acl",
      "token",
      "create",
      "-role-name",
      "wide",
      "-policy-name",
      "in-role",
    );
    const read = ["acl", "token", "read", "-accessor-id", String(made.AccessorID), "-expanded"];
    const token = await jsonOf(...read);
    const policies = token.ExpandedPolicies as { Name: string; Description: string }[];
    // A policy of both is listed once.
    assert.deepEqual(
      policies.map(({ Name, Description }) => Description || Name),
      ["in-role", "synthetic policy generated from templated policy: builtin/node"],
    );
    const roles = token.ExpandedRoles as { Name: string }[];
    assert.deepEqual(
      roles.map(({ Name }) => Name),
      ["wide"],
    );
    assert.equal(token.AgentACLDefaultPolicy, "deny");
    assert.equal(token.SecretID, "<hidden>");
  });

  it("templated policies on a terminal and in JSON", OPTIONS, async () => {
    assert.match(await screenOf("acl", "templated-policy", "list"), /^builtin\/api-gateway\n/);
    const read = ["acl", "templated-policy", "read", "-name", "builtin/service"];
    const short = await screenOf(...read);
    assert.match(short, /^Name: {12}builtin\/service\n.*\tmeshca acl token create/s);
    assert.doesNotMatch(short, /Raw Template/);
    assert.match(await screenOf(...read, "-meta"), /Raw Template:\nservice "\{\{\.Name\}\}"/);
    const preview = ["acl", "templated-policy", "preview", "-name", "builtin/node"];
    const { Rules } = await jsonOf(...preview, "-var", "name:n1");
    assert.match(String(Rules), /node "n1"/);
    const variables = ["acl", "templated-policy", "preview", "-name", "builtin/node", "-var"];
    await fails(64, /the variable of a templated policy is name/, ...variables, "other:n1");
    await fails(64, /expecting VariableName:Value/, ...variables, "n1");
    const block = file("block.hcl", 'service "web" {}\n');
    await fails(
      65,
      /block\.hcl" must have blocks TemplatedPolicy "NAME" .* found "service"/,
      ...["acl", "role", "create", "-name", "x", "-templated-policy-file", block],
    );
    const number = file("number.hcl", 'TemplatedPolicy "builtin/node" { Name = 3 }\n');
    await fails(
      65,
      /has a Name of "builtin\/node" that is not a string/,
      ...["acl", "templated-policy", "preview", "-file", number],
    );
  });

  it("login writes the token to a private file, and logout deletes it", OPTIONS, async () => {
    const config = ["-config", `@${file("jwt.json", JSON.stringify(issuer.config))}`];
    const method = ["acl", "auth-method", "create", "-type", "jwt", "-name", "ci", ...config];
    assert.match(await screenOf(...method), /^Name: {10}ci\n.*Config:\n\{\n {2}"BoundAudiences"/s);
    const rule = ["acl", "binding-rule", "create", "-method", "ci", "-bind-type", "service"];
    const bind = ["-bind-name", "web", "-selector", "value.team==ops"];
    assert.match(await screenOf(...rule, ...bind), /BindType: {5}service\n/);

    const sink = file("sink", "something longer than a token, which must not stay in the file");
    chmodSync(sink, 0o644);
    const jwt = file("id.jwt", `${issuer.token({ team: "ops" })}\n`);
    const login = ["login", "-method", "ci", "-bearer-token-file", jwt, "-token-sink-file", sink];
    const { AccessorID } = await jsonOf(...login, "-meta", "run=7");
    assert.equal(statSync(sink).mode & 0o777, 0o600);
    assert.match(readFileSync(sink, "utf8"), /^[0-9a-f-]{36}$/);
    const token = await screenOf("acl", "token", "read", "-self", "-token-file", sink);
    assert.match(token, new RegExp(`AccessorID: +${String(AccessorID)}\n`));
    const key = join(folder, "leaf.key");
    const signed = await run("sign", "--service", "web", "--key-out", key, "-token-file", sink);
    assert.equal(signed.code, 0, signed.stderr);
    const logout = await run("logout", "-token-file", sink);
    assert.deepEqual(logout, { code: 0, stdout: "", stderr: "" });
    await fails(77, /ACL not found/, "logout", "-token-file", sink);

    // A login that the rules or the issuer refuse leaves the file as it is.
    const before = readFileSync(sink, "utf8");
    const other = file("other.jwt", issuer.token({ team: "none" }));
    const stranger = file("stranger.jwt", createIssuer().token({ team: "ops" }));
    for (const bearer of [other, stranger]) {
      const args = ["login", "-method", "ci", "-bearer-token-file", bearer];
      const refused = await fails(77, /Permission denied/, ...args, "-token-sink-file", sink);
      assert.ok(!refused.stderr.includes(readFileSync(bearer, "utf8")));
    }
    assert.equal(readFileSync(sink, "utf8"), before);
    const nowhere = join(folder, "none", "sink");
    assert.deepEqual(
      readdirSync(folder).filter((name) => name.startsWith("sink")),
      ["sink"],
    );
    // The JWT, which is accepted once, is not used up by a file that cannot be written.
    const fresh = issuer.token({ team: "ops" });
    file("id.jwt", fresh);
    await fails(73, /Error writing token to file sink/, ...login.slice(0, -1), nowhere);
    await fails(73, /it is not a regular file/, ...login.slice(0, -1), folder);
    assert.equal((await run(...login)).code, 0);
    await fails(
      66,
      /no such file/,
      "login",
      "-method",
      "ci",
      "-bearer-token-file",
      nowhere,
      ...login.slice(5),
    );
    const empty = file("empty.jwt", "\n");
    await fails(
      65,
      /No bearer token found/,
      "login",
      "-method",
      "ci",
      "-bearer-token-file",
      empty,
      ...login.slice(5),
    );
    await fails(64, /KEY=VALUE/, ...login, "-meta", "run");
  });

  it("names what is wrong, and no secret", OPTIONS, async () => {
    const create = ["acl", "policy", "create", "-name", "bad", "-rules"];
    await fails(66, /Error loading rules: .*none\.hcl" .*no such file/, ...create, "@none.hcl");
    await fails(65, /Failed to create new policy: .*400/, ...create, 'service "x" { polcy =');
    await run("acl", "policy", "create", "-name", "twice", "-rules", "");
    await fails(
      65,
      /with Name "twice" already exists/,
      "acl",
      "policy",
      "create",
      "-name",
      "twice",
      "-rules",
      "",
    );
    await fails(64, /'-name' flag/, "acl", "policy", "create");
    await fails(64, /Must specify/, "acl", "token", "delete");
    await fails(65, /No such policy with name: none/, "acl", "policy", "delete", "-name", "none");
    await fails(65, /No such token ID with prefix: ffff/, "acl", "token", "read", "-id", "ffff");
    // Consul's connect commands do not have the flag either.
    await fails(64, /-namespace is not a flag/, "connect", "ca", "get-config", "-namespace", "x");
    await fails(64, /not with --self/, "acl", "token", "read", "-self", "-expanded");
    await fails(64, /Unknown format: xml/, "acl", "token", "list", "-format", "xml");
    await fails(
      64,
      /-expires-ttl "1x"/,
      "acl",
      "token",
      "create",
      "-policy-name",
      "twice",
      "-expires-ttl",
      "1x",
    );
    await fails(
      65,
      /Namespaces are a Consul Enterprise feature/,
      "acl",
      "token",
      "list",
      "-namespace",
      "x",
    );
    const both = ["-policy-name", "twice", "-append-policy-name", "twice"];
    const self = await jsonOf("acl", "token", "read", "-self");
    const update = ["acl", "token", "update", "-accessor-id", String(self.AccessorID)];
    await fails(64, /either --policy-id and --policy-name/, ...update, ...both);
    const config = ["acl", "auth-method", "create", "-type", "jwt", "-name", "m", "-config"];
    await fails(65, /--config is not a JSON object/, ...config, "[]");
    const key = file("config.json", '{"ServiceAccountJWT": "planted-secret"');
    const broken = await fails(65, /--config is not a JSON object/, ...config, `@${key}`);
    assert.doesNotMatch(broken.stderr, /planted-secret/);
    await fails(77, /^Failed ACL bootstrapping: .*403/, "acl", "bootstrap");
    const without = await meshca(["acl", "token", "list"], { MESHCA_HTTP_ADDR: server.url });
    assert.equal(without.code, 77);
    assert.match(without.stderr, /^Failed to retrieve the token list: .*403/);
    const weak = await jsonOf("acl", "token", "create", "-service-identity", "web");
    const right = await meshca(["acl", "token", "list"], {
      ...{ MESHCA_HTTP_ADDR: server.url, MESHCA_HTTP_TOKEN: String(weak.SecretID) },
    });
    assert.equal(right.code, 77);
    assert.match(right.stderr, /lacks permission 'acl:read'/);
    assert.ok(!right.stderr.includes(String(weak.SecretID)));
    const off = await meshca(["acl", "tokn", "list"], environment);
    assert.match(off.stderr, /did you mean token\?/);
  });

  it("bootstrap takes the secret of the data folder, once", OPTIONS, async () => {
    const fresh = await startServer({ MESHCA_ACL: "deny" });
    try {
      const at = { MESHCA_HTTP_ADDR: fresh.url };
      const denied = await meshca(["acl", "bootstrap"], at);
      assert.equal(denied.code, 77);
      const secret = join(fresh.dataDir, "acl-bootstrap-secret");
      const args = ["acl", "bootstrap", "-token-file", secret];
      const made = await meshca([...args, "-", "-format=json"], at, `${SECRET}\n`);
      assert.equal(made.code, 0, made.stderr);
      assert.equal((JSON.parse(made.stdout) as { SecretID: string }).SecretID, SECRET);
      const listed = await meshca(["acl", "token", "list"], { ...at, MESHCA_HTTP_TOKEN: SECRET });
      assert.match(listed.stdout, /Bootstrap Token/);
      const again = await meshca(args, at);
      assert.notEqual(again.code, 0);
      assert.match(again.stderr, /^Failed ACL bootstrapping: /);
    } finally {
      await fresh.stop();
    }
  });
});
