/**
 * What Bun's server can say of a request and do for it.
 * @module
 */
import type { RequestEnvironment } from "../compose/platform.ts";

/** The part of Bun.serve's server that is used. */
interface Runtime {
  timeout(request: Request, seconds: number): void;
  requestIP(request: Request): { readonly address: string } | null;
}

/** The address is asked for only where it counts: it costs a hundredth of a leaf. */
export function environmentOf(request: Request, runtime: Runtime): RequestEnvironment {
  return {
    holdOpen: () => runtime.timeout(request, 0),
    get remoteAddress() {
      return runtime.requestIP(request)?.address;
    },
  };
}
