/**
 * What a terminal shows when the server is ready: its URL, and commands that work in its state.
 * @module
 */
import type { Meshca } from "../compose/process.ts";
import type { Settings } from "../config/settings.ts";

interface BannerOptions {
  readonly url: string;
  readonly meshca: Pick<Meshca, "ca" | "firstTokenFile">;
  readonly settings: Pick<Settings, "acl" | "tls" | "managementToken">;
}

/** The text, with its line breaks. */
export function banner({ url: listening, meshca, settings }: BannerOptions): string {
  const { snapshot, status } = meshca.ca;
  const listens = `meshca listens on ${listening}`;
  const url = reachable(listening);
  if (snapshot === null)
    return `${listens} (${status.stopped === null ? "connect is disabled" : "changes are stopped, see /readyz"})\n`;
  const { trustDomain } = snapshot.state;
  const isOwn = settings.tls?.source.kind === "self";
  const [curl, unverified] = [
    `curl -sS --fail-with-body${isOwn ? " --cacert CA.pem" : ""}`,
    `curl -sS${isOwn ? "k" : ""}`,
  ];
  const paragraphs = [`${listens}\ntrust domain ${trustDomain}`];
  const obstacle = meshca.ca.obstacle();
  if (obstacle !== null)
    paragraphs.push(`No leaf can be signed now: ${obstacle}\n  ${unverified} "${url}/readyz"`);
  else {
    if (isOwn)
      paragraphs.push(
        `Fetch the roots, to verify this server by:\n  ${unverified} "${url}/v1/connect/ca/roots?pem=true" -o CA.pem`,
      );
    paragraphs.push(...tokenParagraphs(curl, url, meshca.firstTokenFile, settings));
    const token = settings.acl === "off" ? "" : ' -H "X-Consul-Token: $CONSUL_HTTP_TOKEN"';
    const request =
      "openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout web.key -subj /";
    paragraphs.push(
      `Get a leaf:\n  ${request} | ${curl}${token} --data-binary @- "${url}/v1/connect/ca/sign?service=web"`,
    );
  }
  return `${paragraphs.join("\n\n")}\n\n`;
}

/** The URL with a loopback address if the server listens on all addresses. */
function reachable(url: string): string {
  return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:");
}

/** How to get a token, if one is needed. */
function tokenParagraphs(
  curl: string,
  url: string,
  file: string | null,
  { acl, managementToken }: BannerOptions["settings"],
): string[] {
  if (acl === "off") return [];
  if (file !== null && managementToken === null)
    return [
      `Make the first token:\n  ${curl} -X PUT -H "X-Consul-Token: $(cat '${file.replaceAll("'", "'\\''")}')" "${url}/v1/acl/bootstrap"`,
    ];
  return ["Access control is on: put a token that may sign for the service into CONSUL_HTTP_TOKEN"];
}
