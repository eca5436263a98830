// Peers that make a mutual TLS handshake every 100 ms and say how many failed.
//
//	go-spiffe serve -socket unix:///PATH                 go-spiffe's listener
//	go-spiffe dial -socket unix:///PATH -to HOST:PORT    go-spiffe's dialer
//	go-spiffe dial -folder PATH -name NAME -to HOST:PORT crypto/tls with the files of a folder, which are read for each
//	                                                     handshake; the server is checked by its DNS name
//	go-spiffe dial -folder ... -postgres                 the same, to a server of PostgreSQL
//	go-spiffe dial -plain -to HOST:PORT                  no TLS: to the listener of a proxy that does it
//	go-spiffe origin                                     an HTTP server without TLS, for a proxy in front of it
//
// A server prints its address first. Each ends when its standard input does, with a summary.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/spiffe/go-spiffe/v2/spiffeid"
	"github.com/spiffe/go-spiffe/v2/spiffetls"
	"github.com/spiffe/go-spiffe/v2/spiffetls/tlsconfig"
	"github.com/spiffe/go-spiffe/v2/workloadapi"

	"meshca.test/interop/report"
)

const (
	every = 100 * time.Millisecond
	// Of a whole exchange. Far above what one takes, since the machine may be busy.
	patience = 20 * time.Second
)

func main() {
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	socket := flags.String("socket", "", "address of the Workload API")
	to := flags.String("to", "", "address of the server")
	folder := flags.String("folder", "", "folder with tls.pem and ca.crt")
	name := flags.String("name", "", "DNS name of the server")
	plain := flags.Bool("plain", false, "no TLS")
	postgres := flags.Bool("postgres", false, "begin as a client of PostgreSQL does")
	send := flags.String("send", "GET / HTTP/1.1\r\nHost: mesh\r\nConnection: close\r\n\r\n", "what a client sends")
	expect := flags.String("expect", "HTTP/1.1 200", "how the answer begins")
	_ = flags.Parse(os.Args[2:])

	counts := report.New()
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	var source *workloadapi.X509Source
	if *socket != "" {
		var err error
		// The end of the standard input does not close it: the last exchange goes on.
		source, err = workloadapi.NewX509Source(context.Background(), workloadapi.WithClientOptions(workloadapi.WithAddr(*socket)))
		if err != nil {
			report.Exit(err)
		}
		defer source.Close()
	}
	switch os.Args[1] {
	case "serve":
		serve(ctx, counts, source)
	case "origin":
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			report.Exit(err)
		}
		accept(ctx, counts, listener, nil)
	case "dial":
		c := client{source: source, to: *to, folder: *folder, name: *name, plain: *plain, send: *send, expect: *expect}
		if *postgres {
			c.before, c.send, c.expect = beginPostgres, startPostgres, "R"
		}
		c.run(ctx, counts)
	default:
		report.Exit(errors.New("serve, origin or dial"))
	}
	counts.Summary()
}

// trustDomain is that of this side's own SVID; a peer must be of it.
func trustDomain(source *workloadapi.X509Source) spiffeid.TrustDomain {
	svid, err := source.GetX509SVID()
	if err != nil {
		report.Exit(err)
	}
	return svid.ID.TrustDomain()
}

func serve(ctx context.Context, counts *report.Report, source *workloadapi.X509Source) {
	mode := spiffetls.MTLSServerWithSource(tlsconfig.AuthorizeMemberOf(trustDomain(source)), source)
	listener, err := spiffetls.ListenWithMode(ctx, "tcp", "127.0.0.1:0", mode)
	if err != nil {
		report.Exit(err)
	}
	accept(ctx, counts, listener, source)
}

func accept(ctx context.Context, counts *report.Report, listener net.Listener, source *workloadapi.X509Source) {
	counts.Event(map[string]any{"event": "listening", "address": listener.Addr().String()})
	go func() {
		<-ctx.Done()
		listener.Close()
	}()
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			_ = conn.SetDeadline(time.Now().Add(patience))
			if err := report.Respond(conn); err != nil {
				if ctx.Err() == nil {
					counts.Failed(fmt.Errorf("server: %w", err))
				}
				return
			}
			counts.Succeeded(report.PeerOf(conn), ownOf(source))
		}()
	}
}

// ownOf is the leaf that go-spiffe presents now: a rotation between handshake and this call counts with the next one.
func ownOf(source *workloadapi.X509Source) *x509.Certificate {
	if source == nil {
		return nil
	}
	svid, err := source.GetX509SVID()
	if err != nil {
		return nil
	}
	return svid.Certificates[0]
}

type client struct {
	source                         *workloadapi.X509Source
	to, folder, name, send, expect string
	plain                          bool
	// Before the TLS handshake; nil if there is nothing.
	before func(net.Conn) error
}

// The StartupMessage of a user mesh, which is answered with R if the server lets the user in
// (https://www.postgresql.org/docs/current/protocol-message-formats.html).
const startPostgres = "\x00\x00\x00\x25\x00\x03\x00\x00user\x00mesh\x00database\x00postgres\x00\x00"

// beginPostgres sends an SSLRequest, which is answered with S.
func beginPostgres(conn net.Conn) error {
	if _, err := conn.Write([]byte{0, 0, 0, 8, 4, 210, 22, 47}); err != nil {
		return err
	}
	answer := make([]byte, 1)
	if _, err := io.ReadFull(conn, answer); err != nil {
		return err
	}
	if answer[0] != 'S' {
		return fmt.Errorf("SSLRequest is answered with %q", answer)
	}
	return nil
}

func (c client) run(ctx context.Context, counts *report.Report) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		// Not ended by ctx, since a server would count it as failed.
		if err := c.once(counts); err != nil {
			counts.Failed(fmt.Errorf("client: %w", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (c client) once(counts *report.Report) error {
	limited, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, own, err := c.dial(limited)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, c.send); err != nil {
		return err
	}
	// With TLS 1.3 a refusal of this side's leaf comes with the first octets that are read.
	begin := make([]byte, len(c.expect))
	if _, err := io.ReadFull(conn, begin); err != nil {
		return fmt.Errorf("%w after %q", err, bytes.TrimRight(begin, "\x00"))
	}
	if string(begin) != c.expect {
		return fmt.Errorf("answer begins with %q", begin)
	}
	counts.Succeeded(report.PeerOf(conn), own)
	return nil
}

func (c client) dial(ctx context.Context) (net.Conn, *x509.Certificate, error) {
	switch {
	case c.plain:
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.to)
		return conn, nil, err
	case c.folder != "":
		config, own, err := fromFiles(c.folder, c.name)
		if err != nil {
			return nil, nil, err
		}
		plain, err := (&net.Dialer{}).DialContext(ctx, "tcp", c.to)
		if err != nil {
			return nil, nil, err
		}
		if c.before != nil {
			if err := c.before(plain); err != nil {
				plain.Close()
				return nil, nil, err
			}
		}
		return tls.Client(plain, config), own, nil
	default:
		mode := spiffetls.MTLSClientWithSource(tlsconfig.AuthorizeMemberOf(trustDomain(c.source)), c.source)
		conn, err := spiffetls.DialWithMode(ctx, "tcp", c.to, mode)
		return conn, ownOf(c.source), err
	}
}

// fromFiles reads key and chain in one read, as SPIFFE's filesystem delivery asks, and the roots.
func fromFiles(folder, name string) (*tls.Config, *x509.Certificate, error) {
	bundle, err := os.ReadFile(filepath.Join(folder, "credential-bundle.private-key.pem"))
	if err != nil {
		return nil, nil, err
	}
	pair, err := tls.X509KeyPair(certificates(bundle), bundle)
	if err != nil {
		return nil, nil, err
	}
	ca, err := os.ReadFile(filepath.Join(folder, "ca.crt"))
	if err != nil {
		return nil, nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, nil, errors.New("no certificate in ca.crt")
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, RootCAs: roots, ServerName: name,
		MinVersion: tls.VersionTLS12}, pair.Leaf, nil
}

// certificates leaves the private key out.
func certificates(bundle []byte) []byte {
	var only []byte
	for block, rest := pem.Decode(bundle); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			only = append(only, pem.EncodeToMemory(block)...)
		}
	}
	return only
}
