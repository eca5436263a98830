// Package report counts the handshakes of a side and prints JSON lines.
package report

import (
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"
)

// A Report is what one side of the handshakes counts, as JSON lines on the standard output.
type Report struct {
	mutex sync.Mutex
	out   *json.Encoder
	// By key ID of the issuer: how many leaves of the peer, and of this side, were presented.
	peers, own           map[string]int
	handshakes, failures int
}

// New returns an empty one.
func New() *Report {
	return &Report{out: json.NewEncoder(os.Stdout), peers: map[string]int{}, own: map[string]int{}}
}

// issuerOf is the authority key ID of a leaf in colon hex, as Consul's SigningKeyID is written.
func issuerOf(leaf *x509.Certificate) string {
	if leaf == nil {
		return ""
	}
	digits := hex.EncodeToString(leaf.AuthorityKeyId)
	var pairs []string
	for i := 0; i+2 <= len(digits); i += 2 {
		pairs = append(pairs, digits[i:i+2])
	}
	return strings.Join(pairs, ":")
}

// Event prints a line.
func (r *Report) Event(fields map[string]any) { _ = r.out.Encode(fields) }

func (r *Report) seen(side string, counts map[string]int, leaf *x509.Certificate) {
	issuer := issuerOf(leaf)
	if issuer == "" {
		return
	}
	counts[issuer]++
	if counts[issuer] == 1 {
		r.Event(map[string]any{"event": "issuer", "side": side, "issuer": issuer})
	}
}

// Succeeded counts an exchange with the leaves that both sides presented, nil if unknown.
func (r *Report) Succeeded(peer, own *x509.Certificate) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.handshakes++
	if r.handshakes%10 == 0 {
		r.Event(map[string]any{"event": "count", "handshakes": r.handshakes})
	}
	r.seen("peer", r.peers, peer)
	r.seen("own", r.own, own)
}

// Failed counts and prints a failure.
func (r *Report) Failed(err error) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.failures++
	r.Event(map[string]any{"event": "failure", "error": err.Error(), "at": time.Now().UTC().Format(time.RFC3339Nano)})
}

// Summary prints what was counted.
func (r *Report) Summary() {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.Event(map[string]any{"event": "summary", "handshakes": r.handshakes, "failures": r.failures,
		"peers": r.peers, "own": r.own})
}

// Exit ends the program with an error.
func Exit(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
