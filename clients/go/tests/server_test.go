package tests

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/catga/ordersystem/clients/go/ordersystem"
)

const (
	root         = "../../.."
	startTimeout = 60 * time.Second
	stopTimeout  = 30 * time.Second
)

// redis is the redis-server of this run, if that is the persistence under test.
var redis *redisServer

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	switch persistence() {
	case "embedded":
	case "redis":
		var err error
		if redis, err = startRedis(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer redis.stop()
	default:
		fmt.Fprintln(os.Stderr, "CONFORMANCE_PERSISTENCE must be embedded or redis, not", persistence())
		return 1
	}
	return m.Run()
}

// persistence is the persistence under test.
func persistence() string {
	if name := os.Getenv("CONFORMANCE_PERSISTENCE"); name != "" {
		return name
	}
	return "embedded"
}

// binary is the server under test.
func binary(t *testing.T) string {
	t.Helper()
	candidates := []string{os.Getenv("ORDERSYSTEM_BINARY")}
	if candidates[0] == "" {
		candidates = []string{root + "/target/release/ordersystem", root + "/target/debug/ordersystem"}
	}
	for _, candidate := range candidates {
		if _, err := os.Stat(candidate); err == nil {
			return candidate
		}
	}
	t.Fatalf("no server at %s: build it, or set ORDERSYSTEM_BINARY", strings.Join(candidates, " or "))
	return ""
}

// allRoles is the key of a caller that may do everything.
const allRoles = "orderkey_test-only-all------------------------------"

// withIdentities is whether the server identifies its callers in files that do not say so.
var withIdentities = os.Getenv("CONFORMANCE_IDENTITIES") == "1"

// identities are the callers of the scenarios, in a file that only this user can write.
func identities(t *testing.T) string {
	t.Helper()
	content, err := os.ReadFile(root + "/clients/conformance/identities.toml")
	path := filepath.Join(t.TempDir(), "identities.toml")
	if err == nil {
		err = os.WriteFile(path, content, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	return listener.Addr().(*net.TCPAddr).Port, listener.Close()
}

// redisServer syncs before it answers.
type redisServer struct {
	port    int
	folder  string
	process *exec.Cmd
}

func startRedis() (*redisServer, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	folder, err := os.MkdirTemp("", "ordersystem-redis-")
	if err != nil {
		return nil, err
	}
	process := exec.Command("redis-server",
		"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--dir", folder,
		"--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction")
	if err := process.Start(); err != nil {
		return nil, fmt.Errorf("redis-server 7.0 or newer must be installed: %w", err)
	}
	r := &redisServer{port, folder, process}
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(50 * time.Millisecond) {
		connection, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			return r, connection.Close()
		}
		if time.Now().After(deadline) {
			r.stop()
			return nil, err
		}
	}
}

func (r *redisServer) stop() {
	_ = r.process.Process.Kill()
	_ = r.process.Wait()
	_ = os.RemoveAll(r.folder)
}

// server has a new, empty store; it keeps its port and data across restarts.
type server struct {
	address string
	log     string
	command []string
	process *exec.Cmd
	// The options to connect; plain text if there are none.
	options []grpc.DialOption
}

// newServer is not started yet. It is killed at the end of the test.
func newServer(t *testing.T, name string, args ...string) *server {
	t.Helper()
	port, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	s := &server{address: fmt.Sprintf("127.0.0.1:%d", port), log: filepath.Join(folder, "log")}
	s.command = append([]string{binary(t), "--port", fmt.Sprint(port), "--log-level", "warn"}, args...)
	if redis == nil {
		s.command = append(s.command, "--persistence", "embedded", "--data-dir", filepath.Join(folder, "data"))
	} else {
		s.command = append(s.command, "--persistence", "redis", "--redis", fmt.Sprintf("127.0.0.1:%d", redis.port), "--redis-prefix", name)
	}
	t.Cleanup(s.kill)
	return s
}

// startServer starts one for a test.
func startServer(t *testing.T, name string, args ...string) *server {
	t.Helper()
	s := newServer(t, name, args...)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *server) start() error {
	if s.process != nil {
		return fmt.Errorf("the server runs already")
	}
	log, err := os.OpenFile(s.log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = log.Close() }()
	process := exec.Command(s.command[0], s.command[1:]...)
	process.Stdout, process.Stderr = log, log
	// The server reads settings from these variables, and refuses unknown ones.
	for _, setting := range os.Environ() {
		if !strings.HasPrefix(setting, "ORDERSYSTEM_") {
			process.Env = append(process.Env, setting)
		}
	}
	if err := process.Start(); err != nil {
		return err
	}
	s.process = process
	return s.waitUntilReady()
}

func (s *server) waitUntilReady() error {
	connection, err := ordersystem.Connect(s.address, s.options...)
	if err != nil {
		return err
	}
	defer func() { _ = connection.Close() }()
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		answer, err := healthv1.NewHealthClient(connection).Check(ctx, &healthv1.HealthCheckRequest{Service: "readiness"})
		cancel()
		if answer.GetStatus() == healthv1.HealthCheckResponse_SERVING {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("the server does not start: %w\n%s", err, s.logged())
		}
	}
}

func (s *server) logged() string {
	content, _ := os.ReadFile(s.log)
	return string(content)
}

// stop stops it as an operator does.
func (s *server) stop() error {
	if s.process == nil {
		return fmt.Errorf("the server does not run")
	}
	if err := s.process.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.AfterFunc(stopTimeout, func() { _ = s.process.Process.Kill() })
	defer timer.Stop()
	err := s.process.Wait()
	s.process = nil
	if err != nil {
		return fmt.Errorf("the server ended with %w\n%s", err, s.logged())
	}
	return nil
}

// kill kills it, as a crash would; it does nothing if it is not running.
func (s *server) kill() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		s.process = nil
	}
}
