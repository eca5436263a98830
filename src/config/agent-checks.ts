/**
 * What the parts of the agent's configuration require of each other: names that exist, paths that
 * do not collide, connections that are verified.
 * @module
 */
import { hostPort, isLoopback } from "./addresses.ts";
import { DeliveryReader, type Report, requireShort } from "./agent-deliveries.ts";
import { type AgentKeys, isLoopbackUrl } from "./agent-schema.ts";
import type { AgentSettings, IdentitySettings } from "./agent-types.ts";

interface Around {
  /** Of the environment, or null. */
  readonly token: string | null;
  /** The absolute form of a path. */
  resolve(path: string): string;
}

const NOTHING =
  "has nothing to deliver: give --socket, --dir or --listen, or sockets, folders or listen in the configuration file";

type Checked = Omit<AgentSettings, "token">;

/** The settings, without the token of the environment. */
export function checkAgent(keys: AgentKeys, { token, resolve }: Around, report: Report): Checked {
  const path = (given: string | undefined) => (given === undefined ? null : resolve(given));
  const identities = keys.identities.map(
    (identity): IdentitySettings => ({
      service: identity.service ?? null,
      dnsNames: identity.dns_names,
      ipAddresses: identity.ip_addresses,
      ttlMs: identity.ttl ?? null,
    }),
  );
  const reader = new DeliveryReader(identities, resolve, report);
  const { listen } = keys;
  const settings: Checked = {
    servers: keys.servers,
    caFile: path(keys.ca_file),
    caPin: keys.ca_pin ?? null,
    datacenter: keys.datacenter ?? null,
    tokenFile: path(keys.token_file),
    login: readLogin(keys.login, resolve, report),
    identities,
    sockets: keys.sockets.map((socket, i) => reader.socket(socket, `sockets.${i}`)),
    folders: keys.folders.map((folder, i) => reader.folder(folder, `folders.${i}`)),
    listen:
      listen !== undefined && "path" in listen ? { path: resolve(listen.path) } : (listen ?? null),
    defaultIntentionPolicy: keys.default_intention_policy ?? null,
    cacheDir: path(keys.cache_dir),
    logLevel: keys.log_level,
    onceTimeoutMs: keys.once_timeout,
  };
  checkServers(settings, report);
  checkCredentials(settings, token !== null, report);
  checkDelivery(settings, report);
  checkPaths(settings, report);
  checkAddresses(settings, report);
  return settings;
}

function readLogin(
  login: AgentKeys["login"],
  resolve: Around["resolve"],
  report: Report,
): AgentSettings["login"] {
  if (login === undefined) return null;
  const { auth_method: authMethod, token_file: tokenFile } = login;
  if (authMethod === undefined) report("login.auth_method", "is required for a login");
  if (tokenFile === undefined) report("login.token_file", "is required for a login");
  return { authMethod: authMethod ?? "", tokenFile: resolve(tokenFile ?? "") };
}

/** What keeps an impostor from being taken for the server, and a token from being read on its way. */
function checkServers({ servers, caFile, caPin }: Checked, report: Report): void {
  for (const [i, url] of servers.entries()) {
    if (servers.indexOf(url) !== i) report(`servers.${i}`, `${url} is given twice`);
    if (isLoopbackUrl(url)) continue;
    if (url.startsWith("http:"))
      report(
        `servers.${i}`,
        `${url} is plain HTTP, which is allowed to loopback addresses only: use https`,
      );
    else if (caFile === null && caPin === null)
      report(
        `servers.${i}`,
        `${url} cannot be verified: give ca_file (--ca-file), or ca_pin (--ca-pin) with the SHA-256 of a root`,
      );
  }
  if (caFile !== null && caPin !== null)
    report("ca_pin", "is given together with ca_file; give one of them");
}

function checkCredentials(
  { identities, tokenFile, login }: Checked,
  hasToken: boolean,
  report: Report,
): void {
  if (login !== null && (hasToken || tokenFile !== null))
    report("login", "is given together with a token; give one of them");
  const isKnown = hasToken || tokenFile !== null || login !== null;
  for (const [i, { service }] of identities.entries()) {
    const at = `identities.${i}.service`;
    const first = identities.findIndex((other) => other.service === service);
    if (service === null && identities.length > 1)
      report(at, "is required if there are several identities");
    else if (service === null && !isKnown)
      report(at, "is required without a token or a login whose identity could be taken");
    else if (first !== i)
      report(at, `${JSON.stringify(service)} is the service of another identity`);
  }
}

function checkDelivery({ identities, sockets, folders, listen }: Checked, report: Report): void {
  if (sockets.length === 0 && folders.length === 0 && listen === null) report("", NOTHING);
  for (const [key, { length }] of [
    ["sockets", sockets],
    ["folders", folders],
  ] as const)
    if (length > 0 && identities.length === 0)
      report(key, "need an identity: give --service, or identities in the configuration file");
  if (listen !== null) return;
  const delivered = new Set([
    ...sockets.flatMap((socket) => socket.identities),
    ...folders.map(({ identity }) => identity),
  ]);
  for (const i of identities.keys())
    if (!delivered.has(i) && sockets.length + folders.length > 0)
      report(
        `identities.${i}`,
        "is delivered on no socket and in no folder, and listen is not set",
      );
}

/** Two things at one path, or keys in a folder that something else replaces. */
function checkPaths({ sockets, folders, listen, cacheDir }: Checked, report: Report): void {
  const files = [
    ...sockets.flatMap(({ at }, i) => ("path" in at ? [[`sockets.${i}.path`, at.path]] : [])),
    ...(listen !== null && "path" in listen ? [["listen", listen.path]] : []),
  ] as [at: string, path: string][];
  if (listen !== null && "path" in listen) requireShort(listen.path, "listen", report);
  const folderPaths = [
    ...folders.map(({ path }, i) => [`folders.${i}.path`, path] as const),
    ...(cacheDir === null ? [] : [["cache_dir", cacheDir] as const]),
  ];
  for (const [i, [at, path]] of files.entries()) {
    const same = files.slice(0, i).find(([, other]) => other === path);
    if (same !== undefined) report(at, `${JSON.stringify(path)} is the path of ${same[0]}, too`);
    const folder = folderPaths.find(([, other]) => path === other || isBelow(path, other));
    if (folder !== undefined)
      report(
        at,
        `${JSON.stringify(path)} is in the folder of ${folder[0]}, whose content the agent replaces`,
      );
  }
  for (const [i, [at, path]] of folderPaths.entries())
    for (const [other, otherPath] of folderPaths.slice(0, i)) {
      if (path === otherPath) report(at, `${JSON.stringify(path)} is the folder of ${other}, too`);
      else if (isBelow(path, otherPath) || isBelow(otherPath, path))
        report(
          at,
          `${JSON.stringify(path)} and the folder of ${other}, ${JSON.stringify(otherPath)}, are one inside the other`,
        );
    }
}

const isBelow = (path: string, folder: string): boolean =>
  path.startsWith(folder.endsWith("/") ? folder : `${folder}/`);

/** Every local user can connect to an address; every other machine must not. */
function checkAddresses({ sockets, listen }: Checked, report: Report): void {
  const given = [
    ...sockets.map(({ at }, i) => [`sockets.${i}.listen`, at] as const),
    ...(listen === null ? [] : [["listen", listen] as const]),
  ];
  const seen = new Map<string, string>();
  for (const [at, address] of given) {
    if ("path" in address) continue;
    const text = hostPort(address.host, address.port);
    if (!isLoopback(address.host))
      report(
        at,
        `${text} is not a loopback address: private keys are handed out there; use 127.0.0.1, [::1] or a Unix socket`,
      );
    const other = seen.get(text);
    if (other !== undefined && address.port !== 0)
      report(at, `${text} is the address of ${other}, too`);
    seen.set(text, at);
  }
}
