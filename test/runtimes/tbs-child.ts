/**
 * Prints `toBeSigned` of the keys in its one argument, on whatever runs it.
 * @module
 */
import { createSeededRandom } from "../fakes/clock.ts";
import { toBeSigned } from "./tbs.ts";

console.log(
  JSON.stringify(await toBeSigned(JSON.parse(process.argv[2] ?? "[]"), createSeededRandom)),
);
