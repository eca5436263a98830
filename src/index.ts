/**
 * What meshca gives to those who embed it: the composed CA and its settings.
 * @module
 */
export type { Platform } from "./compose/platform.ts";
export { compose, type Meshca } from "./compose/process.ts";
export { readSettings, type Settings } from "./config/settings.ts";
export * from "./core/errors.ts";
