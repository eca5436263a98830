/**
 * The texts of the `.proto` files. They lie in `proto/` next to this file wherever meshca is
 * installed; `build/binary.ts` replaces this file by one that holds the texts.
 * @module
 */
import { readFileSync } from "node:fs";

/** A path below `proto/`. @throws {Error} if there is no such file */
export const protoText = (path: string): string =>
  readFileSync(new URL(`proto/${path}`, import.meta.url), "utf8");
