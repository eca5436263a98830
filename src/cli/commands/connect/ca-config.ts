/**
 * The CA configuration in the form of Consul's command line: what `get-config` prints, and the file
 * that `set-config` reads. The texts are those of Consul (command/connect/ca, api/connect_ca.go).
 * @module
 */

import { type Json, readWholeJson, sortKeys, writeJson } from "../../../consul/go-json.ts";
import * as go from "../../../consul/go-struct.ts";
import { RequestError } from "../../../core/errors.ts";
import type { Connection } from "../../connection/connection.ts";
import { HttpFailure } from "../../connection/failures.ts";
import { goFileText } from "../../go-file-text.ts";
import { EXIT, Failure } from "../../output.ts";

/** api.CAConfig, in the order in which Go writes it. */
const FIELDS = {
  Provider: go.string("CAConfig.Provider"),
  Config: go.map("CAConfig.Config"),
  State: go.map("CAConfig.State", "map[string]string"),
  ForceWithoutCrossSigning: go.bool("CAConfig.ForceWithoutCrossSigning"),
  CreateIndex: go.uint64("CAConfig.CreateIndex"),
  ModifyIndex: go.uint64("CAConfig.ModifyIndex"),
};

export type CaConfig = go.JsonObject;

const PATH = "/v1/connect/ca/configuration";

/** @throws {Failure} */
export async function fetchConfig(connection: Connection): Promise<CaConfig> {
  const request = { method: "GET", path: PATH } as const;
  const { body } = await connection.call(request).catch((error: unknown) => {
    throw inConsulsWords("Error querying CA configuration", error);
  });
  try {
    return decode(body);
  } catch (error) {
    if (error instanceof RequestError)
      throw connection.foreign(`its answer to GET ${PATH} is not a configuration of a CA`);
    throw error;
  }
}

/** The text that `get-config` prints, with its line break. */
export function configText(config: CaConfig): string {
  // Consul indents with tabs; a line break within a string is escaped.
  return writeJson(config, true).replaceAll(/^(?: {4})+/gm, (blanks) =>
    "\t".repeat(blanks.length / 4),
  );
}

/**
 * Reads the file of `set-config`. Keys that are not of the API are left out, as in Consul.
 * @param readText of the file's path @throws {Failure} in Consul's words
 */
export function readConfigText(path: string, readText: (path: string) => string): CaConfig {
  let text: string;
  try {
    text = readText(path);
  } catch (error) {
    throw new Failure(EXIT.noInput, `Error reading config file: ${goFileText(path, error)}`, error);
  }
  try {
    return decode(text);
  } catch (error) {
    if (!(error instanceof RequestError)) throw error;
    throw new Failure(EXIT.data, `Error parsing config file: ${goJsonText(error)}`, error);
  }
}

/** @throws {Failure} in Consul's words */
export async function putConfig(
  connection: Connection,
  config: CaConfig,
  forceWithoutCrossSigning: boolean,
): Promise<{ readonly abandoned: readonly string[] }> {
  const body = { ...config, ForceWithoutCrossSigning: forceWithoutCrossSigning };
  const answer = await connection
    .call({
      ...{ method: "PUT", path: PATH, body: writeJson(body, false) },
      headers: { "Content-Type": "application/json" },
    })
    .catch((error: unknown) => {
      throw inConsulsWords("Error setting CA configuration", error);
    });
  return { abandoned: abandonedRoots(answer.header("x-meshca-abandoned-roots")) };
}

/** The roots that a forced change abandoned, from the header of its answer. */
export function abandonedRoots(header: string | null): readonly string[] {
  return header === null ? [] : header.split(/,\s*/).filter((id) => id !== "");
}

function decode(text: string): CaConfig {
  const json = readWholeJson(text);
  const known = Object.keys(FIELDS).map((name) => name.toLowerCase());
  const kept = go.isObject(json)
    ? Object.fromEntries(Object.entries(json).filter(([key]) => known.includes(key.toLowerCase())))
    : json;
  const decoded = go.decodeStruct(FIELDS, kept as Json, "api.CAConfig");
  return {
    Provider: decoded.Provider ?? "",
    Config: decoded.Config === null ? null : sortKeys(decoded.Config),
    State: decoded.State === null ? null : sortKeys(decoded.State),
    ForceWithoutCrossSigning: decoded.ForceWithoutCrossSigning ?? false,
    CreateIndex: decoded.CreateIndex ?? 0,
    ModifyIndex: decoded.ModifyIndex ?? 0,
  };
}

function inConsulsWords(prefix: string, error: unknown): unknown {
  if (error instanceof HttpFailure)
    return new Failure(error.exit, `${prefix}: ${error.consulText}`, error);
  return error;
}

/** encoding/json's text of Unmarshal, which differs from that of a Decoder at the end of the input. */
function goJsonText({ message }: RequestError): string {
  const text = message.replace(/^Request decode failed: /, "");
  return /^(?:unexpected )?EOF$/.test(text) ? "unexpected end of JSON input" : text;
}
