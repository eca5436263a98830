/*
 * A TLS peer on mbed TLS: `mbedtls-peer CHAIN KEY ROOTS...` has each root set verify a chain by real handshakes over a
 * pair of sockets, as a client and as a server, and prints a line for each: `client ok`, or `server` and why not.
 */
/* For the descriptor in a net context, since mbed TLS 3. */
#define MBEDTLS_ALLOW_PRIVATE_ACCESS

#include "by-lines.h"

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/net_sockets.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

struct side {
  mbedtls_ssl_config config;
  mbedtls_ssl_context ssl;
  mbedtls_net_context net;
  int outcome;
  uint32_t flags;
};

static void must(int code, const char *what) {
  char text[200];
  if (code == 0) return;
  mbedtls_strerror(code, text, sizeof text);
  fprintf(stderr, "%s: %s\n", what, text);
  exit(2);
}

static void *handshake(void *of) {
  struct side *side = of;
  unsigned char byte;
  do
    side->outcome = mbedtls_ssl_handshake(&side->ssl);
  while (side->outcome == MBEDTLS_ERR_SSL_WANT_READ || side->outcome == MBEDTLS_ERR_SSL_WANT_WRITE);
  side->flags = mbedtls_ssl_get_verify_result(&side->ssl);
  if (side->outcome == 0) mbedtls_ssl_close_notify(&side->ssl);
  shutdown(side->net.fd, SHUT_WR);
  while (recv(side->net.fd, &byte, 1, 0) > 0) continue;
  return NULL;
}

static void prepare(struct side *side, int endpoint, int fd, mbedtls_x509_crt *chain, mbedtls_pk_context *key,
                    mbedtls_x509_crt *roots, mbedtls_ctr_drbg_context *random) {
  mbedtls_ssl_config_init(&side->config);
  mbedtls_ssl_init(&side->ssl);
  side->net.fd = fd;
  must(mbedtls_ssl_config_defaults(&side->config, endpoint, MBEDTLS_SSL_TRANSPORT_STREAM, MBEDTLS_SSL_PRESET_DEFAULT), "config");
  mbedtls_ssl_conf_rng(&side->config, mbedtls_ctr_drbg_random, random);
  must(mbedtls_ssl_conf_own_cert(&side->config, chain, key), "own certificate");
  mbedtls_ssl_conf_authmode(&side->config, roots == NULL ? MBEDTLS_SSL_VERIFY_NONE : MBEDTLS_SSL_VERIFY_REQUIRED);
  if (roots != NULL) mbedtls_ssl_conf_ca_chain(&side->config, roots, NULL);
  must(mbedtls_ssl_setup(&side->ssl, &side->config), "set-up");
  /* No name is expected: a leaf has a SPIFFE ID. */
  must(mbedtls_ssl_set_hostname(&side->ssl, NULL), "name");
  mbedtls_ssl_set_bio(&side->ssl, &side->net, mbedtls_net_send, mbedtls_net_recv, NULL);
}

/* Why a side did not verify; empty if it did. */
static void reason_of(struct side *side, char *reason, size_t size) {
  char error[200] = "", info[1000] = "";
  if (side->outcome == 0 && side->flags == 0) return;
  mbedtls_strerror(side->outcome, error, sizeof error);
  mbedtls_x509_crt_verify_info(info, sizeof info, "", side->flags);
  for (char *at = info; *at != 0; at++)
    if (*at == '\n') *at = ' ';
  snprintf(reason, size, "%s: %s", error, info);
}

static void release(struct side *side) {
  mbedtls_ssl_free(&side->ssl);
  mbedtls_ssl_config_free(&side->config);
}

static void report(const char *role, mbedtls_x509_crt *chain, mbedtls_pk_context *key, mbedtls_x509_crt *roots,
                   mbedtls_ctr_drbg_context *random) {
  struct side client, server;
  struct side *verifier = strcmp(role, "client") == 0 ? &client : &server;
  pthread_t thread;
  int fds[2];
  if (socketpair(AF_UNIX, SOCK_STREAM, 0, fds) != 0) exit(2);
  prepare(&client, MBEDTLS_SSL_IS_CLIENT, fds[0], chain, key, verifier == &client ? roots : NULL, random);
  prepare(&server, MBEDTLS_SSL_IS_SERVER, fds[1], chain, key, verifier == &server ? roots : NULL, random);
  if (pthread_create(&thread, NULL, handshake, &server) != 0) exit(2);
  handshake(&client);
  pthread_join(thread, NULL);
  char reason[1300] = "";
  reason_of(verifier, reason, sizeof reason);
  printf("%s %s\n", role, reason[0] == 0 ? "ok" : reason);
  for (int i = 0; i < 2; i++) {
    release(i == 0 ? &client : &server);
    close(fds[i]);
  }
}

/* What verifies by lines. */
static struct {
  mbedtls_x509_crt *chain, *roots;
  mbedtls_pk_context *key;
  mbedtls_ctr_drbg_context *random;
} by;

static void verify(int fd, int as_client, char *reason, size_t size) {
  struct side side;
  prepare(&side, as_client ? MBEDTLS_SSL_IS_CLIENT : MBEDTLS_SSL_IS_SERVER, fd, by.chain, by.key, by.roots, by.random);
  handshake(&side);
  reason_of(&side, reason, size);
  release(&side);
}

int main(int argc, char **argv) {
  mbedtls_entropy_context entropy;
  mbedtls_ctr_drbg_context randoms;
  mbedtls_x509_crt chain;
  mbedtls_pk_context key;
  if (argc < 4) return 2;
  int verifies = strcmp(argv[1], "verify") == 0;
  if (verifies) argv++, argc--;
  mbedtls_entropy_init(&entropy);
  mbedtls_ctr_drbg_init(&randoms);
  must(mbedtls_ctr_drbg_seed(&randoms, mbedtls_entropy_func, &entropy, NULL, 0), "random");
  mbedtls_x509_crt_init(&chain);
  must(mbedtls_x509_crt_parse_file(&chain, argv[1]), argv[1]);
  mbedtls_pk_init(&key);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
  must(mbedtls_pk_parse_keyfile(&key, argv[2], NULL, mbedtls_ctr_drbg_random, &randoms), argv[2]);
#else
  must(mbedtls_pk_parse_keyfile(&key, argv[2], NULL), argv[2]);
#endif
  for (int i = 3; i < argc; i++) {
    mbedtls_x509_crt roots;
    mbedtls_x509_crt_init(&roots);
    must(mbedtls_x509_crt_parse_file(&roots, argv[i]), argv[i]);
    if (verifies) {
      by.chain = &chain, by.key = &key, by.roots = &roots, by.random = &randoms;
      by_lines(verify);
      return 0;
    }
    report("client", &chain, &key, &roots, &randoms);
    report("server", &chain, &key, &roots, &randoms);
    mbedtls_x509_crt_free(&roots);
  }
  return 0;
}
