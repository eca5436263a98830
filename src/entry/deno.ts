/**
 * Serves on Deno, by its server of `node:http`: Deno.serve has no bound to how long a connection
 * may be silent, or a head may take to come in.
 * @module
 */
export { serve } from "./node.ts";
