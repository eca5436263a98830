/**
 * `meshca inspect` of what a mesh cannot use, and of keys: on each runtime, since the runtime reads it.
 * @module
 */
import assert from "node:assert/strict";
import { X509Certificate } from "node:crypto";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { COMMANDS } from "../runtimes/targets.ts";
import { selfSigned } from "../tls/harness.ts";
import { meshca } from "./run.ts";

const OPTIONS = { timeout: 120_000 };

for (const name of ["bun", "node", "deno"] as const)
  describe(`meshca inspect on ${name}`, () => {
    let folder: string;
    const web = selfSigned("web");
    const other = selfSigned("other");
    before(() => {
      folder = mkdtempSync(join(tmpdir(), "meshca-inspect-"));
    });
    after(() => rmSync(folder, { recursive: true, force: true }));
    const inspect = (file: string) =>
      meshca(
        ["inspect", file],
        {},
        "",
        [...(name === "deno" ? COMMANDS.deno(folder) : COMMANDS[name]())],
        folder,
      );

    it("shows a certificate that no mesh can use", OPTIONS, async () => {
      for (const [newkey, reason] of [
        [["rsa:1024"], /RSA key must have 2048, 3072 or 4096 bits, this one has 1024\n/],
        [["ec", "-pkeyopt", "ec_paramgen_curve:secp256k1"], /EC key must be on P-256/],
      ] as const) {
        writeFileSync(join(folder, "odd.pem"), selfSigned("odd", [...newkey]).cert);
        const { code, stdout } = await inspect("odd.pem");
        assert.equal(code, 65);
        assert.match(
          stdout,
          /^odd\.pem: certificate\n {2}subject: +"CN=odd"\n {2}names: +DNS:localhost/,
        );
        assert.match(stdout, /^ {2}valid until: \d{4}-/m);
        assert.match(stdout, /^ {2}It is a certificate that a mesh cannot use: /m);
        assert.match(stdout, reason);
      }
    });

    it("shows whose key a key is", OPTIONS, async () => {
      mkdirSync(join(folder, "pair"));
      writeFileSync(join(folder, "pair", "web.crt"), web.cert);
      writeFileSync(join(folder, "pair", "web.key"), web.key);
      const pair = await inspect("pair");
      assert.match(pair.stdout, /^web\.key: private key\n[\s\S]*^ {2}of: +web\.crt$/m);
      const ids = [...pair.stdout.matchAll(/key id: +(\S+)/g)].map(([, text]) =>
        text?.replaceAll(":", ""),
      );
      assert.equal(ids.length, 2);
      assert.equal(ids[0], ids[1]);
      writeFileSync(join(folder, "pair", "web.key"), other.key);
      const foreign = await inspect("pair");
      assert.equal(foreign.code, 65);
      assert.match(foreign.stdout, /^ {2}It is not the key of a certificate or request here$/m);
    });

    it("names the way out of DER", OPTIONS, async () => {
      writeFileSync(join(folder, "web.der"), new X509Certificate(web.cert).raw);
      const { code, stdout } = await inspect("web.der");
      assert.equal(code, 65);
      assert.match(stdout, /^ {2}It is not text: of DER, openssl x509 -inform der makes PEM/m);
    });
  });
