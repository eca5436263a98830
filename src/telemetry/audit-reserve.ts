/**
 * The reserve of the audit log for records of changes on a full disk: a file next to the log whose
 * blocks are allocated in advance. It is overwritten in place, so that nothing else that fills the
 * disk can take its blocks.
 * @module
 */
import { concat } from "../core/bytes.ts";

/** Octets of a reserve: records of some 2,500 changes. */
export const RESERVE_LENGTH = 1024 * 1024;
/** Fills the unused part: line ends, so that the file always consists of lines. */
const BLANK = 0x0a;

/** The file of a reserve: `RESERVE_LENGTH` octets, all written once. */
export interface ReserveFile {
  /** All of its octets. @throws {Error} */
  read(): Promise<Uint8Array>;
  /** Writes at a place in the file. Resolves when it would outlive a crash. @throws {Error} */
  write(at: number, bytes: Uint8Array): Promise<void>;
  close(): Promise<void>;
}

export class AuditReserve {
  readonly #file: ReserveFile;
  #end = 0;

  constructor(file: ReserveFile) {
    this.#file = file;
  }

  /** What a new file holds. */
  static blank(): Uint8Array {
    return new Uint8Array(RESERVE_LENGTH).fill(BLANK);
  }

  /**
   * The lines that an earlier process left in it, which may be in the log already.
   * @throws {Error}
   */
  async recover(): Promise<Uint8Array> {
    const bytes = await this.#file.read();
    let end = bytes.length;
    while (end > 0 && bytes[end - 1] === BLANK) end--;
    if (end === 0) return new Uint8Array();
    this.#end = end + 1;
    return concat(bytes.subarray(0, end), new Uint8Array([BLANK]));
  }

  /** Whether lines are in it that may not be in the log. */
  get used(): boolean {
    return this.#end > 0;
  }

  /** How many octets are free. */
  get left(): number {
    return RESERVE_LENGTH - this.#end;
  }

  /**
   * Adds a line, which outlives a crash then.
   * @returns false if there is no room for it.
   * @throws {Error}
   */
  async append(line: Uint8Array): Promise<boolean> {
    if (line.length > this.left) return false;
    const at = this.#end;
    this.#end += line.length;
    await this.#file.write(at, line);
    return true;
  }

  /** Empties it. @throws {Error} */
  async clear(): Promise<void> {
    await this.#file.write(0, new Uint8Array(this.#end).fill(BLANK));
    this.#end = 0;
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}
