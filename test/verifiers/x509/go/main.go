// Go's crypto/x509 as a verifier. Reads questions from standard input, a line each: an id, the seconds since 1970, and
// the leaf, what its holder sends with it and the trusted roots, as base64 of DER with commas between certificates; tabs
// between fields. Answers a line each: the id, and a reason or nothing.
package main

import (
	"bufio"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func parse(field string) ([]*x509.Certificate, error) {
	var parsed []*x509.Certificate
	for _, text := range strings.Split(field, ",") {
		if text == "" {
			continue
		}
		der, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			return nil, err
		}
		certificate, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, err
		}
		parsed = append(parsed, certificate)
	}
	return parsed, nil
}

func verify(fields []string) error {
	seconds, err := strconv.ParseInt(fields[1], 10, 64)
	if err != nil {
		return err
	}
	leaves, err := parse(fields[2])
	if err != nil {
		return err
	}
	chain, err := parse(fields[3])
	if err != nil {
		return err
	}
	trusted, err := parse(fields[4])
	if err != nil {
		return err
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	for _, certificate := range trusted {
		roots.AddCert(certificate)
	}
	for _, certificate := range chain {
		intermediates.AddCert(certificate)
	}
	// A peer looks for one of the two, by its role.
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		options := x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: time.Unix(seconds, 0), KeyUsages: []x509.ExtKeyUsage{usage}}
		if _, err := leaves[0].Verify(options); err != nil {
			return err
		}
	}
	return nil
}

func main() {
	questions := bufio.NewScanner(os.Stdin)
	questions.Buffer(nil, 1<<20)
	for questions.Scan() {
		fields := strings.Split(questions.Text(), "\t")
		answer := ""
		if err := verify(fields); err != nil {
			answer = strings.ReplaceAll(err.Error(), "\n", " ")
		}
		fmt.Printf("%s\t%s\n", fields[0], answer)
	}
}
