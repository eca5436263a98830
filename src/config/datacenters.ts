/**
 * The settings about other datacenters: the primary, and the servers to which requests for another
 * datacenter may be forwarded.
 * @module
 */
import * as v from "valibot";
import { ConfigError, FormatError } from "../core/errors.ts";
import { nearest } from "../core/nearest.ts";
import { isLoopback, readServerAddress } from "../net/server-address.ts";
import type { Faults } from "./faults.ts";
import { cannotRead } from "./file-errors.ts";
import { readJsonFile, withoutListsOfOne } from "./file-syntax.ts";
import { readSecret, type SettingsSource } from "./named-text.ts";
import { datacenter, replicationToken, type Schema } from "./settings-schema.ts";
import { listOf, rootPin } from "./values.ts";

/** The servers of another datacenter. At most one of CA file and pin is given. */
export interface DatacenterServers {
  /** http or https URLs, the preferred one first. */
  readonly servers: readonly URL[];
  /** The content of the CA file, in PEM. */
  readonly caPem: string | null;
  /** `sha256:` and 64 hexadecimal digits, of the DER of a root. */
  readonly caPin: string | null;
}

/** The primary datacenter, of which this one is a secondary. */
export interface PrimarySettings extends DatacenterServers {
  readonly datacenter: string;
  /** The token of this datacenter in the primary, as it was read last; null: none. */
  readonly token: string | null;
  /** The file that it was read from. */
  readonly tokenFile: string | null;
}

/** What SIGHUP reads again, besides the log level. */
export interface DatacenterSettings {
  /** Null: this datacenter is the primary, or the only one. */
  readonly primary: PrimarySettings | null;
  /** As given, in lower case; null if it is not. */
  readonly primaryDatacenter: string | null;
  /** The other datacenters to which requests may be forwarded, the primary among them. */
  readonly datacenters: ReadonlyMap<string, DatacenterServers>;
}

export interface DatacenterSource extends SettingsSource {
  /**
   * Whether the platform verifies servers by the public CAs, and by nothing else. @default false
   */
  readonly publicCas: boolean;
  /** Where the list of other datacenters is given: its setting, or the key of the file. */
  readonly listName: string;
}

type Given = v.InferOutput<typeof Schema>;

/** The settings whose meaning needs MESHCA_PRIMARY_DATACENTER. */
const OF_PRIMARY = [
  "MESHCA_PRIMARY_SERVERS",
  "MESHCA_PRIMARY_CA_FILE",
  "MESHCA_PRIMARY_CA_PIN",
] as const;

/** Reads what is given about other datacenters, and collects the faults. */
export function readDatacenters(given: Given, source: DatacenterSource): DatacenterSettings {
  const primary = readPrimary(given, source);
  const datacenters = readOthers(given.MESHCA_DATACENTERS, given.MESHCA_DATACENTER, source);
  if (primary !== null && !datacenters.has(primary.datacenter)) {
    const { servers, caPem, caPin } = primary;
    datacenters.set(primary.datacenter, { servers, caPem, caPin });
  }
  return { primary, primaryDatacenter: given.MESHCA_PRIMARY_DATACENTER ?? null, datacenters };
}

function readPrimary(given: Given, source: DatacenterSource): PrimarySettings | null {
  const { faults } = source;
  const { MESHCA_PRIMARY_DATACENTER: name, MESHCA_PRIMARY_SERVERS: list } = given;
  // A secondary that was taken for a primary would create a CA of its own.
  if (name === undefined)
    for (const setting of OF_PRIMARY)
      if (given[setting] !== undefined)
        faults.add(setting, "needs MESHCA_PRIMARY_DATACENTER, the name of the primary datacenter");
  const token = readSecret("MESHCA_REPLICATION_TOKEN", replicationToken, source);
  const { MESHCA_PRIMARY_CA_FILE: caFile = null, MESHCA_PRIMARY_CA_PIN: pin = null } = given;
  const servers = readServers(
    { list: listOf(list ?? ""), caFile, pin },
    {
      ...{ servers: "MESHCA_PRIMARY_SERVERS", caPin: "MESHCA_PRIMARY_CA_PIN" },
      caFile: "MESHCA_PRIMARY_CA_FILE",
    },
    source,
  );
  // One configuration may serve all datacenters, the primary too.
  if (name === undefined || name === given.MESHCA_DATACENTER) return null;
  if (servers.servers.length === 0 && !faults.has("MESHCA_PRIMARY_SERVERS"))
    faults.add(
      "MESHCA_PRIMARY_SERVERS",
      `is required: MESHCA_PRIMARY_DATACENTER names another datacenter than this one, ${given.MESHCA_DATACENTER}; give the URLs of its servers, or leave MESHCA_PRIMARY_DATACENTER out if this is the primary`,
    );
  const tokenFile = given.MESHCA_REPLICATION_TOKEN_FILE ?? null;
  return { datacenter: name, ...servers, token, tokenFile };
}

const text = v.string("must be text");
const Entry = v.strictObject(
  {
    servers: v.union([v.array(text), text], "must be a list of URLs"),
    ca_file: v.optional(v.pipe(text, v.nonEmpty("must name a file"))),
    ca_pin: v.optional(rootPin),
  },
  ({ expected }) =>
    expected === "never"
      ? "is not a key"
      : expected === '"servers"'
        ? "is required: a list of URLs"
        : "must be an object with servers",
);

/** The other datacenters. The entry of this one is checked and left out. */
function readOthers(
  json: string | undefined,
  own: string,
  source: DatacenterSource,
): Map<string, DatacenterServers> {
  const { faults, listName } = source;
  const found = new Map<string, DatacenterServers>();
  for (const [key, value] of Object.entries(entriesOf(json, listName, faults))) {
    const at = `${listName}.${key}`;
    const name = v.safeParse(datacenter, key);
    if (!name.success) {
      faults.add(at, `the name ${name.issues[0].message}`);
      continue;
    }
    if (found.has(name.output)) faults.add(at, "is given twice: case does not matter in a name");
    const entry = v.safeParse(Entry, withoutListsOfOne(value));
    if (!entry.success) {
      for (const issue of entry.issues) {
        const path = v.getDotPath(issue);
        faults.add(path === null ? at : `${at}.${path}`, keyFault(issue, path));
      }
      continue;
    }
    const { servers, ca_file: caFile = null, ca_pin: pin = null } = entry.output;
    const names = { servers: `${at}.servers`, caFile: `${at}.ca_file`, caPin: `${at}.ca_pin` };
    const given = { list: [servers].flat(), caFile, pin };
    const read = readServers(given, names, source);
    if (given.list.length === 0) faults.add(names.servers, "must have at least one server");
    found.set(name.output, read);
  }
  found.delete(own);
  return found;
}

function keyFault({ message, expected }: v.BaseIssue<unknown>, path: string | null): string {
  if (expected !== "never") return message;
  const known = Object.keys(Entry.entries);
  const near = nearest(path ?? "", known);
  return `is not a key of a datacenter; ${near === null ? `known are ${known.join(", ")}` : `did you mean ${near}?`}`;
}

/** The object in a JSON text; empty if it has faults. */
function entriesOf(json: string | undefined, name: string, faults: Faults): object {
  if (json === undefined) return {};
  let reason = 'must be a JSON object, such as {"dc2": {"servers": ["https://ca.example:8501"]}}';
  try {
    const value = readJsonFile(json);
    if (typeof value === "object" && value !== null && !Array.isArray(value)) return value;
  } catch (error) {
    if (error instanceof ConfigError) reason = error.message;
  }
  faults.add(name, reason);
  return {};
}

interface GivenServers {
  readonly list: readonly string[];
  readonly caFile: string | null;
  readonly pin: string | null;
}
/** How the settings of some servers are called in a fault. */
type Names = Readonly<Record<"servers" | "caFile" | "caPin", string>>;

/** Checks the servers of a datacenter. A fault does not quote an address, which may have a password. */
function readServers(
  { list, caFile, pin }: GivenServers,
  names: Names,
  { readFile, faults, publicCas }: DatacenterSource,
): DatacenterServers {
  const canVerify = publicCas || caFile !== null || pin !== null;
  const servers: URL[] = [];
  for (const [i, address] of list.entries()) {
    const fault = (reason: string) => faults.add(names.servers, `address ${i + 1} ${reason}`);
    try {
      const url = readServerAddress(address, true);
      if (servers.some(({ href }) => href === url.href)) fault("is given twice");
      else servers.push(url);
      if (!canVerify && !isLoopback(url))
        fault(
          `is another machine, which cannot be verified at the first contact; set ${names.caFile}, or ${names.caPin} with the SHA-256 of a root`,
        );
    } catch (error) {
      if (!(error instanceof FormatError)) throw error;
      fault(error.message);
    }
  }
  if (caFile !== null && pin !== null)
    faults.add(names.caPin, `is given together with ${names.caFile}; give one of them`);
  if (publicCas) {
    for (const [name, value] of [
      [names.caFile, caFile],
      [names.caPin, pin],
    ] as const)
      if (value !== null)
        faults.add(name, "has no meaning in a Worker, which verifies servers by the public CAs");
    return { servers, caPem: null, caPin: null };
  }
  return {
    servers,
    caPem: caFile === null ? null : readCaFile(caFile, names.caFile, readFile, faults),
    caPin: pin === null ? null : `sha256:${pin}`,
  };
}

function readCaFile(
  path: string,
  name: string,
  readFile: DatacenterSource["readFile"],
  faults: Faults,
): string | null {
  try {
    const pem = readFile(path);
    if (pem.includes("-----BEGIN CERTIFICATE-----")) return pem;
    faults.add(name, `${JSON.stringify(path)} has no certificate in PEM`);
  } catch (error) {
    faults.add(name, cannotRead(path, error));
  }
  return null;
}
