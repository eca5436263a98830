/*
 * A TLS peer on NSS: `nss-peer verify CHAIN KEY ROOTS` verifies what it is shown, line by line (by-lines.h), by NSS' own
 * SSL_AuthCertificate.
 */
#include "by-lines.h"

#include <cert.h>
#include <certdb.h>
#include <keyhi.h>
#include <nss.h>
#include <nssb64.h>
#include <pk11pub.h>
#include <prerror.h>
#include <private/pprio.h>
#include <ssl.h>
#include <sslerr.h>

static CERTCertificate *own_certificate;
static SECKEYPrivateKey *own_key;

static void must(int good, const char *what) {
  if (good) return;
  fprintf(stderr, "%s: %s\n", what, PR_ErrorToName(PR_GetError()));
  exit(2);
}

/* The next object in PEM, or NULL behind the last one. */
static SECItem *next_object(FILE *file) {
  char line[200];
  char *text = calloc(1, 1 << 20);
  SECItem *der = NULL;
  while (fgets(line, sizeof line, file) != NULL) {
    if (strncmp(line, "-----BEGIN", 10) == 0) continue;
    if (strncmp(line, "-----END", 8) == 0) {
      der = NSSBase64_DecodeBuffer(NULL, NULL, text, (unsigned int)strlen(text));
      break;
    }
    strcat(text, line);
  }
  free(text);
  return der;
}

static FILE *opened(const char *path) {
  FILE *file = fopen(path, "r");
  must(file != NULL, path);
  return file;
}

static CERTCertificate *certificate_of(SECItem *der) {
  CERTCertificate *certificate = CERT_NewTempCertificate(CERT_GetDefaultCertDB(), der, NULL, PR_FALSE, PR_TRUE);
  must(certificate != NULL, "certificate");
  return certificate;
}

static void verify(int fd, int as_client, char *reason, size_t size) {
  /* The caller closes its own descriptor. */
  PRFileDesc *tcp = PR_ImportTCPSocket(dup(fd));
  PRFileDesc *ssl = SSL_ImportFD(NULL, tcp);
  must(ssl != NULL, "socket");
  SSL_OptionSet(ssl, SSL_SECURITY, PR_TRUE);
  SSL_OptionSet(ssl, SSL_NO_CACHE, PR_TRUE);
  SSL_OptionSet(ssl, as_client ? SSL_HANDSHAKE_AS_CLIENT : SSL_HANDSHAKE_AS_SERVER, PR_TRUE);
  SSL_AuthCertificateHook(ssl, SSL_AuthCertificate, CERT_GetDefaultCertDB());
  if (as_client) {
    /* Leaves of the test have this name. */
    SSL_SetURL(ssl, "localhost");
  } else {
    must(SSL_ConfigServerCert(ssl, own_certificate, own_key, NULL, 0) == SECSuccess, "own certificate");
    SSL_OptionSet(ssl, SSL_REQUEST_CERTIFICATE, PR_TRUE);
    SSL_OptionSet(ssl, SSL_REQUIRE_CERTIFICATE, SSL_REQUIRE_ALWAYS);
  }
  SSL_ResetHandshake(ssl, !as_client);
  if (SSL_ForceHandshake(ssl) != SECSuccess) snprintf(reason, size, "%s", PR_ErrorToName(PR_GetError()));
  PR_Close(ssl);
}

int main(int argc, char **argv) {
  CERTCertTrust trusted = {CERTDB_TRUSTED_CA | CERTDB_TRUSTED_CLIENT_CA | CERTDB_VALID_CA, 0, 0};
  SECItem *der;
  FILE *file;
  if (argc != 5) return 2;
  must(NSS_NoDB_Init(NULL) == SECSuccess, "NSS");
  NSS_SetDomesticPolicy();
  must(SSL_ConfigServerSessionIDCache(0, 0, 0, NULL) == SECSuccess, "cache");
  own_certificate = certificate_of(next_object(opened(argv[2])));
  der = next_object(opened(argv[3]));
  must(PK11_ImportDERPrivateKeyInfoAndReturnKey(PK11_GetInternalKeySlot(), der, NULL, NULL, PR_FALSE, PR_TRUE, KU_ALL, &own_key, NULL) == SECSuccess, "key");
  file = opened(argv[4]);
  while ((der = next_object(file)) != NULL) must(CERT_ChangeCertTrust(CERT_GetDefaultCertDB(), certificate_of(der), &trusted) == SECSuccess, "trust");
  by_lines(verify);
  return 0;
}
