// Roots as Consul's and smallstep's own code make them, as JSON on standard output.
//
//	go run . <cluster id>
package main

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"time"

	"github.com/hashicorp/consul/tlsutil"
	"go.step.sm/crypto/x509util"
)

type root struct {
	Name string `json:"name"`
	How  string `json:"how"`
	Cert string `json:"cert"`
	Key  string `json:"key"`
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// consul is what `consul tls ca create` calls.
func consul(name string, options tlsutil.CAOpts) root {
	options.Days = 7300
	cert, key, err := tlsutil.GenerateCA(options)
	if err != nil {
		panic(err)
	}
	return root{name, "consul", cert, key}
}

// step is what `step certificate create --profile root-ca` does, with a template.
func step(name, template string) root {
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	request := must(x509util.CreateCertificateRequest("Step Root", []string{}, key))
	data := x509util.CreateTemplateData("Step Root", nil)
	data.Set("uri", "spiffe://"+os.Args[1]+".consul")
	certificate := must(x509util.NewCertificate(request, x509util.WithTemplate(template, data))).GetCertificate()
	certificate.NotBefore = time.Now()
	certificate.NotAfter = certificate.NotBefore.AddDate(20, 0, 0)
	made := must(x509util.CreateCertificate(certificate, certificate, key.Public(), crypto.Signer(key)))
	return root{name, "step",
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Raw})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: must(x509.MarshalPKCS8PrivateKey(key))}))}
}

// A template that operators write when they read the documentation of step: the default one with a URI and without a path length.
const withURI = `{
	"subject": {{ toJson .Subject }},
	"issuer": {{ toJson .Subject }},
	"sans": [{"type": "uri", "value": {{ toJson .uri }}}],
	"keyUsage": ["certSign", "crlSign"],
	"basicConstraints": {"isCA": true, "maxPathLen": -1}
}`

func main() {
	id := os.Args[1]
	roots := []root{
		consul("a root without cluster id", tlsutil.CAOpts{Domain: "consul"}),
		consul("a root with the cluster id", tlsutil.CAOpts{Domain: "consul", ClusterID: id}),
		consul("a root with -name-constraint", tlsutil.CAOpts{Domain: "consul", ClusterID: id, PermittedDNSDomains: []string{"consul", "localhost"}}),
		consul("a root with -name-constraint for example.com", tlsutil.CAOpts{Domain: "example.com", ClusterID: id, PermittedDNSDomains: []string{"example.com", "localhost"}}),
		step("a root of the default template", x509util.DefaultRootTemplate),
		step("a root of a template with the URI", withURI),
	}
	text := must(json.Marshal(roots))
	os.Stdout.Write(text)
}
