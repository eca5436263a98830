/**
 * `meshca verify` and `meshca inspect`: what they say of good and odd certificates, and of a server.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import { createServer } from "node:tls";
import { judge } from "../../src/cli/commands/verify.ts";
import type { Authority } from "../../src/core/x509/authority.ts";
import { type Certificate, KEY_USAGE, pemOf } from "../../src/core/x509/certificate.ts";
import { OID } from "../../src/core/x509/oids.ts";
import { verifierOf } from "../../src/core/x509/verifier-table.ts";
import { NOW, YEAR_MS } from "../core/x509/cas.ts";
import {
  authorityKey,
  basic,
  makeOdd,
  makeOddCa,
  purposes,
  unknownExtension,
  usage,
} from "../core/x509/odd-certificates.ts";
import { URI } from "../core/x509/requests.ts";
import { startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";
import { COMMANDS } from "../runtimes/targets.ts";
import { meshca as run } from "./run.ts";

const MAIN = join(ROOT, "src/cli/main.ts");

async function inFolder(work: (folder: string) => Promise<void> | void): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "meshca-verify-"));
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function meshca(folder: string, ...args: readonly string[]) {
  const { status, stdout, stderr } = spawnSync(process.execPath, [MAIN, ...args], {
    cwd: folder,
    encoding: "utf8",
  });
  return { code: status, stdout, stderr };
}

/** A chain of CAs below a root, the nearest to the root first. */
async function chainOf(length: number): Promise<readonly Authority[]> {
  const all = [await makeOddCa(null, { subject: "CN=root" })];
  for (let i = 1; i <= length; i++)
    all.push(await makeOddCa(all.at(-1) as Authority, { subject: `CN=ca${i}` }));
  return all;
}

const verdictOf = (
  leaf: Certificate,
  chain: readonly Certificate[],
  root: Authority,
  like: readonly string[] = [],
) =>
  judge(
    [leaf, ...chain],
    [root.certificate],
    like.map((name) => verifierOf(name)).filter((one) => one !== null),
    NOW,
  );

describe("judge()", () => {
  it("finds the path of a leaf with its identity", async () => {
    const [root, middle] = (await chainOf(1)) as [Authority, Authority];
    const verdict = await verdictOf(await makeOdd(middle), [middle.certificate], root);
    assert.deepEqual(
      [verdict.verifies, verdict.spiffeId, verdict.obstacle, verdict.faults],
      [true, URI, null, []],
    );
    assert.equal(verdict.path.length, 3);
  });

  it("takes only what is its own issuer for a root", async () => {
    const [root, middle] = (await chainOf(1)) as [Authority, Authority];
    const leaf = await makeOdd(middle);
    const listed = [middle.certificate, root.certificate];
    const alone = await judge([leaf], listed, [], NOW);
    assert.deepEqual([alone.verifies, alone.path], [false, []]);
    assert.match(
      alone.obstacle?.reason ?? "",
      /^The leaf was issued by "CN=ca1", which is neither a trusted root nor in the chain$/,
    );
    const whole = await judge([leaf, middle.certificate], listed, [], NOW);
    assert.deepEqual([whole.verifies, whole.path.length], [true, 3]);
  });

  const HOUR = 3_600_000;
  const CASES: readonly (readonly [
    what: string,
    make: () => Promise<
      readonly [leaf: Certificate, chain: readonly Certificate[], root: Authority]
    >,
    place: number,
    reason: RegExp,
  ])[] = [
    [
      "a leaf that has expired",
      async () => {
        const [root] = (await chainOf(0)) as [Authority];
        const [begin, end] = [2, 1].map((hours) => new Date(NOW.getTime() - hours * HOUR));
        return [await makeOdd(root, { notBefore: begin as Date, notAfter: end as Date }), [], root];
      },
      0,
      /^The leaf expired at /,
    ],
    [
      "a leaf of another CA",
      async () => {
        const [root] = (await chainOf(0)) as [Authority];
        const other = await makeOddCa(null, { subject: "CN=other" });
        return [await makeOdd(other), [], root];
      },
      0,
      /^The leaf was issued by "CN=other", which is neither a trusted root nor in the chain$/,
    ],
    [
      "a leaf of a CA of the same name",
      async () => {
        const [root, twin] = [
          await makeOddCa(null, { subject: "CN=root" }),
          await makeOddCa(null, { subject: "CN=root" }),
        ];
        return [await makeOdd(twin), [], root];
      },
      0,
      /^The leaf names the issuer "CN=root", and was not signed by the key of that certificate$/,
    ],
    [
      "a chain whose intermediate is missing",
      async () => {
        const [root, , second] = (await chainOf(2)) as [Authority, Authority, Authority];
        return [await makeOdd(second), [second.certificate], root];
      },
      1,
      /^The CA certificate "CN=ca2" was issued by "CN=ca1", which is neither/,
    ],
    [
      "an intermediate that has expired",
      async () => {
        const [root] = (await chainOf(0)) as [Authority];
        const middle = await makeOddCa(root, {
          subject: "CN=late",
          notBefore: new Date(NOW.getTime() - YEAR_MS),
          notAfter: new Date(NOW.getTime() - HOUR),
        });
        return [await makeOdd(middle), [middle.certificate], root];
      },
      1,
      /^The CA certificate "CN=late" expired at /,
    ],
    [
      "an issuer that is no CA",
      async () => {
        const [root] = (await chainOf(0)) as [Authority];
        const middle = await makeOddCa(root, {
          subject: "CN=leaf",
          extensions: { basic: basic(false) },
        });
        return [await makeOdd(middle), [middle.certificate], root];
      },
      1,
      /^The CA certificate "CN=leaf" signed a certificate and is not one of a CA/,
    ],
    [
      "an issuer without the key usage",
      async () => {
        const [root] = (await chainOf(0)) as [Authority];
        const middle = await makeOddCa(root, {
          subject: "CN=mute",
          extensions: { keyUsage: usage(KEY_USAGE.cRLSign) },
        });
        return [await makeOdd(middle), [middle.certificate], root];
      },
      1,
      /has no key usage that allows signing certificates$/,
    ],
    [
      "a root that allows no CA below it",
      async () => {
        const root = await makeOddCa(null, {
          subject: "CN=short",
          extensions: { basic: basic(true, 0) },
        });
        const middle = await makeOddCa(root, { subject: "CN=ca1" });
        return [await makeOdd(middle), [middle.certificate], root];
      },
      2,
      /"CN=short" allows 0 CA certificates below it, and there are 1$/,
    ],
    [
      "a leaf that names another key of its issuer",
      async () => {
        const [root] = (await chainOf(0)) as [Authority];
        const extensions = { authorityKey: authorityKey(new Uint8Array(32).fill(7)) };
        return [await makeOdd(root, { extensions }), [], root];
      },
      1,
      /has another key identifier than the certificate below names$/,
    ],
  ];
  for (const [what, place, reason] of [
    [
      "the leaf",
      0,
      /^The leaf has the critical extension 1\.2\.3\.4, which verifiers cannot process$/,
    ],
    ["the CA below the root", 1, /^The CA certificate "CN=ca1" has the critical extension 1\.2\.3/],
    ["the root", 2, /^The root "CN=root" has the critical extension 1\.2\.3\.4, /],
  ] as const)
    it(`explains an extension of ${what} that nobody knows`, async () => {
      const extensions = { more: unknownExtension("1.2.3.4", true) };
      const odd = (at: number) => (at === place ? { extensions } : {});
      const root = await makeOddCa(null, { subject: "CN=root", ...odd(2) });
      const middle = await makeOddCa(root, { subject: "CN=ca1", ...odd(1) });
      const leaf = await makeOdd(middle, odd(0));
      const { verifies, obstacle } = await verdictOf(leaf, [middle.certificate], root);
      assert.deepEqual([verifies, obstacle?.place], [false, place]);
      assert.match(obstacle?.reason ?? "", reason);
    });

  it("says that purposes exclude TLS, as OpenSSL and Go do", async () => {
    const [root] = (await chainOf(0)) as [Authority];
    const limited = (...oids: readonly string[]) => ({ extKeyUsage: purposes(...oids) });
    const EMAIL = "1.3.6.1.5.5.7.3.4";
    const mail = await makeOddCa(root, { subject: "CN=mail", extensions: limited(EMAIL) });
    const servers = await makeOddCa(root, {
      subject: "CN=servers",
      extensions: limited(OID.serverAuth),
    });
    for (const [by, oids, faults] of [
      [mail, [OID.serverAuth], [/^The CA certificate "CN=mail" has an extended key usage without/]],
      [root, [EMAIL], [/^The leaf has an extended key usage without serverAuth and clientAuth, /]],
      [servers, [OID.clientAuth], [/^A CA certificate of the path is not for the purposes/]],
      [servers, [OID.serverAuth], []],
      [servers, [OID.serverAuth, OID.clientAuth], []],
    ] as const) {
      const leaf = await makeOdd(by, { extensions: limited(...oids) });
      const verdict = await verdictOf(leaf, by === root ? [] : [by.certificate], root);
      assert.equal(verdict.verifies, true);
      assert.equal(verdict.faults.length, faults.length, verdict.faults.join());
      for (const [i, fault] of faults.entries()) assert.match(verdict.faults[i] ?? "", fault);
    }
    const ca = await verdictOf(servers.certificate, [], root);
    assert.match(ca.faults.join(), /The leaf is a CA certificate, /);
  });

  for (const [what, make, place, reason] of CASES)
    it(`explains ${what}`, async () => {
      const [leaf, chain, root] = await make();
      const { verifies, path, obstacle } = await verdictOf(leaf, chain, root);
      assert.deepEqual([verifies, path], [false, []]);
      assert.match(obstacle?.reason ?? "", reason);
      assert.equal(obstacle?.place, place);
    });

  it("applies the limits of verifiers", async () => {
    const all = await chainOf(8);
    const root = all[0] as Authority;
    const chain = all
      .slice(1)
      .map(({ certificate }) => certificate)
      .toReversed();
    const leaf = await makeOdd(all.at(-1) as Authority);
    const faultsOf = async (...like: string[]) => (await verdictOf(leaf, chain, root, like)).faults;
    assert.deepEqual(
      await faultsOf("openssl", "go", "jdk-client", "gnutls", "mbedtls", "nginx:8"),
      [],
    );
    assert.deepEqual(await faultsOf("rustls", "jdk", "nginx:7", "nginx"), [
      "rustls accepts 6 CA certificates between leaf and root, and there are 8",
      "jdk accepts 8 certificates of a peer, and 9 are sent",
      "nginx:7 accepts 7 CA certificates between leaf and root, and there are 8",
      "nginx accepts 1 CA certificates between leaf and root, and there are 8",
    ]);
  });

  it("says what is wrong with a leaf as an SVID", async () => {
    const [root] = (await chainOf(0)) as [Authority];
    const leaf = await makeOdd(root, {
      extensions: { keyUsage: usage(KEY_USAGE.keyEncipherment) },
    });
    const { verifies, spiffeId, faults } = await verdictOf(leaf, [], root);
    assert.deepEqual(
      [verifies, spiffeId, faults],
      [true, null, ["The certificate has no key usage that allows signing handshakes"]],
    );
  });
});

describe("meshca verify and inspect", () => {
  it("take the leaf, request, key and roots of a real server", { timeout: 60_000 }, () =>
    inFolder(async (folder) => {
      const server = await startServer({});
      const roots = `${server.url}/v1/connect/ca/roots`;
      execFileSync(
        "openssl",
        [
          ...["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"],
          ...["-subj", "/", "-keyout", join(folder, "web.key"), "-out", join(folder, "web.csr")],
        ],
        { stdio: "ignore" },
      );
      const csr = readFileSync(join(folder, "web.csr"), "utf8");
      const response = await fetch(`${server.url}/v1/connect/ca/sign?service=web`, {
        method: "PUT",
        headers: { Accept: "application/pem-certificate-chain" },
        body: csr,
      });
      writeFileSync(join(folder, "web.pem"), await response.text());
      const verified = meshca(folder, "verify", "web.pem", "--roots", roots, "--like", "nginx:8");
      assert.equal(verified.code, 0, verified.stderr);
      assert.match(
        verified.stdout,
        /^The leaf verifies:\n {2}spiffe:\/\/\S+\/svc\/web\n {4}spiffe:\/\/\S+\n$/,
      );
      assert.equal(meshca(folder, "verify", "web.pem", "--roots", server.url).code, 0);
      const rootless = meshca(folder, "verify", "web.pem", "--roots", "web.pem");
      assert.deepEqual(
        [rootless.code, rootless.stderr],
        [65, "web.pem has no root: no CA certificate that is its own issuer\n"],
      );
      const shown = meshca(folder, "inspect", "web.pem");
      assert.equal(shown.code, 0);
      assert.match(
        shown.stdout,
        /^web\.pem: leaf\n {2}subject: {5}without a name\n {2}names: +spiffe:\/\/\S+\/svc\/web\n/,
      );
      assert.match(
        meshca(folder, "inspect", "web.csr").stdout,
        /: certificate request\n {2}names: {2}none\n {2}key: +ec 256\n/,
      );
      const key = meshca(folder, "inspect", "web.key");
      assert.match(key.stdout, /^web\.key: private key\n {2}form: +PRIVATE KEY\n/);
      const listed = JSON.parse(meshca(folder, "inspect", roots, "-json").stdout) as {
        kind: string;
        problems: string[];
      }[];
      assert.deepEqual(
        listed.map(({ kind, problems }) => [kind, problems]),
        [["root", []]],
      );
      await server.stop();
    }),
  );

  it("speak TLS to a server, and show its chain", { timeout: 60_000 }, () =>
    inFolder(async (folder) => {
      const root = await makeOddCa(null, { subject: "CN=root" });
      const other = await makeOddCa(null, { subject: "CN=other" });
      const { privateKey, certificate } = await makeOddCa(root, {
        subject: "CN=server",
        extensions: { keyUsage: usage(KEY_USAGE.digitalSignature | KEY_USAGE.keyCertSign) },
      });
      const pkcs8 = Buffer.from(await crypto.subtle.exportKey("pkcs8", privateKey)).toString(
        "base64",
      );
      const listener = createServer({
        cert: [certificate, other.certificate, root.certificate].map(pemOf).join(""),
        key: `-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----\n`,
      });
      listener.on("tlsClientError", () => undefined);
      await new Promise<void>((resolve) => listener.listen(0, "127.0.0.1", resolve));
      const { port } = listener.address() as AddressInfo;
      for (const name of ["bun", "node", "deno"] as const) {
        const command = name === "deno" ? COMMANDS.deno(folder) : COMMANDS[name]();
        const { stdout } = await run(["inspect", `127.0.0.1:${port}`], {}, "", [...command]);
        // As they are sent, though the second one has nothing to do with the first.
        assert.deepEqual(
          [...stdout.matchAll(/^(\S.*)\n +subject: +(\S+)$/gm)].map(([, where, name]) => [
            where,
            name,
          ]),
          [
            [`127.0.0.1:${port}: intermediate or cross-signed`, '"CN=server"'],
            [`127.0.0.1:${port}, certificate 2 of its chain: root`, '"CN=other"'],
            [`127.0.0.1:${port}, certificate 3 of its chain: root`, '"CN=root"'],
          ],
          name,
        );
      }
      listener.close();
    }),
  );

  for (const [args, code, reason] of [
    [["verify", "none.pem", "--roots", "r.pem"], 66, /^The file "none\.pem" /],
    [["verify", "text.pem", "--roots="], 64, /^--roots is empty/],
    [
      ["verify", "text.pem", "--roots", "text.pem"],
      65,
      /^text\.pem has no certificate, request or key in PEM\n/,
    ],
    [
      ["verify", "text.pem", "--roots", "text.pem", "--like", "nginy"],
      64,
      /^--like "nginy" is not one of openssl, /,
    ],
    [["inspect", "empty"], 66, /^The folder "empty" has no file in PEM\n/],
    [["inspect", "127.0.0.1:1"], 69, /^127\.0\.0\.1:1 cannot be reached/],
    [["inspect"], 64, /^meshca inspect needs <target>\n/],
  ] as const)
    it(`${args.join(" ")} is refused`, () =>
      inFolder((folder) => {
        writeFileSync(join(folder, "text.pem"), "hello\n");
        mkdirSync(join(folder, "empty"));
        const ran = meshca(folder, ...args);
        assert.match(ran.stderr, reason);
        assert.deepEqual([ran.code, ran.stdout], [code, ""]);
      }));
});
