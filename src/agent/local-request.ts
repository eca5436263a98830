/**
 * Which requests the agent's routes answer: those of programs on this machine, and of no web page.
 * @module
 */
import { hostRefusal, proxyHeaders } from "../http/client.ts";

/**
 * Why a request is refused, or null. Private keys are handed out, so a browser must never be the
 * client, whatever page it shows: a script of another site sends `Origin` (Fetch §3.2), every request
 * of a page `Sec-Fetch-Site` other than `none` (Fetch Metadata §2.4), and a page that rebound its name
 * to this machine (DNS rebinding) sends its own name as Host. A proxy would open the routes to other
 * machines.
 * @param overSocket whether the connection is over a Unix socket, where clients choose any Host.
 * @param isOwn whether headers of a proxy, of these names, are on a request of the proxy itself.
 */
export function localRefusal(
  { headers }: Pick<Request, "headers">,
  overSocket: boolean,
  isOwn: (names: readonly string[]) => boolean = () => false,
): string | null {
  if (!overSocket && hostRefusal(headers.get("host"), LOOPBACK) !== null)
    return "Host is not a loopback name: use 127.0.0.1, [::1] or localhost";
  if (headers.has("origin"))
    return "Request has an Origin header: the agent answers no web page, since it hands out private keys";
  const site = headers.get("sec-fetch-site");
  if (site !== null && site !== "none")
    return "Request comes from a web page (Sec-Fetch-Site): the agent answers no web page, since it hands out private keys";
  const names = proxyHeaders(headers);
  if (names.length > 0 && !isOwn(names))
    return "Request was forwarded by a proxy: the agent answers programs of its own machine only";
  return null;
}
const LOOPBACK = { hosts: null, loopbackOnly: true };
