/**
 * A CA server that signs whatever a test wants for the key of a request, under a root that it
 * publishes.
 * @module
 */
import "reflect-metadata";
import { SubjectAlternativeNameExtension } from "@peculiar/x509";
import type { Authority } from "../../src/core/x509/authority.ts";
import { pemOf } from "../../src/core/x509/certificate.ts";
import { readCsr } from "../../src/core/x509/csr.ts";
import { NOW } from "../core/x509/cas.ts";
import { makeOdd, makeOddCa, type OddCertificate } from "../core/x509/odd-certificates.ts";
import { URI } from "../core/x509/requests.ts";
import { ScriptedServer } from "./scripted-server.ts";

export const SIGN = "/v1/connect/ca/sign";

/** Names of a leaf: its URI, DNS names and IP addresses. */
export function namesOf(
  uris: readonly string[],
  dnsNames: readonly string[] = [],
  ips: readonly string[] = [],
): OddCertificate {
  const names = new SubjectAlternativeNameExtension(
    [
      ...uris.map((value) => ({ type: "url" as const, value })),
      ...dnsNames.map((value) => ({ type: "dns" as const, value })),
      ...ips.map((value) => ({ type: "ip" as const, value })),
    ],
    true,
  );
  return { extensions: { names } };
}

/** What a test makes of an answer of the CA. */
export interface Forgery {
  /** The leaf; by default one of the service `web` without other names. */
  readonly leaf?: OddCertificate;
  /** Certificates after the leaf, in PEM. */
  readonly chain?: string;
  /** Fields of the answer that are replaced. */
  readonly fields?: Readonly<Record<string, unknown>>;
  /** Who signs in place of the root that is published. */
  readonly by?: Authority;
}

export class ForgedCa {
  readonly server = new ScriptedServer();
  readonly root: Authority;
  forgery: Forgery = {};
  /** The Date of its answers. */
  now: () => Date = () => NOW;

  private constructor(root: Authority) {
    this.root = root;
    this.server.script = async ({ path, body }) => {
      const answer = path === SIGN ? await this.#sign(body) : this.#listing(path);
      if (typeof answer === "string") return answer;
      return { ...answer, headers: { ...answer.headers, date: this.now().toUTCString() } };
    };
  }

  static async start(): Promise<ForgedCa> {
    const ca = new ForgedCa(await makeOddCa(null, { subject: "CN=root" }));
    await ca.server.start();
    return ca;
  }

  #listing(path: string) {
    if (path.includes("index=")) return "silence";
    const { certificate } = this.root;
    const { hostname } = new URL(URI);
    return {
      status: 200,
      headers: { "x-consul-index": "5" },
      body: JSON.stringify({
        ActiveRootID: certificate.id,
        TrustDomain: hostname,
        Roots: [{ ID: certificate.id, RootCert: pemOf(certificate) }],
      }),
    };
  }

  async #sign(body: string) {
    const { CSR } = JSON.parse(body) as { CSR: string };
    const { leaf = namesOf([URI]), chain = "", fields = {}, by = this.root } = this.forgery;
    const { spki } = readCsr(CSR, true).key;
    const made = await makeOdd(by, { spki, ...leaf });
    return {
      status: 200,
      headers: {},
      body: JSON.stringify({ CertPEM: pemOf(made) + chain, ModifyIndex: 5, ...fields }),
    };
  }
}
