package ordersystem

import (
	"context"
	"iter"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	ordersv1 "github.com/catga/ordersystem/clients/go/catga/orders/v1"
)

// ListOrders ranges over every order that ListOrders finds with this request, from its page token on. The next page is fetched when it is
// needed. Only the last step may come with an error, an [*OrderError], and has no order then. The request is not changed.
//
// The deadline of ctx holds for the whole list, and its headers go with every page, as do the options.
func ListOrders(
	ctx context.Context,
	queries ordersv1.OrderQueryServiceClient,
	request *ordersv1.ListOrdersRequest,
	options ...grpc.CallOption,
) iter.Seq2[*ordersv1.OrderSummary, error] {
	return func(yield func(*ordersv1.OrderSummary, error) bool) {
		page := proto.CloneOf(request)
		for {
			reply, err := queries.ListOrders(ctx, page, options...)
			if err != nil {
				yield(nil, OrderErrorOf(err))
				return
			}
			for _, order := range reply.GetOrders() {
				if !yield(order, nil) {
					return
				}
			}
			if reply.GetNextPageToken() == "" {
				return
			}
			page.PageToken = reply.GetNextPageToken()
		}
	}
}
