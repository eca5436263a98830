/**
 * PUT /v1/connect/ca/renew: the same identity again, for whoever proves the key of a leaf that is
 * still good.
 * @module
 */

import { base64, colonHex, sha256 } from "../../core/bytes.ts";
import { denied, requireOwnLeaf } from "../../core/ca/renewal-check.ts";
import type { Snapshot } from "../../core/ca/snapshot.ts";
import { FormatError, InvariantError, RequestError } from "../../core/errors.ts";
import { readPem } from "../../core/pem.ts";
import { trustDomainOf } from "../../core/spiffe/id.ts";
import type { CaState } from "../../core/state.ts";
import { type Certificate, readCertificate } from "../../core/x509/certificate.ts";
import type { AppOptions, Call, Route } from "../app.ts";
import { readCsrBody } from "../csr-body.ts";
import { requireDatacenter } from "../datacenter.ts";
import type { BodyReader } from "../request-body.ts";
import { bearerOf } from "../request-token.ts";
import { leafAnswer, requireNotDenied } from "./sign.ts";

export function renewRoutes(options: AppOptions, bodies: BodyReader): Route[] {
  const { manager, access, clock, datacenter, readRenewalToken } = options;

  /**
   * The leaf that the caller has the key of, and its SPIFFE ID. That the leaf is ours is checked
   * first: then no key that a stranger chose is worked with.
   * @throws {DeniedError}
   */
  const provenLeaf = async (
    call: Call,
    csr: string,
    { state }: Snapshot,
  ): Promise<{ leaf: Certificate; identity: string }> => {
    const now = clock.now();
    const jwt = bearerOf(call.header("authorization") ?? null);
    if (jwt === null) {
      const { peerCertificate } = call.environment;
      if (peerCertificate === undefined)
        throw denied("send a proof as bearer, or a client certificate");
      const leaf = readPeer(peerCertificate);
      return { leaf, identity: await requireOwnLeaf(leaf, state, now) };
    }
    const { leaf, verify } = readRenewalToken(jwt);
    const identity = await requireOwnLeaf(leaf, state, now);
    if ((await verify(`spiffe://${trustDomainOf(state.clusterId)}`, now)) !== hashOf(csr))
      throw denied("the proof is for another request");
    return { leaf, identity };
  };

  return [
    {
      path: "/v1/connect/ca/renew",
      kind: "consul",
      needs: { PUT: "public" },
      methods: {
        async PUT(call) {
          requireDatacenter(call.query().params, datacenter);
          manager.requireRoom("renewal");
          const csr = await readCsrBody(call.request, bodies, options.limits.maxBodySign);
          let proven: {
            readonly leaf: Certificate;
            readonly identity: string;
            readonly under: CaState;
          } | null = null;
          const renewed = await manager.sign(csr, {
            priority: "renewal",
            caller: call.caller,
            async authenticate(snapshot) {
              proven = { ...(await provenLeaf(call, csr, snapshot)), under: snapshot.state };
            },
            async permit({ uri, spki }) {
              if (proven === null)
                throw new InvariantError("A renewal is decided on before its proof was checked");
              const { leaf, identity, under } = proven;
              // The leaf's root may have been abandoned while the request waited.
              const { state } = manager.require();
              if (state !== under) await requireOwnLeaf(leaf, state, clock.now());
              const serial = colonHex(leaf.serial);
              const subjectKeyId = leaf.subjectKeyId === null ? null : colonHex(leaf.subjectKeyId);
              if (uri !== identity)
                throw denied("the request is for another identity than the leaf's");
              // The key that is given up may be the one that was lost.
              const keys = [spki, leaf.key.spki];
              requireNotDenied(
                access?.administration.denialOf({ spiffeId: uri, keys, subjectKeyId, serial }) ??
                  null,
              );
            },
          });
          return leafAnswer(call, renewed);
        },
      },
    },
  ];
}

/** @throws {DeniedError} if it has a form that no leaf of ours has */
function readPeer(der: Uint8Array): Certificate {
  try {
    return readCertificate(der);
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw denied(`the client certificate cannot be read: ${error.message}`);
  }
}

/**
 * SHA-256 of a request's DER, in base64url without padding.
 * @throws {RequestError} `csr_malformed`
 */
function hashOf(csr: string): string {
  try {
    const [block] = readPem(csr);
    if (block !== undefined)
      return base64(sha256(block.bytes))
        .replaceAll("+", "-")
        .replaceAll("/", "_")
        .replace(/=+$/, "");
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
  }
  throw new RequestError("csr_malformed", "Cannot read CSR: it is not PEM");
}
