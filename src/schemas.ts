/**
 * Valibot schemas of values that several stored documents have: instants and certificates.
 * @module
 */
import * as v from "valibot";
import { fromBase64 } from "./core/bytes.ts";
import { readOrNull } from "./core/errors.ts";
import { type Certificate, readCertificate } from "./core/x509/certificate.ts";

/** An ISO 8601 timestamp, read as a Date. */
export const instant = v.pipe(
  v.string(),
  v.isoTimestamp(),
  v.transform((text) => new Date(text)),
);

/** A certificate as base64 of its DER encoding. */
export const certificate = v.pipe(
  v.string(),
  v.rawTransform(({ dataset, addIssue, NEVER }): Certificate => {
    const der = fromBase64(dataset.value);
    const read = der === null ? null : readOrNull(() => readCertificate(der));
    if (read !== null) return read;
    addIssue({ message: "is not a certificate" });
    return NEVER;
  }),
);
