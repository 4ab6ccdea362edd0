package ordersystem_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"

	ordersv1 "github.com/catga/ordersystem/clients/go/catga/orders/v1"
	"github.com/catga/ordersystem/clients/go/ordersystem"
)

// sent are the tokens of the calls so far.
func (f *fake) sent() []string {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	var tokens []string
	for _, headers := range f.headers {
		tokens = append(tokens, strings.Join(headers.Get("authorization"), " and "))
	}
	return tokens
}

func TestEveryCallAttemptAndOpeningHasTheTokenOfThatMoment(t *testing.T) {
	f := serve(t,
		unavailable, &ordersv1.GetOrderResponse{}, unavailable, &ordersv1.PayOrderResponse{Revision: 2},
		[]any{&ordersv1.StreamEventsResponse{Cursor: "a"}, unavailable}, []any{&ordersv1.StreamEventsResponse{Cursor: "b"}, end{}})
	var asked atomic.Int32
	connection, err := ordersystem.Connect(f.address, ordersystem.WithToken(func(context.Context) (string, error) {
		return fmt.Sprint(asked.Add(1)), nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	ctx := t.Context()
	if _, err := ordersv1.NewOrderQueryServiceClient(connection).GetOrder(ctx, &ordersv1.GetOrderRequest{OrderId: "1"}); err != nil {
		t.Fatal(err)
	}
	pay := &ordersv1.PayOrderRequest{OrderId: "1"}
	if _, err := ordersystem.Send(ctx, ordersv1.NewOrderCommandServiceClient(connection).PayOrder, pay); err != nil {
		t.Fatal(err)
	}
	follow := ordersystem.FollowEvents(ctx, ordersv1.NewOrderHistoryServiceClient(connection), &ordersv1.StreamEventsRequest{Follow: true})
	for range 2 {
		if _, err := follow.Next(); err != nil {
			t.Fatal(err)
		}
	}
	follow.Cancel()
	want := []string{"Bearer 1", "Bearer 2", "Bearer 3", "Bearer 4", "Bearer 5", "Bearer 6"}
	if got := f.sent(); !reflect.DeepEqual(got, want) {
		t.Errorf("sent %v", got)
	}
}

func TestAFileIsReadForEachCallAndAnEmptyTokenIsNotSent(t *testing.T) {
	f := serve(t, &ordersv1.GetOrderResponse{}, &ordersv1.GetOrderResponse{}, &ordersv1.GetOrderResponse{})
	file := filepath.Join(t.TempDir(), "token")
	connection, err := ordersystem.Connect(f.address, ordersystem.WithToken(ordersystem.TokenFile(file)))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = connection.Close() }()
	queries := ordersv1.NewOrderQueryServiceClient(connection)
	request := &ordersv1.GetOrderRequest{OrderId: "1"}
	for _, content := range []string{"first\n", "renewed\n", ""} {
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := queries.GetOrder(t.Context(), request); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := queries.GetOrder(t.Context(), request); ordersystem.OrderErrorOf(err).Code != codes.Unauthenticated {
		t.Error(err)
	}
	if got, want := f.sent(), []string{"Bearer first", "Bearer renewed", ""}; !reflect.DeepEqual(got, want) {
		t.Errorf("sent %v", got)
	}
}
