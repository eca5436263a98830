/**
 * Envoy's secrets as messages: for gRPC and in the JSON form of proto3.
 * @module
 */
import type { Buffer } from "node:buffer";
import { base64, utf8 } from "../../core/bytes.ts";
import { encodeMessage } from "../proto.ts";
import type { Secret } from "./secrets.ts";

const TLS_TYPES = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3";
/** The one type of resource that SDS has. */
const SECRET_TYPE = `${TLS_TYPES}.Secret`;
const VALIDATOR_CONFIG = `${TLS_TYPES}.SPIFFECertValidatorConfig`;
/** Envoy's validator of SPIFFE IDs by trust domain. */
const VALIDATOR = "envoy.tls.cert_validator.spiffe";

/**
 * Octets that a message may have: Envoy's node metadata is some 77 KB in JSON, and more with many
 * extensions.
 */
export const MAX_REQUEST_BYTES = 512 * 1024;

/** DiscoveryRequest, as far as it is read. */
export interface DiscoveryRequest {
  readonly versionInfo: string;
  readonly resourceNames: readonly string[];
  readonly typeUrl: string;
  readonly responseNonce: string;
  readonly errorDetail: { readonly message: string } | null;
  readonly node: { readonly id: string } | null;
}

interface Response {
  readonly version: string;
  readonly nonce: string;
  readonly secrets: readonly Secret[];
}

/** DiscoveryResponse, encoded. protobufjs encodes each `Any` from its JSON form. */
export function encodeResponse(response: Response): Buffer {
  return encodeMessage("envoy.service.discovery.v3.DiscoveryResponse", jsonResponse(response));
}

/** DiscoveryResponse in the JSON form of proto3, where `Any` has `@type` and bytes are base64. */
export function jsonResponse({ version, nonce, secrets }: Response): object {
  return {
    versionInfo: version,
    resources: secrets.map((secret) => ({ "@type": SECRET_TYPE, ...secretJson(secret) })),
    typeUrl: SECRET_TYPE,
    nonce,
  };
}

function secretJson(secret: Secret): object {
  const { name } = secret;
  switch (secret.kind) {
    case "certificate": {
      const [certificateChain, privateKey] = [secret.chain, secret.privateKey].map(inline);
      return { name, tlsCertificate: { certificateChain, privateKey } };
    }
    case "roots":
      return { name, validationContext: { trustedCa: inline(secret.roots) } };
    case "all": {
      const trustDomains = [{ name: secret.trustDomain, trustBundle: inline(secret.roots) }];
      const typedConfig = { "@type": VALIDATOR_CONFIG, trustDomains };
      return {
        name,
        validationContext: { customValidatorConfig: { name: VALIDATOR, typedConfig } },
      };
    }
  }
}

/** Why a type URL is refused, or null. Empty means the one type that there is. */
export function typeRefusal(typeUrl: string): string | null {
  return typeUrl === "" || typeUrl === SECRET_TYPE
    ? null
    : `This endpoint has only resources of the type ${SECRET_TYPE}, not ${JSON.stringify(typeUrl.slice(0, 300))}`;
}

/** DataSource. */
function inline(text: string): { readonly inlineBytes: string } {
  return { inlineBytes: base64(utf8(text)) };
}
