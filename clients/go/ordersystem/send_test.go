package ordersystem_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	ordersv1 "github.com/catga/ordersystem/clients/go/catga/orders/v1"
	"github.com/catga/ordersystem/clients/go/ordersystem"
)

var paid = &ordersv1.PayOrderResponse{Revision: 2}

// tenSeconds is a context for a call of a test.
func tenSeconds(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func requestIDs(f *fake) []string {
	var ids []string
	for _, request := range f.requests {
		ids = append(ids, request.(ordersystem.Command).GetRequestId())
	}
	return ids
}

func wantAsked(t *testing.T, f *fake, want int) {
	t.Helper()
	if got := f.asked(); got != want {
		t.Errorf("the server was called %d times, not %d", got, want)
	}
}

func wantReason(t *testing.T, err error, want string) {
	t.Helper()
	if err == nil || ordersystem.OrderErrorOf(err).Reason != want {
		t.Errorf("the error is %v, not one with the reason %q", err, want)
	}
}

func wantCode(t *testing.T, err error, want codes.Code) {
	t.Helper()
	if got := status.Code(err); got != want {
		t.Errorf("the error is %v, not one with the code %s", err, want)
	}
}

func TestAQueryIsRetriedByTheConnectionWhileTheServiceIsUnavailable(t *testing.T) {
	f := serve(t, unavailable, unavailable, &ordersv1.GetOrderResponse{ConsistencyToken: "t"})
	reply, err := f.queries(t).GetOrder(tenSeconds(t), &ordersv1.GetOrderRequest{OrderId: "1"})
	if err != nil || reply.GetConsistencyToken() != "t" {
		t.Error(reply, err)
	}
	wantAsked(t, f, 3)
}

func TestAQueryIsTriedFourTimesAndNotMore(t *testing.T) {
	f := serve(t, unavailable, unavailable, unavailable, unavailable, unavailable)
	_, err := f.queries(t).GetOrder(tenSeconds(t), &ordersv1.GetOrderRequest{OrderId: "1"})
	wantCode(t, err, codes.Unavailable)
	wantAsked(t, f, 4)
}

func TestACommandIsNeverRetriedByTheConnection(t *testing.T) {
	f := serve(t, unavailable, unavailable, unavailable)
	orders := f.orders(t)
	_, err := orders.CreateOrder(tenSeconds(t), &ordersv1.CreateOrderRequest{CustomerId: "c"})
	wantCode(t, err, codes.Unavailable)
	_, err = orders.PayOrder(tenSeconds(t), &ordersv1.PayOrderRequest{OrderId: "1", RequestId: "with an id as well"})
	wantCode(t, err, codes.Unavailable)
	wantAsked(t, f, 2)
}

func TestSendRetriesWithOneRequestID(t *testing.T) {
	f := serve(t, unavailable, unavailable, paid)
	command := &ordersv1.PayOrderRequest{OrderId: "1"}
	reply, err := ordersystem.Send(t.Context(), f.orders(t).PayOrder, command)
	if err != nil || reply.GetRevision() != 2 {
		t.Error(reply, err)
	}
	if command.RequestId == "" {
		t.Error("the caller does not have the id for further retries")
	}
	if got, want := strings.Join(requestIDs(f), " "), strings.Repeat(" "+command.RequestId, 3)[1:]; got != want {
		t.Errorf("the ids were %s, not %s", got, want)
	}
}

func TestSendFillsInAnotherIDForAnotherCommandAndKeepsAGivenOne(t *testing.T) {
	f := serve(t, paid, paid, paid)
	orders := f.orders(t)
	for _, command := range []*ordersv1.PayOrderRequest{{}, {}, {RequestId: "mine"}} {
		if _, err := ordersystem.Send(t.Context(), orders.PayOrder, command); err != nil {
			t.Fatal(err)
		}
	}
	ids := requestIDs(f)
	if len(ids[0]) != 36 || len(ids[1]) != 36 || ids[0] == ids[1] || ids[2] != "mine" {
		t.Error(ids)
	}
}

func TestSendWaitsAsLongAsTheServiceAsksFor(t *testing.T) {
	f := serve(t, overloaded, paid)
	if _, err := ordersystem.Send(t.Context(), f.orders(t).PayOrder, &ordersv1.PayOrderRequest{}); err != nil {
		t.Fatal(err)
	}
	if waited := f.times[1].Sub(f.times[0]); waited < 300*time.Millisecond {
		t.Errorf("it waited %s", waited)
	}
}

func TestSendDoesNotRetryErrorsThatARetryDoesNotFix(t *testing.T) {
	for _, refusal := range []failure{
		fail(codes.ResourceExhausted, info("MESSAGE_TOO_LARGE")),
		fail(codes.FailedPrecondition, info("ILLEGAL_TRANSITION")),
		fail(codes.DeadlineExceeded, info("DEADLINE_EXCEEDED")),
	} {
		f := serve(t, refusal, paid)
		_, err := ordersystem.Send(t.Context(), f.orders(t).PayOrder, &ordersv1.PayOrderRequest{})
		wantCode(t, err, refusal.code)
		wantReason(t, err, ordersystem.OrderErrorOfStatus(refusal.status()).Reason)
		wantAsked(t, f, 1)
	}
}

func TestSendAcceptsAsManyAnswersAsAllowedAndABrokenConnectionIsNotOne(t *testing.T) {
	f := serve(t, unavailable, unavailable, shuttingDown, unavailable, overloaded, paid)
	_, err := ordersystem.Send(t.Context(), f.orders(t).PayOrder, &ordersv1.PayOrderRequest{}, ordersystem.WithAttempts(2))
	wantReason(t, err, "OVERLOADED")
	wantAsked(t, f, 5)
	_, err = ordersystem.Send(t.Context(), f.orders(t).PayOrder, &ordersv1.PayOrderRequest{}, ordersystem.WithAttempts(0))
	if err == nil || !strings.Contains(err.Error(), "attempts") {
		t.Error(err)
	}
	wantAsked(t, f, 5)
}

func TestSendTriesUntilItsTimeIsUpAndNotOnlySoManyTimes(t *testing.T) {
	f := serve(t, shuttingDown, shuttingDown, shuttingDown, shuttingDown, shuttingDown, shuttingDown, paid)
	if _, err := ordersystem.Send(t.Context(), f.orders(t).PayOrder, &ordersv1.PayOrderRequest{}); err != nil {
		t.Error(err)
	}
	wantAsked(t, f, 7)
}

func TestTheDeadlineOfTheContextEndsASendThatReachesNobodyAndNothingElseDoes(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	nobody := ordersv1.NewOrderCommandServiceClient(connect(t, listener.Addr().String()))
	_ = listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	began := time.Now()
	_, err = ordersystem.Send(ctx, nobody.PayOrder, &ordersv1.PayOrderRequest{})
	wantCode(t, err, codes.Unavailable)
	// It gives up if the next delay, of at most 2 s, would end too late.
	if took := time.Since(began); took < 3*time.Second || took > 25*time.Second {
		t.Errorf("it took %s", took)
	}
}

// token is a credential that changes with every use.
type token struct{ used int }

func (c *token) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	c.used++
	return map[string]string{"authorization": fmt.Sprint("token ", c.used)}, nil
}

func (c *token) RequireTransportSecurity() bool { return false }

func wantHeader(t *testing.T, f *fake, name string, want ...string) {
	t.Helper()
	var got []string
	for _, headers := range f.headers {
		got = append(got, strings.Join(headers.Get(name), " and "))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the header %s was %q, not %q", name, got, want)
	}
}

func TestTheHeadersOfTheContextGoWithEveryAttemptAndCredentialsAreAskedForEach(t *testing.T) {
	f := serve(t, unavailable, paid, unavailable, paid)
	ctx := metadata.AppendToOutgoingContext(tenSeconds(t), "authorization", "fixed")
	if _, err := ordersystem.Send(ctx, f.orders(t).PayOrder, &ordersv1.PayOrderRequest{}); err != nil {
		t.Error(err)
	}
	fresh := ordersystem.WithCallOptions(grpc.PerRPCCredentials(&token{}))
	if _, err := ordersystem.Send(tenSeconds(t), f.orders(t).PayOrder, &ordersv1.PayOrderRequest{}, fresh); err != nil {
		t.Error(err)
	}
	wantHeader(t, f, "authorization", "fixed", "fixed", "token 1", "token 2")
}

func TestSendGivesUpAtOnceWhenTheWaitWouldPassTheDeadline(t *testing.T) {
	full := fail(codes.ResourceExhausted, info("STORE_FULL"), retryInfo(time.Minute))
	for name, ctx := range map[string]context.Context{"of the context": tenSeconds(t), "without one": t.Context()} {
		f := serve(t, full, paid)
		began := time.Now()
		_, err := ordersystem.Send(ctx, f.orders(t).PayOrder, &ordersv1.PayOrderRequest{})
		wantReason(t, err, "STORE_FULL")
		wantAsked(t, f, 1)
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("deadline %s: it took %s", name, took)
		}
	}
}

func TestSendTellsTheServiceTheTimeThatIsLeftWhichIsHalfAMinuteUnlessTheContextSaysOtherwise(t *testing.T) {
	f := serve(t, paid, paid)
	orders := f.orders(t)
	for _, ctx := range []context.Context{t.Context(), tenSeconds(t)} {
		if _, err := ordersystem.Send(ctx, orders.PayOrder, &ordersv1.PayOrderRequest{}); err != nil {
			t.Fatal(err)
		}
	}
	for i, most := range []time.Duration{30 * time.Second, 10 * time.Second} {
		if f.allowed[i] > most || f.allowed[i] < most-5*time.Second {
			t.Errorf("it was given %s, not %s", f.allowed[i], most)
		}
	}
}

func TestSendStopsWaitingWhenItsContextEnds(t *testing.T) {
	f := serve(t, fail(codes.Unavailable, retryInfo(20*time.Second)), paid)
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(300*time.Millisecond, cancel)
	began := time.Now()
	_, err := ordersystem.Send(ctx, f.orders(t).PayOrder, &ordersv1.PayOrderRequest{})
	wantCode(t, err, codes.Canceled)
	wantAsked(t, f, 1)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}
