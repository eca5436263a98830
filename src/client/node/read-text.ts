/**
 * Reads the files that an agent is configured with: tokens, JWTs, CA certificates.
 * @module
 */
import { constants } from "node:fs";
import { open, stat } from "node:fs/promises";
import type { Log } from "../../core/ports/log.ts";
import { ClientError } from "../errors.ts";

/** More than the CA certificates of a whole system have, in octets. */
const MAX_BYTES = 4 * 1024 * 1024;
/** Permissions of other users. */
const OTHERS_READ = 0o004;

/**
 * A function that reads a regular file each time; links are followed, as Kubernetes' projected
 * volumes are made of them. It rejects with a ClientError `credentials_unavailable`.
 * @param secret whether a warning is logged, once, if every user of this machine can read it.
 */
export function textFile(path: string, log: Log, secret: boolean): () => Promise<string> {
  let warned = false;
  const quoted = JSON.stringify(path);
  return async () => {
    try {
      // Opening a FIFO would block: not every runtime honours O_NONBLOCK.
      if (!(await stat(path)).isFile()) throw unavailable(`${quoted} is not a regular file`);
      const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
      try {
        const { mode, size } = await file.stat();
        if (size > MAX_BYTES) throw unavailable(`${quoted} is larger than ${MAX_BYTES} octets`);
        if (secret && (mode & OTHERS_READ) !== 0 && !warned) {
          warned = true;
          log.warn("A secret file can be read by every user of this machine; run chmod 600 on it", {
            file: path,
          });
        }
        return await file.readFile("utf8");
      } finally {
        await file.close();
      }
    } catch (error) {
      if (error instanceof ClientError) throw error;
      const code = error instanceof Error && "code" in error ? String(error.code) : "unknown";
      throw unavailable(`${quoted}: ${code}`);
    }
  };
}

function unavailable(message: string): ClientError {
  return new ClientError("credentials_unavailable", message);
}
