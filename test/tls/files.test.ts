/**
 * The files of TLS: which cannot be used and why, and what happens when they change.
 * @module
 */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import type { TlsSettings } from "../../src/config/tls.ts";
import { ConfigError } from "../../src/core/errors.ts";
import type { LogFields } from "../../src/core/ports/log.ts";
import { TlsFiles } from "../../src/tls/files.ts";
import { openssl, silentLog } from "../fakes/ca.ts";
import { createFakeClock } from "../fakes/clock.ts";
import { inNewFolder, selfSigned } from "./harness.ts";

const ONE = selfSigned("one");
const OTHER = selfSigned("other");

const SETTINGS: TlsSettings = {
  source: { kind: "files", certFile: "cert", keyFile: "key" },
  clientCa: { kind: "file", path: "ca" },
  clientCertificate: "optional",
  minVersion: "TLSv1.2",
};

function open(given: Readonly<Record<string, string>>, now = new Date()) {
  const disk = new Map(Object.entries({ cert: ONE.cert, key: ONE.key, ca: OTHER.cert, ...given }));
  const lines: { message: string; fields: LogFields | undefined }[] = [];
  const note = (message: string, fields?: LogFields) => void lines.push({ message, fields });
  const readFile = (path: string) => {
    const text = disk.get(path);
    if (text === undefined) throw new Error(`No file ${path}`);
    return text;
  };
  for (const [name, text] of disk) if (text === "") disk.delete(name);
  const files = () =>
    new TlsFiles(SETTINGS, readFile, createFakeClock(now), {
      ...silentLog,
      warn: note,
      error: note,
    });
  return { disk, lines, files };
}

/** The faults of a start, without their beginnings. */
function faults(given: Readonly<Record<string, string>>): string[] {
  try {
    open(given).files();
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.ok(!error.message.includes("-----"), "PEM shows");
    return error.violations.map(({ message }) => message);
  }
  throw new Error("The files were accepted");
}

const encrypted = (form: readonly string[]) => openssl([...form, "-passout", "pass:x"], ONE.key);
const CERT = 'MESHCA_TLS_CERT_FILE: "cert"';
const KEY = 'MESHCA_TLS_KEY_FILE: "key"';
const CA = 'MESHCA_TLS_CLIENT_CA_FILE: "ca"';

describe("TlsFiles", () => {
  const refused: readonly (readonly [
    string,
    Readonly<Record<string, string>>,
    readonly string[],
  ])[] = [
    [
      "files that are missing",
      { cert: "", key: "", ca: "" },
      [CERT, KEY, CA].map((file) => `${file} cannot be read`),
    ],
    ["an invalid certificate", { cert: "x" }, [`${CERT} contains no certificate in PEM`]],
    ["a key for a certificate", { cert: ONE.key }, [`${CERT} contains no certificate in PEM`]],
    [
      "half a certificate",
      { cert: ONE.cert.slice(0, 300) },
      [`${CERT} is malformed: PEM block CERTIFICATE has no matching END line`],
    ],
    [
      "half a chain",
      { cert: ONE.cert + OTHER.cert.slice(0, 300) },
      [`${CERT} is malformed: PEM block CERTIFICATE has no matching END line`],
    ],
    [
      "something else under the name of a certificate",
      { cert: "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n" },
      [`${CERT} contains an invalid certificate`],
    ],
    [
      "the key of another certificate",
      { key: OTHER.key },
      [`${KEY} contains a private key that does not match the certificate`],
    ],
    ["a certificate for a key", { key: ONE.cert }, [`${KEY} contains no private key in PEM`]],
    [
      "half a key",
      { key: ONE.key.slice(0, 60) },
      [`${KEY} is malformed: PEM block PRIVATE KEY has no matching END line`],
    ],
    [
      "a broken key",
      { key: "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n" },
      [`${KEY} contains an invalid private key`],
    ],
    ["invalid client CAs", { ca: "x" }, [`${CA} contains no certificate in PEM`]],
    ...(
      [
        ["pkcs8", "-topk8"],
        ["ec", "-aes128"],
      ] as const
    ).map(
      (form) =>
        [
          `a key that ${form[0]} encrypted`,
          { key: encrypted(form) },
          [
            `${KEY} contains an encrypted private key, and there is no setting for its passphrase: decrypt it, for example with openssl pkey`,
          ],
        ] as const,
    ),
  ];
  for (const [name, given, expected] of refused)
    it(`TlsFiles refuses ${name}`, () => assert.deepEqual(faults(given), expected));

  it("TlsFiles takes a pair in one file, parameters before the key, and text around them", () => {
    const key = openssl(["ecparam", "-genkey", "-name", "prime256v1"]);
    assert.match(key, /BEGIN EC PARAMETERS/);
    const cert = inNewFolder(() =>
      openssl(["req", "-x509", "-key", "/dev/stdin", "-subj", "/CN=x"], key),
    );
    const both = `Subject: x\n${key}${cert}and more\n`;
    const { pair } = open({ cert: both, key: both }).files().loaded;
    assert.equal(pair?.cert, cert);
    assert.match(pair?.key ?? "", /^-----BEGIN EC PRIVATE KEY/);
  });

  for (const [name, newkey] of [
    ["RSA", ["rsa:2048"]],
    ["P-384", ["ec", "-pkeyopt", "ec_paramgen_curve:P-384"]],
  ] as const)
    it(`TlsFiles takes a key for ${name}`, () => {
      const pair = selfSigned("x", [...newkey]);
      assert.deepEqual(open(pair as unknown as Record<string, string>).files().loaded.pair, pair);
    });

  it("TlsFiles takes a certificate before and after its time, as Consul does, and says so", () => {
    const days = (count: number) => new Date(Date.now() + count * 86_400_000);
    for (const [now, says] of [
      [days(31), /^The TLS certificate of this server expired at 20/],
      [days(-1), /^The TLS certificate of this server is not valid before 20/],
    ] as const) {
      const { lines, files } = open({}, now);
      assert.deepEqual(files().loaded.pair, ONE);
      assert.match(lines[0]?.message ?? "", says);
    }
  });
});

describe("reload()", () => {
  it("reload() takes what changed, once", () => {
    const { disk, files } = open({});
    const opened = files();
    assert.equal(opened.reload(), false);
    disk.set("cert", OTHER.cert).set("key", OTHER.key);
    assert.deepEqual([opened.reload(), opened.reload()], [true, false]);
    assert.deepEqual(opened.loaded.pair, OTHER);
    disk.set("ca", ONE.cert);
    assert.equal(opened.reload(), true);
    assert.equal(opened.loaded.clientCa, ONE.cert);
  });

  it("reload() keeps what there was while a pair is half written, and logs each way of being wrong once", () => {
    const { disk, files, lines } = open({});
    const opened = files();
    for (const [name, text] of [
      ["cert", OTHER.cert.slice(0, 200)],
      ["cert", OTHER.cert],
      ["key", OTHER.key.slice(0, 50)],
    ] as const) {
      disk.set(name, text);
      assert.deepEqual([opened.reload(), opened.reload()], [false, false]);
      assert.deepEqual(opened.loaded.pair, ONE);
    }
    assert.equal(lines.length, 3);
    assert.ok(!JSON.stringify(lines).includes("-----"), "PEM shows");
    disk.set("key", OTHER.key);
    assert.equal(opened.reload(), true);
    assert.deepEqual(opened.loaded.pair, OTHER);
    disk.delete("key");
    assert.equal(opened.reload(), false);
    assert.equal(lines.length, 4);
  });
});
