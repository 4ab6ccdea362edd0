package ordersystem_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"reflect"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	eventsv1 "github.com/catga/ordersystem/clients/go/catga/events/v1"
	ordersv1 "github.com/catga/ordersystem/clients/go/catga/orders/v1"
	"github.com/catga/ordersystem/clients/go/ordersystem"
)

type (
	events = ordersv1.StreamEventsResponse
	steps  = ordersv1.StreamOrderHistoryResponse
)

func event(cursor string) *events {
	return &events{Cursor: cursor, Item: &ordersv1.StreamEventsResponse_Event{Event: &eventsv1.OrderEvent{EventId: cursor}}}
}

func caughtUp(cursor string) *events {
	return &events{Cursor: cursor, Item: &ordersv1.StreamEventsResponse_CaughtUp{CaughtUp: &ordersv1.CaughtUp{}}}
}

func heartbeat(cursor string) *events {
	return &events{Cursor: cursor, Item: &ordersv1.StreamEventsResponse_Heartbeat{Heartbeat: &ordersv1.Heartbeat{}}}
}

func step(revision int64) *steps {
	event := &eventsv1.OrderEvent{Revision: revision}
	return &steps{Cursor: fmt.Sprintf("c%d", revision), Item: &ordersv1.StreamOrderHistoryResponse_Event{Event: event}}
}

func after(revision int64) *steps {
	caughtUp := &ordersv1.CaughtUp{Revision: revision}
	return &steps{Cursor: fmt.Sprintf("up%d", revision), Item: &ordersv1.StreamOrderHistoryResponse_CaughtUp{CaughtUp: caughtUp}}
}

func broken(messages ...any) []any { return append(messages, unavailable) }

// take reads as many messages as there are cursors, and compares.
func take[M ordersystem.HistoryMessage](t *testing.T, follow *ordersystem.Follow[M], cursors string) {
	t.Helper()
	for _, want := range strings.Fields(cursors) {
		message, err := follow.Next()
		if err != nil {
			t.Fatalf("expected %s, got %v", want, err)
		}
		if message.GetCursor() != want || follow.Cursor() != want {
			t.Fatalf("expected %s, got %v, cursor %s", want, message, follow.Cursor())
		}
	}
}

func following() *ordersv1.StreamEventsRequest { return &ordersv1.StreamEventsRequest{Follow: true} }

func TestEventsContinueAfterTheLastCursorWhateverMessageItCameWith(t *testing.T) {
	f := serve(t, broken(event("a")), broken(heartbeat("b")), broken(caughtUp("c")), broken(), []any{event("d")})
	request := &ordersv1.StreamEventsRequest{Start: ordersv1.StreamStart_STREAM_START_LATEST, CustomerIds: []string{"c"}, Follow: true}
	follow := ordersystem.FollowEvents(tenSeconds(t), f.history(t), request)
	defer follow.Cancel()
	take(t, follow, "a b c d")
	var places []string
	for _, request := range f.requests {
		r := request.(*ordersv1.StreamEventsRequest)
		places = append(places, r.GetStart().String()+" "+r.GetCursor())
		if !r.GetFollow() || len(r.GetCustomerIds()) != 1 {
			t.Error(r)
		}
	}
	want := []string{"STREAM_START_LATEST ", "STREAM_START_AFTER a", "STREAM_START_AFTER b", "STREAM_START_AFTER c", "STREAM_START_AFTER c"}
	if !reflect.DeepEqual(places, want) {
		t.Errorf("opened at cursors %v", places)
	}
	if request.Start != ordersv1.StreamStart_STREAM_START_LATEST || request.Cursor != "" {
		t.Error("the caller's request was changed")
	}
}

func TestCaughtUpComesOnce(t *testing.T) {
	f := serve(t, broken(caughtUp("a")), broken(caughtUp("b"), event("c")), []any{caughtUp("d"), event("e")})
	follow := ordersystem.FollowEvents(tenSeconds(t), f.history(t), following())
	defer follow.Cancel()
	take(t, follow, "a c e")
	if got := f.requests[2].(*ordersv1.StreamEventsRequest).GetCursor(); got != "c" {
		t.Errorf("it was opened after %s", got)
	}
}

func TestTheHistoryOfAnOrderContinuesAfterItsLastRevision(t *testing.T) {
	f := serve(t, broken(step(3), step(4), after(4)), broken(after(4)), []any{step(5), end{}})
	request := &ordersv1.StreamOrderHistoryRequest{OrderId: "1", FromRevision: 3, Follow: true}
	follow := ordersystem.FollowOrder(tenSeconds(t), f.history(t), request)
	take(t, follow, "c3 c4 up4 c5")
	for range 2 {
		if message, err := follow.Next(); err != io.EOF {
			t.Error(message, err)
		}
	}
	var places []int64
	for _, request := range f.requests {
		places = append(places, request.(*ordersv1.StreamOrderHistoryRequest).GetFromRevision())
	}
	if !reflect.DeepEqual(places, []int64{3, 5, 5}) || request.FromRevision != 3 {
		t.Error(places, request)
	}
}

func TestAnErrorThatARetryDoesNotFixIsReturned(t *testing.T) {
	f := serve(t, broken(event("a")), []any{fail(codes.InvalidArgument, info("CURSOR_OF_ANOTHER_LOG"))}, []any{event("b")})
	follow := ordersystem.FollowEvents(tenSeconds(t), f.history(t), following())
	take(t, follow, "a")
	for range 2 {
		_, err := follow.Next()
		wantReason(t, err, "CURSOR_OF_ANOTHER_LOG")
	}
	wantAsked(t, f, 2)
}

func TestAllRangesOverTheMessagesAndCanBeTakenUpAgain(t *testing.T) {
	f := serve(t, broken(event("a"), event("b")), []any{event("c"), fail(codes.NotFound)})
	follow := ordersystem.FollowEvents(tenSeconds(t), f.history(t), following())
	var received []string
	for message, err := range follow.All() {
		received = append(received, fmt.Sprint(message.GetCursor(), err == nil))
		break
	}
	for message, err := range follow.All() {
		received = append(received, fmt.Sprint(message.GetCursor(), err == nil))
		if err != nil {
			wantCode(t, err, codes.NotFound)
		}
	}
	if got := strings.Join(received, " "); got != "atrue btrue ctrue false" {
		t.Error(got)
	}
	ended := ordersystem.FollowEvents(tenSeconds(t), serve(t, []any{end{}}).history(t), following())
	for message, err := range ended.All() {
		t.Error(message, err)
	}
}

func TestAReopeningWaitsAsLongAsTheServiceAsksFor(t *testing.T) {
	f := serve(t, []any{fail(codes.Unavailable, info("SHUTTING_DOWN"), retryInfo(400*time.Millisecond))}, []any{event("a")})
	follow := ordersystem.FollowEvents(tenSeconds(t), f.history(t), following())
	defer follow.Cancel()
	take(t, follow, "a")
	if waited := f.times[1].Sub(f.times[0]); waited < 400*time.Millisecond {
		t.Errorf("it waited %s", waited)
	}
}

func TestAMessageMakesTheWaitsShortAgain(t *testing.T) {
	f := serve(t, broken(), broken(), broken(), broken(event("a")), []any{event("b")})
	follow := ordersystem.FollowEvents(tenSeconds(t), f.history(t), following())
	defer follow.Cancel()
	take(t, follow, "a b")
	// Without a reset the fourth wait is at least 0.4 s; with it, at most 0.1 s.
	if waited := f.times[4].Sub(f.times[3]); waited > 350*time.Millisecond {
		t.Errorf("it waited %s", waited)
	}
}

func TestItGivesUpWithTheLastErrorWhenNothingComesForTooLong(t *testing.T) {
	script := []any{broken(event("a"))}
	for range 50 {
		script = append(script, broken())
	}
	f := serve(t, script...)
	follow := ordersystem.FollowEvents(tenSeconds(t), f.history(t), following(), ordersystem.WithGiveUpAfter(500*time.Millisecond))
	take(t, follow, "a")
	_, err := follow.Next()
	wantCode(t, err, codes.Unavailable)
	if got := f.asked(); got < 2 || got >= 10 {
		t.Errorf("the server was called %d times", got)
	}
}

func TestAMessageEndsThePeriodOfFailures(t *testing.T) {
	// All delays together exceed the allowed time of failure, and each is much shorter.
	down := fail(codes.Unavailable, retryInfo(3*time.Second))
	f := serve(t, []any{event("a"), down}, []any{event("b"), down}, []any{event("c"), down}, []any{event("d")})
	follow := ordersystem.FollowEvents(t.Context(), f.history(t), following(), ordersystem.WithGiveUpAfter(8*time.Second))
	defer follow.Cancel()
	take(t, follow, "a b c d")
}

// nextInBackground returns the result of Next once the server has been called.
func nextInBackground(f *fake, follow *ordersystem.Follow[*events]) <-chan error {
	result := make(chan error, 1)
	go func() {
		_, err := follow.Next()
		result <- err
	}()
	for f.asked() == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	time.Sleep(100 * time.Millisecond)
	return result
}

func TestACancelFromAnotherGoroutineEndsItAtOnce(t *testing.T) {
	for name, script := range map[string][]any{"reading": {}, "waiting": {fail(codes.Unavailable, retryInfo(time.Minute))}} {
		f := serve(t, script)
		follow := ordersystem.FollowEvents(tenSeconds(t), f.history(t), following())
		result := nextInBackground(f, follow)
		follow.Cancel()
		select {
		case err := <-result:
			if err != io.EOF {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: it did not end", name)
		}
		wantAsked(t, f, 1)
	}
}

func TestTheEndOfTheContextEndsItWithItsError(t *testing.T) {
	for name, script := range map[string][]any{"reading": {}, "waiting": {fail(codes.Unavailable, retryInfo(time.Minute))}} {
		f := serve(t, script)
		ctx, cancel := context.WithCancel(t.Context())
		follow := ordersystem.FollowEvents(ctx, f.history(t), following())
		result := nextInBackground(f, follow)
		cancel()
		select {
		case err := <-result:
			wantCode(t, err, codes.Canceled)
		case <-time.After(10 * time.Second):
			t.Errorf("%s: it did not end", name)
		}
	}
}

// A connection that goes down within a message must count as one that is UNAVAILABLE.
func TestAConnectionThatIsCutWithinAMessageIsTakenUpAgain(t *testing.T) {
	large := event(strings.Repeat("x", 60_000))
	f := serve(t, []any{event("a"), large}, []any{event("b")})
	address := cutOnceAfter(t, f.address, 30_000)
	follow := ordersystem.FollowEvents(tenSeconds(t), ordersv1.NewOrderHistoryServiceClient(connect(t, address)), following())
	defer follow.Cancel()
	take(t, follow, "a b")
	if got := f.requests[1].(*ordersv1.StreamEventsRequest).GetCursor(); got != "a" {
		t.Errorf("it was opened after %s", got)
	}
}

// cutOnceAfter passes connections on, and cuts the first one after this many bytes from the server.
func cutOnceAfter(t *testing.T, server string, bytes int64) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for limit := bytes; ; limit = 1 << 40 {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", server)
			if err != nil {
				_ = client.Close()
				return
			}
			go func() { _, _ = io.Copy(upstream, client); _ = upstream.Close() }()
			go func() { _, _ = io.CopyN(client, upstream, limit); _ = client.Close(); _ = upstream.Close() }()
		}
	}()
	return listener.Addr().String()
}

func TestTheHeadersOfTheContextGoWithEachOpeningOfTheStream(t *testing.T) {
	f := serve(t, broken(event("a")), []any{event("b")})
	ctx := metadata.AppendToOutgoingContext(tenSeconds(t), "authorization", "fixed")
	follow := ordersystem.FollowEvents(ctx, f.history(t), &ordersv1.StreamEventsRequest{Follow: true})
	defer follow.Cancel()
	take(t, follow, "a b")
	wantHeader(t, f, "authorization", "fixed", "fixed")
}
