/**
 * Answers `toBeSigned` of the keys in the body, in workerd.
 * @module
 */
import { createSeededRandom } from "../fakes/clock.ts";
import { type KeyVector, toBeSigned } from "./tbs.ts";

export default {
  fetch: async (request: Request) =>
    Response.json(await toBeSigned((await request.json()) as KeyVector[], createSeededRandom)),
};
