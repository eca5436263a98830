/**
 * The Vault provider's configuration: accepted fields, refusals with their texts, and which fields
 * are secret.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import {
  parseTransitConfig,
  parseVaultConfig,
  VAULT_CONFIG_NAMES,
  VAULT_SECRET_FIELDS,
} from "../../../providers/vault/config.ts";
import {
  requireSameDestination,
  secretsOf,
  withSecrets,
} from "../../../providers/vault/config-secrets.ts";
import { readConfigFile } from "../../../src/config/file.ts";
import { redact } from "../../../src/core/ca/config-fields.ts";
import { ConfigError } from "../../../src/core/errors.ts";
import type { ConfigMap } from "../../../src/core/state.ts";

const SECRET = "hvs.PlantedSecretThatNobodyMaySee";
const GOOD = {
  Address: "https://vault.example.com:8200",
  Token: SECRET,
  RootPKIPath: "pki-root/",
  IntermediatePKIPath: "pki-int",
};

function refusal(config: ConfigMap, primary = true): ConfigError {
  try {
    parseVaultConfig(config, primary);
  } catch (error) {
    assert.ok(error instanceof ConfigError);
    assert.ok(
      !JSON.stringify([error.message, error.violations]).includes("Planted"),
      "a secret is in the error",
    );
    return error;
  }
  throw new assert.AssertionError({ message: `not refused: ${JSON.stringify(config)}` });
}

describe("parseVaultConfig()", () => {
  it("fills in defaults", () => {
    const config = parseVaultConfig(GOOD);
    assert.equal(config.connection.address, "https://vault.example.com:8200");
    assert.deepEqual(config.root, { path: "pki-root", namespace: "" });
    assert.deepEqual(config.intermediate, { path: "pki-int", namespace: "" });
    assert.equal(config.leafSigning, "vault");
    assert.deepEqual(config.keySpec, { type: "ec", bits: 256 });
    assert.equal(config.leafTtlMs, 72 * 3_600_000);
    assert.equal(config.rootTtlMs, 87_600 * 3_600_000);
  });

  it("ignores the fields that Consul adds to a configuration without any effect", () => {
    const usual = parseVaultConfig(GOOD);
    for (const more of [
      { RotationPeriod: "2160h" },
      { rotation_period: "2160h", cluster_id: "x" },
      { rotationperiod: null },
      { ClusterID: 5 },
    ])
      assert.deepEqual(parseVaultConfig({ ...GOOD, ...more }), usual);
    const { Address, Token } = GOOD;
    assert.throws(
      () => parseTransitConfig({ Address, Token, TransitKey: "k", RotationPeriod: "1h" }),
      /unknown key "RotationPeriod"/,
    );
    for (const provider of ["vault", "consul"]) {
      const file = { connect: { ca_provider: provider, ca_config: { rotation_period: "2160h" } } };
      assert.deepEqual(readConfigFile(JSON.stringify(file), VAULT_CONFIG_NAMES).bootstrap?.config, {
        RotationPeriod: "2160h",
      });
    }
  });

  it("gives a mount without a namespace of its own the common one", () => {
    const all = {
      ...GOOD,
      Namespace: "/team/",
      RootPKINamespace: "roots",
      IntermediatePKINamespace: "",
    };
    const { connection, root, intermediate } = parseVaultConfig(all);
    assert.deepEqual(
      [connection.namespace, root?.namespace, intermediate.namespace],
      ["team", "roots", "team"],
    );
    const none = parseVaultConfig({ ...GOOD, IntermediatePKINamespace: "ints" });
    assert.deepEqual([none.root?.namespace, none.intermediate.namespace], ["", "ints"]);
  });

  it("reads names in any case and in snake_case, as a file has them", () => {
    const { bootstrap } = readConfigFile(
      JSON.stringify({
        connect: {
          ca_provider: "vault",
          ca_config: {
            address: "http://127.0.0.1:8200",
            auth_method: {
              type: "approle",
              mount_path: "mesh/",
              params: { role_id_file_path: "/r", secret_id_file_path: "/s" },
            },
            root_pki_path: "a",
            intermediate_pki_path: "b",
            tls_skip_verify: "true",
            leaf_signing: "local",
          },
        },
      }),
      VAULT_CONFIG_NAMES,
    );
    for (const config of [
      bootstrap?.config ?? {},
      {
        ADDRESS: "http://127.0.0.1:8200",
        token: "t",
        root_pki_path: "a",
        intermediatepkipath: "b",
        tls_skip_verify: true,
        leafsigning: "local",
      },
    ]) {
      const read = parseVaultConfig(config);
      assert.deepEqual(
        [read.root?.path, read.intermediate.path, read.connection.tls.skipVerify, read.leafSigning],
        ["a", "b", true, "local"],
      );
    }
    const { login } = parseVaultConfig(bootstrap?.config ?? {}).connection;
    assert.deepEqual(login, {
      kind: "method",
      method: {
        type: "approle",
        mountPath: "mesh",
        params: { role_id_file_path: "/r", secret_id_file_path: "/s" },
      },
    });
  });

  it("requires a root path in the primary datacenter only", () => {
    const config = { ...GOOD, RootPKIPath: "" };
    assert.match(refusal(config).message, /must provide a valid path to a root PKI backend/);
    assert.equal(parseVaultConfig(config, false).root, null);
  });

  it("names all faults at once", () => {
    const { violations } = refusal({
      Address: "vault:8200",
      LeafCertTTL: "1m",
      LeafSigning: "both",
      CertFile: "/c",
    });
    assert.deepEqual(
      violations.map(({ field }) => field),
      [
        "Token",
        "CertFile",
        "Address",
        "RootPKIPath",
        "IntermediatePKIPath",
        "LeafSigning",
        "LeafCertTTL",
      ].toSorted(
        (a, b) =>
          violations.findIndex(({ field }) => field === a) -
          violations.findIndex(({ field }) => field === b),
      ),
    );
    assert.equal(violations.length, 7);
  });

  const method = (AuthMethod: unknown) => ({ ...GOOD, Token: "", AuthMethod });
  const bad: readonly [why: string, config: ConfigMap, expected: RegExp][] = [
    [
      "an unknown key",
      { ...GOOD, RootPkiPth: "x" },
      /unknown key "RootPkiPth" in Config, did you mean RootPKIPath\?/,
    ],
    [
      "no token and no method",
      { ...GOOD, Token: "" },
      /must provide a Vault token or configure a Vault auth method/,
    ],
    [
      "a token and a method",
      { ...GOOD, AuthMethod: { Type: "cert" } },
      /only one of Vault token or Vault auth method can be provided, but not both/,
    ],
    [
      "a token and a file",
      { ...GOOD, TokenFile: "/t" },
      /only one of Token, TokenFile and AuthMethod/,
    ],
    ["a token with a line end", { ...GOOD, Token: `${SECRET}\n` }, /Token must be printable/],
    [
      "the same path twice",
      { ...GOOD, IntermediatePKIPath: "/pki-root" },
      /^IntermediatePKIPath must not be the path of the root's mount, which would sign leaves itself$/,
    ],
    ["an invalid address", { ...GOOD, Address: "" }, /Address must be a URL/],
    [
      "an address of another scheme",
      { ...GOOD, Address: "unix:///run/vault.sock" },
      /Address must be a URL/,
    ],
    [
      "an address with a user",
      { ...GOOD, Address: `https://u:${SECRET}@vault.example.com` },
      /must have no user/,
    ],
    [
      "an address with a path",
      { ...GOOD, Address: "https://vault.example.com/v1/sys" },
      /must have no user, password, path/,
    ],
    ["a path that climbs", { ...GOOD, RootPKIPath: "pki/../sys" }, /RootPKIPath must be segments/],
    [
      "a path with a query",
      { ...GOOD, IntermediatePKIPath: "pki?x=1" },
      /IntermediatePKIPath must be segments/,
    ],
    [
      "one of Vault's paths",
      { ...GOOD, RootPKIPath: "sys/mounts" },
      /must not be one of Vault's own paths/,
    ],
    [
      "a namespace with a line end",
      { ...GOOD, Namespace: "a\r\nX-Evil: 1" },
      /Namespace must be segments/,
    ],
    [
      "an invalid signing mode",
      { ...GOOD, LeafSigning: "remote" },
      /LeafSigning must be "vault" or "local"/,
    ],
    [
      "a leaf's life of a minute",
      { ...GOOD, LeafCertTTL: "1m" },
      /leaf cert TTL must be greater or equal than 1h0m0s/,
    ],
    [
      "an intermediate shorter than three leaves",
      { ...GOOD, IntermediateCertTTL: "100h" },
      />=216h0m0s/,
    ],
    [
      "a root shorter than the intermediate",
      { ...GOOD, RootCertTTL: "3000h" },
      /root cert TTL is set and is not greater/,
    ],
    [
      "a curve that WebCrypto lacks",
      { ...GOOD, PrivateKeyBits: 224 },
      /EC key length must be one of/,
    ],
    [
      "an invalid boolean",
      { ...GOOD, TLSSkipVerify: "perhaps" },
      /cannot parse 'TLSSkipVerify' as bool/,
    ],
    ["half a client certificate", { ...GOOD, KeyFile: "/k" }, /CertFile and KeyFile go together/],
    ["a method that is not an object", method("approle"), /AuthMethod: must be an object/],
    ["the method token", method({ Type: "token" }), /use Token or TokenFile/],
    [
      "a method that there is not",
      method({ Type: "aws" }),
      /Type must be one of approle, kubernetes, jwt, userpass, ldap, cert/,
    ],
    [
      "a key of a method that there is not",
      method({ Type: "cert", MountPth: "x" }),
      /unknown key "MountPth", did you mean MountPath\?/,
    ],
    [
      "a parameter that there is not",
      method({ Type: "approle", Params: { role_di: SECRET } }),
      /Params of approle have no "role_di", did you mean role_id\?/,
    ],
    [
      "approle without a role",
      method({ Type: "approle", Params: {} }),
      /Params must have role_id_file_path or role_id/,
    ],
    [
      "kubernetes without a role",
      method({ Type: "kubernetes", Params: {} }),
      /Params.role must be given/,
    ],
    [
      "jwt without a source",
      method({ Type: "jwt", Params: { role: "r" } }),
      /Params must have path or jwt/,
    ],
    [
      "a user that leads elsewhere",
      method({ Type: "userpass", Params: { username: "a/../b", password: SECRET } }),
      /Params.username must be letters/,
    ],
    [
      "a parameter that is not a string",
      method({ Type: "approle", Params: { role_id: [SECRET] } }),
      /Params.role_id must be text/,
    ],
    [
      "a mount that climbs",
      method({ Type: "cert", MountPath: "../sys" }),
      /MountPath must be a path/,
    ],
    [
      "cert without a certificate",
      method({ Type: "cert" }),
      /AuthMethod cert needs CertFile and KeyFile/,
    ],
  ];
  for (const [why, config, expected] of bad)
    it(`refuses ${why}`, () => assert.match(refusal(config).message, expected));
});

describe("parseTransitConfig()", () => {
  it("takes a connection, a path and a key", () => {
    const config = parseTransitConfig({
      address: "http://127.0.0.1:8200",
      token_file: "/t",
      transit_key: "meshca",
    });
    assert.deepEqual(
      [config.mount, config.key, config.connection.login],
      [{ path: "transit", namespace: "" }, "meshca", { kind: "file", path: "/t" }],
    );
  });

  it("refuses fields of the provider, and an invalid key", () => {
    const base = { Address: "http://127.0.0.1:8200", Token: "t" };
    assert.throws(
      () => parseTransitConfig({ ...base, TransitKey: "k", RootPKIPath: "x" }),
      /unknown key "RootPKIPath"/,
    );
    assert.throws(
      () => parseTransitConfig({ ...base, TransitKey: "a/b" }),
      /: TransitKey must be the name of a key/,
    );
    assert.throws(() => parseTransitConfig(base), /: TransitKey must be the name of a key/);
  });
});

describe("secrets of a configuration", () => {
  const { Token: _, ...rest } = GOOD;
  const config = {
    ...rest,
    token: SECRET,
    auth_method: {
      type: "approle",
      Params: { role_id: "r", secret_id: SECRET, secret_id_file_path: "/s" },
    },
  };

  it("are taken out, shown as hidden, and put back", () => {
    const secrets = secretsOf(config);
    assert.deepEqual(secrets, {
      Token: SECRET,
      "AuthMethod.Params.role_id": "r",
      "AuthMethod.Params.secret_id": SECRET,
    });
    const shown = redact(config, VAULT_SECRET_FIELDS) ?? {};
    assert.ok(!JSON.stringify(shown).includes("Planted"));
    assert.ok(JSON.stringify(shown).includes("/s"), "the path of a file is no secret");
    assert.deepEqual(withSecrets(shown, secrets), config);
    assert.deepEqual(secretsOf(shown), {});
  });

  it("that are hidden must be stored", () => {
    assert.throws(
      () => withSecrets({ Token: "hidden" }, {}),
      (error: unknown) => error instanceof ConfigError && /Token is "hidden"/.test(error.message),
    );
  });

  it("that are hidden do not go to another server", () => {
    const shown = { ...GOOD, Token: "hidden" };
    requireSameDestination(shown, shown, {});
    requireSameDestination({ ...shown, LeafCertTTL: "24h" }, shown, {});
    requireSameDestination(
      { ...shown, RootPKIPath: "other", IntermediatePKIPath: "others" },
      shown,
      {},
    );
    requireSameDestination({ ...GOOD, Address: "https://other.example.com" }, shown, {});
    const other = { ...shown, Address: "https://other.example.com" };
    assert.throws(
      () => requireSameDestination(other, shown, {}),
      /Token is "hidden".*Address changes/,
    );
    assert.throws(
      () => requireSameDestination({ ...shown, TLSSkipVerify: true }, shown, {}),
      /TLSSkipVerify changes/,
    );
  });

  const approle = {
    Type: "approle",
    MountPath: "mesh",
    Params: { role_id: "hidden", secret_id: "hidden" },
  };
  const withApprole = {
    ...GOOD,
    Token: undefined,
    AuthMethod: approle,
    Namespace: "team",
    TLSServerName: "vault",
    CAFile: "/ca.pem",
  };
  const userpass = {
    ...withApprole,
    AuthMethod: { Type: "userpass", Params: { username: "mesh", password: "hidden" } },
  };
  const moved: readonly [field: string, before: ConfigMap, after: ConfigMap][] = [
    [
      "AuthMethod.MountPath",
      withApprole,
      { ...withApprole, AuthMethod: { ...approle, MountPath: "evil" } },
    ],
    [
      "AuthMethod.MountPath",
      withApprole,
      { ...withApprole, AuthMethod: { ...approle, MountPath: undefined } },
    ],
    [
      "AuthMethod.Type",
      {
        ...GOOD,
        Token: undefined,
        AuthMethod: { Type: "jwt", MountPath: "m", Params: { role: "r", jwt: "hidden" } },
      },
      {
        ...GOOD,
        Token: undefined,
        AuthMethod: { Type: "kubernetes", MountPath: "m", Params: { role: "r", jwt: "hidden" } },
      },
    ],
    [
      "AuthMethod.Params.role",
      {
        ...GOOD,
        Token: undefined,
        AuthMethod: { Type: "jwt", Params: { role: "r", jwt: "hidden" } },
      },
      {
        ...GOOD,
        Token: undefined,
        AuthMethod: { Type: "jwt", Params: { role: "other", jwt: "hidden" } },
      },
    ],
    [
      "AuthMethod.Params.username",
      userpass,
      {
        ...withApprole,
        AuthMethod: { Type: "userpass", Params: { username: "mallory", password: "hidden" } },
      },
    ],
    [
      "AuthMethod.Params.secret_id_file_path",
      withApprole,
      {
        ...withApprole,
        AuthMethod: { ...approle, Params: { ...approle.Params, secret_id_file_path: "/s" } },
      },
    ],
    ["Namespace", withApprole, { ...withApprole, Namespace: "" }],
    ["IntermediatePKINamespace", withApprole, { ...withApprole, IntermediatePKINamespace: "evil" }],
    ["RootPKINamespace", withApprole, { ...withApprole, RootPKINamespace: "evil" }],
    ["TLSServerName", withApprole, { ...withApprole, TLSServerName: "evil" }],
    ["CAFile", withApprole, { ...withApprole, CAFile: "" }],
    ["CAFile", withApprole, { ...withApprole, CAFile: undefined, CAPath: "/cas" }],
    ["CertFile", withApprole, { ...withApprole, CertFile: "/cert", KeyFile: "/key" }],
    ["TLSSkipVerify", { ...withApprole, TLSSkipVerify: true }, withApprole],
  ];
  const defined = (config: ConfigMap): ConfigMap => JSON.parse(JSON.stringify(config)) as ConfigMap;
  for (const [field, before, after] of moved)
    it(`that are hidden are not kept when ${field} changes: ${JSON.stringify(after)}`, () => {
      requireSameDestination(defined(before), defined(before), {});
      assert.throws(
        () => requireSameDestination(defined(after), defined(before), {}),
        (error: unknown) =>
          error instanceof ConfigError &&
          error.message.includes(`keeps the stored value, but ${field} changes`),
      );
    });

  it("a secret_id that is hidden is not kept for another role, and a role_id that is hidden is kept for another secret_id", () => {
    const of = (Params: ConfigMap): ConfigMap => ({
      ...defined(withApprole),
      AuthMethod: { ...approle, Params },
    });
    const kept = { "AuthMethod.Params.role_id": "r", "AuthMethod.Params.secret_id": SECRET };
    const moves = {
      message:
        /AuthMethod\.Params\.secret_id is "hidden", .* but AuthMethod\.Params\.role_id changes/,
    };
    const file = { role_id_file_path: "/role", secret_id: "hidden" };
    requireSameDestination(of({ role_id: "r", secret_id: "hidden" }), of(approle.Params), kept);
    requireSameDestination(of({ role_id: "hidden", secret_id: "new" }), of(approle.Params), kept);
    assert.throws(
      () =>
        requireSameDestination(
          of({ role_id: "mallory", secret_id: "hidden" }),
          of(approle.Params),
          kept,
        ),
      moves,
    );
    assert.throws(
      () =>
        requireSameDestination(of({ ...file, role_id: "mallory" }), of(file), {
          "AuthMethod.Params.secret_id": SECRET,
        }),
      moves,
    );
  });

  it("are encrypted if they are numbers, as they are decoded", () => {
    assert.deepEqual(secretsOf({ ...rest, Token: 12345 }), { Token: "12345" });
  });
});
