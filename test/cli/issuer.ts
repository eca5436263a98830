/**
 * An issuer of JWTs for logins, and the configuration of its auth method.
 * @module
 */
import { generateKeyPairSync, randomUUID, sign } from "node:crypto";

export interface TokenIssuer {
  /** Of an auth method of type jwt, which maps the claim `team`. */
  readonly config: object;
  /** A JWT that is valid for ten minutes, for one login. */
  token(claims: Readonly<Record<string, string>>): string;
}

export function createIssuer(): TokenIssuer {
  const { privateKey, publicKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
  const part = (value: object) => Buffer.from(JSON.stringify(value)).toString("base64url");
  return {
    config: {
      JWTValidationPubKeys: [publicKey.export({ type: "spki", format: "pem" })],
      JWTSupportedAlgs: ["ES256"],
      BoundIssuer: "ci",
      BoundAudiences: ["meshca"],
      ClaimMappings: { team: "team" },
    },
    token(claims) {
      const now = Math.floor(Date.now() / 1000);
      const times = { iat: now, nbf: now - 5, exp: now + 600, jti: randomUUID() };
      const input = `${part({ alg: "ES256" })}.${part({ iss: "ci", aud: "meshca", ...times, ...claims })}`;
      const key = { key: privateKey, dsaEncoding: "ieee-p1363" as const };
      return `${input}.${sign("sha256", Buffer.from(input), key).toString("base64url")}`;
    },
  };
}
