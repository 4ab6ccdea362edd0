package tests

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	ordersv1 "github.com/catga/ordersystem/clients/go/catga/orders/v1"
	"github.com/catga/ordersystem/clients/go/ordersystem"
)

const (
	scenarios      = root + "/clients/conformance"
	callTimeout    = 30 * time.Second
	messageTimeout = 30 * time.Second
)

// The action of a step is the first of these that it has.
var kinds = []string{"call", "send", "execute", "stream", "follow", "take", "end", "cancel", "server", "token"}

// TestConformance runs the scenarios that every client runs; clients/conformance/README.md says what each step means.
func TestConformance(t *testing.T) {
	paths, err := filepath.Glob(scenarios + "/*.yaml")
	if err != nil || len(paths) < 12 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		var file struct {
			Server struct {
				Args       []string
				Identities bool
			}
			Scenarios []struct {
				Name  string
				Steps []object
			}
		}
		load(t, path, &file)
		stem := strings.TrimSuffix(filepath.Base(path), ".yaml")
		// Started by the first scenario that runs.
		server := newServer(t, stem, file.Server.Args...)
		token := ""
		if file.Server.Identities || withIdentities {
			server.command = append(server.command, "--identities", identities(t))
		}
		if withIdentities && !file.Server.Identities {
			token = allRoles
		}
		for _, scenario := range file.Scenarios {
			t.Run(stem+": "+scenario.Name, func(t *testing.T) {
				if server.process == nil {
					if err := server.start(); err != nil {
						t.Fatal(err)
					}
				}
				runScenario(t, server, token, scenario.Steps)
			})
		}
		server.kill()
	}
}

// scenario is one run of one scenario.
type scenario struct {
	ctx         context.Context
	server      *server
	token       atomic.Value
	variables   object
	connections []*grpc.ClientConn
	readers     map[string]*reader
}

func runScenario(t *testing.T, server *server, token string, steps []object) {
	var run [6]byte
	_, _ = rand.Read(run[:])
	variables := object{"run": hex.EncodeToString(run[:]), "persistence": persistence()}
	s := &scenario{ctx: t.Context(), server: server, variables: variables, readers: map[string]*reader{}}
	s.token.Store(token)
	defer s.close()
	err := s.connect()
	for i, step := range steps {
		if err == nil {
			err = s.step(step)
		}
		if err != nil {
			t.Fatalf("step %d, %v: %v\nvariables: %v", i+1, step, err, s.variables)
		}
	}
}

func (s *scenario) connect() error {
	token := func(context.Context) (string, error) { return s.token.Load().(string), nil }
	connection, err := ordersystem.Connect(s.server.address, ordersystem.WithToken(token))
	s.connections = append(s.connections, connection)
	return err
}

func (s *scenario) connection() *grpc.ClientConn { return s.connections[len(s.connections)-1] }

func (s *scenario) close() {
	for _, reader := range s.readers {
		reader.cancel()
	}
	for _, connection := range s.connections {
		_ = connection.Close()
	}
}

func (s *scenario) step(unresolved object) error {
	resolved, err := resolve(unresolved, s.variables)
	if err != nil {
		return err
	}
	step := resolved.(object)
	index := slices.IndexFunc(kinds, func(kind string) bool { return step[kind] != nil })
	if index < 0 {
		return fmt.Errorf("a step without an action")
	}
	switch argument := step[kinds[index]]; kinds[index] {
	case "call":
		return s.unary(step, calls, argument.(string))
	case "send":
		return s.unary(step, sends, argument.(string))
	case "execute":
		return s.execute(step, argument.([]any))
	case "stream":
		return s.open(step, streams, argument.(string))
	case "follow":
		return s.open(step, follows, argument.(string))
	case "take":
		return s.take(step, argument.(string))
	case "end":
		return s.end(step, argument.(string))
	case "cancel":
		reader, err := s.reader(argument.(string))
		if err == nil {
			reader.cancel()
			delete(s.readers, argument.(string))
		}
		return err
	case "token":
		s.token.Store(argument.(string))
		return nil
	default:
		return s.control(argument.(string))
	}
}

func (s *scenario) unary(step object, table map[string]unaryMethod, name string) error {
	method, ok := table[name]
	if !ok {
		return fmt.Errorf("there is no method %s", name)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	defer cancel()
	if milliseconds, ok := step["deadline_ms"].(int); ok {
		ctx, cancel = context.WithTimeout(ctx, time.Duration(milliseconds)*time.Millisecond)
		defer cancel()
	} else if step["send"] == nil {
		ctx, cancel = context.WithTimeout(ctx, callTimeout)
		defer cancel()
	}
	started := s.startLater(step)
	reply, err := method(ctx, s.connection(), step["request"])
	if startErr := <-started; startErr != nil {
		return startErr
	}
	if step["start_after_ms"] != nil {
		if connectErr := s.connect(); connectErr != nil {
			return connectErr
		}
	}
	return s.check(step, reply, err)
}

// startLater starts the server during a step that requests it; it sends one outcome.
func (s *scenario) startLater(step object) <-chan error {
	started := make(chan error, 1)
	milliseconds, ok := step["start_after_ms"].(int)
	if !ok {
		started <- nil
		return started
	}
	time.AfterFunc(time.Duration(milliseconds)*time.Millisecond, func() { started <- s.server.start() })
	return started
}

// check matches a reply or an error against the step.
func (s *scenario) check(step object, reply any, err error) error {
	pattern, wantsError := step["error"]
	if wantsError != (err != nil) {
		return fmt.Errorf("expected an error: %t, got %v %v", wantsError, reply, err)
	}
	if err != nil {
		return match(pattern, errorView(ordersystem.OrderErrorOf(err)), s.variables, "")
	}
	if pattern, ok := step["expect"]; ok {
		return match(pattern, reply, s.variables, "")
	}
	return nil
}

func (s *scenario) execute(step object, requests []any) error {
	ctx, cancel := context.WithTimeout(s.ctx, callTimeout)
	defer cancel()
	stream, err := ordersv1.NewOrderCommandServiceClient(s.connection()).ExecuteCommands(ctx)
	if err != nil {
		return err
	}
	for _, content := range requests {
		request, err := parse[*ordersv1.ExecuteCommandsRequest](content)
		if err != nil {
			return err
		}
		if err := stream.Send(request); err != nil {
			return err
		}
	}
	if err := stream.CloseSend(); err != nil {
		return err
	}
	expected := step["replies"].(object)
	for {
		reply, err := stream.Recv()
		if err == io.EOF && len(expected) == 0 {
			return nil
		}
		if err != nil {
			return fmt.Errorf("no reply to %v: %w", expected, err)
		}
		pattern, ok := expected[reply.GetCorrelationId()].(object)
		if !ok {
			return fmt.Errorf("not expected: %v", reply)
		}
		delete(expected, reply.GetCorrelationId())
		if reply.GetError() != nil {
			err = s.check(pattern, nil, ordersystem.OrderErrorOfStatus(reply.GetError()))
		} else if success, jsonErr := toJSON(reply.GetSuccess()); jsonErr == nil {
			err = s.check(pattern, success, nil)
		} else {
			err = jsonErr
		}
		if err != nil {
			return fmt.Errorf("%s: %w", reply.GetCorrelationId(), err)
		}
	}
}

func (s *scenario) open(step object, table map[string]streamMethod, name string) error {
	method, ok := table[name]
	handle := step["as"].(string)
	if !ok || s.readers[handle] != nil {
		return fmt.Errorf("there is no method %s, or the handle is taken", name)
	}
	ctx, cancel := context.WithCancel(s.ctx)
	if milliseconds, ok := step["deadline_ms"].(int); ok {
		ctx, cancel = context.WithTimeout(s.ctx, time.Duration(milliseconds)*time.Millisecond)
	}
	next, err := method(ctx, s.connection(), step["request"])
	if err != nil {
		cancel()
		return err
	}
	s.readers[handle] = read(cancel, next)
	return nil
}

func (s *scenario) reader(handle string) (*reader, error) {
	if reader := s.readers[handle]; reader != nil {
		return reader, nil
	}
	return nil, fmt.Errorf("there is no handle %s", handle)
}

func (s *scenario) take(step object, handle string) error {
	reader, err := s.reader(handle)
	if err != nil {
		return err
	}
	for i, pattern := range step["expect"].([]any) {
		message, err := reader.next()
		if err == nil {
			err = match(pattern, message, s.variables, "")
		}
		if err != nil {
			return fmt.Errorf("message %d: %w", i+1, err)
		}
	}
	return nil
}

func (s *scenario) end(step object, handle string) error {
	reader, err := s.reader(handle)
	if err != nil {
		return err
	}
	message, err := reader.next()
	if err == nil {
		return fmt.Errorf("expected the end, got %v", message)
	}
	if err == errMessageTimeout {
		return err
	}
	if err == io.EOF {
		err = nil
	}
	return s.check(step, nil, err)
}

func (s *scenario) control(what string) error {
	switch what {
	case "stop":
		return s.server.stop()
	case "kill":
		s.server.kill()
		return nil
	case "restart":
		if err := s.server.stop(); err != nil {
			return err
		}
		fallthrough
	case "start":
		if err := s.server.start(); err != nil {
			return err
		}
		return s.connect()
	}
	return fmt.Errorf("the server cannot %s", what)
}

var errMessageTimeout = fmt.Errorf("no message within %s", messageTimeout)

// reader reads a stream in the background, so that waiting for a message can time out.
type reader struct {
	// Ends the stream.
	end context.CancelFunc
	// Bounded: an endless stream must not fill the memory.
	items     chan item
	cancelled chan struct{}
}

type item struct {
	message any
	err     error
}

func read(end context.CancelFunc, next func() (any, error)) *reader {
	r := &reader{end, make(chan item, 16), make(chan struct{})}
	go func() {
		for {
			message, err := next()
			select {
			case r.items <- item{message, err}:
			case <-r.cancelled:
				return
			}
			if err != nil {
				return
			}
		}
	}()
	return r
}

func (r *reader) cancel() {
	close(r.cancelled)
	r.end()
}

func (r *reader) next() (any, error) {
	select {
	case item := <-r.items:
		return item.message, item.err
	case <-time.After(messageTimeout):
		return nil, errMessageTimeout
	}
}
