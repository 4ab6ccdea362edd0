package ordersystem_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
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

func TestSendFillsInAnotherIDForAnotherCommandAndKeepsOneThatIsThere(t *testing.T) {
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
	f := serve(t, fail(codes.ResourceExhausted, info("OVERLOADED"), retryInfo(300*time.Millisecond)), paid)
	if _, err := ordersystem.Send(t.Context(), f.orders(t).PayOrder, &ordersv1.PayOrderRequest{}); err != nil {
		t.Fatal(err)
	}
	if waited := f.times[1].Sub(f.times[0]); waited < 300*time.Millisecond {
		t.Errorf("it waited %s", waited)
	}
}

func TestSendDoesNotRetryWhatARetryDoesNotMend(t *testing.T) {
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

func TestSendMakesAsManyAttemptsAsAllowed(t *testing.T) {
	f := serve(t, unavailable, unavailable, unavailable, unavailable)
	_, err := ordersystem.Send(t.Context(), f.orders(t).PayOrder, &ordersv1.PayOrderRequest{}, ordersystem.WithAttempts(3))
	wantCode(t, err, codes.Unavailable)
	wantAsked(t, f, 3)
	_, err = ordersystem.Send(t.Context(), f.orders(t).PayOrder, &ordersv1.PayOrderRequest{}, ordersystem.WithAttempts(0))
	if err == nil || !strings.Contains(err.Error(), "attempts") {
		t.Error(err)
	}
	wantAsked(t, f, 3)
}

func TestSendMakesFiveAttemptsUnlessToldOtherwise(t *testing.T) {
	f := serve(t, unavailable, unavailable, unavailable, unavailable, unavailable, unavailable)
	_, err := ordersystem.Send(t.Context(), f.orders(t).PayOrder, &ordersv1.PayOrderRequest{})
	wantCode(t, err, codes.Unavailable)
	wantAsked(t, f, 5)
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
