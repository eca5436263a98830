/**
 * The file of the audit log, and the reserve beside it.
 * @module
 */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { fileReason } from "../config/file-errors.ts";
import { ConfigError } from "../core/errors.ts";
import type { Log } from "../core/ports/log.ts";
import type { AuditSink } from "../telemetry/audit.ts";
import { AuditReserve, RESERVE_LENGTH, type ReserveFile } from "../telemetry/audit-reserve.ts";

/**
 * Opens an audit log to append to it, made for its owner only if it is not there, and its reserve,
 * `PATH.reserve`.
 * @param worker the number of this process among those that append to the same log, each with a
 * reserve of its own; or null.
 * @throws {ConfigError} if the log cannot be opened. A reserve that cannot be made is a warning.
 */
export async function openAuditFile(
  path: string,
  worker: number | null,
  log: Log,
): Promise<AuditSink> {
  const file = await open(path, "a", 0o600).catch((error: unknown) => {
    throw new ConfigError(
      `MESHCA_AUDIT: cannot open ${JSON.stringify(path)}: ${fileReason(error) ?? "unknown"}`,
      [],
      { cause: error },
    );
  });
  // A pipe or a device has no disk of its own to be full.
  const reserve = (await file.stat()).isFile()
    ? await openReserve(`${path}.reserve${worker === null ? "" : `-${worker}`}`, log)
    : null;
  return {
    write: async (bytes) => (await file.write(bytes)).bytesWritten,
    // What is no plain file, a pipe or a device, cannot be synced, and needs not.
    sync: () =>
      file.datasync().catch((error: unknown) => {
        if (
          !(
            error instanceof Error &&
            "code" in error &&
            (error.code === "EINVAL" || error.code === "ENOTSUP")
          )
        )
          throw error;
      }),
    close: () => file.close(),
    reserve,
  };
}

async function openReserve(path: string, log: Log): Promise<AuditReserve | null> {
  try {
    // A link in its place would have another file overwritten.
    const file = await open(
      path,
      constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW,
      0o600,
    );
    try {
      await allocate(file);
      return new AuditReserve(reserveFile(file));
    } catch (error) {
      await file.close();
      throw error;
    }
  } catch (error) {
    const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
    log.warn(
      "Cannot make the reserve of the audit log; changes are refused while the log cannot be written",
      { path, code },
    );
    return null;
  }
}

/** Writes what is missing of the reserve, so that its blocks are allocated. */
async function allocate(file: FileHandle): Promise<void> {
  const stat = await file.stat();
  if (!stat.isFile())
    throw Object.assign(new Error("The reserve is not a regular file"), { code: "not_a_file" });
  if (stat.size >= RESERVE_LENGTH) return;
  try {
    await writeAll(file, stat.size, AuditReserve.blank().subarray(stat.size));
    await file.sync();
  } catch (error) {
    // What was written of it would take the room that the log itself needs.
    await file.truncate(stat.size);
    throw error;
  }
}

function reserveFile(file: FileHandle): ReserveFile {
  return {
    async read() {
      const bytes = new Uint8Array(RESERVE_LENGTH);
      let length = 0;
      while (length < bytes.length) {
        const { bytesRead } = await file.read(bytes, length, bytes.length - length, length);
        if (bytesRead === 0) break;
        length += bytesRead;
      }
      return bytes.subarray(0, length);
    },
    async write(at, bytes) {
      await writeAll(file, at, bytes);
      await file.datasync();
    },
    close: () => file.close(),
  };
}

async function writeAll(file: FileHandle, at: number, bytes: Uint8Array): Promise<void> {
  for (let written = 0; written < bytes.length; )
    written += (await file.write(bytes, written, bytes.length - written, at + written))
      .bytesWritten;
}
