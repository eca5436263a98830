import java.io.FileInputStream;
import java.net.URI;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.security.cert.X509Certificate;
import javax.net.ssl.HttpsURLConnection;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/**
 * An HTTPS client with the JDK's own check of the host name: `HttpsGet ROOTS URL...` prints a line for each URL, the body or
 * why not. Hosts are resolved by -Djdk.net.hosts.file.
 */
class HttpsGet {
  public static void main(String[] arguments) throws Exception {
    var roots = KeyStore.getInstance(KeyStore.getDefaultType());
    roots.load(null, null);
    try (var file = new FileInputStream(arguments[0])) {
      for (var root : CertificateFactory.getInstance("X.509").generateCertificates(file))
        roots.setCertificateEntry(((X509Certificate) root).getSerialNumber().toString(), root);
    }
    var trust = TrustManagerFactory.getInstance("PKIX");
    trust.init(roots);
    var context = SSLContext.getInstance("TLS");
    context.init(null, trust.getTrustManagers(), null);
    for (int i = 1; i < arguments.length; i++) {
      var connection = (HttpsURLConnection) URI.create(arguments[i]).toURL().openConnection();
      connection.setSSLSocketFactory(context.getSocketFactory());
      try (var body = connection.getInputStream()) {
        System.out.println(new String(body.readAllBytes()));
      } catch (Exception error) {
        System.out.println(error.toString().replaceAll("\\s+", " "));
      }
    }
  }
}
