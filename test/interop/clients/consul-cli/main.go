// Commands of Consul's own command line, which the comparison with ours runs.
package main

import (
	"os"

	authmethodcreate "github.com/hashicorp/consul/command/acl/authmethod/create"
	authmethoddelete "github.com/hashicorp/consul/command/acl/authmethod/delete"
	authmethodlist "github.com/hashicorp/consul/command/acl/authmethod/list"
	authmethodread "github.com/hashicorp/consul/command/acl/authmethod/read"
	authmethodupdate "github.com/hashicorp/consul/command/acl/authmethod/update"
	bindingrulecreate "github.com/hashicorp/consul/command/acl/bindingrule/create"
	bindingruledelete "github.com/hashicorp/consul/command/acl/bindingrule/delete"
	bindingrulelist "github.com/hashicorp/consul/command/acl/bindingrule/list"
	bindingruleread "github.com/hashicorp/consul/command/acl/bindingrule/read"
	bindingruleupdate "github.com/hashicorp/consul/command/acl/bindingrule/update"
	"github.com/hashicorp/consul/command/acl/bootstrap"
	policycreate "github.com/hashicorp/consul/command/acl/policy/create"
	policydelete "github.com/hashicorp/consul/command/acl/policy/delete"
	policylist "github.com/hashicorp/consul/command/acl/policy/list"
	policyread "github.com/hashicorp/consul/command/acl/policy/read"
	policyupdate "github.com/hashicorp/consul/command/acl/policy/update"
	rolecreate "github.com/hashicorp/consul/command/acl/role/create"
	roledelete "github.com/hashicorp/consul/command/acl/role/delete"
	rolelist "github.com/hashicorp/consul/command/acl/role/list"
	roleread "github.com/hashicorp/consul/command/acl/role/read"
	roleupdate "github.com/hashicorp/consul/command/acl/role/update"
	templatedpolicylist "github.com/hashicorp/consul/command/acl/templatedpolicy/list"
	templatedpolicypreview "github.com/hashicorp/consul/command/acl/templatedpolicy/preview"
	templatedpolicyread "github.com/hashicorp/consul/command/acl/templatedpolicy/read"
	tokenclone "github.com/hashicorp/consul/command/acl/token/clone"
	tokencreate "github.com/hashicorp/consul/command/acl/token/create"
	tokendelete "github.com/hashicorp/consul/command/acl/token/delete"
	tokenlist "github.com/hashicorp/consul/command/acl/token/list"
	tokenread "github.com/hashicorp/consul/command/acl/token/read"
	tokenupdate "github.com/hashicorp/consul/command/acl/token/update"
	"github.com/hashicorp/consul/command/connect/ca/get"
	"github.com/hashicorp/consul/command/connect/ca/set"
	"github.com/hashicorp/consul/command/login"
	"github.com/hashicorp/consul/command/logout"
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
		"connect ca get-config":        func() (cli.Command, error) { return get.New(ui), nil },
		"connect ca set-config":        func() (cli.Command, error) { return set.New(ui), nil },
		"acl bootstrap":                func() (cli.Command, error) { return bootstrap.New(ui), nil },
		"acl token create":             func() (cli.Command, error) { return tokencreate.New(ui), nil },
		"acl token read":               func() (cli.Command, error) { return tokenread.New(ui), nil },
		"acl token update":             func() (cli.Command, error) { return tokenupdate.New(ui), nil },
		"acl token delete":             func() (cli.Command, error) { return tokendelete.New(ui), nil },
		"acl token list":               func() (cli.Command, error) { return tokenlist.New(ui), nil },
		"acl token clone":              func() (cli.Command, error) { return tokenclone.New(ui), nil },
		"acl policy create":            func() (cli.Command, error) { return policycreate.New(ui), nil },
		"acl policy read":              func() (cli.Command, error) { return policyread.New(ui), nil },
		"acl policy update":            func() (cli.Command, error) { return policyupdate.New(ui), nil },
		"acl policy delete":            func() (cli.Command, error) { return policydelete.New(ui), nil },
		"acl policy list":              func() (cli.Command, error) { return policylist.New(ui), nil },
		"acl role create":              func() (cli.Command, error) { return rolecreate.New(ui), nil },
		"acl role read":                func() (cli.Command, error) { return roleread.New(ui), nil },
		"acl role update":              func() (cli.Command, error) { return roleupdate.New(ui), nil },
		"acl role delete":              func() (cli.Command, error) { return roledelete.New(ui), nil },
		"acl role list":                func() (cli.Command, error) { return rolelist.New(ui), nil },
		"acl auth-method create":       func() (cli.Command, error) { return authmethodcreate.New(ui), nil },
		"acl auth-method read":         func() (cli.Command, error) { return authmethodread.New(ui), nil },
		"acl auth-method update":       func() (cli.Command, error) { return authmethodupdate.New(ui), nil },
		"acl auth-method delete":       func() (cli.Command, error) { return authmethoddelete.New(ui), nil },
		"acl auth-method list":         func() (cli.Command, error) { return authmethodlist.New(ui), nil },
		"acl binding-rule create":      func() (cli.Command, error) { return bindingrulecreate.New(ui), nil },
		"acl binding-rule read":        func() (cli.Command, error) { return bindingruleread.New(ui), nil },
		"acl binding-rule update":      func() (cli.Command, error) { return bindingruleupdate.New(ui), nil },
		"acl binding-rule delete":      func() (cli.Command, error) { return bindingruledelete.New(ui), nil },
		"acl binding-rule list":        func() (cli.Command, error) { return bindingrulelist.New(ui), nil },
		"acl templated-policy list":    func() (cli.Command, error) { return templatedpolicylist.New(ui), nil },
		"acl templated-policy read":    func() (cli.Command, error) { return templatedpolicyread.New(ui), nil },
		"acl templated-policy preview": func() (cli.Command, error) { return templatedpolicypreview.New(ui), nil },
		"login":                        func() (cli.Command, error) { return login.New(ui), nil },
		"logout":                       func() (cli.Command, error) { return logout.New(ui), nil },
		"tls ca create":                func() (cli.Command, error) { return create.New(ui), nil },
		"tls cert create":              func() (cli.Command, error) { return certcreate.New(ui), nil },
	}
	code, err := program.Run()
	if err != nil {
		os.Stderr.WriteString(err.Error() + "\n")
		code = 1
	}
	os.Exit(code)
}
