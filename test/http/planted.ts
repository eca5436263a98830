/**
 * Secrets that a test planted, and everything that came out of a server: what of the one is in the
 * other, in whatever form it may have been written.
 * @module
 */

type Content = string | Uint8Array;

interface Planted {
  readonly name: string;
  /** Each with what it is called. */
  readonly forms: readonly (readonly [form: string, text: string])[];
  /** How the names of the sources begin that may hold it. */
  readonly except: readonly string[];
}

export interface Search {
  /**
   * A secret to look for.
   * @param except how the names of sources begin that have it by intent, each of which must have
   * it.
   */
  plant(name: string, secret: Content, except?: readonly string[]): void;
  /** Something that came out. */
  collect(source: string, content: Content): void;
  /** The same of something that is not kept. */
  leaksIn(source: string, content: Content): string[];
  /** `secret as form in source`, for whatever is where it must not be. */
  leaks(): string[];
  /**
   * Exceptions that nothing was found for: there the search saw nothing, or the exception is none.
   */
  unused(): string[];
  readonly sources: readonly string[];
}

export function createSearch(): Search {
  const planted: Planted[] = [];
  const collected: { readonly source: string; readonly texts: readonly string[] }[] = [];
  const holds = (texts: readonly string[], { forms }: Planted): string | undefined =>
    forms.find(([, text]) => texts.some((content) => content.includes(text)))?.[0];
  const leaksIn = (source: string, texts: readonly string[]) =>
    planted.flatMap((secret) => {
      if (secret.except.some((start) => source.startsWith(start))) return [];
      const form = holds(texts, secret);
      return form === undefined ? [] : [`${secret.name} as ${form} in ${source}`];
    });
  return {
    plant(name, secret, except = []) {
      const bytes = typeof secret === "string" ? Buffer.from(secret) : Buffer.from(secret);
      // What is shorter would be found by chance.
      if (bytes.length < 12) throw new RangeError(`${name} is too short to be looked for`);
      planted.push({ name, forms: formsOf(bytes), except });
    },
    collect(source, content) {
      collected.push({ source, texts: textsOf(content) });
    },
    leaksIn: (source, content) => leaksIn(source, textsOf(content)),
    leaks: () => collected.flatMap(({ source, texts }) => leaksIn(source, texts)),
    unused: () =>
      planted.flatMap((secret) =>
        secret.except
          .filter(
            (start) =>
              !collected.some(
                ({ source, texts }) =>
                  source.startsWith(start) && holds(texts, secret) !== undefined,
              ),
          )
          .map((start) => `${secret.name} in ${start}`),
      ),
    get sources() {
      return collected.map(({ source }) => source);
    },
  };
}

/** As it came, and without what wraps base64 in PEM, also where PEM is in JSON. */
function textsOf(content: Content): string[] {
  const text = (typeof content === "string" ? Buffer.from(content) : Buffer.from(content)).toString(
    "latin1",
  );
  return [text, text.replace(/\\[nrt]|\s/g, "")];
}

/** What a secret may be written as, as text of one character for each octet. */
function formsOf(bytes: Buffer): Planted["forms"] {
  const text = bytes.toString("latin1");
  const hex = bytes.toString("hex");
  const json = JSON.stringify(text).slice(1, -1);
  return [
    ["it is", text],
    ["JSON", json],
    ["Go's JSON", json.replace(/[&<>]/g, (char) => `\\u00${char.charCodeAt(0).toString(16)}`)],
    ["a URL's part", encodeURIComponent(text)],
    ["form data", new URLSearchParams({ "": text }).toString().slice(1)],
    ["hexadecimal", hex],
    ["hexadecimal", hex.toUpperCase()],
    ["hexadecimal with colons", hex.replace(/..(?!$)/g, "$&:")],
    ["a list of octets", [...bytes].join(",")],
    ...[0, 1, 2].flatMap((offset) => {
      const inside = base64At(bytes, offset);
      return [
        ["base64", inside],
        ["base64url", inside.replaceAll("+", "-").replaceAll("/", "_")],
      ] as const;
    }),
  ];
}

/**
 * What base64 makes of octets that stand so many octets after a multiple of three, without what
 * depends on their neighbours.
 */
function base64At(bytes: Buffer, offset: number): string {
  const encoded = Buffer.concat([Buffer.alloc(offset), bytes])
    .toString("base64")
    .replace(/=+$/, "");
  const start = offset === 0 ? 0 : offset + 1;
  const end = (offset + bytes.length) % 3 === 0 ? encoded.length : encoded.length - 1;
  return encoded.slice(start, end);
}
