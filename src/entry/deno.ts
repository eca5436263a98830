/**
 * Serves on Deno, through its `node:http`: its own server ends no silent connection and keeps one that is to be closed.
 * @module
 */
export { serve } from "./node.ts";
