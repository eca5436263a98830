/**
 * What WebCrypto itself allows in workerd: a leaf's share of it as often as the request's body
 * says. The client times it, since no clock moves in a Worker that computes.
 * @module
 */

/** Octets of a P-256 leaf's signed part. */
const LEAF_OCTETS = 460;
const IN_FLIGHT = 16;
const P256 = { name: "ECDSA", namedCurve: "P-256" };
const SHA256 = { name: "ECDSA", hash: "SHA-256" };

export default {
  async fetch(request: Request): Promise<Response> {
    let left = Number(await request.text());
    const { privateKey, publicKey } = (await crypto.subtle.generateKey(P256, true, [
      "sign",
      "verify",
    ])) as CryptoKeyPair;
    const spki = await crypto.subtle.exportKey("spki", publicKey);
    const leaf = crypto.getRandomValues(new Uint8Array(LEAF_OCTETS));
    const signature = await crypto.subtle.sign(SHA256, privateKey, leaf);
    const work = async () => {
      while (left-- > 0) {
        const imported = await crypto.subtle.importKey("spki", spki, P256, false, ["verify"]);
        await crypto.subtle.verify(SHA256, imported, signature, leaf);
        await crypto.subtle.sign(SHA256, privateKey, leaf);
      }
    };
    await Promise.all(Array.from({ length: IN_FLIGHT }, work));
    return new Response();
  },
};
