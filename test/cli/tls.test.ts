/**
 * `meshca tls`: files, texts and certificates as Consul's command makes them, which OpenSSL verifies and
 * a CA takes as its root.
 * @module
 */
import assert from "node:assert/strict";
import { execFileSync, spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
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
import { describe, it } from "node:test";
import { AGENT_COMMANDS, AGENT_RUNTIMES, type AgentRuntime } from "../fixtures/agent.ts";
import { startServer } from "../fixtures/process.ts";
import { ROOT } from "../fixtures/root.ts";

const MAIN = join(ROOT, "src/cli/main.ts");

async function inFolder(work: (folder: string) => Promise<void> | void): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "meshca-tls-"));
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Runs `meshca tls` in a folder. */
function tls(folder: string, args: readonly string[], runtime: AgentRuntime = "bun") {
  const [program, ...flags] = AGENT_COMMANDS[runtime];
  const { status, stdout, stderr } = spawnSync(program, [...flags, MAIN, "tls", ...args], {
    cwd: folder,
    encoding: "utf8",
  });
  return { code: status, stdout, stderr };
}

const read = (folder: string, name: string) => readFileSync(join(folder, name), "utf8");
const text = (folder: string, name: string) =>
  execFileSync("openssl", ["x509", "-noout", "-text", "-in", join(folder, name)], {
    encoding: "utf8",
  });
const SAVED = "==> Saved consul-agent-ca.pem\n==> Saved consul-agent-ca-key.pem\n";
const ID = "7D0bf800-7d57-4a82-37c8-1947050801c0";

describe("meshca tls ca create", () => {
  for (const runtime of AGENT_RUNTIMES)
    it(`makes a root that the CA takes, on ${runtime}`, { timeout: 120_000 }, () =>
      inFolder(async (folder) => {
        const server = await startServer({});
        const trustDomain = server.trustDomain;
        const made = tls(folder, ["ca", "create", "-trust-domain", trustDomain], runtime);
        assert.deepEqual(made, { code: 0, stdout: SAVED, stderr: "" });
        assert.equal(statSync(join(folder, "consul-agent-ca-key.pem")).mode & 0o777, 0o600);
        const response = await fetch(`${server.url}/v1/connect/ca/configuration`, {
          method: "PUT",
          body: JSON.stringify({
            Provider: "consul",
            Config: {
              PrivateKey: read(folder, "consul-agent-ca-key.pem"),
              RootCert: read(folder, "consul-agent-ca.pem"),
            },
          }),
        });
        assert.equal(response.status, 200, await response.text());
        const roots = await (await fetch(`${server.url}/v1/connect/ca/roots`)).text();
        const { fingerprint } = new X509Certificate(read(folder, "consul-agent-ca.pem"));
        assert.ok(roots.includes(`"ActiveRootID":"${fingerprint.toLowerCase()}"`));
        await server.stop();
      }),
    );

  it("has Consul's extensions, names and life", () =>
    inFolder((folder) => {
      const flags = ["-cluster-id", ID, "-common-name", "Mesh Root", "-days=365"];
      assert.equal(tls(folder, ["ca", "create", ...flags]).code, 0);
      const certificate = new X509Certificate(read(folder, "consul-agent-ca.pem"));
      assert.equal(certificate.subject, "CN=Mesh Root");
      assert.equal(certificate.subjectAltName, `URI:spiffe://${ID.toLowerCase()}.consul`);
      const life = Date.parse(certificate.validTo) - Date.parse(certificate.validFrom);
      assert.equal(life, 365 * 86_400_000);
      const shown = text(folder, "consul-agent-ca.pem");
      assert.match(shown, /Key Usage: critical\s+Digital Signature, Certificate Sign, CRL Sign\n/);
      assert.match(shown, /Basic Constraints: critical\s+CA:TRUE\n/);
      assert.match(shown, /Subject Key Identifier:\s+(?:[0-9A-F]{2}:){31}[0-9A-F]{2}\n/);
    }));

  it("names the serial number by default, and lives for five years", () =>
    inFolder((folder) => {
      assert.equal(tls(folder, ["ca", "create", "-domain", "Mesh.Example"]).code, 0);
      const certificate = new X509Certificate(read(folder, "Mesh.Example-agent-ca.pem"));
      assert.equal(
        certificate.subject,
        `CN=Consul Agent CA ${BigInt(`0x${certificate.serialNumber}`)}`,
      );
      assert.equal(certificate.serialNumber.length, 32);
      assert.equal(certificate.subjectAltName, undefined);
      const life = Date.parse(certificate.validTo) - Date.parse(certificate.validFrom);
      assert.equal(life, 1825 * 86_400_000);
    }));

  it("has an RSA key if it is asked for", () =>
    inFolder((folder) => {
      assert.equal(tls(folder, ["ca", "create", "-key-type=rsa"]).code, 0);
      assert.match(text(folder, "consul-agent-ca.pem"), /Public-Key: \(2048 bit\)/);
      assert.match(read(folder, "consul-agent-ca-key.pem"), /^-----BEGIN PRIVATE KEY-----\n/);
    }));

  it("overwrites nothing, and leaves nothing half-way", () =>
    inFolder((folder) => {
      writeFileSync(join(folder, "consul-agent-ca-key.pem"), "mine");
      const { code, stdout, stderr } = tls(folder, ["ca", "create"]);
      assert.deepEqual(
        [code, stdout, stderr],
        [73, "", "consul-agent-ca-key.pem already exists.\n"],
      );
      assert.deepEqual(readdirSync(folder), ["consul-agent-ca-key.pem"]);
      assert.equal(read(folder, "consul-agent-ca-key.pem"), "mine");
    }));

  const FAULTS: readonly (readonly [flags: readonly string[], reason: RegExp])[] = [
    [["-days", "0"], /^-days is a whole number from 1 to 36500, not "0"\n/],
    [["-domain", "a b"], /^-domain "a b" is not a DNS name\n/],
    [["-cluster-id", ""], /^-cluster-id is empty\n/],
    [["-cluster-id", "a_b/c"], /^-cluster-id "a_b\/c\.consul": /],
    [["-cluster-id", "a", "-trust-domain", "b.c"], /^-cluster-id and -trust-domain are both given/],
    [["-trust-domain", "Mesh.Example"], /^-trust-domain "Mesh\.Example": /],
    [
      ["-additional-name-constraint", "a.b"],
      /^-additional-name-constraint needs -name-constraint\n/,
    ],
    [["-key-type", "dsa"], /^-key-type is ec or rsa, not "dsa"\n/],
    [["-key-bits", "2048"], /^-key-bits of ec is one of 256, 384, 521, not "2048"\n/],
    [
      ["-key-type", "rsa", "-key-bits", "1024"],
      /^-key-bits of rsa is one of 2048, 4096, not "1024"/,
    ],
  ];
  for (const [flags, reason] of FAULTS)
    it(`refuses ${flags.join(" ")}`, () =>
      inFolder((folder) => {
        const { code, stdout, stderr } = tls(folder, ["ca", "create", ...flags]);
        assert.deepEqual([code, stdout], [64, ""]);
        assert.match(stderr, reason);
        assert.deepEqual(readdirSync(folder), []);
      }));
});

describe("meshca tls cert create", () => {
  const USING = "==> Using consul-agent-ca.pem and consul-agent-ca-key.pem\n";
  const saved = (name: string) => `==> Saved ${name}.pem\n==> Saved ${name}-key.pem\n`;
  const withCa = (work: (folder: string) => void, ...flags: readonly string[]) =>
    inFolder((folder) => {
      assert.equal(tls(folder, ["ca", "create", ...flags]).code, 0);
      work(folder);
    });
  const verified = (folder: string, name: string) =>
    execFileSync(
      "openssl",
      ["verify", "-CAfile", join(folder, "consul-agent-ca.pem"), join(folder, `${name}.pem`)],
      { encoding: "utf8" },
    );

  it("makes those of Consul, in Consul's words", () =>
    withCa((folder) => {
      const WARNING = `==> WARNING: Server Certificates grants authority to become a
    server and access all state in the cluster including root keys
    and all ACL tokens. Do not distribute them to production hosts
    that are not server nodes. Store them as securely as CA keys.
`;
      const CASES: readonly (readonly [
        flags: readonly string[],
        output: string,
        name: string,
        names: string,
        purposes: RegExp | null,
      ])[] = [
        [
          [
            "-server",
            "-node",
            "n1",
            "-additional-dnsname",
            "ca.example",
            "-additional-ipaddress",
            "10.0.0.1",
          ],
          `${WARNING}${USING}${saved("dc1-server-consul-0")}`,
          "dc1-server-consul-0",
          "DNS:ca.example, DNS:n1.server.dc1.consul, DNS:server.dc1.consul, DNS:localhost, IP Address:10.0.0.1, IP Address:127.0.0.1",
          /TLS Web Server Authentication, TLS Web Client Authentication\n/,
        ],
        [
          ["-client"],
          `${USING}${saved("dc1-client-consul-0")}`,
          "dc1-client-consul-0",
          "DNS:client.dc1.consul, DNS:localhost, IP Address:127.0.0.1",
          /TLS Web Client Authentication, TLS Web Server Authentication\n/,
        ],
        [
          ["-cli", "-dc", "dc2"],
          `${USING}${saved("dc2-cli-consul-0")}`,
          "dc2-cli-consul-0",
          "DNS:cli.dc2.consul, DNS:localhost",
          null,
        ],
        [
          ["-client"],
          `${USING}${saved("dc1-client-consul-1")}`,
          "dc1-client-consul-1",
          "DNS:client.dc1.consul, DNS:localhost, IP Address:127.0.0.1",
          /TLS Web Client Authentication/,
        ],
      ];
      for (const [flags, output, name, names, purposes] of CASES) {
        const made = tls(folder, ["cert", "create", ...flags]);
        assert.deepEqual(made, { code: 0, stdout: output, stderr: "" });
        const certificate = new X509Certificate(read(folder, `${name}.pem`));
        assert.equal(certificate.subjectAltName, names);
        assert.match(verified(folder, name), /: OK\n$/);
        assert.equal(statSync(join(folder, `${name}-key.pem`)).mode & 0o777, 0o600);
        const shown = text(folder, `${name}.pem`);
        assert.match(shown, /Key Usage: critical\s+Digital Signature, Key Encipherment\n/);
        if (purposes === null) assert.doesNotMatch(shown, /Extended Key Usage/);
        else assert.match(shown, purposes);
      }
    }));

  it("does not outlive its CA", () =>
    withCa((folder) => {
      assert.equal(tls(folder, ["cert", "create", "-client"]).code, 0);
      const ends = ["consul-agent-ca", "dc1-client-consul-0"].map(
        (name) => new X509Certificate(read(folder, `${name}.pem`)).validTo,
      );
      assert.equal(ends[0], ends[1]);
    }, "-days=30"));

  it("refuses a name that the CA does not permit", () =>
    withCa(
      (folder) => {
        const more = (name: string) =>
          tls(folder, ["cert", "create", "-server", "-additional-dnsname", name]);
        assert.equal(more("a.example.com").code, 0);
        assert.match(verified(folder, "dc1-server-consul-0"), /: OK\n$/);
        const { code, stderr } = more("a.example.org");
        assert.equal(code, 65);
        assert.match(stderr, /do not permit the DNS name a\.example\.org\n$/);
      },
      "-name-constraint",
      "-additional-name-constraint=example.com",
    ));

  it("refuses the key of another CA, and one that others may read", () =>
    withCa((folder) => {
      assert.equal(tls(folder, ["ca", "create", "-domain", "other"]).code, 0);
      const crossed = tls(folder, ["cert", "create", "-client", "-key", "other-agent-ca-key.pem"]);
      assert.equal(crossed.code, 65);
      assert.match(crossed.stderr, /the key of the CA does not belong to its certificate\n$/);
      chmodSync(join(folder, "consul-agent-ca-key.pem"), 0o640);
      const open = tls(folder, ["cert", "create", "-client"]);
      assert.deepEqual(
        [open.code, open.stderr],
        [
          77,
          "consul-agent-ca-key.pem has a private key and can be read by other users; run chmod 600 consul-agent-ca-key.pem\n",
        ],
      );
      assert.ok(readdirSync(folder).every((name) => !name.startsWith("dc1")));
    }));

  for (const [flags, code, reason] of [
    [[], 64, /^Please provide either -server, -client, or -cli\n/],
    [["-server", "-client"], 64, /^Please provide either -server, -client, or -cli\n/],
    [["-client", "-node", "a"], 64, /^-node requires -server\n/],
    [["-client", "-ca="], 64, /^Please provide the ca\n/],
    [["-client", "-key="], 64, /^Please provide the key\n/],
    [
      ["-client", "-ca", "none.pem"],
      66,
      /^Error reading CA: open none\.pem: no such file or directory\n/,
    ],
    [
      ["-client", "-key", "none.pem"],
      66,
      /^Error reading CA key: open none\.pem: no such file or directory\n/,
    ],
    [["-client", "-dc", "a.b"], 64, /^-dc "a\.b" is not the name of a datacenter\n/],
    [
      ["-client", "-additional-ipaddress", "1"],
      64,
      /^-additional-ipaddress "1" is not an IP address/,
    ],
  ] as const)
    it(`refuses ${flags.join(" ") || "no role"}`, () =>
      withCa((folder) => {
        const ran = tls(folder, ["cert", "create", ...flags]);
        assert.match(ran.stderr, reason);
        assert.equal(ran.code, code);
      }));
});
