/**
 * What keeps a CA certificate from being used, one fault at a time, with certificates that openssl
 * made.
 * @module
 */
import assert from "node:assert/strict";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, it } from "node:test";
import { readCertificatePem } from "../../../src/core/x509/certificate.ts";
import { CAS_BELOW_ROOT, caFaults } from "../../../src/core/x509/usable-ca.ts";
import { inFolder, openssl } from "../../fakes/ca.ts";
import { CLUSTER, GOOD_EXTENSIONS, opensslKey, suppliedRoot } from "../ca/harness.ts";

/** The extensions of a good root, with those of a name replaced, or left out by an empty text. */
function extensionsWith(name: string, line: string): string[] {
  const others = GOOD_EXTENSIONS.filter((other) => !other.startsWith(`${name}=`));
  return line === "" ? others : [...others, line];
}

function faultsOf(extensions: readonly string[]): string[] {
  const root = readCertificatePem(suppliedRoot({ extensions }).cert);
  return caFaults(root, {
    trustDomain: `${CLUSTER}.consul`,
    issuer: root,
    casBelow: CAS_BELOW_ROOT,
  });
}

describe("caFaults()", () => {
  const good: readonly (readonly [string, string, string])[] = [
    ["as it should be", "none", ""],
    [
      "with room below it",
      "basicConstraints",
      `basicConstraints=critical,CA:TRUE,pathlen:${CAS_BELOW_ROOT}`,
    ],
    [
      "with its own key identifier as its issuer's",
      "authorityKeyIdentifier",
      "authorityKeyIdentifier=keyid",
    ],
    [
      "with its own name and serial number as its issuer's",
      "authorityKeyIdentifier",
      "authorityKeyIdentifier=keyid,issuer:always",
    ],
    [
      "with an extended key usage that leaves have",
      "extendedKeyUsage",
      "extendedKeyUsage=clientAuth,serverAuth",
    ],
    ["with an unknown extension that is not critical", "1.2.3.4", "1.2.3.4=ASN1:NULL"],
    [
      "with critical name constraints that forbid nothing of ours",
      "nameConstraints",
      "nameConstraints=critical,excluded;DNS:example.com",
    ],
  ];
  for (const [what, name, line] of good)
    it(`caFaults() finds no fault in a root ${what}`, () =>
      assert.deepEqual(faultsOf(extensionsWith(name, line)), []));

  for (const octets of [20, 21])
    it(`caFaults() finds ${octets > 20 ? "a" : "no"} fault in a root whose serial number has ${octets} octets`, () => {
      // openssl adds these by itself.
      const extensions = GOOD_EXTENSIONS.filter(
        (line) => !/^(?:subjectKeyIdentifier|basicConstraints)=/.test(line),
      );
      const pem = inFolder((folder) => {
        const key = join(folder, "key.pem");
        writeFileSync(key, opensslKey());
        return openssl([
          "req",
          "-x509",
          "-new",
          "-key",
          key,
          "-subj",
          "/CN=r",
          "-set_serial",
          `0x41${"00".repeat(octets - 1)}`,
          ...extensions.flatMap((line) => ["-addext", line]),
        ]);
      });
      const root = readCertificatePem(pem);
      assert.equal(root.serial.length, octets);
      const faults = caFaults(root, {
        trustDomain: `${CLUSTER}.consul`,
        issuer: root,
        casBelow: CAS_BELOW_ROOT,
      });
      assert.deepEqual(faults, octets > 20 ? ["has a serial number of more than 20 octets"] : []);
    });

  const other = "authorityKeyIdentifier=DER:30168014000102030405060708090A0B0C0D0E0F10111213";
  const bad: readonly (readonly [string, string, string, RegExp])[] = [
    [
      "that is no CA",
      "basicConstraints",
      "basicConstraints=critical,CA:FALSE",
      /^is not a CA certificate$/,
    ],
    [
      "with basic constraints that are not critical",
      "basicConstraints",
      "basicConstraints=CA:TRUE",
      /^has basic constraints that are not critical/,
    ],
    [
      "without room below it",
      "basicConstraints",
      `basicConstraints=critical,CA:TRUE,pathlen:${CAS_BELOW_ROOT - 1}`,
      /^has a path length constraint of \d+, and \d+ CA certificates must be allowed below it/,
    ],
    ["without a key usage", "keyUsage", "", /^has no key usage/],
    [
      "that may not sign certificates",
      "keyUsage",
      "keyUsage=critical,cRLSign",
      /^is not allowed to sign certificates: its key usage lacks keyCertSign$/,
    ],
    [
      "with an extended key usage that lacks one of ours",
      "extendedKeyUsage",
      "extendedKeyUsage=serverAuth",
      /^has an extended key usage without clientAuth and serverAuth/,
    ],
    ["without a key identifier", "subjectKeyIdentifier", "", /^has no subject key identifier$/],
    [
      "with another key identifier as its issuer's",
      "authorityKeyIdentifier",
      other,
      /^has an authority key identifier that is not its own key identifier/,
    ],
    [
      "with another serial number as its issuer's",
      "authorityKeyIdentifier",
      "authorityKeyIdentifier=DER:3003820101",
      /^has an authority key identifier whose serial number is not its own, as of a root that was renewed/,
    ],
    [
      "with an unknown critical extension",
      "1.2.3.4",
      "1.2.3.4=critical,ASN1:NULL",
      /^has the critical extension 1\.2\.3\.4/,
    ],
    [
      "with name constraints that exclude our names",
      "nameConstraints",
      "nameConstraints=critical,excluded;DNS:localhost",
      /^has name constraints that exclude the DNS name localhost/,
    ],
    [
      "with name constraints that do not permit our names",
      "nameConstraints",
      "nameConstraints=critical,permitted;URI:example.com",
      /^has name constraints that do not permit the URI spiffe/,
    ],
  ];
  for (const [what, name, line, why] of bad)
    it(`caFaults() finds a fault in a root ${what}`, () => {
      const faults = faultsOf(extensionsWith(name, line));
      assert.equal(faults.length, 1, faults.join("; "));
      assert.match(faults[0] ?? "", why);
    });
});
