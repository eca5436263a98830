import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.net.InetAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.KeyFactory;
import java.security.KeyStore;
import java.security.Principal;
import java.security.PrivateKey;
import java.security.cert.Certificate;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import java.security.spec.PKCS8EncodedKeySpec;
import java.util.Base64;
import java.util.Collection;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import javax.net.ssl.KeyManager;
import javax.net.ssl.KeyManagerFactory;
import javax.net.ssl.SSLContext;
import javax.net.ssl.SSLServerSocket;
import javax.net.ssl.SSLSocket;
import javax.net.ssl.TrustManager;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509KeyManager;
import javax.net.ssl.X509TrustManager;

/**
 * A TLS peer on the JDK with its default trust manager: `JdkPeer CHAIN KEY ROOTS...` has each root set verify a chain by
 * real handshakes over loopback, as a client and as a server, and prints a line for each: `client ok`, or `server` and why
 * not.
 */
public final class JdkPeer {
  private static final char[] NO_PASSWORD = "unused".toCharArray();

  /** Takes whatever comes: that side is not the one that is asked. */
  private static final X509TrustManager ANYTHING = new X509TrustManager() {
    @Override public void checkClientTrusted(X509Certificate[] chain, String authType) {}
    @Override public void checkServerTrusted(X509Certificate[] chain, String authType) {}
    @Override public X509Certificate[] getAcceptedIssuers() { return new X509Certificate[0]; }
  };

  public static void main(String[] args) throws Exception {
    if (args[0].equals("verify")) {
      byLines(args[1], args[2], args[3]);
      return;
    }
    Collection<? extends Certificate> chain = certificates(args[0]);
    Certificate leaf = chain.iterator().next();
    PrivateKey key = privateKey(args[1], leaf.getPublicKey().getAlgorithm());
    KeyManagerFactory keys = keyManagers(chain, key);
    // What the side that verifies presents itself is not in question, and must not be what fails.
    KeyManagerFactory leafAlone = keyManagers(List.of(leaf), key);
    for (int i = 2; i < args.length; i++) {
      TrustManager[] roots = trustManagers(certificates(args[i]));
      TrustManager[] anything = {ANYTHING};
      report("client", context(leafAlone, roots), context(keys, anything));
      report("server", context(keys, anything), context(leafAlone, roots));
    }
  }

  /**
   * `JdkPeer verify CHAIN KEY ROOTS` prints `port N` and reads lines: `client PORT` has it connect and verify what it is
   * shown, `server` accept a client and verify that.
   */
  private static void byLines(String chain, String key, String roots) throws Exception {
    Collection<? extends Certificate> own = certificates(chain);
    KeyManagerFactory keys = keyManagers(List.of(own.iterator().next()), privateKey(key, own.iterator().next().getPublicKey().getAlgorithm()));
    SSLContext context = context(keys, trustManagers(certificates(roots)));
    try (SSLServerSocket listener = (SSLServerSocket) context.getServerSocketFactory().createServerSocket(0, 5, InetAddress.getLoopbackAddress())) {
      listener.setNeedClientAuth(true);
      System.out.println("port " + listener.getLocalPort());
      BufferedReader lines = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.US_ASCII));
      for (String line = lines.readLine(); line != null; line = lines.readLine()) {
        boolean asClient = line.startsWith("client ");
        String outcome = "ok";
        try (SSLSocket socket = (SSLSocket) (asClient
            ? context.getSocketFactory().createSocket(InetAddress.getLoopbackAddress(), Integer.parseInt(line.substring(7)))
            : listener.accept())) {
          socket.setSoTimeout(60_000);
          socket.startHandshake();
        } catch (IOException error) {
          outcome = reason(error);
        }
        System.out.println((asClient ? "client " : "server ") + outcome);
      }
    }
  }

  /** One mutual handshake. Of the two sides only the one named verifies. */
  private static void report(String role, SSLContext client, SSLContext server) throws Exception {
    boolean byClient = role.equals("client");
    try (SSLServerSocket listener = (SSLServerSocket) server.getServerSocketFactory().createServerSocket(0)) {
      listener.setNeedClientAuth(!byClient);
      CompletableFuture<String> accepted = CompletableFuture.supplyAsync(() -> {
        try (SSLSocket socket = (SSLSocket) listener.accept()) {
          socket.setSoTimeout(10_000);
          socket.startHandshake();
          socket.getOutputStream().write(1);
          socket.getInputStream().read();
          return "ok";
        } catch (IOException error) {
          return reason(error);
        }
      });
      String connected;
      try (SSLSocket socket = (SSLSocket) client.getSocketFactory().createSocket("127.0.0.1", listener.getLocalPort())) {
        socket.setSoTimeout(10_000);
        socket.startHandshake();
        // In TLS 1.3 a client is told only here that its certificate was refused.
        socket.getInputStream().read();
        socket.getOutputStream().write(1);
        connected = "ok";
      } catch (IOException error) {
        connected = reason(error);
      }
      System.out.println(role + " " + (byClient ? connected : accepted.get()));
    }
  }

  private static String reason(Throwable error) {
    StringBuilder text = new StringBuilder();
    for (Throwable at = error; at != null; at = at.getCause()) text.append(text.length() == 0 ? "" : ": ").append(at.getMessage());
    return text.toString().replace('\n', ' ');
  }

  private static SSLContext context(KeyManagerFactory keys, TrustManager[] trust) throws Exception {
    SSLContext context = SSLContext.getInstance("TLS");
    context.init(new KeyManager[] {new Always((X509KeyManager) keys.getKeyManagers()[0])}, trust, null);
    return context;
  }

  /** Presents the leaf also to a server that names other CAs, so that it is the server that decides. */
  private static final class Always implements X509KeyManager {
    private final X509KeyManager keys;

    Always(X509KeyManager keys) { this.keys = keys; }

    @Override public String[] getClientAliases(String type, Principal[] issuers) { return keys.getClientAliases(type, null); }
    @Override public String chooseClientAlias(String[] types, Principal[] issuers, Socket socket) { return keys.chooseClientAlias(types, null, socket); }
    @Override public String[] getServerAliases(String type, Principal[] issuers) { return keys.getServerAliases(type, issuers); }
    @Override public String chooseServerAlias(String type, Principal[] issuers, Socket socket) { return keys.chooseServerAlias(type, issuers, socket); }
    @Override public X509Certificate[] getCertificateChain(String alias) { return keys.getCertificateChain(alias); }
    @Override public PrivateKey getPrivateKey(String alias) { return keys.getPrivateKey(alias); }
  }

  private static KeyManagerFactory keyManagers(Collection<? extends Certificate> chain, PrivateKey key) throws Exception {
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null, null);
    store.setKeyEntry("leaf", key, NO_PASSWORD, chain.toArray(new Certificate[0]));
    KeyManagerFactory factory = KeyManagerFactory.getInstance(KeyManagerFactory.getDefaultAlgorithm());
    factory.init(store, NO_PASSWORD);
    return factory;
  }

  private static TrustManager[] trustManagers(Collection<? extends Certificate> roots) throws Exception {
    KeyStore store = KeyStore.getInstance(KeyStore.getDefaultType());
    store.load(null, null);
    int number = 0;
    for (Certificate root : roots) store.setCertificateEntry("root-" + number++, root);
    TrustManagerFactory factory = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
    factory.init(store);
    return factory.getTrustManagers();
  }

  private static Collection<? extends Certificate> certificates(String path) throws Exception {
    return CertificateFactory.getInstance("X.509").generateCertificates(new ByteArrayInputStream(Files.readAllBytes(Path.of(path))));
  }

  /** PKCS#8 in PEM. */
  private static PrivateKey privateKey(String path, String algorithm) throws Exception {
    String body = Files.readString(Path.of(path), StandardCharsets.US_ASCII).replaceAll("-----[A-Z ]+-----", "");
    return KeyFactory.getInstance(algorithm).generatePrivate(new PKCS8EncodedKeySpec(Base64.getMimeDecoder().decode(body)));
  }
}
