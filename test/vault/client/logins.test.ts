/**
 * TLS to Vault, and the ways to log in that need another server or file: a client certificate, a
 * signed token, a cluster.
 * @module
 */
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import { createServer as createTcp, type Socket } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { exportSPKI, generateKeyPair, type JWTPayload, SignJWT } from "jose";
import { VaultError } from "../../../providers/vault/errors.ts";
import type { PkiApi } from "../../../providers/vault/pki-api.ts";
import type { ConfigMap } from "../../../src/core/state.ts";
import { BUILD_MS, noOwnVault, startVault, type VaultServer } from "../server.ts";
import { failure, freshMount, logged, openClient, vaultPlatform } from "./open.ts";
import { makePki } from "./pki.ts";

const KINDS = ["openbao", "vault"] as const;

async function reason(act: Promise<unknown>): Promise<string> {
  const error = await failure(act);
  assert.ok(error instanceof VaultError, String(error));
  assert.ok(!error.message.includes("Planted"), error.message);
  return error.reason;
}

for (const kind of KINDS)
  describe(`TLS and logins with ${kind}`, { skip: noOwnVault }, () => {
    let folder: string;
    let server: VaultServer;
    const clients: PkiApi[] = [];
    const file = (name: string) => join(folder, name);
    const read = (name: string) => readFileSync(file(name), "utf8");
    const open = (config: ConfigMap, names: Record<string, readonly string[]> = {}) => {
      const client = openClient(
        { Address: server.address, CAFile: file("a-ca.pem"), ...config },
        logged(),
        vaultPlatform(names),
      );
      clients.push(client);
      return client;
    };
    before(
      async () => {
        folder = mkdtempSync(join(tmpdir(), "meshca-vault-tls-"));
        for (const name of ["a", "b"]) makePki(folder, name);
        server = await startVault({
          kind,
          tls: { ca: read("a-ca.pem"), cert: read("a-server.pem"), key: read("a-server.key") },
        });
      },
      { timeout: BUILD_MS },
    );
    after(async () => {
      for (const client of clients) client.close();
      await server?.stop();
      rmSync(folder, { recursive: true, force: true });
    });

    it("trusts the CA of a file or of a folder, and no other", async () => {
      await open({ Token: server.token }).connect();
      const only = mkdtempSync(join(folder, "only-"));
      writeFileSync(join(only, "ca.pem"), read("a-ca.pem"));
      await open({ Token: server.token, CAFile: "", CAPath: only }).connect();
      assert.equal(
        await reason(open({ Token: server.token, CAFile: file("b-ca.pem") }).connect()),
        "tls",
      );
      assert.equal(await reason(open({ Token: server.token, CAFile: "" }).connect()), "tls");
      assert.equal(
        await reason(open({ Token: server.token, CAFile: file("missing.pem") }).connect()),
        "tls",
      );
      await open({ Token: server.token, CAFile: file("b-ca.pem"), TLSSkipVerify: true }).connect();
    });

    it("holds the certificate to the server's name", async () => {
      await open({ Token: server.token, TLSServerName: "vault.test" }).connect();
      assert.equal(
        await reason(open({ Token: server.token, TLSServerName: "other.test" }).connect()),
        "tls",
      );
    });

    it("reads the file of a CA again after a failure", async () => {
      writeFileSync(file("moving.pem"), read("b-ca.pem"));
      const client = open({ TokenFile: file("token"), CAFile: file("moving.pem") });
      writeFileSync(file("token"), server.token);
      assert.equal(await reason(client.connect()), "tls");
      writeFileSync(file("moving.pem"), read("a-ca.pem"));
      await client.connect();
    });

    it("logs in by its own certificate, and not by one of another CA", async () => {
      const mount = freshMount("cert").path;
      await server.must("POST", `sys/auth/${mount}`, { type: "cert" });
      await server.must("POST", `auth/${mount}/certs/mesh`, { certificate: read("a-ca.pem") });
      const by = (name: string) =>
        open({
          CertFile: file(`${name}-client.pem`),
          KeyFile: file(`${name}-client.key`),
          AuthMethod: { Type: "cert", MountPath: mount, Params: { name: "mesh" } },
        });
      await by("a").connect();
      assert.equal(await reason(by("b").connect()), "login_refused");
    });

    it("logs in by a signed token, read again at each login", async () => {
      const mount = freshMount("jwt").path;
      const { publicKey, privateKey } = await generateKeyPair("ES256", { extractable: true });
      await server.must("POST", `sys/auth/${mount}`, { type: "jwt" });
      await server.must("POST", `auth/${mount}/config`, {
        jwt_validation_pubkeys: [await exportSPKI(publicKey)],
      });
      await server.must("POST", `auth/${mount}/role/mesh`, {
        role_type: "jwt",
        user_claim: "sub",
        bound_audiences: ["vault"],
      });
      const token = (audience: string) =>
        new SignJWT({})
          .setProtectedHeader({ alg: "ES256" })
          .setSubject("mesh")
          .setAudience(audience)
          .setIssuedAt()
          .setExpirationTime("5m")
          .sign(privateKey);
      const client = open({
        AuthMethod: { Type: "jwt", MountPath: mount, Params: { role: "mesh", path: file("jwt") } },
      });
      assert.equal(await reason(client.connect()), "login_refused");
      writeFileSync(file("jwt"), await token("another"));
      assert.equal(await reason(client.connect()), "login_refused");
      writeFileSync(file("jwt"), `${await token("vault")}\n`);
      await client.connect();
    });

    it("logs in by the token of a pod, which the cluster reviews", async () => {
      const reviewed: string[] = [];
      const cluster = createServer((request, response) => {
        let body = "";
        request.setEncoding("utf8").on("data", (chunk: string) => {
          body += chunk;
        });
        request.on("end", () => {
          const { token } = JSON.parse(body).spec;
          reviewed.push(token);
          const user = { username: "system:serviceaccount:mesh:ca", uid: "1", groups: [] };
          const status = token.startsWith("ey")
            ? { authenticated: true, user }
            : { authenticated: false, error: "no" };
          response.writeHead(201, { "Content-Type": "application/json" });
          response.end(
            JSON.stringify({ apiVersion: "authentication.k8s.io/v1", kind: "TokenReview", status }),
          );
        });
      });
      await new Promise<void>((resolve) => cluster.listen(0, "127.0.0.1", resolve));
      const address = cluster.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      try {
        const mount = freshMount("kubernetes").path;
        const { privateKey } = await generateKeyPair("ES256");
        const signed = (claims: JWTPayload) =>
          new SignJWT(claims)
            .setProtectedHeader({ alg: "ES256" })
            .setIssuer("kubernetes/serviceaccount")
            .setSubject("system:serviceaccount:mesh:ca")
            .setIssuedAt()
            .setNotBefore("-1m")
            .setExpirationTime("5m")
            .sign(privateKey);
        await server.must("POST", `sys/auth/${mount}`, { type: "kubernetes" });
        await server.must("POST", `auth/${mount}/config`, {
          kubernetes_host: `http://127.0.0.1:${port}`,
          kubernetes_ca_cert: read("a-ca.pem"),
          token_reviewer_jwt: await signed({}),
        });
        await server.must("POST", `auth/${mount}/role/mesh`, {
          bound_service_account_names: ["ca"],
          bound_service_account_namespaces: ["mesh"],
        });
        const pod = await signed({
          "kubernetes.io": { namespace: "mesh", serviceaccount: { name: "ca", uid: "1" } },
        });
        writeFileSync(file("pod"), `${pod}\n`);
        const by = (role: string) =>
          open({
            AuthMethod: {
              Type: "kubernetes",
              MountPath: mount,
              Params: { role, token_path: file("pod") },
            },
          });
        await by("mesh").connect();
        assert.deepEqual(reviewed, [pod]);
        assert.equal(await reason(by("other").connect()), "login_refused");
      } finally {
        cluster.closeAllConnections();
        cluster.close();
      }
    });

    // The other server is built without it.
    const withDirectory = kind === "openbao" ? it : () => undefined;
    withDirectory("logs in by LDAP, with a password read again at each login", async () => {
      const sockets = new Set<Socket>();
      const directory = createTcp((socket) => {
        sockets.add(socket);
        // RFC 4511 §4.2: answers a bind by whether it has the password, a search (§4.5) with
        // nothing found.
        socket.on("data", (message) => {
          if (typeof message === "string") return;
          const [id, operation] = [message[4] ?? 0, message[5]];
          if (operation !== 0x60 && operation !== 0x63) return;
          const result = operation === 0x60 && !message.includes("PlantedPassword") ? 49 : 0;
          socket.write(
            Buffer.from([
              0x30,
              12,
              0x02,
              1,
              id,
              operation === 0x60 ? 0x61 : 0x65,
              7,
              0x0a,
              1,
              result,
              0x04,
              0,
              0x04,
              0,
            ]),
          );
        });
        socket.on("error", () => undefined);
      });
      await new Promise<void>((resolve) => directory.listen(0, "127.0.0.1", resolve));
      const address = directory.address();
      const port = typeof address === "object" && address !== null ? address.port : 0;
      try {
        const mount = freshMount("ldap").path;
        await server.must("POST", `sys/auth/${mount}`, { type: "ldap" });
        await server.must("POST", `auth/${mount}/config`, {
          url: `ldap://127.0.0.1:${port}`,
          userdn: "ou=people",
          userattr: "cn",
          groupdn: "ou=groups",
        });
        await server.must("POST", `auth/${mount}/users/mesh`, { policies: "default" });
        writeFileSync(file("password"), "PlantedOther\n");
        const client = open({
          AuthMethod: {
            Type: "ldap",
            MountPath: mount,
            Params: { username: "mesh", password_file_path: file("password") },
          },
        });
        assert.equal(await reason(client.connect()), "login_refused");
        writeFileSync(file("password"), "PlantedPassword\n");
        await client.connect();
      } finally {
        for (const socket of sockets) socket.destroy();
        directory.close();
      }
    });
  });
