// Package tests runs the client against the real server: the scenarios of clients/conformance, README.md, the example and TLS.
package tests
