import io.spiffe.provider.SpiffeSslContextFactory;
import io.spiffe.provider.SpiffeSslContextFactory.SslContextOptions;
import io.spiffe.workloadapi.DefaultX509Source;
import io.spiffe.workloadapi.DefaultX509Source.X509SourceOptions;
import io.spiffe.workloadapi.X509Source;
import java.io.IOException;
import java.io.InputStream;
import java.nio.charset.StandardCharsets;
import java.security.cert.Certificate;
import java.security.cert.X509Certificate;
import java.time.Duration;
import java.time.Instant;
import java.util.Arrays;
import java.util.HexFormat;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;

/**
 * Peers on java-spiffe that make a mutual TLS handshake every 100 ms and say how many failed.
 *
 * <pre>
 *   JavaPeer serve SOCKET
 *   JavaPeer dial SOCKET HOST:PORT
 * </pre>
 *
 * A server prints its address first. Each ends when its standard input does, with a summary.
 */
final class JavaPeer {
  private static final int EVERY_MS = 100;
  /** Of a whole exchange. Far above what one takes, since the machine may be busy. */
  private static final int PATIENCE_MS = 20_000;
  private static final byte[] REQUEST = ascii("GET / HTTP/1.1\r\nHost: mesh\r\nConnection: close\r\n\r\n");
  private static final byte[] ANSWER =
      ascii("HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n");
  private static final byte[] EXPECTED = ascii("HTTP/1.1 200");

  private static volatile boolean ending = false;

  private static byte[] ascii(String text) {
    return text.getBytes(StandardCharsets.US_ASCII);
  }

  /** What one side counts, as JSON lines on the standard output. */
  private static final class Report {
    private final Map<String, Map<String, Integer>> sides =
        Map.of("peer", new TreeMap<>(), "own", new TreeMap<>());
    private int handshakes = 0;
    private int failures = 0;

    synchronized void succeeded(SSLSocket socket) throws IOException {
      handshakes++;
      if (handshakes % 10 == 0) print("{\"event\":\"count\",\"handshakes\":" + handshakes + "}");
      seen("peer", socket.getSession().getPeerCertificates()[0]);
      seen("own", socket.getSession().getLocalCertificates()[0]);
    }

    private void seen(String side, Certificate leaf) {
      String issuer = issuerOf((X509Certificate) leaf);
      if (sides.get(side).merge(issuer, 1, Integer::sum) == 1)
        print("{\"event\":\"issuer\",\"side\":\"" + side + "\",\"issuer\":\"" + issuer + "\"}");
    }

    synchronized void failed(String side, Throwable error) {
      failures++;
      String text = (side + ": " + error).replaceAll("[^ !#-\\[\\]-~]", " ");
      print("{\"event\":\"failure\",\"error\":\"" + text + "\",\"at\":\"" + Instant.now() + "\"}");
    }

    synchronized void summary() {
      print("{\"event\":\"summary\",\"handshakes\":" + handshakes + ",\"failures\":" + failures
          + ",\"peers\":" + json("peer") + ",\"own\":" + json("own") + "}");
    }

    private String json(String side) {
      return sides.get(side).entrySet().stream()
          .map(entry -> "\"" + entry.getKey() + "\":" + entry.getValue())
          .collect(Collectors.joining(",", "{", "}"));
    }

    synchronized void print(String line) {
      System.out.println(line);
    }
  }

  /** The authority key ID of a leaf in colon hex: the last 32 octets of an extension without more than it. */
  private static String issuerOf(X509Certificate leaf) {
    byte[] extension = leaf.getExtensionValue("2.5.29.35");
    byte[] keyId = Arrays.copyOfRange(extension, extension.length - 32, extension.length);
    return HexFormat.ofDelimiter(":").formatHex(keyId);
  }

  public static void main(String[] args) throws Exception {
    Report report = new Report();
    X509Source source =
        DefaultX509Source.newSource(
            X509SourceOptions.builder()
                .spiffeSocketPath(args[1])
                .initTimeout(Duration.ofMillis(PATIENCE_MS))
                .build());
    Thread work =
        new Thread(
            () -> {
              try {
                if (args[0].equals("serve")) serve(source, report);
                else dial(source, report, args[2]);
              } catch (Exception error) {
                report.failed(args[0], error);
              }
            });
    work.setDaemon(true);
    work.start();
    while (System.in.read() >= 0) {}
    ending = true;
    // A server would count an exchange that is not finished as failed.
    if (args[0].equals("dial")) work.join();
    report.summary();
    System.exit(0);
  }

  private static SSLContext context(X509Source source) throws Exception {
    return SpiffeSslContextFactory.getSslContext(
        SslContextOptions.builder().x509Source(source).acceptAnySpiffeId().build());
  }

  private static void serve(X509Source source, Report report) throws Exception {
    SSLServerSocket listener =
        (SSLServerSocket) context(source).getServerSocketFactory().createServerSocket();
    listener.bind(new java.net.InetSocketAddress("127.0.0.1", 0));
    listener.setNeedClientAuth(true);
    report.print(
        "{\"event\":\"listening\",\"address\":\"127.0.0.1:" + listener.getLocalPort() + "\"}");
    while (true) {
      SSLSocket accepted = (SSLSocket) listener.accept();
      Thread thread =
          new Thread(
              () -> {
                try (SSLSocket socket = accepted) {
                  socket.setSoTimeout(PATIENCE_MS);
                  readRequest(socket.getInputStream());
                  socket.getOutputStream().write(ANSWER);
                  report.succeeded(socket);
                } catch (Exception error) {
                  if (!ending) report.failed("server", error);
                }
              });
      thread.setDaemon(true);
      thread.start();
    }
  }

  /** Reads up to the empty line. */
  private static void readRequest(InputStream in) throws IOException {
    int matched = 0;
    while (matched < 4) {
      int octet = in.read();
      if (octet < 0) throw new IOException("the request ends early");
      if (octet == "\r\n\r\n".charAt(matched)) matched++;
      else matched = octet == '\r' ? 1 : 0;
    }
  }

  private static void dial(X509Source source, Report report, String to) throws Exception {
    String[] parts = to.split(":");
    while (!ending) {
      long next = System.currentTimeMillis() + EVERY_MS;
      // Another context for each, so that no session is resumed.
      try (SSLSocket socket = (SSLSocket) context(source).getSocketFactory().createSocket()) {
        socket.connect(
            new java.net.InetSocketAddress(parts[0], Integer.parseInt(parts[1])), PATIENCE_MS);
        socket.setSoTimeout(PATIENCE_MS);
        socket.getOutputStream().write(REQUEST);
        // With TLS 1.3 a refusal of this side's leaf comes with the first octets that are read.
        byte[] begin = socket.getInputStream().readNBytes(EXPECTED.length);
        if (!Arrays.equals(begin, EXPECTED)) throw new IOException("the answer is another one");
        report.succeeded(socket);
      } catch (Exception error) {
        report.failed("client", error);
      }
      Thread.sleep(Math.max(0, next - System.currentTimeMillis()));
    }
  }
}
