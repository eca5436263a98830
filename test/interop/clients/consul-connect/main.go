// A service and a client on the SDK of Consul Connect, which follow an agent's routes: a handshake every 100 ms.
//
//	consul-connect serve -agent HOST:PORT -service NAME
//	consul-connect dial -agent HOST:PORT -service NAME -to HOST:PORT -target NAME
//
// A server prints its address first. Each ends when its standard input does, with a summary.
package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"time"

	"github.com/hashicorp/consul/agent/connect"
	"github.com/hashicorp/consul/api"
	sdk "github.com/hashicorp/consul/connect"
	"github.com/hashicorp/go-hclog"

	"meshca.test/interop/report"
)

const (
	every = 100 * time.Millisecond
	// Of a whole exchange. Far above what one takes, since the machine may be busy.
	patience = 20 * time.Second
	request  = "GET / HTTP/1.1\r\nHost: mesh\r\nConnection: close\r\n\r\n"
	expected = "HTTP/1.1 200"
)

func main() {
	flags := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
	agent := flags.String("agent", "", "address of the agent")
	name := flags.String("service", "", "name of this service")
	to := flags.String("to", "", "address of the server")
	target := flags.String("target", "", "name of the server's service")
	_ = flags.Parse(os.Args[2:])

	counts := report.New()
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		stop()
	}()
	client, err := api.NewClient(&api.Config{Address: *agent})
	if err != nil {
		report.Exit(err)
	}
	// The SDK logs to the standard error, which a failed test shows.
	logger := hclog.New(&hclog.LoggerOptions{Output: os.Stderr, Level: hclog.Warn})
	service, err := sdk.NewServiceWithConfig(*name, sdk.Config{Client: client, Logger: logger, ServerNextProtos: []string{}})
	if err != nil {
		report.Exit(err)
	}
	defer service.Close()
	select {
	case <-service.ReadyWait():
	case <-time.After(patience):
		report.Exit(errors.New("the SDK has no leaf and roots"))
	}
	switch os.Args[1] {
	case "serve":
		serve(ctx, counts, service)
	case "dial":
		dial(ctx, counts, service, client, *to, *target)
	default:
		report.Exit(errors.New("serve or dial"))
	}
	counts.Summary()
}

func serve(ctx context.Context, counts *report.Report, service *sdk.Service) {
	plain, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		report.Exit(err)
	}
	counts.Event(map[string]any{"event": "listening", "address": plain.Addr().String()})
	listener := tls.NewListener(plain, service.ServerTLSConfig())
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
			counts.Succeeded(report.PeerOf(conn), ownOf(service))
		}()
	}
}

// ownOf is the leaf that the SDK presents now: a rotation between handshake and this call counts with the next one.
func ownOf(service *sdk.Service) *x509.Certificate {
	pair, err := service.ServerTLSConfig().GetCertificate(nil)
	if err != nil {
		return nil
	}
	leaf, err := x509.ParseCertificate(pair.Certificate[0])
	if err != nil {
		return nil
	}
	return leaf
}

func dial(ctx context.Context, counts *report.Report, service *sdk.Service, client *api.Client, to, target string) {
	// The SDK compares the server's SPIFFE ID, the trust domain included: from the listing, as its own resolver does.
	roots, _, err := client.Agent().ConnectCARoots(nil)
	if err != nil {
		report.Exit(err)
	}
	resolver := &sdk.StaticResolver{Addr: to, CertURI: &connect.SpiffeIDService{Host: roots.TrustDomain,
		Namespace: "default", Datacenter: "dc1", Service: target}}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		// Not ended by ctx, since a server would count it as failed.
		if err := once(counts, service, resolver); err != nil {
			counts.Failed(fmt.Errorf("client: %w", err))
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func once(counts *report.Report, service *sdk.Service, resolver sdk.Resolver) error {
	limited, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, err := service.Dial(limited, resolver)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	// With TLS 1.3 a refusal of this side's leaf comes with the first octets that are read.
	begin := make([]byte, len(expected))
	if _, err := io.ReadFull(conn, begin); err != nil {
		return fmt.Errorf("%w after %q", err, bytes.TrimRight(begin, "\x00"))
	}
	if !strings.HasPrefix(string(begin), expected) {
		return fmt.Errorf("answer begins with %q", begin)
	}
	counts.Succeeded(report.PeerOf(conn), ownOf(service))
	return nil
}
