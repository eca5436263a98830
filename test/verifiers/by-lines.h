/*
 * The mode `PROGRAM verify CHAIN KEY ROOTS` of a peer in C: it prints `port N` and reads lines. `client PORT` has it connect
 * and verify what it is shown, `server` accept a client and verify that; each prints `client ok`, or `server` and why not.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* One handshake on a connected socket, which the caller closes. Writes a reason that is empty if it verified. */
typedef void (*verifying)(int fd, int as_client, char *reason, size_t size);

static void by_lines(verifying verify) {
  struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  socklen_t length = sizeof address;
  char line[100];
  int listener = socket(AF_INET, SOCK_STREAM, 0);
  signal(SIGPIPE, SIG_IGN);
  if (bind(listener, (struct sockaddr *)&address, length) != 0 || listen(listener, 5) != 0) exit(2);
  if (getsockname(listener, (struct sockaddr *)&address, &length) != 0) exit(2);
  printf("port %d\n", ntohs(address.sin_port));
  fflush(stdout);
  while (fgets(line, sizeof line, stdin) != NULL) {
    char reason[2000] = "";
    int as_client = strncmp(line, "client ", 7) == 0, fd;
    if (as_client) {
      address.sin_port = htons((unsigned short)atoi(line + 7));
      fd = socket(AF_INET, SOCK_STREAM, 0);
      if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) exit(2);
    } else if ((fd = accept(listener, NULL, NULL)) < 0) {
      exit(2);
    }
    verify(fd, as_client, reason, sizeof reason);
    close(fd);
    for (char *at = reason; *at != 0; at++)
      if (*at == '\n') *at = ' ';
    printf("%s %s\n", as_client ? "client" : "server", reason[0] == 0 ? "ok" : reason);
    fflush(stdout);
  }
}
