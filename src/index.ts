/**
 * What meshca gives to those who embed it: the composed CA and its settings.
 * @module
 */
export { compose, type Meshca, type Platform } from "./compose/process.ts";
export { readSettings, type Settings } from "./config/settings.ts";
export * from "./core/errors.ts";
