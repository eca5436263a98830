/**
 * X.509 times (RFC 5280 §4.1.2.5): UTCTime through 2049, GeneralizedTime from 2050, whole seconds,
 * Z.
 * @module
 */
import { type Bytes, fromUtf8, utf8 } from "../bytes.ts";
import { FormatError } from "../errors.ts";
import { type DerNode, type DerReader, element, sequence, TAG } from "./der.ts";

/** Cuts an instant to the whole second that a certificate can hold. */
export function wholeSecond(instant: Date): Date {
  return new Date(Math.floor(instant.getTime() / 1000) * 1000);
}

export function encodeTime(instant: Date): DerNode {
  const digits = `${instant.toISOString().replace(/[-:T]/g, "").slice(0, 14)}Z`;
  const year = instant.getUTCFullYear();
  return year >= 2050 || year < 1950
    ? element(TAG.generalizedTime, utf8(digits))
    : element(TAG.utcTime, utf8(digits.slice(2)));
}

/** The Validity SEQUENCE. */
export function encodeValidity(notBefore: Date, notAfter: Date): DerNode {
  return sequence(encodeTime(notBefore), encodeTime(notAfter));
}

/** Reads a Time. @throws {FormatError} */
export function readTime(reader: DerReader): Date {
  reader.next();
  return parseTime(reader.tag, reader.content());
}

function parseTime(tag: number, content: Bytes): Date {
  const text = fromUtf8(content);
  const long = tag === TAG.generalizedTime;
  if (!long && tag !== TAG.utcTime)
    throw new FormatError(
      "its validity is neither UTCTime nor GeneralizedTime (RFC 5280 §4.1.2.5)",
    );
  if (!(long ? /^\d{14}Z$/ : /^\d{12}Z$/).test(text))
    throw new FormatError("its validity is not in whole seconds of UTC (RFC 5280 §4.1.2.5)");
  // RFC 5280 §4.1.2.5.1: two-digit years from 50 on are 19YY.
  const digits = long ? text : `${text < "5" ? "20" : "19"}${text}`;
  const iso = digits.replace(/^(....)(..)(..)(..)(..)(..)Z$/, "$1-$2-$3T$4:$5:$6Z");
  const instant = new Date(iso);
  // Date accepts 30 February and 24 o'clock, as days after.
  if (Number.isNaN(instant.getTime()) || instant.toISOString() !== iso.replace("Z", ".000Z"))
    throw new FormatError("its validity has a time that is not a date");
  return instant;
}
