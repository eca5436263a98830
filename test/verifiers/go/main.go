// A TLS peer on Go's crypto/tls: `go-peer CHAIN KEY ROOTS...` has each root set verify a chain by real handshakes in memory,
// as a client and as a server, and prints a line for each: `client ok`, or `server` and why not. With PEER_HOST the client
// verifies that host name too.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"os"
	"strings"
)

func main() {
	switch os.Args[1] {
	case "present":
		present()
		return
	case "verify":
		verifyByLines(os.Args[2], os.Args[3], os.Args[4])
		return
	}
	own, err := tls.LoadX509KeyPair(os.Args[1], os.Args[2])
	if err != nil {
		panic(err)
	}
	for _, path := range os.Args[3:] {
		pem, err := os.ReadFile(path)
		if err != nil {
			panic(err)
		}
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(pem) {
			panic(path)
		}
		report("client", own, roots)
		report("server", own, roots)
	}
}

// verify does what crypto/tls does for a server, its name only with PEER_HOST: a leaf may have a SPIFFE ID and no DNS name.
func verify(roots *x509.CertPool) func(tls.ConnectionState) error {
	return func(state tls.ConnectionState) error {
		intermediates := x509.NewCertPool()
		for _, certificate := range state.PeerCertificates[1:] {
			intermediates.AddCert(certificate)
		}
		_, err := state.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, DNSName: os.Getenv("PEER_HOST")})
		return err
	}
}

func report(role string, own tls.Certificate, roots *x509.CertPool) {
	// The leaf is presented also to a server that names other CAs, so that it is the server that decides.
	present := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &own, nil }
	client := &tls.Config{GetClientCertificate: present, InsecureSkipVerify: true}
	server := &tls.Config{Certificates: []tls.Certificate{own}}
	if role == "client" {
		client.VerifyConnection = verify(roots)
	} else {
		server.ClientAuth, server.ClientCAs = tls.RequireAndVerifyClientCert, roots
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	defer listener.Close()
	accepted := make(chan error, 1)
	go func() {
		connection, err := listener.Accept()
		if err != nil {
			accepted <- err
			return
		}
		defer connection.Close()
		accepted <- tls.Server(connection, server).Handshake()
	}()
	connection, err := tls.Dial("tcp", listener.Addr().String(), client)
	if err == nil {
		defer connection.Close()
	}
	outcome := <-accepted
	if role == "client" {
		outcome = err
	}
	if outcome == nil {
		fmt.Println(role, "ok")
	} else {
		fmt.Println(role, strings.ReplaceAll(outcome.Error(), "\n", " "))
	}
}
