// Command vault is a small Vault server for tests: core, HTTP, the PKI engine and the ways to log in that a service uses,
// on memory or on a folder. It starts as any Vault does, uninitialised and sealed.
package main

import (
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	log "github.com/hashicorp/go-hclog"
	jwt "github.com/hashicorp/vault-plugin-auth-jwt"
	kubernetes "github.com/hashicorp/vault-plugin-auth-kubernetes"
	"github.com/hashicorp/vault/audit"
	"github.com/hashicorp/vault/builtin/credential/approle"
	"github.com/hashicorp/vault/builtin/credential/cert"
	"github.com/hashicorp/vault/builtin/credential/userpass"
	"github.com/hashicorp/vault/builtin/logical/pki"
	vaulthttp "github.com/hashicorp/vault/http"
	"github.com/hashicorp/vault/internalshared/configutil"
	"github.com/hashicorp/vault/sdk/helper/consts"
	"github.com/hashicorp/vault/sdk/logical"
	"github.com/hashicorp/vault/sdk/physical"
	"github.com/hashicorp/vault/sdk/physical/file"
	"github.com/hashicorp/vault/sdk/physical/inmem"
	"github.com/hashicorp/vault/vault"
)

var credentials = map[string]logical.Factory{
	"approle":    approle.Factory,
	"cert":       cert.Factory,
	"jwt":        jwt.Factory,
	"kubernetes": kubernetes.Factory,
	"userpass":   userpass.Factory,
}

var engines = map[string]logical.Factory{"pki": pki.Factory}

// registry names the built-in plugins, so that mounting by type works.
type registry struct{}

func byType(t consts.PluginType) map[string]logical.Factory {
	switch t {
	case consts.PluginTypeCredential:
		return credentials
	case consts.PluginTypeSecrets:
		return engines
	}
	return nil
}

func (registry) Get(name string, t consts.PluginType) (func() (interface{}, error), bool) {
	factory, ok := byType(t)[name]
	return func() (interface{}, error) { return factory, nil }, ok
}

func (registry) Contains(name string, t consts.PluginType) bool {
	_, ok := byType(t)[name]
	return ok
}

func (registry) Keys(t consts.PluginType) []string {
	var names []string
	for name := range byType(t) {
		names = append(names, name)
	}
	return names
}

func (r registry) DeprecationStatus(name string, t consts.PluginType) (consts.DeprecationStatus, bool) {
	return consts.Supported, r.Contains(name, t)
}

func (registry) IsBuiltinEntPlugin(string, consts.PluginType) bool { return false }

func main() {
	address := flag.String("listen", "127.0.0.1:8200", "address to listen on")
	folder := flag.String("data", "", "folder to store in; without it, in memory")
	certFile := flag.String("tls-cert", "", "TLS certificate file; without it, plain HTTP")
	keyFile := flag.String("tls-key", "", "TLS key file")
	flag.Parse()
	if err := run(*address, *folder, *certFile, *keyFile); err != nil {
		fmt.Fprintln(os.Stderr, "vault:", err)
		os.Exit(1)
	}
}

func run(address, folder, certFile, keyFile string) error {
	logger := log.New(&log.LoggerOptions{Name: "vault", Level: log.Warn, Output: os.Stderr})
	storage, err := open(folder, logger)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	core, err := vault.NewCore(&vault.CoreConfig{
		Physical:           storage,
		Logger:             logger,
		DisableMlock:       true,
		BuiltinRegistry:    registry{},
		LogicalBackends:    engines,
		CredentialBackends: credentials,
		AuditBackends:      map[string]audit.Factory{},
	})
	if err != nil {
		return err
	}
	config := &configutil.Listener{Type: "tcp", Address: listener.Addr().String(), TLSDisable: certFile == ""}
	server := &http.Server{
		Handler:           vaulthttp.Handler.Handler(&vault.HandlerProperties{Core: core, ListenerConfig: config}),
		ReadHeaderTimeout: 10 * time.Second,
		TLSConfig:         &tls.Config{MinVersion: tls.VersionTLS12, ClientAuth: tls.RequestClientCert},
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-stop
		server.Close()
	}()
	if certFile == "" {
		err = server.Serve(listener)
	} else {
		err = server.ServeTLS(listener, certFile, keyFile)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return core.Shutdown()
}

func open(folder string, logger log.Logger) (physical.Backend, error) {
	if folder == "" {
		return inmem.NewInmem(nil, logger)
	}
	return file.NewFileBackend(map[string]string{"path": folder}, logger)
}
