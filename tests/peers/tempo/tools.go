//go:build tools

// Package tools names the command this module exists to build, so that `go mod tidy` keeps it.
package tools

import _ "github.com/grafana/tempo/cmd/tempo"
