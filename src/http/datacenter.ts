/**
 * The `dc` parameter: one datacenter is served here.
 * @module
 */
import { RequestError } from "../core/errors.ts";

/** A datacenter that is not ours; roots answer it with headers of their own. */
export class UnknownDatacenterError extends RequestError {
  readonly headers: Readonly<Record<string, string>>;

  constructor(headers: Readonly<Record<string, string>>) {
    // Consul's text (consul-ca.md §1.2).
    super("request_malformed", "No path to datacenter");
    this.headers = headers;
  }
}

/** `?datacenter=` wins over `?dc=`. @throws {UnknownDatacenterError} */
export function requireDatacenter(
  params: ReadonlyMap<string, string>,
  ours: string,
  headers: Readonly<Record<string, string>> = {},
): void {
  const wanted = params.get("datacenter") || params.get("dc") || ours;
  if (wanted.toLowerCase() !== ours.toLowerCase()) throw new UnknownDatacenterError(headers);
}
