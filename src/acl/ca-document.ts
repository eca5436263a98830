/**
 * What the ACL reads and records in the CA document.
 * @module
 */
import type { AccessRecord } from "../core/state.ts";
import type { RecordSchema } from "./record-codec.ts";

export interface CaDocument {
  /** Called once there is a state. */
  clusterId(): string;
  /** What it records of the ACL. From then on, not null, the set document is required. */
  acl(): AccessRecord | null;
  /** Reads it again, since this replica may be behind. @throws {StoreError} */
  refresh(): Promise<void>;
  /** Commits what it records of the ACL. @throws {CaError} */
  record(next: AccessRecord): Promise<void>;
  /** The newest schema of records that every live replica reads. */
  recordSchema(): RecordSchema;
  /**
   * Commits that there are records of schema 3 from now on, so that a version that does not read
   * them does not start.
   * @throws {NotReadyError} while a live replica does not read them @throws {CaError}
   */
  raiseRecordSchema(): Promise<void>;
}
