package report

import (
	"bufio"
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"strings"
)

// The answer of every server here.
const answer = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"

// Respond reads a request up to its empty line and answers it.
func Respond(conn net.Conn) error {
	reader := bufio.NewReader(conn)
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.TrimRight(line, "\r\n") == "" {
			break
		}
	}
	_, err := io.WriteString(conn, answer)
	return err
}

// PeerOf is the leaf of the other side, nil without TLS.
func PeerOf(conn net.Conn) *x509.Certificate {
	with, ok := conn.(interface{ ConnectionState() tls.ConnectionState })
	if !ok {
		return nil
	}
	peers := with.ConnectionState().PeerCertificates
	if len(peers) == 0 {
		return nil
	}
	return peers[0]
}
