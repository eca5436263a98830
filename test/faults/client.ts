/**
 * A client of the CA: a peer that fetches roots and leaves, and an operator that changes it. All it
 * asks and is answered is recorded.
 * @module
 */
import { opensslCsr } from "../fakes/ca.ts";
import type { Change, Recorder, RootsRead } from "./history.ts";
import type { ReplicaProcess } from "./replica-process.ts";

/**
 * A change that has no answer by then has none, in milliseconds: longer than a replica that is
 * awake ever takes.
 */
const PATIENCE_MS = 30_000;
/** The text of a replica that does not know the outcome either (operation-lease.ts). */
const UNKNOWN = /it is unknown whether the CA was changed/;

export interface Client {
  readonly name: string;
  /** @returns null if there was no response. */
  roots(replica: ReplicaProcess): Promise<RootsRead | null>;
  /** @returns the status, or null if there was no response. */
  sign(replica: ReplicaProcess): Promise<number | null>;
  rotate(replica: ReplicaProcess): Promise<Change>;
  /**
   * Sets a life of leaves that no other change sets.
   * @param index the index that must be the present one, or null.
   */
  configure(replica: ReplicaProcess, index?: number | null): Promise<Change>;
  /** Whether a replica reports that the store lost writes; null if it does not know. */
  conflict(replica: ReplicaProcess): Promise<boolean | null>;
  /** Keeps one of the two states. @returns whether that was done. */
  resolve(replica: ReplicaProcess, keep: "snapshot" | "stored"): Promise<boolean>;
}

interface WireRoots {
  readonly ActiveRootID: string;
  readonly TrustDomain: string;
  readonly Roots: readonly {
    readonly ID: string;
    readonly RootCert: string;
    readonly Active: boolean;
  }[];
}

let clients = 0;
/** Seconds over 72 hours, so that each change asks for a unique TTL. */
let lives = 0;
let csr: { readonly trustDomain: string; readonly text: string } | null = null;

/**
 * A request for a leaf in a trust domain. One key serves all clients: nothing here depends on it.
 */
function csrFor(trustDomain: string): string {
  if (csr?.trustDomain !== trustDomain)
    csr = {
      trustDomain,
      text: opensslCsr(`URI:spiffe://${trustDomain}/ns/default/dc/dc1/svc/peer`).csr,
    };
  return csr.text;
}

export function createClient(recorder: Recorder): Client {
  const name = `client ${++clients}`;
  let trustDomain: string | null = null;

  const call = async (
    replica: ReplicaProcess,
    method: "GET" | "PUT",
    path: string,
    sent?: object,
  ) => {
    const body =
      sent === undefined
        ? {}
        : { body: JSON.stringify(sent), headers: { "Content-Type": "application/json" } };
    const begin = performance.now();
    try {
      const signal = AbortSignal.timeout(PATIENCE_MS);
      // A new connection: a kept one would not show that a process was killed.
      const response = await fetch(`${replica.url}/v1/connect/ca/${path}`, {
        method,
        signal,
        keepalive: false,
        ...body,
      });
      const text = await response.text();
      const index = Number(response.headers.get("x-consul-index"));
      return { status: response.status, text, index, begin, end: performance.now() };
    } catch {
      return { status: null, text: "no answer", index: 0, begin, end: performance.now() };
    }
  };

  const change = (
    replica: ReplicaProcess,
    asked: Change["asked"],
    { status, text, begin, end }: Awaited<ReturnType<typeof call>>,
  ): Change => {
    const unknown = status === null || UNKNOWN.test(text);
    const outcome = status === 200 ? "made" : unknown ? "unknown" : "refused";
    const made = {
      client: name,
      replica: replica.name,
      asked,
      outcome,
      answer: `${status} ${text}`,
      begin,
      end,
    } as const;
    recorder.changes.push(made);
    return made;
  };

  const roots = async (replica: ReplicaProcess): Promise<RootsRead | null> => {
    const { status, text, index, begin, end } = await call(replica, "GET", "roots");
    if (status !== 200) return null;
    const wire = JSON.parse(text) as WireRoots;
    trustDomain = wire.TrustDomain;
    const listed = wire.Roots.map(({ ID, RootCert, Active }) => ({
      id: ID,
      active: Active,
      pem: RootCert,
    }));
    const read = {
      client: name,
      replica: replica.name,
      index,
      activeRootId: wire.ActiveRootID,
      roots: listed,
      begin,
      end,
    };
    recorder.reads.push(read);
    return read;
  };

  return {
    name,
    roots,
    async sign(replica) {
      if (trustDomain === null) await roots(replica);
      if (trustDomain === null) return null;
      const { status, text, begin, end } = await call(replica, "PUT", "sign", {
        CSR: csrFor(trustDomain),
      });
      if (status === 200) {
        const { CertPEM } = JSON.parse(text) as { CertPEM: string };
        recorder.leaves.push({ client: name, replica: replica.name, pem: CertPEM, begin, end });
      }
      return status;
    },
    async rotate(replica) {
      const answer = await call(replica, "PUT", "rotate", {});
      const rootId =
        answer.status === 200
          ? (JSON.parse(answer.text) as { ActiveRootID: string }).ActiveRootID
          : null;
      return change(replica, { rootId }, answer);
    },
    async configure(replica, index = null) {
      const leafTtl = `${72 * 3600 + ++lives}s`;
      const config = {
        Provider: "consul",
        Config: { LeafCertTTL: leafTtl, IntermediateCertTTL: "8760h", RootCertTTL: "87600h" },
      };
      const sent = index === null ? config : { ...config, ModifyIndex: index };
      return change(replica, { leafTtl }, await call(replica, "PUT", "configuration", sent));
    },
    async conflict(replica) {
      const { status, text } = await call(replica, "GET", "state-conflict");
      return status === 200 ? (JSON.parse(text) as { Conflict: boolean }).Conflict : null;
    },
    async resolve(replica, keep) {
      return (await call(replica, "PUT", "state-conflict", { Keep: keep })).status === 200;
    },
  };
}
