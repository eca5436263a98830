/**
 * Transactions on a SQLite file, and errors of SQLite as errors of ours, with the path of the file.
 * @module
 */
import type { DatabaseSync } from "node:sqlite";
import * as v from "valibot";
import { CaError, StoreError } from "../../core/errors.ts";

/**
 * Runs a step in isolation from other connections.
 * @throws {StoreError} if SQLite fails,
 * @throws what the step throws
 */
export type Transaction = <T>(step: () => T) => T;

/** Makes what runs transactions on an open database. @param path of its file, for errors. */
export function createTransaction(db: DatabaseSync, path: string): Transaction {
  return (step) => {
    try {
      db.exec("BEGIN IMMEDIATE");
      try {
        const result = step();
        db.exec("COMMIT");
        return result;
      } catch (error) {
        rollBack(db);
        throw error;
      }
    } catch (error) {
      throw error instanceof CaError ? error : sqliteError(error, path);
    }
  };
}

/** A row by its schema; null if there is no row, for which runtimes give null or undefined. */
export function optionalRow<T>(schema: v.GenericSchema<unknown, T>, row: unknown): T | null {
  return row === undefined || row === null ? null : v.parse(schema, row);
}

/**
 * SQLite rolls back by itself after some errors, such as a full disk. The first error is the one
 * that counts.
 */
function rollBack(db: DatabaseSync): void {
  try {
    db.exec("ROLLBACK");
  } catch {
    // There was no transaction any more; else the next BEGIN fails.
  }
}

/** How soon a write may work again: an operator has to make room, in milliseconds. */
const RETRY_MS = 5000;

/**
 * Primary result codes of SQLite (sqlite3.h) that an operator can do something about; texts where a
 * runtime has no code.
 */
const REASONS: readonly (readonly [code: number, text: RegExp, reason: string])[] = [
  [13, /disk is full/i, "the disk is full"],
  [8, /readonly|read-only/i, "it is read-only, or its file system or folder is"],
  [10, /disk i\/o error/i, "the disk answers with an I/O error"],
  [
    14,
    /unable to open/i,
    "it cannot be opened or made; check that its folder is there and that this user may write in it",
  ],
  [3, /access permission denied/i, "permission denied"],
];

/** SQLite's reason in our terms, with the path. */
export function sqliteError(error: unknown, path: string): StoreError {
  const text = error instanceof Error ? error.message : "";
  const code = codeOf(error);
  const name = JSON.stringify(path);
  if (code === 5 || code === 6 || /locked|busy/i.test(text))
    return new StoreError("store_busy", `Cannot open ${name}: another process has it open`, {
      cause: error,
    });
  if (code === 26 || code === 11 || /not a database|malformed/i.test(text))
    return new StoreError(
      "state_corrupt",
      `Cannot open ${name}: it is not a SQLite database, or a damaged one`,
      { cause: error },
    );
  const known = REASONS.find(
    ([primary, words]) => primary === code || (code === null && words.test(text)),
  );
  const reason = known?.[2] ?? (text === "" ? "SQLite failed" : text);
  return new StoreError("store_unavailable", `Cannot use the SQLite file ${name}: ${reason}`, {
    cause: error,
    retryAfterMs: RETRY_MS,
  });
}

/** The primary result code: the lowest octet of an extended one. */
function codeOf(error: unknown): number | null {
  return error instanceof Error && "errcode" in error && typeof error.errcode === "number"
    ? error.errcode & 0xff
    : null;
}
