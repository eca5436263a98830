/**
 * Settings whose value may be in a file.
 * @module
 */
import * as v from "valibot";
import type { Faults } from "./faults.ts";
import { cannotRead } from "./file-errors.ts";

/** What the settings are read from. */
export interface SettingsSource {
  /** Each setting's text by its name. */
  readonly given: Readonly<Record<string, string | undefined>>;
  /** Reads a file as text. @throws {Error} */
  readonly readFile: (path: string) => string;
  readonly faults: Faults;
}

/** The text of the file that a setting names; null if none is named or it cannot be read. */
export function readNamed(
  setting: string,
  { given, readFile, faults }: SettingsSource,
): string | null {
  const path = given[setting];
  if (path === undefined || path === "") return null;
  try {
    return readFile(path);
  } catch (error) {
    faults.add(setting, cannotRead(path, error));
    return null;
  }
}

/**
 * A secret of the setting of this name, or of the file that the setting `NAME_FILE` names; null
 * without both. That of a file is checked here, with white space around it removed.
 */
export function readSecret(
  name: string,
  schema: v.GenericSchema<string, string>,
  source: SettingsSource,
): string | null {
  const setting = `${name}_FILE`;
  const { given, faults } = source;
  if (!given[setting]) return given[name] ?? null;
  if (given[name] !== undefined)
    faults.add(setting, `is given together with ${name}; give one of them`);
  const text = readNamed(setting, source);
  if (text === null) return null;
  const read = v.safeParse(schema, text.trim());
  if (read.success) return read.output;
  faults.add(setting, read.issues[0].message);
  return null;
}
