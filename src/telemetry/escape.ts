/**
 * Escapes characters that a terminal or a reader of lines may act on.
 * @module
 */

/**
 * C0 and C1 controls with DEL, line ends of Unicode (U+2028, U+2029), changes of direction and the
 * byte order mark.
 */
const UNSAFE = /[\p{Cc}\u2028-\u202e\u2066-\u2069\ufeff]/gu;

/** The text with each of them as `\uXXXX`, which JSON reads as the same character. */
export function escapeUnsafe(text: string): string {
  return text.replace(UNSAFE, (char) => `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`);
}
