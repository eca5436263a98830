// Commands of Consul's own command line, which the comparison with ours runs.
package main

import (
	"os"

	"github.com/hashicorp/consul/command/connect/ca/get"
	"github.com/hashicorp/consul/command/connect/ca/set"
	"github.com/hashicorp/consul/command/tls/ca/create"
	certcreate "github.com/hashicorp/consul/command/tls/cert/create"
	"github.com/mitchellh/cli"
)

func main() {
	ui := &cli.BasicUi{Writer: os.Stdout, ErrorWriter: os.Stderr}
	program := cli.NewCLI("consul", "")
	program.Args = os.Args[1:]
	program.HelpWriter = os.Stderr
	program.Commands = map[string]cli.CommandFactory{
		"connect ca get-config": func() (cli.Command, error) { return get.New(ui), nil },
		"connect ca set-config": func() (cli.Command, error) { return set.New(ui), nil },
		"tls ca create":         func() (cli.Command, error) { return create.New(ui), nil },
		"tls cert create":       func() (cli.Command, error) { return certcreate.New(ui), nil },
	}
	code, err := program.Run()
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}
