import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.InputStreamReader;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.security.cert.PKIXBuilderParameters;
import java.security.cert.X509CertSelector;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Date;
import java.util.List;
import javax.net.ssl.CertPathTrustManagerParameters;
import javax.net.ssl.TrustManagerFactory;
import javax.net.ssl.X509TrustManager;

/** The JDK's trust manager of TLS as a verifier. Questions and answers are those of ../go/main.go. */
class Verify {
  public static void main(String[] arguments) throws Exception {
    var questions = new BufferedReader(new InputStreamReader(System.in));
    for (String line; (line = questions.readLine()) != null; ) {
      var fields = line.split("\t", -1);
      var answer = "";
      try {
        verify(fields);
      } catch (Exception error) {
        answer = reason(error);
      }
      System.out.println(fields[0] + "\t" + answer);
      System.out.flush();
    }
  }

  static void verify(String[] fields) throws Exception {
    var roots = KeyStore.getInstance(KeyStore.getDefaultType());
    roots.load(null, null);
    for (var root : parse(fields[4])) roots.setCertificateEntry(root.getSerialNumber() + " " + root.getSubjectX500Principal(), root);
    var chain = new ArrayList<>(parse(fields[2]));
    chain.addAll(parse(fields[3]));
    var parameters = new PKIXBuilderParameters(roots, new X509CertSelector());
    parameters.setRevocationEnabled(false);
    parameters.setDate(new Date(Long.parseLong(fields[1]) * 1000));
    // The JDK counts intermediates that are not self-issued; how many it takes in TLS is not the question here.
    parameters.setMaxPathLength(-1);
    var factory = TrustManagerFactory.getInstance("PKIX");
    factory.init(new CertPathTrustManagerParameters(parameters));
    var manager = (X509TrustManager) factory.getTrustManagers()[0];
    var sent = chain.toArray(new X509Certificate[0]);
    var isRsa = sent[0].getPublicKey().getAlgorithm().equals("RSA");
    manager.checkServerTrusted(sent, isRsa ? "ECDHE_RSA" : "ECDHE_ECDSA");
    manager.checkClientTrusted(sent, isRsa ? "RSA" : "EC");
  }

  static List<X509Certificate> parse(String field) throws Exception {
    var factory = CertificateFactory.getInstance("X.509");
    var parsed = new ArrayList<X509Certificate>();
    for (var text : field.split(","))
      if (!text.isEmpty())
        parsed.add((X509Certificate) factory.generateCertificate(new ByteArrayInputStream(Base64.getDecoder().decode(text))));
    return parsed;
  }

  static String reason(Throwable error) {
    var text = String.valueOf(error.getMessage());
    for (var cause = error.getCause(); cause != null; cause = cause.getCause()) text = cause + " < " + text;
    return text.replaceAll("\\s+", " ");
  }
}
