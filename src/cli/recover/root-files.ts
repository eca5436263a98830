/**
 * The root that `meshca recover` sends, in files: made by it, left by an earlier call that did not
 * come to its end, or made elsewhere.
 * @module
 */
import { existsSync, rmSync } from "node:fs";
import { fileReason } from "../../config/file-errors.ts";
import { FormatError } from "../../core/errors.ts";
import type { Clock, Random } from "../../core/ports/clock.ts";
import { type Certificate, pemOf, readCertificatePem } from "../../core/x509/certificate.ts";
import type { CaKeySpec } from "../../core/x509/keys.ts";
import { quoted, readInput, readKeyFile, requireNew, writeNewFiles } from "../files.ts";
import { EXIT, Failure } from "../output.ts";
import type { Terminal } from "../terminal.ts";
import { createTlsCa } from "../tls/certificates.ts";
import { keyText } from "../tls/command-values.ts";

/** The files in this folder that the command makes. */
export const OWN_FILES: RootFiles = {
  certificate: "meshca-recovery-root.pem",
  key: "meshca-recovery-root-key.pem",
};

export interface RootFiles {
  readonly certificate: string;
  readonly key: string;
}

export interface RecoveryRoot {
  readonly files: RootFiles;
  readonly certificate: Certificate;
  readonly certificatePem: string;
  readonly keyPem: string;
}

interface MakeOptions {
  readonly trustDomain: string;
  readonly key: CaKeySpec;
  readonly commonName: string | null;
  readonly days: number;
  readonly random: Random;
  readonly clock: Clock;
}

/** @throws {Failure} if one of the files that would be made exists, with the command that goes on */
export function requireNoOwnFiles(): void {
  const found = [OWN_FILES.certificate, OWN_FILES.key].filter((path) => existsSync(path));
  if (found.length === 0) return;
  throw new Failure(
    EXIT.cannotCreate,
    found.length === 2
      ? `The files ${found.join(" and ")} exist and are not overwritten; if they are of a recovery that was interrupted, meshca recover --continue goes on with them, else remove them`
      : `The file ${found[0]} exists and is not overwritten; remove it, or run meshca recover in another folder`,
  );
}

/** Makes a root and writes its files, as `tls ca create` does. @throws {Failure} if one exists */
export async function makeRootFiles({
  trustDomain,
  key,
  commonName,
  days,
  random,
  clock,
}: MakeOptions): Promise<RecoveryRoot> {
  requireNew([OWN_FILES.certificate, OWN_FILES.key]);
  const made = await createTlsCa({
    ...{ trustDomain, key, commonName, days, random },
    permitted: null,
    now: clock.now(),
  });
  const certificatePem = pemOf(made.certificate);
  const keyPem = await keyText(made.key);
  writeNewFiles([
    { path: OWN_FILES.certificate, text: certificatePem, mode: 0o666 },
    { path: OWN_FILES.key, text: keyPem, mode: 0o600 },
  ]);
  return { files: OWN_FILES, certificate: made.certificate, certificatePem, keyPem };
}

/**
 * Reads the files of a root. The server checks what the root must be.
 * @throws {Failure} if one cannot be read, or the key may be read by other users
 */
export async function readRootFiles(files: RootFiles, terminal: Terminal): Promise<RecoveryRoot> {
  const certificatePem = await readInput(files.certificate, "The certificate", terminal);
  const keyPem = readKeyFile(files.key);
  try {
    return { files, certificate: readCertificatePem(certificatePem), certificatePem, keyPem };
  } catch (error) {
    if (!(error instanceof FormatError)) throw error;
    throw new Failure(
      EXIT.data,
      `The file ${JSON.stringify(files.certificate)} is not a certificate in PEM: ${error.message}`,
      error,
    );
  }
}

/** Whether both files of an earlier call are there. @throws {Failure} with what to do if not */
export function requireOwnFiles(): void {
  const missing = [OWN_FILES.certificate, OWN_FILES.key].filter((path) => !existsSync(path));
  if (missing.length === 0) return;
  throw new Failure(
    EXIT.noInput,
    `There is no recovery to continue in this folder: ${missing.join(" and ")} ${missing.length === 1 ? "is" : "are"} missing; run meshca recover without --continue`,
  );
}

/** Deletes a key file. @throws {Failure} with the command that does */
export function deleteKeyFile(path: string): void {
  try {
    rmSync(path);
  } catch (error) {
    throw new Failure(
      EXIT.io,
      `The server has taken the root, and the file with its key cannot be deleted (${fileReason(error) ?? "unknown reason"}); run rm ${quoted(path)}`,
      error,
    );
  }
}
