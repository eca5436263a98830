package main

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"
)

func listen() net.Listener {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println("port", listener.Addr().(*net.TCPAddr).Port)
	return listener
}

func said(role string, err error) {
	if err == nil {
		fmt.Println(role, "ok")
	} else {
		fmt.Println(role, strings.Join(strings.Fields(err.Error()), " "))
	}
}

// verifyByLines is `go-peer verify CHAIN KEY ROOTS`, see byLines in peers.ts: `client PORT` and `server` on the standard
// input each verify one peer.
func verifyByLines(chain, key, rootsPath string) {
	own, err := tls.LoadX509KeyPair(chain, key)
	if err != nil {
		panic(err)
	}
	roots := x509.NewCertPool()
	pem, err := os.ReadFile(rootsPath)
	if err != nil || !roots.AppendCertsFromPEM(pem) {
		panic(rootsPath)
	}
	listener := listen()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		port, isClient := strings.CutPrefix(lines.Text(), "client ")
		if isClient {
			connection, err := tls.Dial("tcp", "127.0.0.1:"+port, &tls.Config{InsecureSkipVerify: true, VerifyConnection: verify(roots)})
			if err == nil {
				connection.Close()
			}
			said("client", err)
			continue
		}
		connection, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		config := &tls.Config{Certificates: []tls.Certificate{own}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots}
		said("server", tls.Server(connection, config).Handshake())
		connection.Close()
	}
}

// present is `go-peer present`: it presents any chain as it is, whatever is wrong with it. On the standard input `use CHAIN
// KEY` says which, to clients on its port too, and `connect HOST:PORT` presents it to a server; both print one line.
func present() {
	var current atomic.Pointer[tls.Certificate]
	listener := listen()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				panic(err)
			}
			go func() {
				defer connection.Close()
				connection.SetDeadline(time.Now().Add(time.Minute))
				// Without tickets nobody resumes a session in place of verifying.
				session := tls.Server(connection, &tls.Config{Certificates: []tls.Certificate{*current.Load()}, SessionTicketsDisabled: true})
				if session.Handshake() != nil {
					return
				}
				if _, err := session.Read(make([]byte, 1<<16)); err == nil {
					io.WriteString(session, "HTTP/1.0 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
					session.Close()
				}
			}()
		}
	}()
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if words[0] == "use" {
			loaded, err := tls.LoadX509KeyPair(words[1], words[2])
			if err == nil {
				current.Store(&loaded)
			}
			said("use", err)
			continue
		}
		text, err := get(words[1], current.Load())
		if err != nil {
			text = err.Error()
		}
		fmt.Println("connect", strings.Join(strings.Fields(text), " "))
	}
}

// get returns the body of a response to `GET /` of a server to which the certificate is presented.
func get(address string, own *tls.Certificate) (string, error) {
	connection, err := net.Dial("tcp", address)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	connection.SetDeadline(time.Now().Add(time.Minute))
	present := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return own, nil }
	session := tls.Client(connection, &tls.Config{InsecureSkipVerify: true, GetClientCertificate: present})
	if err := session.Handshake(); err != nil {
		return "", err
	}
	if _, err := io.WriteString(session, "GET / HTTP/1.0\r\nHost: localhost\r\n\r\n"); err != nil {
		return "", err
	}
	text, err := io.ReadAll(session)
	if _, body, found := strings.Cut(string(text), "\r\n\r\n"); found {
		return body, nil
	}
	return "", fmt.Errorf("no response: %w", err)
}
