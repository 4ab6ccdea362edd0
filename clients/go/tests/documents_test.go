package tests

import (
	"bufio"
	"bytes"
	"go/format"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/catga/ordersystem/clients/go/ordersystem"
)

var (
	block   = regexp.MustCompile("(?ms)^```go\n(.*?)^```$")
	printed = regexp.MustCompile(`(?m)^\s*fmt\.Println\(.*\)\s+// (.*)$`)
)

func TestTheBlocksOfTheREADMERunOneAfterTheOtherAndPrintWhatTheyShow(t *testing.T) {
	certificates := newCertificates(t)
	plain := startServer(t, "readme")
	secure := startTLSServer(t, certificates, "readme-tls", "--tls-client-ca", certificates.path("ca.pem"))
	readme, err := os.ReadFile("../README.md")
	check(t, err)
	blocks := block.FindAllStringSubmatch(string(readme), -1)
	if len(blocks) < 8 {
		t.Fatalf("only %d blocks", len(blocks))
	}
	var body strings.Builder
	var want []string
	for i, found := range blocks {
		formatted, err := format.Source([]byte(found[1]))
		check(t, err)
		if found[1] != string(formatted) {
			t.Errorf("gofmt would write:\n%s", formatted)
		}
		for _, line := range printed.FindAllStringSubmatch(found[1], -1) {
			want = append(want, line[1])
		}
		if i > 0 {
			body.WriteString(found[1])
		}
	}
	addresses := strings.NewReplacer("127.0.0.1:5000", plain.address, "127.0.0.1:5001", secure.address)
	program := "package main\n\n" + blocks[0][1] + "\nfunc main() {\n" + addresses.Replace(body.String()) + "}\n"
	source := filepath.Join(certificates.folder, "main.go")
	check(t, os.WriteFile(source, []byte(program), 0o600))
	run := exec.Command(build(t, source))
	// The folder of ca.pem and the client's certificate.
	run.Dir = certificates.folder
	var errors bytes.Buffer
	run.Stderr = &errors
	output, err := run.Output()
	got := strings.Split(strings.TrimSuffix(string(output), "\n"), "\n")
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("it ended with %v %s and printed\n%s\ninstead of\n%s", err, &errors, strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestTheExampleContinuesAfterARestartOfTheServer(t *testing.T) {
	server := startServer(t, "example")
	example := exec.Command(build(t, "../example"), server.address)
	stdin, err := example.StdinPipe()
	check(t, err)
	stdout, err := example.StdoutPipe()
	check(t, err)
	var errors bytes.Buffer
	example.Stderr = &errors
	check(t, example.Start())
	// Ends the reading below, whatever happens.
	timer := time.AfterFunc(time.Minute, func() { _ = example.Process.Kill() })
	defer timer.Stop()
	t.Cleanup(func() { _ = example.Process.Kill() })

	lines := bufio.NewScanner(stdout)
	var got []string
	for len(got) < 7 && lines.Scan() {
		got = append(got, lines.Text())
	}
	check(t, server.stop())
	check(t, server.start())
	_, err = io.WriteString(stdin, "\n")
	check(t, err)
	for lines.Scan() {
		got = append(got, lines.Text())
	}
	err = example.Wait()
	want := []string{
		"readiness: SERVING",
		"placed: ORDER_STATUS_PENDING",
		"refused: FailedPrecondition ILLEGAL_TRANSITION Pending",
		"paid: ORDER_STATUS_PAID - the retry got the first answer: true",
		"event: 1 created with items: 1",
		"event: 2 paid by credit_card",
		"restart the service if you like, then press Enter",
		"event: 3 shipped by DHL",
		"event: 4 delivered",
		"too late: DeadlineExceeded",
	}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("it ended with %v %s and printed\n%s", err, &errors, strings.Join(got, "\n"))
	}
}

// build makes a program of a package or a file, and checks it as vet does.
func build(t *testing.T, what string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "program")
	for _, args := range [][]string{{"vet", what}, {"build", "-o", program, what}} {
		if output, err := exec.Command("go", args...).CombinedOutput(); err != nil {
			t.Fatalf("go %v: %v\n%s", args, err, output)
		}
	}
	return program
}

func TestTheREADMESaysTheVersion(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	check(t, err)
	if !strings.Contains(string(readme), "Version "+ordersystem.Version+".") {
		t.Errorf("README.md does not say that the version is %s", ordersystem.Version)
	}
}

func TestTheServiceConfigIsTheOneThatAllClientsShare(t *testing.T) {
	shared, err := os.ReadFile(root + "/clients/service_config.json")
	check(t, err)
	if ordersystem.ServiceConfig != string(shared) {
		t.Error("service_config.json differs: run clients/generate.sh go")
	}
}

func TestWhatAllPackagesShareIsTheSameHere(t *testing.T) {
	// A module is published with all files of its folder: the licences are part of it.
	for here, there := range map[string]string{
		"../LICENSE-MIT":                root + "/LICENSE-MIT",
		"../LICENSE-APACHE":             root + "/LICENSE-APACHE",
		"../ordersystem/currencies.txt": root + "/clients/currencies.txt",
	} {
		own, err := os.ReadFile(here)
		check(t, err)
		shared, err := os.ReadFile(there)
		check(t, err)
		if !bytes.Equal(own, shared) {
			t.Errorf("%s is not %s", here, there)
		}
	}
}
