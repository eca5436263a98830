/**
 * What is said of a change: in the audit log before it is made, in the log after it.
 * @module
 */
import type { AuditRecord } from "../audit.ts";
import type { Operation } from "./operation.ts";

/** The record of a change that was decided on. @param subject the root that will be active. */
export function decided(action: string, subject: string, { caller }: Operation, code: string | null = null): AuditRecord {
  return { caller, action, subject, outcome: "allowed", code };
}

/** The names of the fields in which two configurations differ; never their values. */
export function changedFields(
  before: Readonly<Record<string, unknown>> | null | undefined,
  after: Readonly<Record<string, unknown>> | null,
): string[] {
  const [a, b] = [before ?? {}, after ?? {}];
  return [...new Set([...Object.keys(a), ...Object.keys(b)])].filter((key) => JSON.stringify(a[key]) !== JSON.stringify(b[key]));
}
