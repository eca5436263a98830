/**
 * Services that shake hands by mutual TLS, with the files that an agent writes for them.
 * @module
 */
import { readFileSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { connect, createServer, type TLSSocket } from "node:tls";

/** A service and its credential folder. */
export interface Service {
  readonly name: string;
  readonly folder: string;
}

const read = ({ folder }: Service, name: string) => readFileSync(join(folder, name), "utf8");

/**
 * One handshake, in which both sides verify the other one's certificate and its SPIFFE ID.
 * @throws {Error} if one of them refuses the other, or has no files
 */
export async function shakeHands(client: Service, server: Service): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const common = (service: Service) => ({
    key: read(service, "tls.key"),
    cert: read(service, "tls.crt"),
    ca: read(service, "ca.crt"),
    minVersion: "TLSv1.3" as const,
  });
  const listener = createServer(
    { ...common(server), requestCert: true, rejectUnauthorized: true },
    (socket) => {
      socket.on("error", reject);
      // The client's certificate is verified by now: it waits for this word.
      socket.end(namesOf(socket).endsWith(`/svc/${client.name}`) ? "welcome" : "another name");
    },
  );
  listener.on("tlsClientError", reject);
  listener.listen(0, "127.0.0.1", () => {
    const { port } = listener.address() as AddressInfo;
    const socket = connect({
      ...{ ...common(client), host: "127.0.0.1", port, rejectUnauthorized: true },
      checkServerIdentity: (_, certificate) =>
        (certificate.subjectaltname ?? "").endsWith(`/svc/${server.name}`)
          ? undefined
          : new Error(`The server is ${certificate.subjectaltname}`),
    });
    let text = "";
    socket.setEncoding("utf8").on("data", (chunk: string) => {
      text += chunk;
    });
    socket.on("error", reject);
    socket.on("end", () => {
      if (text === "welcome") resolve();
      else reject(new Error(`The server answered ${JSON.stringify(text)}`));
    });
  });
  try {
    await promise;
  } finally {
    listener.close();
  }
}

const namesOf = (socket: TLSSocket): string => socket.getPeerCertificate().subjectaltname ?? "";

/** Each service calls the next one, and the last one the first. @throws {Error} the first failure */
export async function shakeHandsInRing(services: readonly Service[]): Promise<void> {
  for (const [i, client] of services.entries())
    await shakeHands(client, services[(i + 1) % services.length] as Service);
}

/** How many of the handshakes of a ring succeed. */
export async function handshakesIn(services: readonly Service[]): Promise<number> {
  const done = await Promise.allSettled(
    services.map((client, i) => shakeHands(client, services[(i + 1) % services.length] as Service)),
  );
  return done.filter(({ status }) => status === "fulfilled").length;
}
