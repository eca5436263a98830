// Command bao is an OpenBao server, taken as an ordinary Go module, for tests that need a real server of Vault's API.
package main

import (
	"os"

	"github.com/openbao/openbao/command"
)

func main() { os.Exit(command.Run(os.Args[1:])) }
