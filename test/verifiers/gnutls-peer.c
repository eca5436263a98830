/*
 * A TLS peer on GnuTLS: `gnutls-peer CHAIN KEY ROOTS...` has each root set verify a chain by real handshakes over a pair
 * of sockets, as a client and as a server, and prints a line for each: `client ok`, or `server` and why not.
 */
#include "by-lines.h"

#include <gnutls/gnutls.h>
#include <gnutls/x509.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct side {
  gnutls_session_t session;
  gnutls_certificate_credentials_t credentials;
  int fd;
  int outcome;
};

static void must(int code, const char *what) {
  if (code >= 0) return;
  fprintf(stderr, "%s: %s\n", what, gnutls_strerror(code));
  exit(2);
}

static void *handshake(void *of) {
  struct side *side = of;
  char byte;
  do
    side->outcome = gnutls_handshake(side->session);
  while (side->outcome < 0 && gnutls_error_is_fatal(side->outcome) == 0);
  if (side->outcome >= 0) gnutls_bye(side->session, GNUTLS_SHUT_WR);
  else gnutls_alert_send_appropriate(side->session, side->outcome);
  shutdown(side->fd, SHUT_WR);
  while (recv(side->fd, &byte, 1, 0) > 0) continue;
  return NULL;
}

static void prepare(struct side *side, unsigned int end, int fd, char **argv, const char *roots) {
  side->fd = fd;
  must(gnutls_certificate_allocate_credentials(&side->credentials), "credentials");
  must(gnutls_certificate_set_x509_key_file(side->credentials, argv[1], argv[2], GNUTLS_X509_FMT_PEM), argv[1]);
  if (roots != NULL) must(gnutls_certificate_set_x509_trust_file(side->credentials, roots, GNUTLS_X509_FMT_PEM), roots);
  must(gnutls_init(&side->session, end), "session");
  must(gnutls_set_default_priority(side->session), "priority");
  must(gnutls_credentials_set(side->session, GNUTLS_CRD_CERTIFICATE, side->credentials), "credentials");
  if (end == GNUTLS_SERVER && roots != NULL) gnutls_certificate_server_set_request(side->session, GNUTLS_CERT_REQUIRE);
  /* No name is expected: a leaf has a SPIFFE ID. */
  if (roots != NULL) gnutls_session_set_verify_cert(side->session, NULL, 0);
  gnutls_transport_set_int(side->session, fd);
  gnutls_handshake_set_timeout(side->session, 10000);
}

static void report(const char *role, char **argv, const char *roots) {
  struct side client, server;
  struct side *verifier = strcmp(role, "client") == 0 ? &client : &server;
  pthread_t thread;
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) exit(2);
  prepare(&client, GNUTLS_CLIENT, fds[0], argv, verifier == &client ? roots : NULL);
  prepare(&server, GNUTLS_SERVER, fds[1], argv, verifier == &server ? roots : NULL);
  if (pthread_create(&thread, NULL, handshake, &server) != 0) exit(2);
  handshake(&client);
  pthread_join(thread, NULL);
  if (verifier->outcome >= 0) {
    printf("%s ok\n", role);
  } else {
    gnutls_datum_t text = {NULL, 0};
    unsigned int status = gnutls_session_get_verify_cert_status(verifier->session);
    gnutls_certificate_verification_status_print(status, GNUTLS_CRT_X509, &text, 0);
    printf("%s %s: %s\n", role, gnutls_strerror(verifier->outcome), text.data == NULL ? "" : (char *)text.data);
    gnutls_free(text.data);
  }
  for (int i = 0; i < 2; i++) {
    struct side *side = i == 0 ? &client : &server;
    gnutls_deinit(side->session);
    gnutls_certificate_free_credentials(side->credentials);
    close(fds[i]);
  }
}

/* CHAIN, KEY and ROOTS, from the second one. */
static char **own;

static void verify(int fd, int as_client, char *reason, size_t size) {
  struct side side;
  prepare(&side, as_client ? GNUTLS_CLIENT : GNUTLS_SERVER, fd, own, own[3]);
  handshake(&side);
  if (side.outcome < 0) {
    gnutls_datum_t text = {NULL, 0};
    gnutls_certificate_verification_status_print(gnutls_session_get_verify_cert_status(side.session), GNUTLS_CRT_X509, &text, 0);
    snprintf(reason, size, "%s: %s", gnutls_strerror(side.outcome), text.data == NULL ? "" : (char *)text.data);
    gnutls_free(text.data);
  }
  gnutls_deinit(side.session);
  gnutls_certificate_free_credentials(side.credentials);
}

int main(int argc, char **argv) {
  if (argc < 4) return 2;
  if (strcmp(argv[1], "verify") == 0) {
    own = argv + 1;
    by_lines(verify);
    return 0;
  }
  for (int i = 3; i < argc; i++) {
    report("client", argv, argv[i]);
    report("server", argv, argv[i]);
  }
  return 0;
}
