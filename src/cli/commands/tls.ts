/**
 * The commands `meshca tls`.
 * @module
 */
import type { Group } from "../command.ts";
import { tlsCaCreate } from "./tls-ca-create.ts";
import { tlsCertCreate } from "./tls-cert-create.ts";

export const tls: Group = {
  name: "tls",
  summary: "create a CA and certificates for TLS, or a root for a mesh",
  commands: [
    { name: "ca", summary: "a CA in two files", commands: [tlsCaCreate] },
    { name: "cert", summary: "certificates below it", commands: [tlsCertCreate] },
  ],
};
