/**
 * Makes the vectors of supplied roots again: `bun test/vectors/roots/make.ts`. It needs openssl,
 * certtool (gnutls-bin), keytool (a JDK), easy-rsa, cfssl (golang-cfssl) and Go; the tests need
 * none of them, since what was made is committed.
 * @module
 */
import { writeFileSync } from "node:fs";
import { rootsByHand } from "./by-hand.ts";
import { FORMS } from "./by-hand-forms.ts";
import { rootsByTools } from "./by-tools.ts";

const roots = [...rootsByTools(), ...(await rootsByHand()), ...(await rootsByHand(FORMS))];
writeFileSync(new URL("./roots.json", import.meta.url), `${JSON.stringify(roots, null, 2)}\n`);
console.log(`${roots.length} roots`);
