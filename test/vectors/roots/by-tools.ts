/**
 * Roots as the usual tools make them: OpenSSL, GnuTLS's certtool, the JDK's keytool, cfssl,
 * easy-rsa, and Consul's and smallstep's own code. Run by make.ts only, if the tools are installed.
 * @module
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { CLUSTER, type RootVector, URI } from "./vector.ts";

let folder = "";
const at = (name: string): string => join(folder, name);
const file = (name: string, text: string): string => {
  writeFileSync(at(name), text);
  return at(name);
};
const read = (name: string): string => readFileSync(at(name), "utf8");
const run = (
  command: string,
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): string =>
  execFileSync(command, [...args], {
    cwd: folder,
    encoding: "utf8",
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", "pipe"],
  });

const EC = ["-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256"];
const curve = (name: string) => ["-algorithm", "EC", "-pkeyopt", `ec_paramgen_curve:${name}`];
const rsa = (bits: number, ...more: readonly string[]) => [
  "-algorithm",
  "RSA",
  "-pkeyopt",
  `rsa_keygen_bits:${bits}`,
  ...more,
];

const BASIC = "basicConstraints=critical,CA:TRUE";
const USAGE = "keyUsage=critical,keyCertSign,cRLSign";
const SKI = "subjectKeyIdentifier=hash";
const AKI = "authorityKeyIdentifier=keyid";
const SAN = `subjectAltName=URI:${URI}`;
const GOOD = [BASIC, USAGE, SKI, AKI, SAN];
/** A good root's extensions, with others in place of those of the same name. */
const withLines = (...lines: readonly string[]) => {
  const names = lines.map((line) => line.split("=")[0]);
  return [...GOOD.filter((line) => !names.includes(line.split("=")[0])), ...lines];
};
const without = (name: string) => GOOD.filter((line) => !line.startsWith(name));

interface OpensslRoot {
  readonly key?: readonly string[];
  readonly subject?: string;
  readonly lines?: readonly string[];
  /** Further sections of the configuration. */
  readonly sections?: string;
  readonly args?: readonly string[];
}

function openssl({
  key = EC,
  subject = "/C=DE/O=Example/CN=Mesh Root",
  lines = GOOD,
  sections = "",
  args = [],
}: OpensslRoot): Made {
  run("openssl", ["genpkey", ...key, "-out", at("key.pem")]);
  // OpenSSL adds both key identifiers of its own accord.
  const off = ["subjectKeyIdentifier", "authorityKeyIdentifier"].filter(
    (name) => !lines.some((line) => line.startsWith(name)),
  );
  const extensions = [...lines, ...off.map((name) => `${name}=none`)].join("\n");
  const config = file(
    "openssl.cnf",
    `[req]\ndistinguished_name=dn\nx509_extensions=ext\nutf8=yes\nstring_mask=utf8only\n[dn]\n[ext]\n${extensions}\n${sections}\n`,
  );
  run("openssl", [
    "req",
    "-x509",
    "-new",
    "-config",
    config,
    "-key",
    at("key.pem"),
    "-subj",
    subject,
    "-days",
    "7300",
    "-out",
    at("cert.pem"),
    ...args,
  ]);
  return { cert: read("cert.pem"), key: read("key.pem") };
}

type Made = Pick<RootVector, "cert" | "key">;
type Row = readonly [name: string, make: () => Made, refused: string | null];

const nc = (value: string) => withLines(`nameConstraints=${value}`);
const eku = (value: string) => withLines(`extendedKeyUsage=${value}`);

const OPENSSL: readonly (readonly [name: string, root: OpensslRoot, refused: string | null])[] = [
  ["an EC root", {}, null],
  ["a root on P-384", { key: curve("P-384") }, null],
  ["a root on P-521", { key: curve("P-521") }, null],
  ["a root of RSA with 2048 bits", { key: rsa(2048) }, null],
  ["a root of RSA with 3072 bits", { key: rsa(3072) }, null],
  ["a root of RSA with 4096 bits", { key: rsa(4096) }, null],
  ["a root signed with SHA-512", { args: ["-sha512"] }, null],
  ["a root signed with SHA-1", { args: ["-sha1"] }, "signature algorithm ECDSA with SHA-1"],
  [
    "an RSA root signed with SHA-1",
    { key: rsa(2048), args: ["-sha1"] },
    "signature algorithm RSA with SHA-1",
  ],
  [
    "an RSA root signed with MD5",
    { key: rsa(2048), args: ["-md5"] },
    "signature algorithm RSA with MD5",
  ],
  [
    "an RSA root signed with RSA-PSS",
    { key: rsa(2048), args: ["-sigopt", "rsa_padding_mode:pss"] },
    "signature algorithm RSA-PSS",
  ],
  ["a root of RSA with 1024 bits", { key: rsa(1024) }, "RSA"],
  [
    "a root of RSA with the exponent 3",
    { key: rsa(2048, "-pkeyopt", "rsa_keygen_pubexp:3") },
    "exponent 65537",
  ],
  ["a root on P-224", { key: curve("secp224r1") }, "P-256, P-384 or P-521"],
  ["an Ed25519 root", { key: ["-algorithm", "ed25519"] }, "EC on P-256, P-384 or P-521"],
  [
    "a subject of many attributes",
    {
      subject:
        "/C=DE/ST=Bayern/L=München/O=Beispiel GmbH/OU=PKI/CN=Wurzel/emailAddress=ca@example.com",
    },
    null,
  ],
  [
    "a subject with two attributes in one part",
    { subject: "/O=Example/CN=Mesh Root+serialNumber=17", args: ["-multivalue-rdn"] },
    null,
  ],
  ["a subject in T61String", { subject: "/CN=M\u00fcnchen", args: ["-nameopt", "utf8"] }, null],
  [
    "an authority key identifier with issuer and serial number",
    { lines: withLines("authorityKeyIdentifier=keyid,issuer:always") },
    null,
  ],
  ["no authority key identifier", { lines: without("authorityKey") }, null],
  ["no subject key identifier", { lines: [BASIC, USAGE, SAN] }, "no subject key identifier"],
  ["an extended key usage for servers and clients", { lines: eku("serverAuth,clientAuth") }, null],
  [
    "a critical extended key usage for servers and clients",
    { lines: eku("critical,serverAuth,clientAuth") },
    null,
  ],
  [
    "an extended key usage for all and for servers and clients",
    { lines: eku("anyExtendedKeyUsage,serverAuth,clientAuth,codeSigning") },
    null,
  ],
  [
    "an extended key usage for anything",
    { lines: eku("anyExtendedKeyUsage") },
    "extended key usage without clientAuth and serverAuth",
  ],
  [
    "an extended key usage for servers alone",
    { lines: eku("serverAuth") },
    "extended key usage without clientAuth and serverAuth",
  ],
  [
    "an extended key usage for clients alone",
    { lines: eku("clientAuth") },
    "extended key usage without clientAuth and serverAuth",
  ],
  [
    "an extended key usage for code",
    { lines: eku("codeSigning") },
    "extended key usage without clientAuth and serverAuth",
  ],
  [
    "name constraints that permit the URIs of the trust domain",
    { lines: nc(`critical,permitted;URI:${CLUSTER}.consul`) },
    null,
  ],
  [
    "name constraints that permit the URIs of .consul",
    { lines: nc("critical,permitted;URI:.consul") },
    null,
  ],
  [
    "name constraints that permit the URIs of .example.com",
    { lines: nc("permitted;DNS:example.com,permitted;URI:.example.com") },
    "do not permit the URI",
  ],
  [
    "critical name constraints that permit the URIs of .example.com",
    { lines: nc("critical,permitted;URI:.example.com") },
    "do not permit the URI",
  ],
  [
    "name constraints that exclude the URIs of the trust domain",
    { lines: nc(`critical,excluded;URI:${CLUSTER}.consul`) },
    "exclude the URI",
  ],
  [
    "name constraints that exclude the URIs of .consul",
    { lines: nc("excluded;URI:.consul") },
    "exclude the URI",
  ],
  [
    "name constraints that exclude the URIs of .example.com",
    { lines: nc("critical,excluded;URI:.example.com") },
    null,
  ],
  [
    "name constraints that permit the DNS names of the mesh",
    { lines: nc("critical,permitted;DNS:consul,permitted;DNS:localhost") },
    null,
  ],
  [
    "name constraints that permit DNS names of example.com",
    { lines: nc("critical,permitted;DNS:example.com") },
    "do not permit the DNS name localhost",
  ],
  [
    "name constraints that exclude the DNS names of example.com",
    { lines: nc("critical,excluded;DNS:example.com,excluded;DNS:.example.org") },
    null,
  ],
  [
    "name constraints that exclude localhost",
    { lines: nc("excluded;DNS:localhost") },
    "exclude the DNS name localhost",
  ],
  [
    "name constraints that permit IP addresses of 10.0.0.0/8",
    { lines: nc("critical,permitted;IP:10.0.0.0/255.0.0.0") },
    "do not permit the IP address 127.0.0.1",
  ],
  [
    "name constraints that permit IP addresses of the loopback",
    {
      lines: nc(
        "critical,permitted;IP:127.0.0.0/255.0.0.0,permitted;IP:0:0:0:0:0:0:0:1/FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF:FFFF",
      ),
    },
    null,
  ],
  [
    "name constraints that exclude IP addresses of 10.0.0.0/8",
    { lines: nc("critical,excluded;IP:10.0.0.0/255.0.0.0") },
    null,
  ],
  [
    "name constraints that exclude all IP addresses",
    { lines: nc("excluded;IP:0.0.0.0/0.0.0.0") },
    "exclude the IP address 127.0.0.1",
  ],
  [
    "name constraints on e-mail addresses",
    { lines: nc("critical,permitted;email:example.com,excluded;email:a@example.org") },
    null,
  ],
  [
    "name constraints that permit subjects of an organisation",
    { lines: nc("permitted;dirName:org"), sections: "[org]\nO=Example\n" },
    "do not permit the subject of a CA certificate",
  ],
  [
    "name constraints that exclude subjects of an organisation",
    { lines: nc("excluded;dirName:org"), sections: "[org]\nO=Evil\n" },
    null,
  ],
  [
    "critical name constraints that exclude subjects of an organisation",
    { lines: nc("critical,excluded;dirName:org"), sections: "[org]\nO=Evil\n" },
    "are critical and speak of directory names",
  ],
  ["certificate policies", { lines: withLines("certificatePolicies=2.5.29.32.0,1.2.3.4") }, null],
  [
    "critical certificate policies",
    { lines: withLines("certificatePolicies=critical,1.2.3.4") },
    null,
  ],
  [
    "policy constraints",
    {
      lines: withLines(
        "certificatePolicies=1.2.3.4",
        "policyConstraints=critical,requireExplicitPolicy:0",
      ),
    },
    "critical extension 2.5.29.36 (policy constraints)",
  ],
  [
    "policy constraints that are not critical",
    {
      lines: withLines("certificatePolicies=1.2.3.4", "policyConstraints=requireExplicitPolicy:0"),
    },
    null,
  ],
  ["inhibit anyPolicy", { lines: withLines("inhibitAnyPolicy=critical,0") }, null],
  ["policy mappings", { lines: withLines("policyMappings=1.2.3.4:1.2.3.5") }, null],
  [
    "basic constraints that are not critical",
    { lines: withLines("basicConstraints=CA:TRUE") },
    "basic constraints that are not critical",
  ],
  ["no basic constraints", { lines: without("basicConstraints") }, "is not a CA certificate"],
  [
    "basic constraints of no CA",
    { lines: withLines("basicConstraints=critical,CA:FALSE") },
    "is not a CA certificate",
  ],
  [
    "path length 0",
    { lines: withLines("basicConstraints=critical,CA:TRUE,pathlen:0") },
    "path length constraint of 0",
  ],
  [
    "path length 1",
    { lines: withLines("basicConstraints=critical,CA:TRUE,pathlen:1") },
    "path length constraint of 1",
  ],
  ["path length 6", { lines: withLines("basicConstraints=critical,CA:TRUE,pathlen:6") }, null],
  ["no key usage", { lines: without("keyUsage") }, "no key usage"],
  [
    "a key usage without keyCertSign",
    { lines: withLines("keyUsage=critical,cRLSign,digitalSignature") },
    "lacks keyCertSign",
  ],
  ["a key usage that is not critical", { lines: withLines("keyUsage=keyCertSign,cRLSign") }, null],
  ["a key usage without cRLSign", { lines: withLines("keyUsage=critical,keyCertSign") }, null],
  [
    "a key usage of everything",
    {
      lines: withLines(
        "keyUsage=critical,digitalSignature,nonRepudiation,keyEncipherment,dataEncipherment,keyAgreement,keyCertSign,cRLSign",
      ),
    },
    null,
  ],
  [
    "no subject alternative name",
    { lines: without("subjectAltName") },
    "must have exactly the URI",
  ],
  [
    "the URI of another trust domain",
    { lines: withLines("subjectAltName=URI:spiffe://99999999-2222-3333-4444-555555555555.consul") },
    "must have exactly the URI",
  ],
  [
    "other subject alternative names",
    {
      lines: withLines(
        `subjectAltName=critical,URI:${URI},DNS:ca.example.com,email:ca@example.com,IP:10.0.0.1`,
      ),
    },
    null,
  ],
  [
    "extensions for relying parties",
    {
      lines: withLines(
        "crlDistributionPoints=URI:http://ca.example/crl",
        "authorityInfoAccess=OCSP;URI:http://ca.example/ocsp,caIssuers;URI:http://ca.example/ca",
        "issuerAltName=URI:http://ca.example/",
        "nsComment=made by openssl",
        "nsCertType=sslCA,emailCA",
      ),
    },
    null,
  ],
  [
    "critical CRL distribution points",
    { lines: withLines("crlDistributionPoints=critical,URI:http://ca.example/crl") },
    null,
  ],
  [
    "a critical Netscape certificate type",
    { lines: withLines("nsCertType=critical,sslCA") },
    "critical extension 2.16.840.1.113730.1.1",
  ],
  ["a TLS feature", { lines: withLines("tlsfeature=status_request") }, "TLS feature"],
  ["a serial number of zero", { args: ["-set_serial", "0"] }, null],
  ["a negative serial number", { args: ["-set_serial", "-5"] }, "serial number is negative"],
];

/**
 * As easy-rsa and many guides do it: the renewed certificate still names the serial number of the
 * one before.
 */
function renewedWithSerial(): Made {
  const { key } = openssl({ lines: withLines("authorityKeyIdentifier=keyid,issuer:always") });
  run("openssl", [
    "x509",
    "-in",
    at("cert.pem"),
    "-signkey",
    at("key.pem"),
    "-set_serial",
    "77",
    "-days",
    "7300",
    "-out",
    at("renewed.pem"),
  ]);
  return { cert: read("renewed.pem"), key };
}

function renewed(): Made {
  const { key } = openssl({});
  run("openssl", [
    "x509",
    "-in",
    at("cert.pem"),
    "-signkey",
    at("key.pem"),
    "-days",
    "7300",
    "-out",
    at("renewed.pem"),
  ]);
  return { cert: read("renewed.pem"), key };
}

function expired(): Made {
  const { key } = openssl({ args: ["-days", "1"] });
  return { cert: read("cert.pem"), key };
}

function versionOne(): Made {
  run("openssl", ["genpkey", ...EC, "-out", at("key.pem")]);
  const config = file("v1.cnf", "[req]\ndistinguished_name=dn\n[dn]\n");
  run("openssl", [
    "req",
    "-new",
    "-config",
    config,
    "-key",
    at("key.pem"),
    "-subj",
    "/CN=Old Root",
    "-out",
    at("csr.pem"),
  ]);
  run("openssl", [
    "x509",
    "-req",
    "-in",
    at("csr.pem"),
    "-signkey",
    at("key.pem"),
    "-days",
    "7300",
    "-out",
    at("cert.pem"),
  ]);
  return { cert: read("cert.pem"), key: read("key.pem") };
}

function certtool(template: string, keyType = "ecdsa", signing: readonly string[] = []): Made {
  run("certtool", [
    "--generate-privkey",
    "--key-type",
    keyType,
    "--no-text",
    "--outfile",
    at("key.pem"),
    ...(keyType === "rsa" ? ["--bits", "3072"] : []),
  ]);
  const config = file(
    "template.cfg",
    `cn = "GnuTLS Root"\norganization = "Example"\nca\ncert_signing_key\ncrl_signing_key\nexpiration_days = 7300\nuri = "${URI}"\n${template}\n`,
  );
  run("certtool", [
    "--generate-self-signed",
    "--load-privkey",
    at("key.pem"),
    "--template",
    config,
    "--outfile",
    at("cert.pem"),
    ...signing,
  ]);
  return { cert: read("cert.pem"), key: read("key.pem") };
}

function keytool(
  extensions: readonly string[],
  algorithm: readonly string[] = ["-keyalg", "EC", "-groupname", "secp256r1"],
): Made {
  rmSync(at("store.p12"), { force: true });
  const store = [
    "-keystore",
    at("store.p12"),
    "-storetype",
    "PKCS12",
    "-storepass",
    "changeit",
    "-alias",
    "root",
  ];
  run("keytool", [
    "-genkeypair",
    ...store,
    ...algorithm,
    "-dname",
    "CN=Java Root, O=Example, C=DE",
    "-validity",
    "7300",
    ...extensions.flatMap((one) => ["-ext", one]),
  ]);
  run("openssl", [
    "pkcs12",
    "-in",
    at("store.p12"),
    "-passin",
    "pass:changeit",
    "-nodes",
    "-nocerts",
    "-out",
    at("key.pem"),
  ]);
  return { cert: run("keytool", ["-exportcert", "-rfc", ...store]), key: read("key.pem") };
}

function easyRsa(env: Readonly<Record<string, string>> = {}): Made {
  const all = {
    EASYRSA_PKI: at("pki"),
    EASYRSA_BATCH: "1",
    EASYRSA_ALGO: "ec",
    EASYRSA_CURVE: "prime256v1",
    EASYRSA_CA_EXPIRE: "7300",
    ...env,
  };
  const easyrsa = (...args: readonly string[]) => run("/usr/share/easy-rsa/easyrsa", args, all);
  easyrsa("init-pki");
  easyrsa("build-ca", "nopass");
  const made = { cert: read("pki/ca.crt"), key: read("pki/private/ca.key") };
  rmSync(at("pki"), { recursive: true });
  return made;
}

function cfssl(): Made {
  const csr = file(
    "csr.json",
    JSON.stringify({
      CN: "cfssl Root",
      hosts: [URI],
      key: { algo: "ecdsa", size: 256 },
      names: [{ O: "Example" }],
      ca: { expiry: "175200h" },
    }),
  );
  const { cert, key } = JSON.parse(run("cfssl", ["genkey", "-initca", csr])) as {
    cert: string;
    key: string;
  };
  return { cert, key };
}

const TOOLS: readonly (readonly [how: string, ...Row])[] = [
  [
    "openssl",
    "a root that was renewed with another serial number",
    renewedWithSerial,
    "whose serial number is not its own",
  ],
  ["openssl", "a root that was renewed", renewed, null],
  ["openssl", "a root that has expired", expired, "expired on"],
  ["openssl", "a root of version 1", versionOne, "is not a CA certificate"],
  ["certtool", "a root", () => certtool(""), null],
  ["certtool", "a root of RSA with 3072 bits", () => certtool("", "rsa"), null],
  [
    "certtool",
    "a root with path length 2",
    () => certtool("path_len = 2"),
    "path length constraint of 2",
  ],
  [
    "certtool",
    "a root that permits DNS names of example.com",
    () => certtool('nc_permit_dns = "example.com"'),
    "do not permit the DNS name localhost",
  ],
  [
    "certtool",
    "a root that excludes DNS names of example.com",
    () => certtool('nc_exclude_dns = "example.com"'),
    null,
  ],
  [
    "certtool",
    "a root for TLS servers",
    () => certtool("tls_www_server"),
    "extended key usage without",
  ],
  [
    "certtool",
    "a root for TLS servers and clients",
    () => certtool("tls_www_server\ntls_www_client"),
    null,
  ],
  [
    "certtool",
    "a root with a policy",
    () =>
      certtool('policy1 = 1.2.3.4\npolicy1_txt = "A policy"\npolicy1_url = "http://ca.example/"'),
    null,
  ],
  ["certtool", "a root without the URI", certtoolWithoutUri, "must have exactly the URI"],
  [
    "keytool",
    "a root",
    () => keytool(["bc:critical=ca:true", "ku:critical=keyCertSign,cRLSign", `san=uri:${URI}`]),
    null,
  ],
  [
    "keytool",
    "a root of RSA",
    () =>
      keytool(
        ["bc:critical=ca:true", "ku:critical=keyCertSign", `san=uri:${URI}`],
        ["-keyalg", "RSA", "-keysize", "2048"],
      ),
    null,
  ],
  [
    "keytool",
    "a root with what guides say",
    () => keytool(["bc:c", `san=uri:${URI}`]),
    "no key usage",
  ],
  [
    "keytool",
    "a root with basic constraints that are not critical",
    () => keytool(["bc=ca:true", "ku=keyCertSign", `san=uri:${URI}`]),
    "basic constraints that are not critical",
  ],
  [
    "keytool",
    "a root for servers",
    () => keytool(["bc:c", "ku:c=keyCertSign", "eku=serverAuth", `san=uri:${URI}`]),
    "extended key usage without",
  ],
  [
    "keytool",
    "a root of RSA-PSS",
    () =>
      keytool(
        ["bc:c", "ku:c=keyCertSign", `san=uri:${URI}`],
        ["-keyalg", "RSASSA-PSS", "-keysize", "2048"],
      ),
    "RSA",
  ],
  ["easy-rsa", "a root as it comes", () => easyRsa(), "basic constraints that are not critical"],
  [
    "easy-rsa",
    "a root with the URI",
    () => easyRsa({ EASYRSA_EXTRA_EXTS: `subjectAltName=URI:${URI}` }),
    "basic constraints that are not critical",
  ],
  [
    "easy-rsa",
    "a root with the URI and critical basic constraints",
    () =>
      easyRsa({
        EASYRSA_EXTRA_EXTS: `subjectAltName=URI:${URI}\nbasicConstraints=critical,CA:true`,
      }),
    null,
  ],
  ["cfssl", "a root", cfssl, "must have exactly the URI"],
];

function certtoolWithoutUri(): Made {
  run("certtool", [
    "--generate-privkey",
    "--key-type",
    "ecdsa",
    "--no-text",
    "--outfile",
    at("key.pem"),
  ]);
  const config = file(
    "template.cfg",
    'cn = "GnuTLS Root"\nca\ncert_signing_key\nexpiration_days = 7300\n',
  );
  run("certtool", [
    "--generate-self-signed",
    "--load-privkey",
    at("key.pem"),
    "--template",
    config,
    "--outfile",
    at("cert.pem"),
  ]);
  return { cert: read("cert.pem"), key: read("key.pem") };
}

/** What must be said of the roots of go/main.go, by their names. */
const BY_GO: Readonly<Record<string, string | null>> = {
  "a root without cluster id": "must have exactly the URI",
  "a root with the cluster id": null,
  "a root with -name-constraint": null,
  "a root with -name-constraint for example.com": "do not permit the DNS name server.dc1.peering",
  "a root of the default template": "path length constraint of 1",
  "a root of a template with the URI": null,
};

function rootsByGo(): RootVector[] {
  const text = execFileSync("go", ["run", ".", CLUSTER], {
    cwd: fileURLToPath(new URL("./go", import.meta.url)),
    encoding: "utf8",
  });
  const made = JSON.parse(text) as Omit<RootVector, "refused">[];
  return made.map((root) => {
    const refused = BY_GO[root.name];
    if (refused === undefined) throw new RangeError(`Nothing is expected of ${root.name}`);
    return { ...root, refused };
  });
}

/** Makes the roots, of which each tool must be installed. */
export function rootsByTools(): RootVector[] {
  folder = mkdtempSync(join(tmpdir(), "meshca-roots-"));
  try {
    const rows = [
      ...OPENSSL.map(
        ([name, root, refused]) => ["openssl", name, () => openssl(root), refused] as const,
      ),
      ...TOOLS,
    ];
    return [
      ...rows.map(([how, name, make, refused]) => ({ name, how, ...make(), refused })),
      ...rootsByGo(),
    ];
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
