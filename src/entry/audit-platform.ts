/**
 * The file of the audit log, and the file that reserves disk space for it.
 * @module
 */
import { constants } from "node:fs";
import { type FileHandle, open } from "node:fs/promises";
import { errorCode, fileReason } from "../config/file-errors.ts";
import { ConfigError } from "../core/errors.ts";
import type { Log } from "../core/ports/log.ts";
import type { AuditSink } from "../telemetry/audit.ts";
import { AuditReserve, RESERVE_LENGTH, type ReserveFile } from "../telemetry/audit-reserve.ts";

/**
 * Opens an audit log for appending, and its reserve, `PATH.reserve`. New files are private.
 * @param worker the number of this process among the workers that append to the same log, each with
 * its own reserve; or null.
 * @throws {ConfigError} if the log cannot be opened. A reserve that cannot be created is logged.
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
  // Only a regular file can run out of disk space.
  const reserve = (await file.stat()).isFile()
    ? await openReserve(`${path}.reserve${worker === null ? "" : `-${worker}`}`, log)
    : null;
  return {
    write: async (bytes) => (await file.write(bytes)).bytesWritten,
    // A pipe or a device cannot be synced, and need not be.
    sync: () =>
      file.datasync().catch((error: unknown) => {
        const code = errorCode(error);
        if (code !== "EINVAL" && code !== "ENOTSUP") throw error;
      }),
    close: () => file.close(),
    reserve,
  };
}

async function openReserve(path: string, log: Log): Promise<AuditReserve | null> {
  try {
    // Following a link would overwrite another file.
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
    const code = errorCode(error) ?? "unknown";
    log.warn(
      "Cannot create the reserve of the audit log: changes are refused whenever the log cannot be written",
      { path, code },
    );
    return null;
  }
}

/** Writes the missing part of the reserve, so that its blocks are allocated. */
async function allocate(file: FileHandle): Promise<void> {
  const stat = await file.stat();
  if (!stat.isFile())
    throw Object.assign(new Error("The reserve is not a regular file"), { code: "not_a_file" });
  if (stat.size >= RESERVE_LENGTH) return;
  try {
    await writeAll(file, stat.size, AuditReserve.blank().subarray(stat.size));
    await file.sync();
  } catch (error) {
    // A partial reserve would take space that the log itself needs.
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
