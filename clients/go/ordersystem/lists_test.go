package ordersystem_test

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"

	ordersv1 "github.com/catga/ordersystem/clients/go/catga/orders/v1"
	"github.com/catga/ordersystem/clients/go/ordersystem"
)

func page(next string, ids ...string) *ordersv1.ListOrdersResponse {
	reply := &ordersv1.ListOrdersResponse{NextPageToken: next}
	for _, id := range ids {
		reply.Orders = append(reply.Orders, &ordersv1.OrderSummary{OrderId: id})
	}
	return reply
}

func TestAllPagesOfAListAreReadEachWhenItIsNeeded(t *testing.T) {
	// A page may be empty and not the last.
	f := serve(t, page("two", "1", "2"), page("three"), page("", "3"))
	request := &ordersv1.ListOrdersRequest{CustomerId: "c", PageSize: 2, PageToken: "from here"}
	ctx := metadata.AppendToOutgoingContext(tenSeconds(t), "tenant", "t")
	var ids []string
	for order, err := range ordersystem.ListOrders(ctx, f.queries(t), request) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, order.GetOrderId())
		if order.GetOrderId() == "2" {
			wantAsked(t, f, 1)
		}
	}
	if strings.Join(ids, " ") != "1 2 3" || request.PageToken != "from here" {
		t.Error(ids, request)
	}
	for i, token := range []string{"from here", "two", "three"} {
		asked := f.requests[i].(*ordersv1.ListOrdersRequest)
		if asked.PageToken != token || asked.CustomerId != "c" || asked.PageSize != 2 {
			t.Error(asked)
		}
	}
	wantHeader(t, f, "tenant", "t", "t", "t")
}

func TestAListEndsWithTheErrorOfAPageOrWhereItIsLeft(t *testing.T) {
	f := serve(t, page("two", "1"), fail(codes.InvalidArgument, info("CURSOR_OF_ANOTHER_LOG")), page("more", "1", "2"))
	var received []string
	for order, err := range ordersystem.ListOrders(tenSeconds(t), f.queries(t), &ordersv1.ListOrdersRequest{}) {
		if err != nil {
			wantReason(t, err, "CURSOR_OF_ANOTHER_LOG")
			received = append(received, "error")
			continue
		}
		received = append(received, order.GetOrderId())
	}
	if strings.Join(received, " ") != "1 error" {
		t.Error(received)
	}
	for range ordersystem.ListOrders(tenSeconds(t), f.queries(t), &ordersv1.ListOrdersRequest{}) {
		break
	}
	wantAsked(t, f, 3)
}
